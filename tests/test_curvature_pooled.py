"""The Hessian on E through pooled features is the one through the layers."""

from __future__ import annotations

import pytest
import torch

from stability.curvature.assembly import one_hidden_layer
from stability.curvature.automatic import equivariant_hessian
from stability.curvature.pooled import hessian_on_e, pooled_hessian
from stability.eigen.operator import assemble
from stability.groups import Dihedral, Symmetric, images, permutation, quaternion_group, regular, torus, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy
from stability.networks.network import mlp
from stability.networks.nonlinearities import Chain, Identity, LayerNorm, Pointwise
from stability.networks.supervised import supervised
from stability.problem.space import Samples
from stability.tasks import TaskOptions, load

Q_8 = regular(quaternion_group())
SPACES = {
    "S_4 on pairs": lambda: (2 * (permutation(Symmetric(4)) * permutation(Symmetric(4))), permutation(Symmetric(4))),
    "D_4": lambda: (1 * images(Dihedral(4), 3), images(Dihedral(4), 3)),
    "Q_8": lambda: (1 * Q_8, Q_8),
    "Z_3²": lambda: (2 * images(torus(3), 3), images(torus(3), 3)),
}


@pytest.mark.parametrize("sigma", ["tanh", "gelu"])
@pytest.mark.parametrize("name", SPACES)
def test_the_pooled_hessian_is_the_automatic_one(name, sigma):
    source, hidden = SPACES[name]()
    one = trivial(source.group)
    head = Chain((Pointwise("tanh"), LayerNorm(0.1)))
    network = mlp([source, 3 * hidden, 4 * one, 3 * one], [Pointwise(sigma), head, Identity()])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(11, source.dim, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (11,), generator=generator)
    data = Samples(x, y, torch.full((11,), 1 / 11, dtype=torch.float64))
    problem = supervised(name, Classifier(network, cross_entropy), data, weight_decay=0.1)
    theta = problem.initial(1)
    operator = pooled_hessian(problem, theta, chunk=4)
    if "Z_3" in name:  # abelian layers have coordinates of their own
        assert operator is None
        return
    expected = assemble(equivariant_hessian(problem, theta), theta)
    assert torch.allclose(assemble(operator, theta), expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_perm_takes_the_pooled_way_and_trans_does_not():
    perm, trans = load("perm", TaskOptions(samples=10)), load("trans", TaskOptions(samples=10))
    assert one_hidden_layer(perm) and pooled_hessian(trans, trans.initial(0)) is None
    theta = perm.initial(0)
    v = torch.randn(5, len(theta), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = equivariant_hessian(perm, theta)(v)
    assert torch.allclose(hessian_on_e(perm, theta)(v), expected, rtol=0, atol=1e-12 * float(expected.abs().max()))
