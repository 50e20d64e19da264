"""The page: one self-contained HTML file, the verdict on top."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from bnnsample.reports.summary import Summary
from bnnsample.reports.table import COLUMNS, cells
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


def render_page(
    title: str,
    statements: Sequence[Statement],
    summaries: Sequence[Summary],
    pictures: Sequence[Picture],
    provenance: Mapping[str, Any],
    command: str,
) -> str:
    """The page as HTML text."""
    environment = Environment(
        loader=PackageLoader("bnnsample", "reports"), autoescape=select_autoescape(["j2"])
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        statements=statements,
        columns=COLUMNS,
        rows=[(summary, cells(summary)) for summary in summaries],
        pictures=pictures,
        provenance=provenance,
        command=command,
    )
