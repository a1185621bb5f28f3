"""What a result belongs to: the code, the data, the versions and the values of a problem, not its name.

A run may be killed, its FILE.py edited and the run resumed; a worker may hold another copy of that file. Both are seen
in the source text of the file and of what it imports from its folder, and in the numbers of the risk itself:

    R, ‖∇R‖ and ⟨r, ∇R⟩ at A₀ = embed(initial(0)) and at A₀ + s·r, r random of norm one, s = ½ max(‖A₀‖, 1)

which a changed environment, a file read at run time or code elsewhere moves too. They and the data are compared within
``TOLERANCE``, for another machine or number of threads rounds otherwise; text and options are compared as they are.
"""

from __future__ import annotations

import ast
import functools
import os
import site
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy
import torch
from torch import Tensor

from stability.base.identity import described, text_digest
from stability.problem.problem import Problem
from stability.problem.space import Samples

# Samples whose activations are held at once, and weights beyond which a point is not made dense.
CHUNK, DENSE = 2048, 5_000_000
# Objects looked at behind a problem for functions of the user's own.
OBJECTS = 20_000
_INSTALLED = [
    *dict.fromkeys(
        str(Path(p).resolve())
        for p in (
            *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            *site.getsitepackages(),
            str(Path(np.__file__).parents[1]),
            str(Path(torch.__file__).parents[1]),
            str(Path(__file__).parents[1]),  # this package, in a checkout too: its version is compared instead
        )
    )
]


def own(file: str | Path | None) -> bool:
    """Whether a file is the user's: Python, there, and part of no installed package."""
    if not file or not str(file).endswith(".py") or not Path(file).is_file():
        return False
    path = str(Path(file).resolve())
    return not any(path.startswith(folder + os.sep) for folder in _INSTALLED)


def functions_behind(thing: object) -> tuple[set[Path], set[str]]:
    """(files, digests of code without a file) of the functions and classes that an object is made of."""
    files: set[Path] = set()
    loose: set[str] = set()
    seen: dict[int, object] = {}
    waiting = deque([thing])
    while waiting and len(seen) < OBJECTS:
        one = waiting.popleft()
        if id(one) in seen or isinstance(one, Tensor | np.ndarray | str | bytes | int | float | complex | None):
            continue
        seen[id(one)] = one
        if isinstance(one, types.FunctionType):
            where = one.__code__.co_filename
            if own(where):
                files.add(Path(where).resolve())
            elif not Path(where).is_file() and not where.startswith("<frozen"):
                loose.add(f"{one.__qualname__} {_code_digest(one.__code__)}")
        waiting += _parts(one, files)
    return files, loose


