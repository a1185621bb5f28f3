"""Analysis → what breaks and what is kept, in words: the pattern of an irrep, and the subgroup that fixes it."""

from __future__ import annotations

import itertools
import math

from stability.results import Analysis

# Elements beyond which a subgroup is known by its order alone.
LARGEST = 50_000


def moduli_of(analysis: Analysis) -> tuple[int, ...]:
    """(n_1 … n_k) of a product of cyclic groups; empty for any other group."""
    return tuple(analysis.group.get("moduli") or ())


def acts(analysis: Analysis) -> str:
    """What a product of cyclic groups is known to do to images: ``shifts``, ``turns``; empty for anything else."""
    moduli, chosen = moduli_of(analysis), analysis.options.get("group")
    grid = f"R^{{{'×'.join(map(str, moduli))}}}"
    if len(moduli) == 2 and any(grid in str(x.get(end)) for x in analysis.layers for end in ("source", "target")):
        return "shifts"
    turning = chosen == "rotations" or (analysis.task == "rot" and not chosen)
    return "turns" if len(moduli) == 1 and turning else ""


def frequency(analysis: Analysis, irrep: str) -> tuple[int, ...]:
    """q of a character; empty for any other irrep."""
    return next((x.frequency or () for x in analysis.sectors if x.irrep == irrep), ())


def pattern(analysis: Analysis, irrep: str) -> str:
    """What the group does to a perturbation of this irrep."""
    q, how, moduli = frequency(analysis, irrep), acts(analysis), moduli_of(analysis)
    if q and how == "shifts":
        return "a wave over the positions"
    if len(q) == len(moduli) == 1:
        by = f"a turn of the image by {360 / moduli[0]:g}°" if how == "turns" else "the generator of the group"
        return f"{by} changes its sign" if 2 * q[0] == moduli[0] else f"{by} mixes it with its partner"
    if str(analysis.group["name"]).startswith("S_") and irrep.startswith("("):
        return f"an irrep of {analysis.group['name']}, named by its partition"
    dim = next((x.dim for x in analysis.sectors if x.irrep == irrep), None)
    keeps = analysis.facts.get("leaves", "")
    if str(analysis.group["name"]).startswith("D_") and dim == 1 and "turns by" in keeps and _breaks(analysis, irrep):
        return "some turns and flips change its sign" if "flip" in keeps else "flips change its sign, turns do not"
    return f"an irrep of dimension {dim} of the group" if dim else "an irrep of the group"


def _breaks(analysis: Analysis, irrep: str) -> bool:
    """Whether an irrep is that of the steepest direction off E, whose subgroup was kept."""
    perp = (analysis.spectra or {}).get("aug", {}).get("E_perp")
    return bool(perp and perp.lowest and perp.lowest[0].irrep == irrep)


def kept(analysis: Analysis) -> str:
    """The subgroup that fixes the steepest direction off E, named by what it does; empty where none falls."""
    text, perp = analysis.facts.get("leaves", ""), (analysis.spectra or {}).get("aug", {}).get("E_perp")
    q = frequency(analysis, perp.lowest[0].irrep or "") if perp and perp.lowest else ()
    moduli = moduli_of(analysis)
    if not text.startswith("a subgroup") or not q or len(q) != len(moduli) or math.prod(moduli) > LARGEST:
        return text
    elements, how = fixing(q, moduli), acts(analysis)
    order, of = len(elements), f"{len(elements)} of {math.prod(moduli)}"
    if how == "turns":
        return f"turns by {360 / order:g}° ({of})"
    generators = generating(elements, moduli)
    if how == "shifts":
        rows, columns = moduli
        return f"shifts by {' or by '.join(_shift(g[0], g[1], rows, columns) for g in generators)} ({of})"
    named = " and ".join(f"g^{g[0]}" if len(g) == 1 else f"({','.join(map(str, g))})" for g in generators)
    return f"the subgroup of {named} ({of})"


def _shift(a: int, b: int, rows: int, columns: int) -> str:
    """``1 row down and 2 columns left``, the shorter way round; a direction where both are moved."""
    both = bool(a and b)
    parts = []
    for x, n, name, there, back in ((a, rows, "row", "down", "up"), (b, columns, "column", "right", "left")):
        steps = min(x, n - x)
        way = f" {there if x <= n - x else back}" if both else ""
        parts += [f"{steps} {name}{'s' if steps > 1 else ''}{way}"] if x else []
    return " and ".join(parts)


def fixing(q: tuple[int, ...], moduli: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The elements a with Σ q_i a_i / n_i whole: the kernel of the character q.

    >>> fixing((2, 4), (5, 5))
    [(0, 0), (1, 2), (2, 4), (3, 1), (4, 3)]
    """
    period = math.lcm(*moduli)
    weights = [k * (period // n) for k, n in zip(q, moduli, strict=True)]
    return [
        a
        for a in itertools.product(*map(range, moduli))
        if sum(w * x for w, x in zip(weights, a, strict=True)) % period == 0
    ]


def generating(elements: list[tuple[int, ...]], moduli: tuple[int, ...]) -> list[tuple[int, ...]]:
    """A few elements, the least first, whose multiples and sums are all of a subgroup.

    >>> generating(fixing((2, 4), (5, 5)), (5, 5)), generating(fixing((0, 2), (4, 4)), (4, 4))
    ([(1, 2)], [(0, 2), (1, 0)])
    """
    found: list[tuple[int, ...]] = []
    reached = {tuple(0 for _ in moduli)}
    while len(reached) < len(elements):
        new = next(a for a in elements if a not in reached)
        found.append(new)
        order = math.lcm(*(n // math.gcd(x, n) for x, n in zip(new, moduli, strict=True)))
        multiples = [tuple(k * x % n for x, n in zip(new, moduli, strict=True)) for k in range(order)]
        reached = {tuple((x + y) % n for x, y, n in zip(a, b, moduli, strict=True)) for a in reached for b in multiples}
    return found
