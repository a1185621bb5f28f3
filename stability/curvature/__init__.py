"""What is the Hessian? Products of ∇²R, ∇²R^eqv and ∇²R^aug, and the blocks that they make up."""

from stability.base.errors import StaleLinearisation
from stability.curvature.automatic import (
    augmented_hessian_from_data,
    augmented_hessian_from_group,
    check_product,
    compress,
    equivariant_hessian,
    group_average,
    linearise,
    nominal_hessian,
    transverse,
)
from stability.curvature.products import Loss, Products, Terms, fresh
from stability.eigen.operator import Operator, assemble

__all__ = [
    "Loss",
    "Operator",
    "Products",
    "StaleLinearisation",
    "Terms",
    "assemble",
    "augmented_hessian_from_data",
    "augmented_hessian_from_group",
    "check_product",
    "compress",
    "equivariant_hessian",
    "fresh",
    "group_average",
    "linearise",
    "nominal_hessian",
    "transverse",
]
