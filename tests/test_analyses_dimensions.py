"""The analyses: what they print is what was computed."""

from __future__ import annotations

import pytest
from brute import dim_hom

from analyses.paper import dimensions
from stability.tasks import TaskOptions, load


@pytest.mark.parametrize(
    ("task", "group", "dim_l", "dim_e"),
    [
        ("perm", "symmetric", 526_880, 6_656),
        ("trans", "torus", 40_768_320, 208_320),
        ("rot", "rotations", 61_465_600, 15_366_400),
    ],
)
def test_dimensions_of_the_papers_networks_are_the_known_ones(task, group, dim_l, dim_e):
    found = dimensions.dimensions(task, load(task, TaskOptions(size="paper", group=group, samples=10)).space)
    assert (found.dim_l, found.dim_e) == (dim_l, dim_e)
    assert sum(e for _, _, e in found.layers) == dim_e


@pytest.mark.parametrize("group", ["rotations", "rows", "torus", "roto-translations"])
def test_dimensions_of_layers_are_burnsides_average_of_fixed_points(group):
    space = load("trans", TaskOptions(size="small", group=group, samples=10)).space
    found = dimensions.dimensions("trans", space)
    for layer, (_, whole, e) in zip(space.layers, found.layers, strict=True):
        assert e == dim_hom(layer.source, layer.target)
        assert whole == layer.dim


def test_the_table_and_the_plot_hold_every_case():
    rows = [
        dimensions.dimensions("trans", load("trans", TaskOptions(group=g, samples=10)).space) for g in ("rows", "torus")
    ]
    text = dimensions.table(rows)
    assert all(f"{r.dim_e:,}" in text and r.group in text for r in rows)
    assert len(dimensions.draw(rows).axes[0].patches) == 2


def test_the_words_name_the_smallest_and_the_largest_share_that_were_computed():
    rows = [
        dimensions.dimensions("trans", load("trans", TaskOptions(group=g, samples=10)).space) for g in ("rows", "torus")
    ]
    said = dimensions.section(rows, "small")
    small, large = sorted(rows, key=lambda r: r.share)
    assert f"{float(large.share / small.share):,.0f}, from trans under {small.group} to trans" in said.means
    assert said.measured.index(f"{small.dim_e:,}") < said.measured.index(f"{large.dim_e:,}")
