"""Equivariant students with a fixed hidden representation: where they are stuck, and what leads on from there."""
