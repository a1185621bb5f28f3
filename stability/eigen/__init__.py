"""What are the eigenvalues? Operators, dense spectra, Lanczos: numbers only, no problem is known here."""

from stability.eigen.dense import dense_spectrum, inertia, tridiagonalise
from stability.eigen.lanczos import LanczosState, Product, lanczos, lanczos_spectrum, ritz, zero_space
from stability.eigen.spectrum import Density, Eigenvalue, Solution, Spectrum, bound_epsilon, clusters, rounding

__all__ = [
    "Density",
    "Eigenvalue",
    "LanczosState",
    "Product",
    "Solution",
    "Spectrum",
    "bound_epsilon",
    "clusters",
    "dense_spectrum",
    "inertia",
    "lanczos",
    "lanczos_spectrum",
    "ritz",
    "rounding",
    "tridiagonalise",
    "zero_space",
]
