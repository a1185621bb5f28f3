"""Hessian and stability analysis of equivariant and augmented neural networks."""

__version__ = "0.1.0"
