"""Representations of networks of which nothing is declared: carried through, found in the weights, right by Lemma 3."""

from __future__ import annotations

import itertools

import brute
import numpy as np
import pytest
import torch
from torch import nn

import stability
from analyses import planted
from stability import groups
from stability.groups import (
    SO3,
    Cyclic,
    Dihedral,
    Group,
    PermutationRepresentation,
    Representation,
    Symmetric,
    permutation,
    regular,
    torus,
    trivial,
)
from stability.inference.door import from_module
from stability.inference.infer import infer
from stability.inference.search import matched, permuting, ranked

X = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
SETS = torch.randn(8, 4, 2, generator=torch.Generator().manual_seed(1))
SWAP = PermutationRepresentation(Cyclic(2), 4, lambda g: [0, 1, 2, 3] if g == 0 else [1, 0, 3, 2], "swap")
LABELS = torch.arange(8) % 2


def image_network(padding: str = "zeros", pool: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, padding_mode=padding), nn.BatchNorm2d(8), nn.Tanh(),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode=padding), nn.Tanh(), nn.AvgPool2d(pool),
        nn.Flatten(), nn.Linear(8 * (6 // pool) ** 2, 2),
    )  # fmt: skip


class Sets(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))).sum(1))


class Attention(nn.Module):
    def __init__(self, table: bool = False):
        super().__init__()
        self.a, self.c = nn.Linear(2, 4), nn.Linear(4, 2)
        self.mix = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, activation="gelu")
        self.table = nn.Parameter(torch.randn(1, 4, 4)) if table else None

    def forward(self, x):
        h = self.a(x)
        return self.c(self.mix(h if self.table is None else h + self.table).mean(1))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(1, 4)
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.tanh(self.into(x))
        return self.head((x + self.b(torch.tanh(self.norm(self.a(x))))).mean((2, 3)))


def dense() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 1, 3, padding=1))


PAIRS: dict[str, tuple] = {
    "images, D_4": (lambda: image_network(pool=2), X, Dihedral(4)),
    "images, C_4": (image_network, X, Cyclic(4)),
    "images, flips": (image_network, X, Cyclic(2)),
    "images, shifts": (lambda: image_network("circular"), X, torus(6)),
    "images, residual": (Residual, X, Dihedral(4)),
    "images to images": (dense, X, Dihedral(4)),
    "sets": (Sets, SETS, Symmetric(4)),
    "attention": (Attention, SETS, Symmetric(4)),
    "attention with a table of positions": (lambda: Attention(True), SETS, Symmetric(4)),
    "vectors": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), SETS[..., 0], SWAP),
    "coordinates": (lambda: nn.Sequential(nn.Linear(4, 24), nn.GELU(), nn.Linear(24, 2)), SETS[..., 0], Symmetric(4)),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_nothing_declared_the_assumptions_hold(name):
    build, x, group = PAIRS[name]
    torch.manual_seed(0)
    module = build()
    y = x.square() if name == "images to images" else LABELS
    more = {"target": infer(module, (x, y), group).output} if name == "images to images" else {}
    problem = from_module(module, nn.MSELoss() if more else nn.CrossEntropyLoss(), (x, y), group, **more)
    assert max(stability.check(problem).values()) < 1e-12
    assert problem.space.dim == sum(p.numel() for p in module.parameters())
    assert any(name == "inferred" for name, _ in problem.facts)


@pytest.mark.parametrize("name", ["sets", "attention"])
def test_networks_of_tokens_that_share_their_weights_are_equivariant_as_they_are(name):
    build, x, group = PAIRS[name]
    problem = from_module(build(), nn.CrossEntropyLoss(), (x, LABELS), group)
    assert problem.space.dim == problem.space.dim_equivariant
    table = from_module(Attention(True), nn.CrossEntropyLoss(), (SETS, LABELS), group)
    assert table.space.dim - table.space.dim_equivariant == 4 * 4 - 4  # what the table breaks


def test_shifts_move_pixels_and_no_kernel():
    problem = from_module(image_network("circular"), nn.CrossEntropyLoss(), (X, LABELS), torus(6))
    free = {layer.name: layer.dim - layer.size() for layer in problem.space.layers}
    assert {name for name, count in free.items() if count} == {"7.weight"}


