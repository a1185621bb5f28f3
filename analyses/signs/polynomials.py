"""Polynomial risks next to zero: near, clustered, degenerate, moved, flat, kinked, cancelling."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from analyses.signs.case import NO_SIGN, TINY, VERDICTS, Case, answers, lowest, status
from analyses.signs.drafts import again, draft


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


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {
    "near": near,
    "clustered": clustered,
    "degenerate": degenerate,
    "moved": moved,
    "flat": flat,
    "kink": kink,
    "float32": partial(near, dtype=torch.float32),
    "cancelling": cancelling,
}
