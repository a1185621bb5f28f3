"""Equivariant layers, one interface for every irrep."""

from stability.groups import Representation
from stability.layers.fourier import FourierLayer, supports
from stability.layers.layer import DenseAt, Layer, LayerAt, Scratch


def make_layer(name: str, source: Representation, target: Representation, fourier: bool = False) -> Layer:
    """Hom(source, target) with the fastest arithmetic that is right for it."""
    return FourierLayer(name, source, target) if fourier else Layer(name, source, target)


__all__ = ["DenseAt", "FourierLayer", "Layer", "LayerAt", "Scratch", "make_layer", "supports"]
