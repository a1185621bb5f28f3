"""The four spectra that decide: of R^eqv on E, of R^aug on E and on E⊥, of R on L."""

from __future__ import annotations

from dataclasses import dataclass

from stability.eigen.spectrum import Solution, Spectrum

# Risk ↦ space ↦ spectrum, as spectrum.json has them.
Table = dict[str, dict[str, Spectrum]]


@dataclass(frozen=True)
class Spectra:
    """Eigenvalues and eigenvectors at one point of E.

    Attributes:
        eqv: of ∇²R^eqv on E, vectors in coordinates of E.
        aug_e: of ∇²R^aug on E; the same numbers, by another way wherever there is one.
        across: of ∇²R^aug on E⊥, vectors in L.
        nominal: of ∇²R on L.
    """

    eqv: Solution
    aug_e: Solution
    across: Solution
    nominal: Solution

    def table(self) -> Table:
        """Spectra by risk and space."""
        return table(self.eqv, self.aug_e, self.across, self.nominal)


def table(
    eqv: Solution, aug_e: Solution | None = None, across: Solution | None = None, nominal: Solution | None = None
) -> Table:
    """Those known so far, by risk and space."""
    places = (("eqv", "E", eqv), ("aug", "E", aug_e), ("aug", "E_perp", across), ("nominal", "L", nominal))
    found: Table = {}
    for risk, space, solution in places:
        if solution is not None:
            found.setdefault(risk, {})[space] = solution.spectrum
    return found
