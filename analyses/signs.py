r"""Can the tool be fooled? A thousand and more random problems whose answer is known, built to sit next to zero.

    python -m analyses.signs --each 100

Every problem is built from its answer. L is split into irreducible subspaces of a random invariant matrix, each gets a
curvature, and R is a sum over samples whose group average has exactly these; cubic terms, gradients in E⊥, kinks,
cancelling samples are added so that the answer stays known:

    near        ±1e-8 on E and on E⊥, everything else of order 0.1 to 100
    clustered   whole clusters around ±1e-8, or straddling zero in steps of 1e-9, next to curvatures up to 1e3
    degenerate  exact zeros, alone or beside ±1e-8
    moved       the point given is off by so much that the sign there is not that of the stationary point
    flat        gradients below the tolerance where no stationary point is near (εt + ct³)
    kink        κ|t| through the point, κ of either sign
    float32     ``near`` in single precision; the answer is that of the rounded data
    cancelling  pairs of samples of curvature ±10³ … ±10⁹ that cancel
    hand        a quadratic network by hand: ∇²R^aug = 2k on E, ±10⁻ⁿ on E⊥
    network     tanh networks with a term that shifts λ_min to ±1e-8, the answer by brute force
    leaky       leaky ReLU networks with a sample that sits on every kink
    krylov      200 to 400 dimensions that only Lanczos sees, clusters at the end that decides

A verdict is *right*, *undecided* (or refused as not stationary) or *wrong*. Rows are kept in DIR/signs.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from analyses.shared import Figure, Rows, Section, command, dumps, finish, pool_arguments, prepare_folder, table
from stability import krylov
from stability.analysis import Settings, analyse
from stability.cluster import pool
from stability.curvature import Operator, StaleLinearisation
from stability.groups import (
    Cyclic,
    Dihedral,
    PermutationRepresentation,
    Representation,
    Symmetric,
    images,
    permutation,
    quaternion_group,
    regular,
    rotations,
    torus,
    trivial,
)
from stability.layers import make_layer
from stability.networks import Classifier, Identity, Pointwise, cross_entropy, mlp, supervised
from stability.problem import ParameterSpace, Problem, Samples
from stability.storage import Checkpoint, write
from stability.tasks.counterexample import squared_sum
from stability.verdict import Block, judge

VERDICTS = ("eqv", "aug", "transverse")
TINY = 1e-8
# No stationary point, or no Hessian: then no sign is right.
NO_SIGN = "no sign"

QUATERNIONS = quaternion_group()
SPACES: dict[str, Callable[[], list[tuple[Representation, Representation]]]] = {
    "C_5": lambda: [(regular(Cyclic(5)), regular(Cyclic(5)))],
    "D_4": lambda: [(images(Dihedral(4), 2), 2 * images(Dihedral(4), 2))],
    "S_4": lambda: [(permutation(Symmetric(4)), permutation(Symmetric(4)))],
    "S_3 on pairs": lambda: [(permutation(Symmetric(3)) * permutation(Symmetric(3)), permutation(Symmetric(3)))],
    "Q_8": lambda: [(regular(QUATERNIONS), trivial(QUATERNIONS) + regular(QUATERNIONS))],
    "C_4": lambda: [(rotations(Cyclic(4), 2), 2 * rotations(Cyclic(4), 2)), (2 * rotations(Cyclic(4), 2),) * 2],
    "Z_2²": lambda: [(images(torus(2), 2), 3 * images(torus(2), 2))],
}


@dataclass(frozen=True)
class Case:
    """A problem with its answer.

    Attributes:
        problem: the risk; None where ``verdicts`` are made otherwise.
        theta: the point judged.
        truth: verdict → status, or ``NO_SIGN``.
        lowest: the true λ_min on E and on E⊥, where there is one.
        verdicts: verdict → (status, evidence), for cases that are no whole analysis.
    """

    truth: dict[str, str]
    problem: Problem | None = None
    theta: Tensor | None = None
    lowest: dict[str, float] = field(default_factory=dict)
    verdicts: dict[str, tuple[str, str]] | None = None


def status(values: Sequence[float]) -> str:
    """What the smallest of true eigenvalues makes of a block."""
    least = min(values)
    return "unstable" if least < 0 else "degenerate" if least == 0 else "stable"


def answers(on_e: Sequence[float], across: Sequence[float]) -> dict[str, str]:
    """The truth on E, on L and on E⊥."""
    return {"eqv": status(on_e), "aug": status([*on_e, *across]), "transverse": status(across)}


@cache
def parts(name: str) -> tuple[ParameterSpace, tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
    """L with irreducible subspaces in E and in E⊥ (orthonormal rows), and ρ̄(g) for all g, all by brute force."""
    space = ParameterSpace(tuple(make_layer(f"A_{i}", a, b, False) for i, (a, b) in enumerate(SPACES[name]())))
    eye = torch.eye(space.dim, dtype=torch.float64)
    moves = torch.stack([space.act(g, eye).mT for g in space.group.elements()])
    generator = torch.Generator().manual_seed(7)
    random = torch.randn(space.dim, space.dim, generator=generator, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(averaged(random + random.mT, moves))
    cuts = [0, *(torch.where(values.diff() > 1e-7)[0] + 1).tolist(), space.dim]
    found = [vectors[:, a:b].mT.contiguous() for a, b in zip(cuts, cuts[1:], strict=False)]
    mean = moves.mean(0)
    inside = [float((w @ mean).norm()) > 0.5 for w in found]
    on_e = tuple(w for w, fixed in zip(found, inside, strict=True) if fixed)
    across = tuple(w for w, fixed in zip(found, inside, strict=True) if not fixed)
    return space, on_e, across, moves


def averaged(matrix: Tensor, moves: Tensor) -> Tensor:
    """∫ ρ̄(g)ᵀ M ρ̄(g) dμ."""
    return (moves.mT @ matrix @ moves).mean(0)


TERMS = 5


def polynomial(centre: Tensor, parameters: Tensor, samples: Samples) -> Tensor:
    """Σ_s w_s (y₁t + y₂t²/2 + y₃t³/6 + y₄t⁴/24 + y₅|t|), t = ⟨x_s, A − A₀⟩."""
    t = samples.x @ (parameters - centre.to(parameters))
    y = samples.y
    return samples.weight @ (
        y[:, 0] * t + y[:, 1] * t**2 / 2 + y[:, 2] * t**3 / 6 + y[:, 3] * t**4 / 24 + y[:, 4] * t.abs()
    )


@dataclass
class Draft:
    """A problem in the making: samples are appended, the averaged Hessian at the centre stays what was asked for."""

    name: str
    rng: np.random.Generator
    on_e: np.ndarray
    across: np.ndarray
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        self.space, inside, outside, self.moves = parts(self.name)
        self.inside, self.outside = inside, outside
        matrix = sum(v * w.mT @ w for v, w in zip([*self.on_e, *self.across], [*inside, *outside], strict=True))
        size = float(torch.linalg.matrix_norm(matrix, 2))
        # What averaging cancels: R itself has another Hessian, and a gradient across E.
        off = self.gaussian(self.space.dim, self.space.dim)
        off = off + off.mT
        off = off - averaged(off, self.moves)
        matrix = matrix + 0.5 * size * off / torch.linalg.matrix_norm(off, 2)
        values, vectors = torch.linalg.eigh(matrix)
        self.centre = self.space.embed(self.space.project(self.gaussian(self.space.dim)))
        self.x, self.y = [vectors.mT], [self.terms(len(values), 1, values)]
        slope = self.space.transverse_part(self.gaussian(self.space.dim))
        self.add(slope, 0, 0.1 * size)

    def gaussian(self, *shape: int) -> Tensor:
        return torch.as_tensor(self.rng.standard_normal(shape))

    def terms(self, rows: int, which: int, values: Tensor | float) -> Tensor:
        y = torch.zeros(rows, TERMS, dtype=torch.float64)
        y[:, which] = torch.as_tensor(values, dtype=torch.float64)
        return y

    def add(self, direction: Tensor, which: int, value: float) -> None:
        """One more sample."""
        self.x.append(direction[None])
        self.y.append(self.terms(1, which, value))

    def problem(self) -> Problem:
        x, y = torch.cat(self.x), torch.cat(self.y)
        order = torch.as_tensor(self.rng.permutation(len(x)))
        weight = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
        samples = Samples(*(part.to(self.dtype) for part in (x[order], len(x) * y[order], weight)))
        space, dtype = self.space, self.dtype

        def initial(seed: int) -> Tensor:
            start = torch.randn(
                space.dim_equivariant, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
            return (space.project(self.centre) + start).to(dtype)

        return Problem(self.name, space, samples, partial(polynomial, self.centre.to(dtype)), initial=initial)

    def point(self, offset: float = 0.0, along: Tensor | None = None) -> Tensor:
        """Coordinates of the centre, moved by ``offset`` in E."""
        away = self.gaussian(self.space.dim_equivariant) if along is None else self.space.project(along)
        return (self.space.project(self.centre) + offset * away / away.norm()).to(self.dtype)

    def exact(self, problem: Problem, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues of ∇²R^aug on E and on E⊥ at a point, by brute force in float64 from the samples themselves."""
        x, y, weight = (part.double() for part in problem.samples)
        t = x @ (self.space.embed(theta.double()) - self.centre.to(self.dtype).double())
        curvature = weight * (y[:, 1] + y[:, 2] * t + y[:, 3] * t**2 / 2)
        matrix = averaged((x.mT * curvature) @ x, self.moves)
        inside, outside = torch.cat(self.inside), torch.cat(self.outside)
        return tuple(torch.linalg.eigvalsh(w @ matrix @ w.mT) for w in (inside, outside))


