"""Sphinx configuration; ``make docs`` builds the site into build/docs, readable offline."""

import re

from docutils import nodes
from latex2mathml.converter import convert

from stability.version import __version__

project = "stability"
author = "the authors of stability"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = []
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"  # browsers draw it themselves: no script, no font from elsewhere
suppress_warnings = ["myst.xref_missing"]

html_theme = "furo"
html_title = f"stability {__version__}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sphinx = False

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_use_ivar = True


def plain_text(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are written for a terminal: formulas, columns and bars that mean absolute values stay as they are."""
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    found: list[str] = []
    for paragraph in filter(None, paragraphs):
        table = any(re.fullmatch(r"=+( +=+)*", line.strip()) for line in paragraph)
        prompt = paragraph[0].lstrip().startswith(">>>")
        section = paragraph[0].rstrip().endswith(":") and len(paragraph) > 1 and paragraph[1].startswith("    ")
        columns = any(re.search(r"\S   +\S", line) for line in paragraph)
        if table or prompt:
            found += paragraph
        elif not section and (columns or all(line.startswith("    ") for line in paragraph)):
            found += ["::", "", *("    " + line for line in paragraph)]
        else:
            found += [outside_literals(line) for line in paragraph]
        found.append("")
    lines[:] = found


def outside_literals(line: str) -> str:
    """The line with bars and stars escaped wherever they are no markup."""
    parts = line.split("``")
    return "``".join(re.sub(r"(?<!\\)\|", r"\\|", part) if i % 2 == 0 else part for i, part in enumerate(parts))


def inline_math(translator, node) -> None:
    """A formula in a line, as MathML."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block_math(translator, node) -> None:
    """A formula by itself, as MathML."""
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.connect("autodoc-process-docstring", plain_text, priority=100)
