"""What breaks and what is kept is named by what it does: shifts, turns, partitions; brute force settles which."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from stability.eigen.spectrum import Eigenvalue
from stability.groups import Cyclic, Dihedral, DirectProduct, irreps, residual_symmetry
from stability.report import screen, symmetry, words
from stability.report.tables import table, tables
from stability.spectra.sectors import Sector
from tests.test_report import ANALYSIS, PERP, POINT


def breaking(group, irrep: str, **fields):
    """A run in which the irrep of that name is lowest."""
    found = next(v for v in irreps(group) if v.name == irrep)
    low = Eigenvalue(-0.5, 1e-12, found.dim, irrep)
    moduli = symmetry_moduli(group)
    return replace(
        ANALYSIS,
        group={"name": group.name, "order": group.order, "moduli": moduli},
        facts={**ANALYSIS.facts, "leaves": residual_symmetry(found)},
        spectra={**ANALYSIS.spectra, "aug": {"E_perp": replace(PERP, lowest=(low, *PERP.lowest))}},
        sectors=(
            Sector(irrep, found.dim, found.kind, 1, 1, (low,), (low,), 1, "dense", 1, 0.1, frequency=found.frequency),
        ),
        **fields,
    )


def symmetry_moduli(group):
    if isinstance(group, Cyclic):
        return [group.n]
    return [f.n for f in group.factors] if isinstance(group, DirectProduct) else None


def on_images(side: int) -> tuple[dict, ...]:
    grid = f"R^{{{side}×{side}}}"
    return ({"name": "A_0", "source": grid, "target": f"2·{grid}", "dim": 1, "dim_E": 1},)


def torus(n: int) -> DirectProduct:
    return DirectProduct((Cyclic(n), Cyclic(n)))


@pytest.mark.parametrize("moduli", [(5, 5), (4, 4), (6, 4), (12,), (2, 2, 3)])
def test_the_kernel_of_a_character_and_its_generators_are_right_for_every_frequency(moduli):
    every = list(itertools.product(*map(range, moduli)))
    for q in every:
        found = symmetry.fixing(q, moduli)
        phases = {a: sum(k * x / n for k, x, n in zip(q, a, moduli, strict=True)) for a in every}
        assert found == [a for a in every if abs(phases[a] - round(phases[a])) < 1e-9]
        reached = {tuple(0 for _ in moduli)}
        while True:  # closure by single steps
            more = {
                tuple((x + y) % n for x, y, n in zip(a, g, moduli, strict=True))
                for a in reached
                for g in symmetry.generating(found, moduli)
            } | reached
            if more == reached:
                break
            reached = more
        assert reached == set(found)


@pytest.mark.parametrize(
    ("n", "irrep", "kept"),
    [
        (5, "q=(0,1)", "shifts by 1 row (5 of 25)"),
        (5, "q=(1,0)", "shifts by 1 column (5 of 25)"),
        (5, "q=(2,4)", "shifts by 1 row down and 2 columns right (5 of 25)"),
        (14, "q=(3,3)", "shifts by 1 row down and 1 column left (14 of 196)"),
        (4, "q=(0,2)", "shifts by 2 columns or by 1 row (8 of 16)"),
    ],
)
def test_shifts_that_are_kept_are_named_in_rows_and_columns(n, irrep, kept):
    a = breaking(torus(n), irrep, layers=on_images(n))
    assert symmetry.kept(a) == kept and f"it keeps {kept}" in words.headline(a)
    assert symmetry.pattern(a, irrep) == "a wave over the positions"


def test_turns_are_named_by_their_angle_and_a_cyclic_group_that_may_do_anything_is_not_said_to_turn():
    a = breaking(Cyclic(4), "q=2", task="rot")
    assert symmetry.kept(a) == "turns by 180° (2 of 4)"
    assert symmetry.pattern(a, "q=2") == "a turn of the image by 90° changes its sign"
    assert "mixes it with its partner" in symmetry.pattern(breaking(Cyclic(4), "q=1", task="rot"), "q=1")
    assert symmetry.kept(breaking(Cyclic(4), "q=1", task="rot")) == "nothing"
    other = breaking(Cyclic(6), "q=2", task="mine")
    assert symmetry.kept(other) == "the subgroup of g^3 (2 of 6)"
    assert symmetry.pattern(other, "q=2") == "the generator of the group mixes it with its partner"
    flips = breaking(torus(2), "q=(0,1)", layers=())
    assert symmetry.kept(flips) == "the subgroup of (1,0) (2 of 4)"
    assert "wave" not in " ".join(c.note for c in (*screen.cards(flips), *screen.cards(other)))


def test_an_irrep_without_a_speaking_name_is_told_by_its_dimension():
    dihedral = next(v.name for v in irreps(Dihedral(4)) if v.dim == 2)
    a = breaking(Dihedral(4), dihedral)
    (card,) = [c for c in screen.cards(a) if c.value == dihedral]
    assert "an irrep of dimension 2 of the group" in card.note and "wave" not in card.note


def test_a_search_that_stopped_is_not_called_a_minimum():
    stopped = replace(POINT, converged=False, grad_norm={"nominal": 1.5, "eqv": 0.5, "aug": 0.5})
    a = replace(ANALYSIS, point=stopped, points=(stopped, replace(stopped, kind="saddle", start=1)))
    assert words.kind(stopped) == "where the search stopped" and words.kind(POINT) == "minimum"
    assert words.kind(replace(POINT, kind="trained", converged=False)) == "after equivariant training"
    told = [
        words.subtitle(a),
        str(words.setting(a)),
        next(line for line in table(a).splitlines() if line.startswith("point")),
        str(next(t for t in tables(a) if t.title == "Points found")),
    ]
    for text in told:
        assert "minimum" not in text and "saddle" not in text
    assert "where the search from start 0 stopped" in told[1]
    assert "minimum found from start 0" in str(words.setting(ANALYSIS))


def test_what_was_not_measured_for_no_reason_given_is_not_given_one():
    a = replace(ANALYSIS, identities={"prop1": None, "lemma1": None, "reasons": {"lemma1": "|G| is too large"}})
    rows = dict(next(t for t in tables(a) if t.title == "Identities").rows)
    assert sorted(rows.values()) == ["not measured", "not measured: |G| is too large"]


def test_subgroups_of_turns_and_flips_are_named_by_them():
    named = {v.name: symmetry.kept(breaking(Dihedral(4), v.name)) for v in irreps(Dihedral(4)) if v.dim == 1}
    ways = {"turns by 90° (4 of 8)", "turns by 180° and the flips f, r²f (4 of 8)"}
    assert {*named.values()} > ways | {"turns by 180° and the flips rf, r³f (4 of 8)"}
    name = next(k for k, v in named.items() if v == "turns by 90° (4 of 8)")
    assert symmetry.pattern(breaking(Dihedral(4), name), name) == "flips change its sign, turns do not"
