"""The four spectra that decide: of R^eqv on E, of R^aug on E and on E⊥, of R on L."""

from __future__ import annotations

from dataclasses import dataclass

from stability.eigen.spectrum import Solution, Spectrum


@dataclass(frozen=True)
class Spectra:
    """Eigenvalues and eigenvectors at one point of E; None where they are not known yet.

    Attributes:
        eqv: of ∇²R^eqv on E, vectors in coordinates of E.
        aug_e: of ∇²R^aug on E; the same numbers, by another way wherever there is one.
        across: of ∇²R^aug on E⊥, vectors in L.
        nominal: of ∇²R on L.
    """

    eqv: Solution
    aug_e: Solution | None = None
    across: Solution | None = None
    nominal: Solution | None = None

    def table(self) -> dict[str, dict[str, Spectrum]]:
        """Spectra by risk and space, as spectrum.json has them."""
        places = (("eqv", "E", self.eqv), ("aug", "E", self.aug_e), ("aug", "E_perp", self.across))
        found: dict[str, dict[str, Spectrum]] = {}
        for risk, space, solution in (*places, ("nominal", "L", self.nominal)):
            if solution is not None:
                found.setdefault(risk, {})[space] = solution.spectrum
        return found
