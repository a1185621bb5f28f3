"""Groups, representations, intertwiners: algebra only, knows no network."""

from stability.groups.closures import MatrixGroup, PermutationGroup, quaternion_group
from stability.groups.group import Cyclic, Dihedral, Element, Group, Symmetric, Trivial
from stability.groups.intertwiners import DenseBasis, IntertwinerBasis, OrbitBasis, intertwiners
from stability.groups.irreps import (
    Irrep,
    character,
    constituents,
    cyclic_moduli,
    irreps,
    listed,
    residual_symmetry,
    split,
    trivial_irrep,
)
from stability.groups.lattice import Lattice, square_lattice
from stability.groups.lie import O2, SO2, SO3, CompactGroup, LieGroup
from stability.groups.products import DirectProduct, SemidirectProduct, roto_translations, torus
from stability.groups.representation import (
    DirectSum,
    MatrixRepresentation,
    PermutationRepresentation,
    Representation,
    TensorProduct,
    hom,
    through,
    trivial,
)
from stability.groups.sectors import SectorBasis, sector_basis
from stability.groups.standard import (
    defining,
    determinant,
    from_generators,
    harmonics,
    images,
    permutation,
    regular,
    rotations,
)

__all__ = [
    "CompactGroup",
    "Cyclic",
    "DenseBasis",
    "Dihedral",
    "DirectProduct",
    "DirectSum",
    "Element",
    "Group",
    "IntertwinerBasis",
    "Irrep",
    "Lattice",
    "LieGroup",
    "MatrixGroup",
    "MatrixRepresentation",
    "O2",
    "OrbitBasis",
    "PermutationGroup",
    "PermutationRepresentation",
    "Representation",
    "SO2",
    "SO3",
    "SectorBasis",
    "SemidirectProduct",
    "Symmetric",
    "TensorProduct",
    "Trivial",
    "character",
    "constituents",
    "cyclic_moduli",
    "defining",
    "determinant",
    "from_generators",
    "harmonics",
    "hom",
    "images",
    "intertwiners",
    "irreps",
    "listed",
    "permutation",
    "quaternion_group",
    "regular",
    "residual_symmetry",
    "rotations",
    "sector_basis",
    "roto_translations",
    "split",
    "square_lattice",
    "through",
    "torus",
    "trivial",
    "trivial_irrep",
]