def _parts(one: object, files: set[Path]) -> list:
    """What an object holds that may be, or hold, a function."""
    if isinstance(one, types.FunctionType):
        cells = [c.cell_contents for c in one.__closure__ or () if _filled(c)]
        return [*cells, *(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values(), *vars(one).values()]
    if isinstance(one, types.MethodType):
        return [one.__func__, one.__self__]
    if isinstance(one, functools.partial):
        return [one.func, *one.args, *one.keywords.values()]
    if isinstance(one, dict):
        return list(one.values())
    if isinstance(one, list | tuple | set | frozenset):
        return list(one)
    if isinstance(one, type):
        where = getattr(sys.modules.get(one.__module__), "__file__", None)
        if where is not None and own(where):
            files.add(Path(where).resolve())
        return list(one.__bases__)
    if isinstance(one, types.ModuleType | types.BuiltinFunctionType):
        return []
    return [type(one), *getattr(one, "__dict__", {}).values()]


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _code_digest(code: types.CodeType) -> str:
    """Of what a function without a file does: its instructions, names and constants."""
    inner = [_code_digest(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return text_digest(repr((code.co_code, code.co_names, inner)).encode())


def sources(files: set[Path]) -> dict[str, str]:
    """The digest of every file and of those it imports from its folder, and they from theirs, by name."""
    found: dict[Path, str] = {}
    waiting = sorted(files)
    while waiting:
        file = waiting.pop()
        if file in found or not own(file):
            continue
        text = file.read_bytes()
        found[file] = text_digest(text)
        waiting += _imported(file, text)
    if not found:
        return {}
    above = Path(os.path.commonpath([file.parent for file in found]))
    return {file.relative_to(above).as_posix(): digest for file, digest in sorted(found.items())}


def _imported(file: Path, text: bytes) -> list[Path]:
    """The files beside a file, or below the folders above it that Python looks in, that it imports."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    looked_in = {Path(entry or ".").resolve() for entry in sys.path}
    roots = [file.parent, *(p for p in file.parents if p in looked_in)]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names, places = [alias.name for alias in node.names], roots
        elif isinstance(node, ast.ImportFrom):
            stem = node.module or ""
            names = [stem, *(f"{stem}.{alias.name}".strip(".") for alias in node.names)]
            places = roots if not node.level else [file.parents[min(node.level, len(file.parents)) - 1]]
        else:
            continue
        found += [path for name in names for place in places for path in _modules(name, place)]
    return found


def _modules(name: str, folder: Path) -> Iterator[Path]:
    """The files that are run where a dotted name is imported from a folder."""
    place = folder
    for part in name.split(".") if name else [""]:
        place = place / part
        for path in (place.with_suffix(".py") if part else place / "__init__.py", place / "__init__.py"):
            if path.is_file():
                yield path.resolve()


def probe(problem: Problem) -> dict[str, list[float]]:
    """R and ∇R in numbers, at the start of the seed 0 and beside it; see the head of this module."""
    like, space = problem.samples.x, problem.space
    generator = torch.Generator().manual_seed(0)
    theta = torch.zeros(space.dim_equivariant, dtype=torch.float64) if problem.initial is None else problem.initial(0)
    large = space.dim > DENSE
    loss = problem.equivariant_loss if large else problem.loss
    start = theta.to(like) if large else space.embed(theta.to(like))
    r = torch.randn(len(start), generator=generator, dtype=torch.float64).to(like)
    r = r / r.norm() if len(r) else r
    step = 0.5 * max(float(start.norm()), 1.0)
    found = {"start": [float(start.norm()), float(start @ r)]}
    for name, at in (("there", start), ("beside", start + step * r)):
        found[name] = _at(problem, loss, at, r)
    return found


def _at(problem: Problem, loss: Callable[[Tensor, Samples], Tensor], at: Tensor, r: Tensor) -> list[float]:
    """R, ‖∇R‖ and ⟨r, ∇R⟩; nothing where the risk cannot be evaluated, of which the run itself will tell."""
    try:
        value, gradient = 0.5 * problem.weight_decay * float(at @ at), problem.weight_decay * at
        for part in problem.samples.chunks(CHUNK):
            x = at.detach().requires_grad_()
            term = loss(x, part)
            gradient = gradient + torch.autograd.grad(term, x, allow_unused=True, materialize_grads=True)[0]
            value += float(term.detach())
    except Exception:  # whatever a user's risk may raise away from where it was meant to be evaluated
        return []
    return [value, float(gradient.norm()), float(gradient @ r)]


def identity(problem: Problem, task: str = "") -> dict[str, object]:
    """What a problem is, as JSON holds it.

    Args:
        problem: built by a task, or declared in Python.
        task: FILE.py:FACTORY, where the problem is such a factory's.
    """
    files, loose = functions_behind(problem)
    file = task.rpartition(":")[0]
    if own(file):
        files.add(Path(file).resolve())
    space, samples = problem.space, problem.samples
    return {
        "code": sources(files) | {name.rpartition(" ")[0]: name.rpartition(" ")[2] for name in sorted(loose)},
        "data": [described(part) for part in samples],
        "network": {
            "group": f"{problem.group.name} of order {problem.group.order}",
            "layers": [[one.name, *one.shape, one.size()] for one in space.layers],
            "weight decay": problem.weight_decay,
            "dtype": str(samples.x.dtype),
        },
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "scipy": scipy.__version__},
        "risk": probe(problem),
    }
