"""Which kernels keep E? Supports that G maps to itself, supports it moves, and coordinates that are not orthonormal."""