def body(rng: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """Curvatures well above zero."""
    return scale * rng.uniform(0.1, 1.0, count)


def draft(rng: np.random.Generator, dtype: torch.dtype = torch.float64, scale: float | None = None) -> Draft:
    """A space with curvatures of order 0.1 to 100, nothing near zero yet."""
    name = str(rng.choice(list(SPACES)))
    _, inside, outside, _ = parts(name)
    scale = 10 ** rng.uniform(-1, 2) if scale is None else scale
    return Draft(name, rng, body(rng, len(inside), scale), body(rng, len(outside), scale), dtype)


def again(d: Draft) -> Draft:
    """The same draft with its eigenvalues, changed meanwhile, built in."""
    return Draft(d.name, d.rng, d.on_e, d.across, d.dtype)


def near(rng: np.random.Generator, dtype: torch.dtype = torch.float64) -> Case:
    d = draft(rng, dtype)
    for block in (d.on_e, d.across):
        if rng.random() < 0.7:
            block[rng.integers(len(block))] = rng.choice([TINY, -TINY])
    d = again(d)
    problem, theta = d.problem(), d.point(1e-13)
    if dtype == torch.float64:
        return Case(answers(d.on_e, d.across), problem, theta, lowest(d.on_e, d.across))
    exact = d.exact(problem, theta)
    return Case(answers(*(v.tolist() for v in exact)), problem, theta, lowest(*exact))


def lowest(on_e: Sequence[float], across: Sequence[float]) -> dict[str, float]:
    return {"E": float(min(on_e)), "E_perp": float(min(across))}


def clustered(rng: np.random.Generator) -> Case:
    d = draft(rng, scale=10 ** rng.uniform(0, 3))
    for block in (d.on_e, d.across):
        many = rng.integers(1, len(block) + 1)
        chosen = rng.choice(len(block), many, replace=False)
        if rng.random() < 0.5:
            block[chosen] = rng.choice([TINY, -TINY]) * (1 + 1e-3 * rng.uniform(-1, 1, many))
        else:
            block[chosen] = 1e-9 * (np.arange(many) - rng.integers(-1, many) + 0.5)
        if many == len(block):
            block[rng.integers(len(block))] = 1.0
    d = again(d)
    return Case(answers(d.on_e, d.across), d.problem(), d.point(1e-13), lowest(d.on_e, d.across))


def degenerate(rng: np.random.Generator) -> Case:
    d = draft(rng)
    for block in (d.on_e, d.across):
        count = rng.integers(0, len(block))
        block[rng.choice(len(block), count, replace=False)] = 0.0
        if rng.random() < 0.4:
            block[rng.integers(len(block))] = rng.choice([TINY, -TINY])
    d = again(d)
    return Case(answers(d.on_e, d.across), d.problem(), d.point(), lowest(d.on_e, d.across))


def moved(rng: np.random.Generator) -> Case:
    d = draft(rng, scale=1.0)
    slow = rng.integers(len(d.on_e))
    d.on_e[slow] = 10 ** rng.uniform(-3, -1)
    weakest = rng.integers(len(d.across))
    d.across[weakest] = rng.choice([TINY, -TINY])
    d = again(d)
    u, v = d.inside[slow][0], d.outside[weakest][0]
    d.add((u + v) / math.sqrt(2), 2, rng.choice([-1, 1]) * 10 ** rng.uniform(0, 3))
    problem, theta = d.problem(), d.point(10 ** rng.uniform(-11, -8), u)
    here = d.exact(problem, theta)[1]
    truth = answers(d.on_e, d.across) | {"transverse": status(here.tolist())}
    return Case(truth, problem, theta, lowest(d.on_e, d.across))


def flat(rng: np.random.Generator) -> Case:
    d = draft(rng, scale=1.0)
    slow = rng.integers(len(d.on_e))
    d.on_e[slow] = 0.0
    if rng.random() < 0.5:
        d.across[rng.integers(len(d.across))] = rng.choice([TINY, -TINY])
    d = again(d)
    u = d.inside[slow][0]
    d.add(u, 0, 10 ** rng.uniform(-12, -10))
    d.add(u, 2, 10 ** rng.uniform(-2, 1))
    problem = d.problem()
    theta = d.point(rng.choice([0.0, 1.0, -1.0]) * 10 ** rng.uniform(-8, -6), u)
    across = d.exact(problem, theta)[1].tolist()
    truth = {"eqv": NO_SIGN, "aug": NO_SIGN, "transverse": status(across)}
    return Case(truth, problem, theta)


def kink(rng: np.random.Generator) -> Case:
    d = draft(rng)
    if rng.random() < 0.5:
        d.across[rng.integers(len(d.across))] = rng.choice([TINY, -TINY])
        d = again(d)
    for _ in range(rng.integers(1, 4)):
        direction = d.gaussian(d.space.dim)
        d.add(direction / direction.norm(), 4, rng.choice([-1, 1]) * 10 ** rng.uniform(-5, 0))
    return Case(dict.fromkeys(VERDICTS, NO_SIGN), d.problem(), d.point())


def cancelling(rng: np.random.Generator) -> Case:
    d = draft(rng)
    for block in (d.on_e, d.across):
        if rng.random() < 0.7:
            block[rng.integers(len(block))] = rng.choice([TINY, -TINY])
    d = again(d)
    size = 10 ** rng.uniform(3, 9)
    for _ in range(rng.integers(1, 20)):
        direction = d.gaussian(d.space.dim)
        direction = direction / direction.norm()
        d.add(direction, 1, size)
        d.add(direction, 1, -size)
    return Case(answers(d.on_e, d.across), d.problem(), d.point(), lowest(d.on_e, d.across))


def _shuffled(k: int, g: object) -> Sequence[int]:
    return g


def hand(rng: np.random.Generator) -> Case:
    """R^k with S_k permuting, σ(t) = t + t², ℓ = ½(Σy − Σy')², x = ±1: 2·11ᵀ + r₂I at A* = (½, …, ½), r₂ free."""
    k = int(rng.integers(2, 6))
    group = Symmetric(k)
    space = PermutationRepresentation(group, k, partial(_shuffled, k), f"R^{k}")
    value = rng.choice([-1, 1]) * 10 ** rng.uniform(-10, 0)
    targets = torch.tensor([[0.75] * k, [-0.25 - value / k] * k], dtype=torch.float64)
    samples = Samples(
        torch.tensor([[1.0], [-1.0]], dtype=torch.float64), targets, torch.full((2,), 0.5, dtype=torch.float64)
    )
    network = mlp([1 * trivial(group), 1 * space], [Pointwise("quadratic")])
    model = Classifier(network, squared_sum, target=1 * space, decides=False)
    problem = supervised("hand", model, samples)
    start = torch.full((k,), 0.5, dtype=torch.float64)
    start = start + 10 ** rng.uniform(-16, -11)
    # The residual that rounding of the targets makes is the true eigenvalue.
    true = float(-0.25 * k - targets[1].sum())
    return Case(answers([2 * k + true], [true]), problem, problem.space.project(start), lowest([2 * k + true], [true]))


def network(rng: np.random.Generator) -> Case:
    """A tanh network whose risk is tilted and shifted so that a random point is stationary and λ_min = ±1e-8 on E⊥."""
    name = str(rng.choice(["C_5", "S_3", "Z_2²"]))
    rho = {
        "C_5": lambda: regular(Cyclic(5)),
        "S_3": lambda: permutation(Symmetric(3)),
        "Z_2²": lambda: images(torus(2), 2),
    }[name]()
    one = trivial(rho.group)
    net = mlp([1 * rho, 2 * rho, 2 * one], [Pointwise("tanh"), Identity()])
    n = 10
    x = torch.as_tensor(rng.standard_normal((n, rho.dim)))
    y = torch.as_tensor(rng.integers(0, 2, n))
    samples = Samples(x, y, torch.full((n,), 1 / n, dtype=torch.float64))
    model = Classifier(net, cross_entropy)
    space = net.space
    theta = torch.as_tensor(rng.standard_normal(space.dim_equivariant))
    at = space.embed(theta)

    def plain(a: Tensor, part: Samples) -> Tensor:
        return part.weight @ model.losses(model.predict(a, part.x), part.y)

    slope = space.equivariant_part(torch.func.grad(lambda a: plain(a, samples))(at))
    hessian = torch.func.hessian(lambda a: plain(a, samples))(at)
    eye = torch.eye(space.dim, dtype=torch.float64)
    moves = torch.stack([space.act(g, eye).mT for g in space.group.elements()])
    matrix = averaged(hessian, moves)
    fixed = moves.mean(0)
    values, vectors = torch.linalg.eigh(fixed)
    inside, outside = vectors[:, values > 0.5], vectors[:, values < 0.5]
    on_e = torch.linalg.eigvalsh(inside.mT @ matrix @ inside)
    across = torch.linalg.eigvalsh(outside.mT @ matrix @ outside)
    pivot = on_e if rng.random() < 0.3 else across
    shift = float(rng.choice([TINY, -TINY])) - float(pivot[0])

    def loss(a: Tensor, part: Samples) -> Tensor:
        tilt = shift / 2 * (a - at).square().sum() - slope @ (a - at)
        return plain(a, part) + part.weight.sum() * tilt

    def initial(seed: int) -> Tensor:
        return torch.randn(len(theta), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    problem = Problem(name, space, samples, loss, initial=initial)
    on_e, across = (on_e + shift).tolist(), (across + shift).tolist()
    return Case(answers(on_e, across), problem, theta, lowest(on_e, across))


def leaky(rng: np.random.Generator) -> Case:
    rho = permutation(Symmetric(3))
    one = trivial(rho.group)
    net = mlp([1 * rho, 2 * rho, 2 * one], [Pointwise(str(rng.choice(["relu", "leaky_relu"]))), Identity()])
    x = torch.as_tensor(rng.standard_normal((6, 3)))
    x[rng.integers(6)] = 0.0
    y = torch.as_tensor(rng.integers(0, 2, 6))
    samples = Samples(x, y, torch.full((6,), 1 / 6, dtype=torch.float64))
    problem = supervised("leaky", Classifier(net, cross_entropy), samples, weight_decay=0.1)
    return Case(dict.fromkeys(VERDICTS, NO_SIGN), problem, problem.initial(int(rng.integers(1000))))


def krylov_only(rng: np.random.Generator) -> Case:
    """A diagonal matrix that Lanczos alone sees; its last eigenvalues are a cluster, some of them on the other side."""
    n = int(rng.integers(200, 400))
    values = rng.uniform(0.1, 1.0, n) * 10 ** rng.uniform(-1, 2)
    many = int(rng.integers(1, 20))
    kind = rng.choice(["tiny", "small", "spread"])
    size = {"tiny": TINY, "small": 1e-3, "spread": 0.05}[kind] * (1.0 if kind != "spread" else values.max())
    values[:many] = size * rng.choice([-1.0, 1.0, 1.0]) * (1 + 1e-3 * rng.uniform(-1, 1, many))
    diagonal = torch.as_tensor(values)
    operator = Operator(n, lambda v: v * diagonal, "diagonal")
    plan = krylov.Plan(int(rng.integers(60, n + 1)), 3, 3, bool(rng.random() < 0.5), int(rng.integers(1000)), 1.0)
    solution = krylov.run(operator, operator, n, "diagonal", plan, diagonal, Checkpoint(None, {}, False))
    verdict = judge([Block("E⊥", solution.spectrum)])
    return Case(
        {"transverse": status(values)},
        lowest={"E_perp": float(values.min())},
        verdicts={"transverse": (verdict.status, verdict.evidence)},
    )


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {
    "near": near,
    "clustered": clustered,
    "degenerate": degenerate,
    "moved": moved,
    "flat": flat,
    "kink": kink,
    "float32": partial(near, dtype=torch.float32),
    "cancelling": cancelling,
    "hand": hand,
    "network": network,
    "leaky": leaky,
    "krylov": krylov_only,
}

REASONS = {
    "refused: products contradict each other": ("refused",),
    "the gradient is flat, not zero": ("Newton step",),
    "no Hessian: a kink": ("kink",),
    "within the errors": ("by less than the errors", "within the errors"),
    "single precision gives no lower bound": ("float64 would decide it",),
    "Lanczos gives no lower bound": ("bounds λ_min from above only",),
    "gradient above the tolerance": ("above the tolerance",),
}


def reason(evidence: str) -> str:
    """Why nothing was decided, in a few words."""
    return next((name for name, words in REASONS.items() if any(w in evidence for w in words)), evidence)


def outcome(truth: str, said: str) -> str:
    """right, undecided or wrong."""
    if said in ("undecided", "not_stationary"):
        return "right" if truth == NO_SIGN else "undecided"
    return "right" if said == truth else "wrong"


def verdicts(case: Case) -> dict[str, tuple[str, str]]:
    """What the tool says."""
    if case.verdicts is not None:
        return case.verdicts
    settings = Settings(at=case.theta, escape_iterations=0, memory_gb=2.0)
    try:
        found = analyse(case.problem, settings).analysis.verdict
    except StaleLinearisation as error:  # the command ends there, with this line
        return dict.fromkeys(case.truth, ("undecided", f"refused: {error}"))
    return {name: (getattr(found, name).status, getattr(found, name).evidence) for name in case.truth}


class Lines(Rows):
    """Rows that are kept one a line."""

    def save(self, **extra: object) -> None:
        self.extra |= extra
        head = dumps({"options": self.options, **self.extra}).rstrip()[:-1].rstrip()
        lines = ",\n  ".join(json.dumps(r, ensure_ascii=False, allow_nan=False) for r in self.rows)
        write(self.file, f'{head},\n "rows": [\n  {lines}\n ]\n}}\n')


def row(family: str, number: int) -> dict:
    """One problem, judged."""
    case = FAMILIES[family](np.random.default_rng([number, *family.encode()]))
    said = verdicts(case)
    results = {name: outcome(case.truth[name], said[name][0]) for name in case.truth}
    why = {name: reason(said[name][1]) for name in case.truth if results[name] != "right"}
    return {
        "family": family,
        "number": number,
        "space": case.problem.name if case.problem else "diagonal",
        "lowest": case.lowest,
        **{name: [case.truth[name], said[name][0], results[name]] for name in case.truth},
        **({"why": why} if why else {}),
    }


def outcomes(r: dict) -> list[str]:
    """right, undecided or wrong, verdict by verdict."""
    return [r[name][2] for name in VERDICTS if name in r]


def counts(rows: Sequence[dict]) -> dict[str, Counter]:
    """family → right, undecided, wrong, over all verdicts."""
    found = {family: Counter() for family in FAMILIES}
    for r in rows:
        found[r["family"]].update(outcomes(r))
    return {family: c for family, c in found.items() if c}


def draw(rows: Sequence[dict]) -> Figure:
    """Shares by family as bars, told apart without colour."""
    by_family = counts(rows)
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(by_family))
    styles = {"right": ("0.85", ""), "undecided": ("0.55", "//"), "wrong": ("black", "")}
    for what, (shade, hatch) in styles.items():
        shares = np.array([100 * c[what] / c.total() for c in by_family.values()])
        total = sum(c[what] for c in by_family.values())
        axes.barh(
            list(by_family), shares, left=left, color=shade, hatch=hatch, edgecolor="black", label=f"{what}: {total:,}"
        )
        left += shares
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the verdicts (%)")
    axes.set_title(
        f"{len(rows):,} problems whose answer is known, {sum(c.total() for c in by_family.values()):,} verdicts"
    )
    axes.legend(loc="lower left", bbox_to_anchor=(0, -0.32), ncols=3, frameon=False)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge what is missing, write JSON and PNG, print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=100, help="problems of each family")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    pool_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("reports/signs"))
    options = parser.parse_args(arguments)
    folder = prepare_folder(options.out)
    rows = Lines(folder / "signs.json", {"version": 1})
    jobs = [(f, i) for f in options.families for i in range(options.each) if not rows.has(family=f, number=i)]
    with pool(options.scheduler, options.workers) as spread:
        for done, (_, found) in enumerate(spread.run(row, jobs, "problems"), 1):
            rows.rows.append(json.loads(json.dumps(found)))
            if done % 50 == 0:
                rows.save()
    rows.rows.sort(key=lambda r: (list(FAMILIES).index(r["family"]), r["number"]))
    by_family = counts(rows.rows)
    total = sum(by_family.values(), Counter())
    why = Counter(w for r in rows.rows for name, w in r.get("why", {}).items() if r[name][2] == "undecided")
    undecided = ", ".join(f"{w} {c}" for w, c in why.most_common())
    share = 100 * total["undecided"] / total.total()
    section = Section(
        "Problems built to fool the tool",
        "No wrong sign: every verdict is right, or it is withheld.",
        f"{len(rows.rows):,} problems, {total.total():,} verdicts: {total['wrong']} wrong, {total['undecided']:,} "
        f"({share:.1f} %) undecided ({undecided}).",
        "A verdict other than undecided or not stationary was the true one in every case."
        if not total["wrong"]
        else "There are wrong signs: the error budget misses a term.",
    )
    header = ("family", "problems", "verdicts", "right", "undecided", "wrong")
    cells = [
        (f, sum(r["family"] == f for r in rows.rows), c.total(), c["right"], c["undecided"], c["wrong"])
        for f, c in by_family.items()
    ]
    reasons = table("What was undecided, and why", ("why", "verdicts"), why.most_common())
    finish(folder, "signs", rows, draw(rows.rows), section, [table("By family", header, cells), reasons])
    print(section.measured)
    for r in rows.rows:
        if "wrong" in outcomes(r):
            print("WRONG", r)


if __name__ == "__main__":
    raise SystemExit(command(main))
