"""Equivariant layers, one interface for every irrep."""

from stability.layers.layer import Layer, LayerAt

__all__ = ["Layer", "LayerAt"]
