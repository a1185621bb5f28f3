"""One command with subcommands; each takes the options of what stands behind it and says the same.

    stability spectrum …                 python -m stability.spectrum …
    stability diagnose [WEIGHTS] …       stability.diagnose(problem, weights)
    stability check …                    stability.check(problem)
    stability audit FILE.py:FACTORY      stability.audit(module, data, group)
    stability follow FOLDER …            stability.follow(problem, folder)
    stability report DIR…                python -m stability.report DIR…
    stability compare DIR DIR…           one page that puts runs side by side
    stability gallery [ROOT]             index.html and README.md over a folder of results

Exit status: 0; 2 for bad input, with one line on stderr; 130 after Ctrl-C; 3 of ``spectrum`` when no point reached the
tolerance.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from stability import api
from stability.api.diagnosis import diagnose
from stability.api.trajectory import follow
from stability.base.checkpoints import load_weights
from stability.base.errors import BadInput
from stability.base.record import Record
from stability.base.storage import write
from stability.inference.audit import audit
from stability.report import __main__ as rendering
from stability.report.many.gallery import write_gallery
from stability.spectrum import command as whole
from stability.tasks import made
from stability.version import __version__

AUDITED = "(module, data, group), with the loss behind them, or a dict of the arguments of stability.audit"
SHELLS = ("bash", "zsh", "tcsh")


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line; subcommands take the class of their parent."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see {self.prog} --help")


class _Completion(argparse.Action):
    """Prints what a shell needs to complete the command."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        try:
            import shtab
        except ImportError as error:
            raise BadInput("--completion needs shtab: pip install shtab") from error
        print(shtab.complete(parser, shell=values))
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The command with all its subcommands."""
    p = _Parser(prog="stability", description="Is an equivariant network stable under augmented training?")
    p.add_argument("--version", action="version", version=f"stability {__version__}")
    what = "print the shell's completion and leave"
    p.add_argument("--completion", action=_Completion, default=argparse.SUPPRESS, choices=SHELLS, help=what)
    commands = p.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, do: Callable[..., int], what: str, like: argparse.ArgumentParser | None = None) -> Any:
        # A parser that stands for itself brings its own --help along.
        own: dict[str, Any] = {} if like is None else {"parents": [like], "add_help": like.add_help is False}
        made = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.", **own)
        made.set_defaults(do=do)
        return made

    add("spectrum", spectra, "stationary points, spectra on E and E⊥, verdicts, report", whole.parser())
    one = add("diagnose", diagnosed, "a trained network as it is: distance to E, gradients, spectra", posing())
    one.add_argument("weights", nargs="?", metavar="WEIGHTS", help="state_dict or checkpoint; else the module's own")
    one.add_argument("--eigenvalues", type=int, default=3, help="at each end of a sector")
    add("check", checked, "the assumptions, measured", posing())
    what = "whose fault it is that an equivariance test fails: action, architecture, loss, data, weights, precision"
    fault = add("audit", audited, what)
    fault.add_argument("place", metavar="FILE.py:FACTORY", help=f"a function that returns {AUDITED}")
    fault.add_argument("--weights", metavar="FILE", help="state_dict or checkpoint; else the module's own")
    fault.add_argument("--seed", **whole.OPTIONS["--seed"])
    fault.add_argument("--json", action="store_true", help="print the result as JSON on one line")
    run = add("follow", followed, "a training run that stability.Recorder kept, snapshot by snapshot", posing())
    run.add_argument("folder", metavar="FOLDER", help="of the snapshots")
    run.add_argument("--every", type=int, default=1, help="judge one snapshot in so many, and the last")
    run.add_argument("--figure", type=Path, metavar="FILE.png", help="distances and eigenvalues over the steps")
    for command in (one, run):
        command.add_argument("--sectors", **whole.OPTIONS["--sectors"])
        command.add_argument("--json", action="store_true", help="print the result as JSON on one line")
    add("report", rendered, "render reports again from stored results, without computing anything", rendering.parser())
    many = add("compare", compared, "one page that puts stored results side by side")
    many.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="of a run: holds spectrum.json")
    many.add_argument("--out", type=Path, metavar="FILE.html", help="by default comparison.html above the folders")
    many.add_argument("--title", default="", help="of the page")
    index = add("gallery", indexed, "index.html and README.md over a folder of results")
    index.add_argument("root", nargs="?", type=Path, default=Path("reports"), metavar="ROOT", help="default: reports")
    return p


def posing() -> argparse.ArgumentParser:
    """The options that say which problem, without a --help of their own."""
    p = argparse.ArgumentParser(add_help=False)
    for name in whole.PROBLEM:
        p.add_argument(name, **whole.OPTIONS[name])
    return p


def spectra(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """The main job; its files are those of ``python -m stability.spectrum``, by which they are reproduced."""
    del options.do
    return whole.run(options, whole.recorded(rest))


def shown(found: Record, options: argparse.Namespace) -> int:
    """A result on stdout."""
    print(found.to_json() if options.json else found)
    return 0


def diagnosed(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """What ``stability.diagnose`` measures."""
    problem = whole.posed(options)
    found = diagnose(
        problem, options.weights, names=options.sectors, seed=options.seed, eigenvalues=options.eigenvalues
    )
    return shown(found, options)


def checked(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """A line an assumption; one that fails is bad input."""
    violations = api.check(whole.posed(options), options.seed)
    width = max(map(len, violations), default=0)
    for name, violation in violations.items():
        print(f"{name:<{width}}  {violation:.1e}")
    print("every assumption holds to rounding")
    return 0


def audited(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """What ``stability.audit`` finds."""
    given = made(options.place, "audit", AUDITED)
    if isinstance(given, tuple) and len(given) in (3, 4):
        given = dict(zip(("module", "data", "group", "loss"), given, strict=False))
    if not isinstance(given, dict):
        raise BadInput(f"audit: {options.place} returned {type(given).__name__}; return {AUDITED}")
    known = inspect.signature(audit).parameters
    if missing := {"module", "data", "group"} - set(given):
        raise BadInput(f"audit: {options.place} returned no {sorted(missing)[0]!r}; return {AUDITED}")
    if unknown := set(given) - set(known):
        raise BadInput(f"audit: {options.place} returned {sorted(unknown)[0]!r}; known are {', '.join(known)}")
    if options.weights is not None:
        given["module"] = _trained(given["module"], options.weights)
    return shown(audit(**{"seed": options.seed} | given), options)


def _trained(module: object, weights: str) -> nn.Module:
    """A copy of the module with the weights of a file."""
    if not isinstance(module, nn.Module):
        raise BadInput(f"audit: 'module' is {type(module).__name__}; give a torch.nn.Module")
    copied = copy.deepcopy(module)
    try:
        copied.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        raise BadInput(f"--weights {weights!r}: {' '.join(str(error).split())}") from error
    return copied


def followed(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """What ``stability.follow`` finds."""
    from stability.report.figures import png  # matplotlib loads for seconds

    found = follow(whole.posed(options), options.folder, names=options.sectors, every=options.every, seed=options.seed)
    if options.figure is not None:
        write(options.figure, png(found.figure()))
    return shown(found, options)


def rendered(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Reports, from stored results."""
    rendering.run(options)
    return 0


def compared(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """A page over several results; their own reports stay as they are."""
    from stability.report.many.compare import write_comparison

    folders = options.folders
    if len(folders) < 2:
        raise BadInput("compare needs at least two folders; give more")
    page = options.out or Path(os.path.commonpath([f.resolve().parent for f in folders])) / "comparison.html"
    print(f"comparison: {write_comparison(folders, [rendering.load(f) for f in folders], page, options.title)}")
    return 0


def indexed(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """An index of all results below a folder."""
    if not options.root.is_dir():
        raise BadInput(f"gallery: there is no folder {str(options.root)!r}")
    print(f"gallery: {write_gallery(options.root)}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command's entry; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> int:
        options = parser().parse_args(arguments)
        return options.do(options, arguments[1:])

    try:
        return whole.guarded("stability", work)
    except KeyboardInterrupt:
        print("stability: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"stability: {error.filename!r} cannot be read or written ({error.strerror})", file=sys.stderr)
        return 2
