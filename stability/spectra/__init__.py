"""Irrep by irrep: the sectors of ∇²R^aug, solved."""
