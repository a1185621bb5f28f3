r"""For papers: every figure as a PDF one column wide in Computer Modern, its numbers as CSV, a .tex and a .bib file.

DIR/paper/<figure>.pdf, DIR/paper/<figure>.csv, DIR/paper/figures.tex, DIR/paper/stability.bib
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stability.base.storage import write
from stability.report import words
from stability.report.figures import FIGURES, Figure, pdf
from stability.report.rows import as_csv
from stability.report.style import for_paper
from stability.results import Analysis
from stability.version import __version__

SYMBOLS = {
    "∇²": r"$\nabla^2$", "∇": r"$\nabla$", "R^aug": r"$R^{\mathrm{aug}}$", "R^eqv": r"$R^{\mathrm{eqv}}$",
    "‖A_{E⊥}‖": r"$\|A_{E^\perp}\|$", "λ_min": r"$\lambda_{\min}$", "λ_max": r"$\lambda_{\max}$", "E⊥": r"$E^\perp$",
    "‖A‖": r"$\|A\|$", "e^(−λt)": r"$e^{-\lambda t}$", "‖": r"$\|$", "λ": r"$\lambda$", "ε": r"$\varepsilon$",
    "τ": r"$\tau$", "γ": r"$\gamma$", "σ": r"$\sigma$", "≤": r"$\leq$", "→": r"$\to$", "×": r"$\times$", "²": "$^2$",
    "±": r"$\pm$", "−": "$-$", "⊥": r"$\perp$", "Φ": r"$\Phi$", "ρ": r"$\rho$", "⋉": r"$\ltimes$", "·": r"$\cdot$",
    "–": "--", "*": r"$^*$",
}  # fmt: skip
SPECIAL = {
    "\\": r"\textbackslash{}",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_SYMBOL_CHARACTERS = frozenset("".join(SYMBOLS))


def bibtex() -> str:
    """A BibTeX entry for this version of the tool."""
    return (
        "@software{stability,\n"
        "  title   = {stability: {H}essian and stability analysis of equivariant and augmented neural networks},\n"
        f"  version = {{{__version__}}},\n"
        "  note    = {Computer program. Question and notation: {O}ptimization dynamics of equivariant and augmented\n"
        "             neural networks, arXiv:2303.13458}\n"
        "}\n"
    )


def tex(text: str) -> str:
    r"""Text of a caption as LaTeX.

    >>> tex("λ_min = -1.2e-3 on E⊥, 50 %")
    '$\\lambda_{\\min}$ = $-1.2\\cdot10^{-3}$ on $E^\\perp$, 50 \\%'

    Nothing of it is a command: what LaTeX would read as one is escaped, what it may not know is spelled in ASCII.

    >>> tex("\\input{a}^^5c~")
    '\\textbackslash{}input\\{a\\}\\textasciicircum{}\\textasciicircum{}5c\\textasciitilde{}'
    """
    text = "".join(_known(c) for c in text)
    pattern = "|".join(re.escape(k) for k in sorted(SYMBOLS, key=len, reverse=True))
    pieces = re.split(rf"({pattern}|-?\d[\d,.]*e-?\d+|(?<![\w.)])-\d[\d,.]*\d|[{re.escape(''.join(SPECIAL))}])", text)
    return "".join(_piece(p) for p in pieces)


def _known(character: str) -> str:
    """A character that LaTeX sets; letters without their accents, and a question mark for what is not in ASCII."""
    if character in _SYMBOL_CHARACTERS or (character.isascii() and character.isprintable()):
        return character
    if character.isspace() or not character.isprintable():
        return " "
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def _comment(text: str) -> str:
    """Text that cannot leave the line of a comment, and holds no command should someone uncomment it."""
    return "".join(c if c.isprintable() else " " for c in text).replace("\\", "/").replace("^^", "^ ^")


def _piece(text: str) -> str:
    if text in SYMBOLS:
        return SYMBOLS[text]
    if text in SPECIAL:
        return SPECIAL[text]
    if re.fullmatch(r"-?\d[\d,.]*e-?\d+", text):
        mantissa, power = text.split("e")
        return rf"${mantissa}\cdot10^{{{power}}}$"
    return f"${text}$" if re.fullmatch(r"-\d[\d,.]*", text) else text


def figures_tex(analysis: Analysis, figures: Sequence[Figure[Any]]) -> str:
    """A file to \\input: one figure environment each, with the caption of the report."""
    lines = [
        f"% {_comment(words.headline(analysis))}",
        f"% reproduced by: {_comment(str(analysis.options.get('command') or 'stability.analyse, called from Python'))}",
        r"% needs \usepackage{graphicx}; cite the tool with \cite{stability}",
    ]
    for figure in figures:
        lines += [
            r"\begin{figure}",
            r"  \centering",
            rf"  \includegraphics{{{figure.name}.pdf}}",
            rf"  \caption{{{tex(figure.caption(analysis))}}}",
            rf"  \label{{fig:{figure.name}}}",
            r"\end{figure}",
        ]
    return "\n".join(lines) + "\n"


def write_paper(analysis: Analysis, folder: Path) -> None:
    """Write ``folder``/paper, replacing what an earlier rendering left there."""
    target = folder / "paper"
    target.mkdir(exist_ok=True)
    shown = []
    for name, figure in FIGURES.items():
        if not figure.applies(analysis):
            (target / f"{name}.pdf").unlink(missing_ok=True)
            (target / f"{name}.csv").unlink(missing_ok=True)
            continue
        with for_paper():
            write(target / f"{name}.pdf", pdf(figure.draw(analysis)))
        write(target / f"{name}.csv", as_csv(figure.rows(analysis)))
        shown.append(figure)
    write(target / "figures.tex", figures_tex(analysis, shown))
    write(target / "stability.bib", bibtex())
