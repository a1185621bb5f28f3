"""Optional: real irreps against GAP's character tables, where passagemath-gap is installed (extra `gap`)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("sage.all__sagemath_gap", reason="GAP is not installed")
libgap = pytest.importorskip("sage.libs.gap.libgap").libgap

from stability.groups import irreps  # noqa: E402
from stability.groups.closures import PermutationGroup, quaternion_group  # noqa: E402
from stability.groups.group import Cyclic, Dihedral, Symmetric  # noqa: E402
from stability.groups.irreps import character  # noqa: E402
from stability.groups.products import DirectProduct, roto_translations, torus  # noqa: E402

GROUPS = {
    "C_6": Cyclic(6),
    "Z_3²": torus(3),
    "D_4": Dihedral(4),
    "D_5": Dihedral(5),
    "S_3 × C_2": DirectProduct((Symmetric(3), Cyclic(2))),
    "S_4": Symmetric(4),
    "S_5": Symmetric(5),
    "A_4": PermutationGroup([(1, 2, 0, 3), (0, 2, 3, 1)], name="A_4"),
    "A_5": PermutationGroup([(1, 2, 3, 4, 0), (1, 2, 0, 3, 4)], name="A_5"),
    "C_4 ⋉ Z_2²": roto_translations(2),
    "Q_8": quaternion_group(),
}


def real_part(cyclotomic) -> float:
    """Re Σ_k c_k exp(2πik/n) of GAP's coefficients."""
    n = int(libgap.Conductor(cyclotomic))
    coefficients = [float(Fraction(str(c))) for c in libgap.CoeffsCyc(cyclotomic, n)]
    return float(coefficients @ np.cos(2 * np.pi * np.arange(n) / n))


@pytest.mark.parametrize("name", GROUPS)
def test_characters_and_types_are_those_of_gap(name):
    """GAP's complex characters with Frobenius–Schur indicator 1, 0, −1 make the real ones χ, χ + χ̄, 2χ."""
    group = GROUPS[name]
    elements = list(group.elements())
    number = {g: i for i, g in enumerate(elements)}
    # The regular action, from the left: the element itself is where the identity goes.
    start = number[group.identity]
    regular = {g: [number[group.multiply(g, h)] + 1 for h in elements] for g in group.generators}
    made = libgap.Group([libgap.PermList(p) for p in regular.values()])
    assert int(libgap.Size(made)) == group.order
    classes = libgap.ConjugacyClasses(made)
    sizes = np.array([int(libgap.Size(c)) for c in classes])
    representatives = [elements[int(libgap.OnPoints(start + 1, libgap.Representative(c))) - 1] for c in classes]
    table = libgap.CharacterTable(made)
    kinds = {1: "real", 0: "complex", -1: "quaternionic"}
    expected = set()
    for row, indicator in zip(libgap.Irr(table), libgap.Indicator(table, 2), strict=True):
        chi = np.array([real_part(x) for x in libgap.List(row)])
        kind = kinds[int(indicator)]
        expected.add((kind, tuple(np.round((1 if kind == "real" else 2) * chi, 8) + 0.0)))
    found = {(v.kind, tuple(np.round([character(v, g) for g in representatives], 8) + 0.0)) for v in irreps(group)}
    assert found == expected
    for _, chi in found:
        norm = float(sizes @ np.square(chi)) / group.order
        assert norm == pytest.approx(round(norm)) and round(norm) in (1, 2, 4)
