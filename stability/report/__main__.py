"""The command: render reports again from stored results, put several side by side, build the gallery.

    python -m stability.report DIR…                              report.html, figures and paper/ from spectrum.json
    python -m stability.report DIR DIR… [--compare FILE.html]    and one page that compares them
    python -m stability.report [DIR…] --gallery reports          and index.html and README.md over a folder of results

Nothing is computed. Exit status 0, or 2 for bad input with one line that says what to do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from stability.base.errors import BadInput
from stability.report.many.gallery import read, write_gallery
from stability.report.render import render
from stability.results import Analysis


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for any other bad input."""
        raise BadInput(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = _Parser(
        prog="python -m stability.report",
        description="Render reports from stored results, without computing anything; several are put side by side.",
    )
    p.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="of a run: holds spectrum.json")
    p.add_argument("--compare", type=Path, help="the page that compares several runs; by default comparison.html above")
    p.add_argument("--title", default="", help="of that page")
    p.add_argument("--gallery", type=Path, metavar="ROOT", help="build index.html and README.md over ROOT/*/")
    return p


def load(folder: Path) -> Analysis:
    """The analysis stored in a folder.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    file = folder / "spectrum.json" if folder.is_dir() else folder
    if not file.is_file():
        raise BadInput(f"{str(folder)!r} holds no spectrum.json; give folders that stability.spectrum wrote")
    return read(file)


def run(options: argparse.Namespace) -> None:
    """Render what was asked for."""
    from stability.report.many.compare import write_comparison  # matplotlib loads for seconds, not for --help

    if not options.folders and options.gallery is None:
        raise BadInput("nothing to render; give folders of runs, or --gallery ROOT")
    if options.compare and len(options.folders) < 2:
        raise BadInput("--compare needs at least two folders; give more")
    if options.gallery is not None and not options.gallery.is_dir():
        raise BadInput(f"--gallery: there is no folder {str(options.gallery)!r}")
    # A pattern such as reports/*/ names folders of other results too.
    folders = [f for f in options.folders if len(options.folders) == 1 or (f / "spectrum.json").is_file()]
    if options.folders and not folders:
        raise BadInput("none of the folders holds a spectrum.json; give folders that stability.spectrum wrote")
    for skipped in (f for f in options.folders if f not in folders):
        print(f"skipped, no spectrum.json: {skipped}")
    analyses = [load(f) for f in folders]
    for folder, analysis in tqdm(list(zip(folders, analyses, strict=True)), desc="reports", disable=None, leave=False):
        render(analysis, folder)
        print(f"report: {folder / 'report.html'}")
    if len(folders) > 1 and (options.compare or options.gallery is None):
        above = Path(os.path.commonpath([f.resolve().parent for f in folders]))
        page = options.compare or above / "comparison.html"
        print(f"comparison: {write_comparison(folders, analyses, page, options.title)}")
    if options.gallery is not None:
        print(f"gallery: {write_gallery(options.gallery)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command's entry; returns the exit status."""
    try:
        run(parser().parse_args(arguments))
    except BadInput as error:
        print(f"stability.report: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"stability.report: {error.filename!r} cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
