"""Real irreducible representations V_λ; the trivial one labels E."""

from __future__ import annotations

from dataclasses import dataclass

from stability.groups.group import Group
from stability.groups.representation import Representation, trivial


@dataclass(frozen=True)
class Irrep:
    """A real irreducible representation.

    Attributes:
        name: its label in reports.
        representation: the orthogonal representation V_λ itself, of dimension d_λ.
        kind: "real", "complex" or "quaternionic", the type of its commutant.
    """

    name: str
    representation: Representation
    kind: str

    @property
    def dim(self) -> int:
        return self.representation.dim

    @property
    def is_trivial(self) -> bool:
        return self.name == "trivial"


def trivial_irrep(group: Group) -> Irrep:
    """The trivial representation, whose sector is E."""
    return Irrep("trivial", trivial(group), "real")
