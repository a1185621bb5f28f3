"""Layers between frequencies are the dense ones: frequencies sort a space, couplings hold a sector, products agree."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from brute import bad, gaussian, lifted

from stability.groups import Cyclic, Representation, Symmetric, images, irreps, permutation, regular, torus, trivial
from stability.groups.standard import rotations
from stability.layers.coupling import coupling
from stability.layers.fourier import FourierLayer, supports
from stability.layers.frequencies import (
    all_frequencies,
    analyse,
    fourier_basis,
    frequency_number,
    from_positions,
    moduli_of,
    synthesise,
    to_positions,
)
from stability.layers.layer import Layer

BASES: dict[str, Representation] = {
    "Z_3²": images(torus(3), 3),
    "Z_2²": images(torus(2), 2),
    "C_6": regular(Cyclic(6)),
    "C_4 on nine pixels": rotations(Cyclic(4), 3),
}
every_base = pytest.mark.parametrize("name", BASES)


def spaces(name: str) -> tuple[Representation, Representation]:
    rho = BASES[name]
    return 2 * rho + 1 * trivial(rho.group), 1 * trivial(rho.group) + 3 * rho


# ------------------------------------------------------------------------------------------------ frequencies


@every_base
def test_the_frequencies_of_a_space_make_an_orthogonal_matrix_that_turns_shifts_into_rotations(name):
    rho = BASES[name]
    basis = fourier_basis(rho)
    q = basis.matrix.numpy()
    np.testing.assert_allclose(q @ q.T, np.eye(rho.dim), atol=1e-12)
    moduli, frequencies = basis.moduli, all_frequencies(basis.moduli)
    for g in rho.group.elements():
        turned = q @ rho.matrix(g) @ q.T
        expected = np.zeros_like(turned)
        shift = np.array(g if isinstance(g, tuple) else (g,))
        for group in basis.groups:
            for position, nu in enumerate(group.frequencies):
                angle = 2 * math.pi * float((frequencies[nu] * shift / np.array(moduli)).sum())
                c, s = math.cos(angle), math.sin(angle)
                block = np.array([[c]]) if group.real else np.array([[c, s], [-s, c]])
                at = group.start + position * group.rows
                span = slice(at, at + group.rows)
                expected[span, span] = np.kron(block, np.eye(group.count))
        assert min(np.abs(turned - expected).max(), np.abs(turned - expected.T).max()) < 1e-12


@every_base
def test_every_frequency_has_as_many_modes_as_its_character_says(name):
    rho = BASES[name]
    basis, frequencies = fourier_basis(rho), all_frequencies(moduli_of(rho))
    members = list(rho.group.elements())
    for nu, modes in zip(frequencies, basis.modes, strict=True):
        phases = [
            np.exp(-2j * math.pi * sum(k * x / n for k, x, n in zip(nu, np.atleast_1d(g), basis.moduli, strict=True)))
            for g in members
        ]
        expected = np.mean([np.trace(rho.matrix(g)) * p for g, p in zip(members, phases, strict=True)])
        assert round(expected.real) == modes and abs(expected.imag) < 1e-12


@pytest.mark.parametrize("moduli", [(6,), (2, 3), (4, 1, 3)])
def test_frequencies_are_numbered_in_their_order_and_modulo_the_sides(moduli):
    frequencies = all_frequencies(moduli)
    assert frequencies.tolist() == [list(k) for k in itertools.product(*map(range, moduli))]
    assert frequency_number(frequencies, moduli).tolist() == list(range(len(frequencies)))
    assert frequency_number(frequencies - 5 * np.array(moduli), moduli).tolist() == list(range(len(frequencies)))


@every_base
def test_positions_and_frequencies_are_two_orders_of_the_same_numbers(name):
    space, _ = spaces(name)
    x = gaussian(5, space.dim)
    y = to_positions(space, x)
    torch.testing.assert_close(from_positions(space, y), x, rtol=0, atol=0)
    spectra = analyse(space, y)
    torch.testing.assert_close(synthesise(space, spectra, y, 5), y, rtol=0, atol=1e-13)
    norm = sum(float(part.square().sum()) for block in spectra for part in block)
    assert norm == pytest.approx(float(x.square().sum()), rel=1e-12)


def test_another_group_has_no_frequencies():
    with bad("S_3 has no frequencies; use a product of cyclic groups"):
        moduli_of(permutation(Symmetric(3)))
    assert not supports([permutation(Symmetric(3))]) and supports(list(spaces("Z_3²")))


# ---------------------------------------------------------------------------------------------------- layers


@every_base
def test_a_sector_has_the_same_weights_as_the_dense_layer(name):
    source, target = spaces(name)
    fast, dense = FourierLayer("A", source, target), Layer("A", source, target)
    total = 0
    for irrep in irreps(source.group):
        size = fast.size(irrep)
        assert size == dense.size(irrep)
        total += irrep.dim * size // (2 if irrep.kind == "complex" else 1)
        if not size:
            continue
        partners = fast.embed(torch.eye(size, dtype=torch.float64), irrep)
        gram = torch.einsum("adrc,bdrc->ab", partners, partners) / irrep.dim
        torch.testing.assert_close(gram, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-12)
        # The span of the dense layer's sector: projecting onto it and back loses nothing.
        back = dense.embed(dense.adjoint_embed(partners, irrep), irrep) / irrep.dim
        torch.testing.assert_close(back, partners, rtol=0, atol=1e-12)
        for g in source.group.generators:
            matrix = torch.as_tensor(irrep.representation.matrix(g))
            moved = torch.einsum("ij,kirc->kjrc", matrix, partners)
            expected = (partners.flatten(-2).numpy() @ lifted([dense], g).T).reshape(moved.shape)
            np.testing.assert_allclose(moved, expected, atol=1e-12)
    assert total == source.dim * target.dim


@every_base
def test_tangents_between_frequencies_are_products_with_dense_weights(name):
    source, target = spaces(name)
    layer, n, k = FourierLayer("A", source, target), 4, 2
    at = gaussian(layer.size(), seed=1)
    weight = layer.embed(at)[0]
    x, p = gaussian(n, source.dim, seed=2), gaussian(n, target.dim, seed=3)
    for irrep in irreps(source.group):
        size, d = layer.size(irrep), irrep.dim
        if not size:
            continue
        one = layer.at(at, irrep)
        torch.testing.assert_close(one.plain(x), x @ weight.mT, rtol=0, atol=1e-12)
        torch.testing.assert_close(one.plain_transpose(p), p @ weight, rtol=0, atol=1e-12)
        bound, s = one.bind(x, p), gaussian(k, size, seed=4)
        dense = layer.embed(s, irrep).flatten(0, 1)
        pushed = one.sample_layout(one.forward(one.push(s), bound, None).clone())
        torch.testing.assert_close(pushed, torch.einsum("trc,nc->tnr", dense, x), rtol=0, atol=1e-11)
        # What is gathered is the gradient of ⟨ẏ, (S e_j)x⟩ in S; what is pulled back is Aᵀẏ + (S e_j)ᵀp.
        cotangent, direction = gaussian(k * d, n, target.dim, seed=5), one.push(s)
        gathered, out = one.zeros(k, s), torch.empty_like(s)
        back = one.backward(direction, bound, None, one.tangent_layout(cotangent), gathered, need=True)
        one.collect(k, gathered, out)
        slope = torch.einsum("kdnr,nc->kdrc", cotangent.unflatten(0, (k, d)), x)
        torch.testing.assert_close(out, layer.adjoint_embed(slope, irrep), rtol=0, atol=1e-11)
        pulled = torch.einsum("tnr,rc->tnc", cotangent, weight) + torch.einsum("trc,nr->tnc", dense, p)
        found = from_positions(source, back.flatten(1)).unflatten(0, back.shape[1:])
        torch.testing.assert_close(found, pulled, rtol=0, atol=1e-11)


@every_base
@pytest.mark.parametrize("transposed", [False, True])
def test_a_coupling_gathers_gradients_of_blocks_as_the_adjoint_of_making_them(name, transposed):
    rho = BASES[name]
    for eta in range(len(all_frequencies(moduli_of(rho)))):
        one = coupling(rho, rho, eta)
        entries = one.entries(gaussian(2, 3, 2, one.size, seed=eta))
        blocks = one.blocks(entries, transposed)
        slopes = [gaussian(*b.shape, seed=k) for k, b in enumerate(blocks)]
        gathered = [torch.zeros_like(e) for e in entries]
        one.collect(gathered, slopes, transposed)
        left = sum(float((a * b).sum()) for a, b in zip(blocks, slopes, strict=True))
        right = sum(float((a * b).sum()) for a, b in zip(entries, gathered, strict=True))
        assert left == pytest.approx(right, rel=1e-11)