@pytest.mark.parametrize("name", PAIRS)
def test_the_code_to_paste_is_the_declaration(name):
    build, x, group = PAIRS[name]
    module = build()
    found = infer(module, (x, LABELS), group)
    names = {"rho": group} | ({"G": group.group} if isinstance(group, Representation) else {})
    exec(found.code(), names)
    assert names["representations"].keys() == found.representations.keys()
    direct, pasted = (
        stability.from_module(module, nn.CrossEntropyLoss() if name != "images to images" else nn.MSELoss(),
                              (x, LABELS if name != "images to images" else x), reps, **sides)
        for reps, sides in (
            (found.representations, {k: v for k, v in found.arguments().items() if k != "representations"}),
            (names["representations"], names["sides"]),
        )
    )  # fmt: skip
    v = torch.randn(direct.space.dim, dtype=torch.float64)
    assert torch.allclose(direct.space.equivariant_part(v), pasted.space.equivariant_part(v), atol=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_planted_representations_are_found_again_by_the_weights(seed):
    assert planted.row(seed, 0.0).found


def test_the_distance_of_noisy_weights_is_reported():
    for seed in range(5):
        row = planted.row(seed, 0.01)
        assert row.found and 0.003 < row.reported < 0.02


def test_a_layer_that_is_given_is_kept_and_the_rest_follows():
    module = image_network(pool=2)
    group = Dihedral(4)
    field = regular(group)
    found = infer(module, (X, LABELS), group, layers={"0": (trivial(group), 1 * field)})
    assert found.representations["0"][1] == found.representations["1"] == found.representations["3"][0] == 1 * field
    assert found.layers[0].guess.how == "given"


def test_signs_are_found_behind_an_odd_function():
    group = Cyclic(2)
    mirror = groups.from_generators(group, [np.diag([1.0, -1.0])], "mirror")
    weight = torch.randn(6, 2, dtype=torch.float64)
    weight[3:] = weight[:3] * torch.tensor([1.0, -1.0])
    weight[0] = torch.tensor([0.0, 1.3])
    weight[3] = torch.tensor([0.7, 0.0])
    found = matched(weight, mirror, signed=True)
    assert found is not None and found.distance < 1e-12
    assert found.rho.matrix(1)[0, 0] == -1 and found.rho.matrix(1)[3, 3] == 1 and found.rho.matrix(1)[1, 4] == 1


def test_the_ranking_says_what_random_weights_would_have():
    torch.manual_seed(0)
    first = ranked(torch.randn(40, 4, dtype=torch.float64), SWAP)
    assert all(guess.distance > 0.2 for guess in first)
    assert {guess.text for guess in first} >= {"40 * trivial(G)", "20 * regular(G)"}


def test_permutations_that_do_not_multiply_are_none():
    with brute.bad("do not multiply as its elements do"):
        permuting(Cyclic(3), [[1, 0, 2]])
    rho = permuting(Dihedral(3), [[1, 2, 0], [0, 2, 1]])
    elements = list(rho.group.elements())
    for g, h in itertools.product(elements, elements):
        assert np.array_equal(rho.index(g)[rho.index(h)], rho.index(rho.group.multiply(g, h)))


class Lost(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(2 * 36, 2)

    def forward(self, x):
        return self.b(self.a(x)[:, :2].flatten(1))


@pytest.mark.parametrize(
    ("build", "x", "group", "message"),
    [
        (image_network, X, SO3(), "infer: how SO.3. moves inputs of shape .* give the representation on the flattened"),
        (image_network, X, SWAP, "swap has dimension 4, an input has 36 numbers"),
        (Lost, X, Dihedral(4), r"is lost before b, a Linear on inputs of shape \(72,\)"),
        (image_network, X[:, :, :5, :5], Dihedral(4), "the module cannot take the data"),
        (image_network, X, "D4", "give a group, or its representation"),
    ],
)  # fmt: skip
def test_what_cannot_be_inferred_is_told_in_one_line(build, x, group, message):
    with brute.bad(message):
        infer(build(), (x, LABELS), group)


def test_the_mend_of_an_action_that_is_not_known_works():
    group: Group = Symmetric(3)
    module = nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 2))
    x = torch.randn(8, 6)
    with brute.bad("give the representation on the flattened input in place of the group"):
        infer(module, (x, LABELS), group)
    problem = from_module(module, nn.CrossEntropyLoss(), (x, LABELS), 2 * permutation(group))
    assert max(stability.check(problem).values()) < 1e-12


def test_the_module_is_left_as_it_is():
    module = image_network(pool=2).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    infer(module, (X, LABELS), Dihedral(4))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks for part in module.modules())
