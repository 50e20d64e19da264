"""The API reference, from the docstrings: pages that need no network.

``bnnsample`` re-exports what is public and defines none of it, so that pdoc has to be told what to
show; formulas between pairs of dollars become MathML, which browsers render by themselves.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import inspect
import pkgutil
import re
import warnings
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from latex2mathml.converter import convert
from pdoc import doc, doc_types, pdoc, render
from pdoc.render_helpers import to_markdown_with_context

import bnnsample

TEMPLATES = Path(__file__).parent / "templates"
STORY = (
    "models", "limits", "repriorisation", "sampling", "diagnostics", "reports", "integrations",
)  # fmt: skip
"""Packages in the order of their pages; others follow, but for the command line."""

FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)

PAPER = re.compile(r"\b(\d{4}\.\d{5})\b")
LINK = r"[\1](https://arxiv.org/abs/\1)"


def public_names() -> list[str]:
    """What ``bnnsample`` re-exports, in the order of the story."""
    return [
        name
        for name, value in vars(bnnsample).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    ]


def packages() -> list[str]:
    """Packages that have pages of their own, after the page of all that is public."""
    found = {name for _, name, is_package in pkgutil.iter_modules(bnnsample.__path__) if is_package}
    return [*STORY, *sorted(found - {*STORY, "cli"})]


PUBLIC_CLASS = "|".join(
    name for name in public_names() if inspect.isclass(getattr(bnnsample, name))
)
TYPE = re.compile(rf"(?<![\w.])({PUBLIC_CLASS})(?!\w)")


def as_mathml(text: str) -> str:
    """``text`` with the LaTeX between pairs of dollars as MathML."""
    return FORMULA.sub(lambda found: convert(found[1].strip(), display="block"), text)


@pass_context
def to_markdown(context: Context, docstring: str) -> str:
    """Markdown of a docstring, as pdoc makes it, with formulas and links to papers."""
    return as_mathml(to_markdown_with_context(context, PAPER.sub(LINK, docstring)))


class Written(str):
    """An annotation as its source has it, with links to what is public."""

    def __repr__(self) -> str:
        return TYPE.sub(lambda name: f"bnnsample.{name[0]}", self)


def as_written(annotation: Any, *context: object) -> Any:
    """Stands in for pdoc's evaluation: shapes are for readers, and stay as they are written."""
    text = getattr(annotation, "__forward_arg__", annotation)
    return Written(text) if isinstance(text, str) else annotation


def build(out: Path) -> None:
    """Write the pages into ``out``; a warning of pdoc is an error."""
    doc.safe_eval_type = doc_types.safe_eval_type = as_written  # pyright: ignore[reportPrivateImportUsage]
    bnnsample.__all__ = [*public_names(), *packages()]  # pyright: ignore[reportAttributeAccessIssue]
    render.configure(
        docformat="restructuredtext",
        show_source=False,
        footer_text=f"bnnsample {importlib.metadata.version('bnnsample')}",
        template_directory=TEMPLATES,
    )
    render.env.filters["to_markdown"] = to_markdown
    with warnings.catch_warnings(action="error"):
        pdoc("bnnsample", output_directory=out)


def main() -> None:
    """Build the pages where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/docs"))
    options = parser.parse_args()
    build(options.out)
    print(options.out / "index.html")


if __name__ == "__main__":
    main()
