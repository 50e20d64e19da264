"""The page: one self-contained HTML file, the verdict on top, then sections."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from bnnsample.reports.verdict import Statement


@dataclass(frozen=True)
class Picture:
    """A figure as SVG text, with a file name, its heading and what it shows."""

    name: str
    heading: str
    caption: str
    svg: str

    @property
    def source(self) -> str:
        """The figure as a data address, so that the page needs no other file."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


@dataclass(frozen=True)
class Table:
    """Cells as text; ``text_columns`` are aligned left, ``grouped`` rows share a first cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    text_columns: tuple[int, ...] = (0,)
    grouped: bool = False


@dataclass(frozen=True)
class Code:
    """Lines to run."""

    code: str


@dataclass(frozen=True)
class Facts:
    """Names and what they stand for."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and what comes under it."""

    heading: str
    text: str = ""
    parts: tuple[Picture | Table | Code | Facts, ...] = ()


def render_page(
    title: str,
    statements: Sequence[Statement],
    sections: Sequence[Section],
    *,
    headline: Statement | None = None,
) -> str:
    """The page as HTML text."""
    environment = Environment(
        loader=PackageLoader("bnnsample", "reports"), autoescape=select_autoescape(["j2"])
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        headline=headline,
        statements=statements,
        sections=sections,
    )
