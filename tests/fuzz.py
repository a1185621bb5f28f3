r"""Random problems, and what is true of them by finite differences of first-order gradients.

    H e_i = (4 D(h/2) − D(h))/3,  D(h) = (∇R(A + h e_i) − ∇R(A − h e_i))/2h,   ∇²R^aug = ∫ ρ̄(g)ᵀ H ρ̄(g) dμ  for A in E

Nothing is taken from the package but the matrices ρ(g), the nodes of a Lie group's quadrature (of twice the degree that
the package asks for) and the irreps' matrices, whose characters are checked. No second derivative of torch enters.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor, nn

import stability
from stability.groups import (
    O2,
    SO2,
    SO3,
    Cyclic,
    Dihedral,
    DirectProduct,
    Group,
    Irrep,
    PermutationGroup,
    Representation,
    Symmetric,
    Trivial,
    defining,
    harmonics,
    images,
    irreps,
    permutation,
    quaternion_group,
    regular,
    rotations,
    roto_translations,
    through,
    torus,
    trivial,
)
from stability.layers import Layer
from stability.networks.losses import cross_entropy, logistic, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Chain, Gated, Identity, LayerNorm, Norm, Pointwise
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.restricted import Admissible, restrict, sharing, support
from tests import brute

LARGEST = 64  # dim L
SIGMAS = ("tanh", "gelu", "softplus", "sigmoid", "quadratic")
# As tests.brute, but with nothing that overflows where a search without decay has run to saturation.
LOSS = {
    squared: brute.LOSS[squared],
    cross_entropy: lambda p, y: p.logsumexp(-1) - p[torch.arange(len(y)), y],
    logistic: lambda p, y: (torch.logaddexp(p, torch.zeros_like(p)) - y.reshape(p.shape) * p).mean(-1),
}
_C2 = Cyclic(2)
_S3_C2 = DirectProduct((Symmetric(3), _C2))
_SO2_C2 = DirectProduct((SO2(), _C2))
_Q8 = quaternion_group()


@cache
def spaces() -> tuple[tuple[Representation, ...], ...]:
    """Representations on few dimensions, a row for each group."""
    so2, o2, so3 = SO2(), O2(), SO3()
    a4 = PermutationGroup([(1, 2, 0, 3), (1, 0, 3, 2)], name="A_4")
    return (
        (trivial(Trivial()),),
        (regular(_C2),),
        (regular(Cyclic(3)),),
        (regular(Cyclic(4)), rotations(Cyclic(4), 2)),
        (regular(Cyclic(5)),),
        (images(torus(2), 2),),
        (images(Dihedral(4), 2), *_matrices(Dihedral(4))),
        _matrices(Dihedral(3)),
        (permutation(Symmetric(3)), *_matrices(Symmetric(3))),
        (permutation(Symmetric(4)), *_matrices(Symmetric(4))),
        (permutation(a4), *_matrices(a4)),
        (defining(_Q8), *_matrices(_Q8)),
        (images(roto_translations(2), 2),),
        (through(_S3_C2, 0, permutation(_S3_C2.factors[0])), through(_S3_C2, 1, regular(_C2))),
        (harmonics(so2, 1), harmonics(so2, 2)),
        (harmonics(o2, 1), harmonics(o2, 2)),
        (harmonics(so3, 1),),
        (through(_SO2_C2, 0, harmonics(so2, 1)), through(_SO2_C2, 1, regular(_C2))),
    )


def _matrices(group: Group) -> tuple[Representation, ...]:
    return tuple(v.representation for v in irreps(group) if not v.is_trivial and v.dim <= 4)


@dataclass(frozen=True)
class Fuzzed:
    """A problem with its first-order truth.

    Attributes:
        words: what it is.
        problem: the risk.
        gradient: A ↦ ∇R(A), (dim L), written out in the test.
        moved: A ↦ ∇R^aug(A) from moved data; None where there are none.
        basis: orthonormal columns that carry L into the layers the group's matrices act on; None for all of them.
        theta: the point.
        layers: of the unrestricted space.
    """

    words: str
    problem: Problem
    gradient: Callable[[Tensor], Tensor]
    moved: Callable[[Tensor], Tensor] | None
    theta: Tensor
    layers: tuple[Layer, ...]
    basis: np.ndarray | None = None

    def act(self, g: object) -> np.ndarray:
        """ρ̄(g) on L, dense."""
        whole = brute.lifted(self.layers, g)
        return whole if self.basis is None else self.basis.T @ whole @ self.basis

    def nodes(self) -> list[tuple[np.ndarray, float, object]]:
        """ρ̄(g), its share and g: all of a finite group, a quadrature of a Lie group."""
        group = self.problem.group
        degree = max(layer.source.degree + layer.target.degree for layer in self.layers)
        return [(self.act(g), w, g) for g, w in shares(group, 4 * degree + 1)]


def shares(group: Group, degree: int) -> list[tuple[object, float]]:
    """All elements of a finite group, by multiplication; of a Lie group the nodes of a quadrature."""
    if group.order is None:
        return list(group.quadrature(degree))
    members = brute.closure(group)
    return [(g, 1 / len(members)) for g in members]


# ---------------------------------------------------------------------------------------------- random problems


def fuzzed(seed: int) -> Fuzzed:
    """The problem of a seed; the same on every machine."""
    rng = np.random.default_rng([seed, 20])
    kinds = (network, network, network, risk, module, constrained)
    while True:
        made = kinds[rng.integers(len(kinds))](rng)
        if made is not None:
            return made


def _choice(rng: np.random.Generator, options: Sequence) -> object:
    return options[rng.integers(len(options))]


def space(rng: np.random.Generator, row: Sequence[Representation]) -> Representation:
    """One or two summands, one or two copies, a trivial one now and then."""
    base = _choice(rng, row)
    found = int(rng.integers(1, 3)) * base
    if rng.random() < 0.3:
        found = found + _choice(rng, row)
    if rng.random() < 0.3:
        found = found + trivial(base.group)
    if rng.random() < 0.1 and base.dim <= 3:
        found = base * base
    return found


def _scalars(rep: Representation) -> bool:
    return all(base == trivial(rep.group) for _, base in rep.blocks)


def step(rng: np.random.Generator, row: Sequence[Representation]) -> tuple[Representation, object]:
    """A hidden space with a σ that commutes with it."""
    hidden = space(rng, row)
    name = str(_choice(rng, SIGMAS))
    if rng.random() < 0.15:
        vectors = [r for r in row if not (r.dim == 1 and _scalars(r))]
        if vectors:
            return 2 * trivial(hidden.group) + 1 * _choice(rng, vectors), Gated(name if name != "quadratic" else "tanh")
    if not hidden.is_permutation:
        return hidden, Norm(name if name != "quadratic" else "tanh", float(rng.uniform(0.1, 1)))
    if rng.random() < 0.2 and len(hidden.blocks) == 1:
        base = hidden.blocks[0][1]
        return 3 * base, Chain((Pointwise(name), LayerNorm(0.3)))
    return hidden, Pointwise(name) if rng.random() < 0.9 else Identity()


def samples(rng: np.random.Generator, count: int, dim: int, y: Tensor, dtype: torch.dtype) -> Samples:
    weight = rng.uniform(0.2, 1.8, count) if rng.random() < 0.5 else np.ones(count)
    if count > 2 and rng.random() < 0.1:
        weight[0] = 0.0
    x = torch.as_tensor(rng.standard_normal((count, dim))).to(dtype)
    return Samples(x, y.to(dtype) if y.is_floating_point() else y, torch.as_tensor(weight / weight.sum()).to(dtype))


def network(rng: np.random.Generator) -> Fuzzed | None:
    """mlp over representations, one to three layers."""
    row = _choice(rng, spaces())
    group = row[0].group
    steps = [step(rng, row) for _ in range(rng.integers(0, 3))]
    first = space(rng, row)
    loss = _choice(rng, (squared, cross_entropy, logistic))
    last = (
        space(rng, row) if loss is squared else int(rng.integers(2, 4) if loss is cross_entropy else 1) * trivial(group)
    )
    all_spaces = [first, *(s for s, _ in steps), last]
    biases = [bool(rng.random() < 0.4) for _ in range(len(steps) + 1)]
    net = mlp(all_spaces, [*(sigma for _, sigma in steps), Identity()], biases)
    if not 0 < net.space.dim <= LARGEST or not net.space.dim_equivariant:
        return None
    count = int(rng.integers(1, 9))
    if loss is squared:
        y = torch.as_tensor(rng.standard_normal((count, last.dim)))
    else:
        y = torch.as_tensor(rng.integers(0, last.dim if loss is cross_entropy else 2, count))
    dtype = torch.float32 if rng.random() < 0.08 else torch.float64
    decay = float(_choice(rng, (0.0, 0.01, 0.3)))
    target = last if loss is squared else None
    data = samples(rng, count, first.dim, y, dtype)
    problem = stability.from_network(
        net, loss, data, target=target, decides=loss is not squared, weight_decay=decay, dtype=dtype
    )

    def losses(at: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return weight @ LOSS[loss](forward(net, at, x), y) + decay / 2 * (at**2).sum()

    x, y, weight = (part.double() if part.is_floating_point() else part for part in problem.samples)

    def at_moved(at: Tensor, moves: Iterator) -> Tensor:
        total = torch.zeros_like(at)
        for g, share in moves:
            gx = x @ torch.as_tensor(first.matrix(g)).double().T
            gy = y if target is None else y @ torch.as_tensor(target.matrix(g)).double().T
            total = total + share * brute.gradient(lambda a, gx=gx, gy=gy: losses(a, gx, gy, weight), at)
        return total

    theta = point(rng, problem)
    words = f"network {net.describe()} under {group.name}, {loss.__name__}, μ {decay}, {count} samples, {dtype}"
    return Fuzzed(
        words,
        problem,
        lambda a: brute.gradient(lambda b: losses(b, x, y, weight), a),
        lambda a: at_moved(a, shares(group, problem.degree)),
        theta,
        net.space.layers,
    )  # fmt: skip


def forward(net: object, at: Tensor, x: Tensor) -> Tensor:
    """Φ_A(x), written out."""
    start = 0
    for layer, sigma, bias in zip(net.space.layers, net.nonlinearities, net.affine, strict=True):
        rows, columns = layer.target.dim, layer.source.dim
        weight = at[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
        x = x @ weight[:, :-1].T + weight[:, -1] if bias else x @ weight.T
        x = through_sigma(sigma, x, layer.target)
    return x


def through_sigma(sigma: object, x: Tensor, rep: Representation) -> Tensor:
    """σ as its formula says; norms and gates written out copy by copy."""
    if not isinstance(sigma, Norm | Gated):
        return brute.sigma(sigma, x, rep)
    f, pieces, start = brute.SIGMA[sigma.sigma], [], 0
    for copies, base in rep.blocks:
        for _ in range(copies):
            scalar = base == trivial(base.group)
            pieces.append((x[:, start : start + base.dim], scalar))
            start += base.dim
    if isinstance(sigma, Norm):

        def scaled(v: Tensor) -> Tensor:
            r = ((v**2).sum(1, keepdim=True) + sigma.epsilon**2).sqrt()
            return f(r) / r * v

        return torch.cat([f(v) if scalar else scaled(v) for v, scalar in pieces], dim=1)
    vectors = [v for v, scalar in pieces if not scalar]
    u = [v for v, scalar in pieces if scalar]
    u = [s + (vectors[i] ** 2).mean(1, keepdim=True) if i < len(vectors) else s for i, s in enumerate(u)]
    gates = [1 / (1 + (-s).exp()) for s in u]
    return torch.cat([*(f(s) for s in u), *(v * gates[i] for i, v in enumerate(vectors))], dim=1)


def risk(rng: np.random.Generator) -> Fuzzed | None:
    """Σ_k c_k φ_k(⟨u_k, A⟩) + ½⟨A, SA⟩ on one or two tensors, of no symmetry of its own."""
    row = _choice(rng, spaces())
    one = trivial(row[0].group)
    tensors, given = {}, {}
    for name in "ab"[: rng.integers(1, 3)]:
        rep = space(rng, row) if rng.random() < 0.7 else (space(rng, row), space(rng, row))
        if isinstance(rep, tuple) and rep[0].dim * rep[1].dim > LARGEST:
            rep = rep[0]
        given[name] = rep
        tensors[name] = torch.as_tensor(
            rng.standard_normal((rep[1].dim, rep[0].dim) if isinstance(rep, tuple) else rep.dim)
        )
    layers = tuple(
        Layer(name, *(rep if isinstance(rep, tuple) else (one, rep))) for name, rep in given.items()
    )  # fmt: skip
    dim = sum(layer.dim for layer in layers)
    fixed = sum(np.linalg.matrix_rank(brute_projection((layer,)), tol=1e-6) for layer in layers)
    if dim > LARGEST or not fixed:
        return None
    u = torch.as_tensor(rng.standard_normal((8, dim)) / math.sqrt(dim))
    c = torch.as_tensor(rng.standard_normal(8))
    s = torch.as_tensor(rng.standard_normal((dim, dim)) / math.sqrt(dim))
    quartic = float(_choice(rng, (0.0, 0.1, 1.0)))

    def value(a: Tensor) -> Tensor:
        z = u @ a
        return (c[:4] @ torch.tanh(z[:4]) + c[4:] @ torch.cos(z[4:])) + a @ (s @ a) / 2 + quartic * (a**4).mean()

    def on_tensors(t: dict[str, Tensor]) -> Tensor:
        return value(torch.cat([t[name].reshape(-1) for name in tensors]))

    decay = float(_choice(rng, (0.0, 0.5)))
    problem = stability.from_risk(on_tensors, tensors, given, weight_decay=decay)
    words = f"risk on {', '.join(f'{k}: {shown(v)}' for k, v in given.items())}, under {row[0].group.name}, μ {decay}"
    return Fuzzed(
        words,
        problem,
        lambda a: brute.gradient(lambda b: value(b) + decay / 2 * (b**2).sum(), a),
        None,
        point(rng, problem, search=quartic > 0.5),
        layers,
    )


def shown(spec: Representation | tuple) -> str:
    return " → ".join(s.name for s in spec) if isinstance(spec, tuple) else spec.name


def module(rng: np.random.Generator) -> Fuzzed | None:
    """torch's Linear layers with tanh or GELU between them."""
    row = [r for r in _choice(rng, spaces()) if r.is_permutation]
    if not row:
        return None
    group = row[0].group
    hidden = space(rng, row) if rng.random() < 0.7 else int(rng.integers(1, 4)) * trivial(group)
    first, last = space(rng, row), space(rng, row)
    if not all(r.is_permutation for r in (first, hidden, last)):
        return None
    bias = bool(rng.random() < 0.6)
    act = _choice(rng, (nn.Tanh, nn.GELU, nn.Softplus))
    torch.manual_seed(int(rng.integers(2**31)))
    net = nn.Sequential(nn.Linear(first.dim, hidden.dim, bias), act(), nn.Linear(hidden.dim, last.dim, bias)).double()
    if sum(p.numel() for p in net.parameters()) > LARGEST:
        return None
    count = int(rng.integers(1, 8))
    y = torch.as_tensor(rng.standard_normal((count, last.dim)))
    decay = float(_choice(rng, (0.0, 0.05)))
    data = samples(rng, count, first.dim, y, torch.float64)
    problem = stability.from_module(
        net, lambda p, t: ((p - t) ** 2).mean(-1), data, {"0": (first, hidden), "2": (hidden, last)},
        input=first, output=last, target=last, weight_decay=decay,
    )  # fmt: skip
    names = [layer.name for layer in problem.space.layers]
    shapes = {k: v.shape for k, v in net.named_parameters()}
    one = trivial(group)
    known = {"0.weight": (first, hidden), "0.bias": (one, hidden), "2.weight": (hidden, last), "2.bias": (one, last)}

    def losses(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
        parts = at.split([math.prod(shapes[k]) for k in names])
        w = {k: part.reshape(shapes[k]) for k, part in zip(names, parts, strict=True)}
        z = act()(x @ w["0.weight"].T + w.get("0.bias", 0.0))
        p = z @ w["2.weight"].T + w.get("2.bias", 0.0)
        return data.weight @ ((p - y) ** 2).mean(-1) + decay / 2 * (at**2).sum()

    def moved(at: Tensor) -> Tensor:
        total = torch.zeros_like(at)
        for g, share in shares(group, problem.degree):
            gx, gy = (v @ torch.as_tensor(r.matrix(g)).double().T for v, r in ((data.x, first), (data.y, last)))
            total = total + share * brute.gradient(lambda a, gx=gx, gy=gy: losses(a, gx, gy), at)
        return total

    return Fuzzed(
        f"module {first.name} → {hidden.name} → {last.name}, {act.__name__}, bias {bias}, μ {decay}, {count} samples",
        problem,
        lambda a: brute.gradient(lambda b: losses(b, data.x, data.y), a),
        moved,
        point(rng, problem),
        tuple(Layer(k, *known[k]) for k in names),
    )


def constrained(rng: np.random.Generator) -> Fuzzed | None:
    """A network whose first layer has a support of whole orbits, or weights shared along some of them."""
    whole = network(rng)
    if whole is None or whole.problem.samples.x.dtype != torch.float64:
        return None
    layer = whole.layers[0]
    if not (layer.source.is_permutation and layer.target.is_permutation) or layer.source.group.order is None:
        return None
    orbits = orbit_labels(layer)
    n = layer.dim
    if rng.random() < 0.5:
        kept = np.flatnonzero(rng.random(orbits.max() + 1) < 0.6)
        mask = np.isin(orbits, kept)
        if not mask.any():
            return None
        part, columns = support(torch.as_tensor(mask)), np.eye(n)[:, mask]
    else:
        shared = set(np.flatnonzero(rng.random(orbits.max() + 1) < 0.5).tolist())
        labels = np.array([o if o in shared else 10**6 + i for i, o in enumerate(orbits)])
        part = sharing(torch.as_tensor(labels))
        kinds = np.unique(labels)
        columns = (labels[:, None] == kinds) / np.sqrt((labels[:, None] == kinds).sum(0))
    basis = block_diag(columns, *(np.eye(other.dim) for other in whole.layers[1:]))
    admissible = Admissible(whole.problem.space, {layer.name: part})
    problem = restrict(whole.problem, admissible)
    if not problem.space.dim_equivariant:
        return None
    b = torch.as_tensor(basis)
    return Fuzzed(
        f"restricted ({part.describe()} in {layer.name}): {whole.words}",
        problem,
        lambda c: b.T @ whole.gradient(b @ c),
        lambda c: b.T @ whole.moved(b @ c),
        point(rng, problem),
        whole.layers,
        basis,
    )


def orbit_labels(layer: Layer) -> np.ndarray:
    """The orbit of each entry under the group, by walking."""
    moves = [np.abs(brute.lifted([layer], g)).argmax(0) for g in layer.source.group.generators]
    labels, count = np.full(layer.dim, -1), 0
    for start in range(layer.dim):
        frontier = [start] if labels[start] < 0 else []
        while frontier:
            i = frontier.pop()
            if labels[i] < 0:
                labels[i] = count
                frontier += [int(m[i]) for m in moves]
        count = int(labels.max()) + 1
    return labels


def point(rng: np.random.Generator, problem: Problem, search: bool = True) -> Tensor:
    """A random point of E, or a stationary one."""
    if search and rng.random() < 0.5:
        with contextlib.suppress(stability.BadInput):  # a search that runs to infinity, and says so
            return stability.find_points(problem, starts=1, seed=int(rng.integers(100)))[0].theta
    size = 10 ** rng.uniform(-1.5, 0.5)
    return torch.as_tensor(size * rng.standard_normal(problem.space.dim_equivariant)).to(problem.samples.x)


# ------------------------------------------------------------------------------------------------------- truth


def brute_projection(layers: Sequence[Layer]) -> np.ndarray:
    """Π_E; of a Lie group from what random elements fix, which generate a dense subgroup."""
    group = layers[0].source.group
    if group.order is not None:
        return brute.equivariant_projection(layers)
    return brute.fixed_projection([brute.lifted(layers, g) for g in generic(group)])


def generic(group: Group) -> list[object]:
    """Elements that generate a dense subgroup with probability one."""
    rng = np.random.default_rng(5)
    return [*group.generators, *(group.sample(rng) for _ in range(4))]


@dataclass(frozen=True)
class Truth:
    """Dense matrices at the point: ∇R, ∇²R, ∇²R^aug, Π_E, and ρ̄(g) with shares."""

    at: Tensor
    gradient: np.ndarray
    nominal: np.ndarray
    aug: np.ndarray
    fixed: np.ndarray
    nodes: list[tuple[np.ndarray, float, object]]

    def block(self, projection: np.ndarray) -> np.ndarray:
        """Eigenvalues of ∇²R^aug on the range of a projection."""
        values, vectors = np.linalg.eigh((projection + projection.T) / 2)
        inside = vectors[:, values > 0.5]
        return np.linalg.eigvalsh(inside.T @ self.aug @ inside)

    @property
    def on_e(self) -> np.ndarray:
        return self.block(self.fixed)

    @property
    def across(self) -> np.ndarray:
        return self.block(np.eye(len(self.fixed)) - self.fixed)

    def isotypic(self, irrep: Irrep) -> np.ndarray:
        """d/c ∫ χ(g) ρ̄(g) dμ, the projection onto the copies of V_λ in L."""
        traces = [np.trace(irrep.representation.matrix(g)) for _, _, g in self.nodes]
        total = sum(w * t * m for (m, w, _), t in zip(self.nodes, traces, strict=True))
        return irrep.dim / irrep.commutant_dim * total


def truth(f: Fuzzed) -> Truth:
    """By finite differences of the gradient; Richardson's error is of order h⁴."""
    nodes = f.nodes()
    at = f.problem.space.embed(f.theta).double()
    nominal = brute.differences(f.gradient, at)
    aug = sum(w * m.T @ nominal @ m for m, w, _ in nodes)
    if f.problem.group.order is None:
        fixed = brute.fixed_projection([f.act(g) for g in generic(f.problem.group)])
    else:
        fixed = sum(w * m for m, w, _ in nodes)
    return Truth(at, f.gradient(at).numpy(), nominal, aug, fixed, nodes)
