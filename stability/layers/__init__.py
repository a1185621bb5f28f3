"""Equivariant layers, one interface for every irrep."""

from stability.layers.layer import Layer

__all__ = ["Layer"]
