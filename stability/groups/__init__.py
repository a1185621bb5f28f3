"""Groups, representations, intertwiners: algebra only, knows no network."""

from stability.groups.group import (
    Cyclic,
    Dihedral,
    DirectProduct,
    Element,
    Group,
    MatrixGroup,
    PermutationGroup,
    SemidirectProduct,
    Symmetric,
    Trivial,
    quaternion_group,
    roto_translations,
    torus,
)
from stability.groups.intertwiners import DenseBasis, IntertwinerBasis, OrbitBasis, intertwiners
from stability.groups.irreps import Irrep, trivial_irrep
from stability.groups.representation import (
    DirectSum,
    MatrixRepresentation,
    PermutationRepresentation,
    Representation,
    TensorProduct,
    defining,
    from_generators,
    hom,
    images,
    permutation,
    regular,
    rotations,
    trivial,
)

__all__ = [
    "Cyclic", "DenseBasis", "Dihedral", "DirectProduct", "DirectSum", "Element", "Group", "IntertwinerBasis", "Irrep",
    "MatrixGroup", "MatrixRepresentation", "OrbitBasis", "PermutationGroup", "PermutationRepresentation",
    "Representation", "SemidirectProduct", "Symmetric", "TensorProduct", "Trivial", "defining", "from_generators", "hom", "images",
    "intertwiners", "permutation", "quaternion_group", "regular", "rotations", "roto_translations", "torus", "trivial",
    "trivial_irrep",
]  # fmt: skip
