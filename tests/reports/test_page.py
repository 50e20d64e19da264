"""The page stands alone, says everything, escapes text, and its figures are SVG."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from xarray import DataTree

from bnnsample.reports import figures
from bnnsample.reports.page import Code, Facts, Picture, Section, render_page
from bnnsample.reports.summary import Summary
from bnnsample.reports.table import COLUMNS, cells, table_of
from bnnsample.reports.verdict import Statement, verdict
from tests.synthetic import OUTPUTS, POINTS, iid_draws, make_run, make_summary

WIDTHS, TARGETS = (3, 7), ("standard", "repriorised", "marginal")
NASTY = "<script>alert(\"x\")</script> & 'quotes'"
VOID = {"meta", "br", "img"}


def summaries(**changes: float | None) -> list[Summary]:
    return [make_summary(width, target, **changes) for width in WIDTHS for target in TARGETS]  # pyright: ignore[reportArgumentType]


def run(seed: int, draws: int = 30) -> DataTree:
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(size=(POINTS, OUTPUTS)), rng.uniform(0.1, 1, (POINTS, OUTPUTS))
    return make_run(iid_draws(seed, chains=5, draws=draws), nngp_mean=mean, nngp_std=std)


FIGURES: dict[str, Callable[[], Figure]] = {
    "efficiency": lambda: figures.efficiency_figure(summaries()),
    "efficiency of one run": lambda: figures.efficiency_figure([make_summary(5, "own target")]),
    "distance": lambda: figures.distance_figure(summaries()),
    "distance reaching zero": lambda: figures.distance_figure(summaries(squared_distance=0.001)),
    "distance below the noise": lambda: figures.distance_figure(summaries(squared_distance=-0.1)),
    "no distance": lambda: figures.distance_figure(summaries(squared_distance=None)),
    "predictions": lambda: figures.prediction_figure(run(1), run(2), ("width 3", "width 7")),
    "trace": lambda: figures.trace_figure([("standard", run(1)), ("marginal", run(2))]),
}


class Page(HTMLParser):
    """Elements with their attributes and text, checked to be opened and closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.words = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def attributes(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def html(text: str = "plain") -> str:
    runs = summaries(disagreement=1.25)
    pictures = [
        Picture(
            "distance", f"Heading {text}", f"Caption {text}", figures.as_svg(FIGURES["distance"]())
        ),
        Picture("chains", "Traces", "The chains", figures.as_svg(FIGURES["trace"]())),
    ]
    provenance = {"data": f"data {text}", "seed": 20}
    statements = [
        *verdict(runs),
        Statement(f"Question {text}", None, f"Statement {text}"),
        Statement("Was it bad?", False, "It was."),
    ]
    sections = [
        Section("Table", f"Paragraph {text}", (table_of(runs), Code(f"code {text}"))),
        *(Section(picture.heading, parts=(picture,)) for picture in pictures),
        Section("How it was made", parts=(Code(f"command {text}"), Facts(provenance))),
    ]
    headline = Statement("Believe it", True, f"Headline {text}")
    return render_page(f"Title {text}", statements, sections, headline=headline)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(html())


def test_the_page_needs_no_other_file_or_place() -> None:
    text = html()
    parsed = Page(text)
    for _, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "data:").startswith("data:")
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in parsed.elements}
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_every_picture_is_an_svg_with_alternative_text(page: Page) -> None:
    images = page.attributes("img")
    assert [image["alt"] for image in images] == [
        "Heading plain. Caption plain",
        "Traces. The chains",
    ]
    for image in images:
        kind, _, encoded = image["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert_svg_alone(base64.b64decode(encoded, validate=True).decode())


def assert_svg_alone(text: str) -> None:
    """Well-formed SVG that refers to nothing outside itself."""
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.split("}")[-1] in ("href", "src"):
                assert value.startswith(("#", "data:"))


def test_the_verdict_is_on_top_with_its_marks(page: Page) -> None:
    for statement in verdict(summaries(disagreement=1.25)):
        assert statement.question in page.words
        assert statement.text in page.words
    assert page.words.index("Verdict") < page.words.index("Table")
    assert page.words.index("It was.") < page.words.index("Table")
    classes = [a["class"] for a in page.attributes("li")]
    expected = [{True: "good", False: "bad", None: "note"}[s.good] for s in verdict(summaries())]
    assert classes[-2:] == ["note", "bad"]
    assert classes.count("bad") == 1 + expected.count("bad")


def test_the_table_has_every_cell_of_every_run(page: Page) -> None:
    assert page.texts["th"] == [column.heading for column in COLUMNS]
    assert page.texts["td"] == [
        cell for summary in summaries(disagreement=1.25) for cell in cells(summary)
    ]


def test_the_cells_are_the_summaries_figures() -> None:
    found = dict(
        zip(
            [c.heading for c in COLUMNS],
            cells(make_summary(7, "marginal", per_gradient=0.0213, per_second=45.678)),
            strict=True,
        )
    )
    assert found == {
        "width": "7",
        "target": "marginal",
        "R-hat": "1.003",
        "hidden /grad": "0.00213",
        "readout /grad": "0.00639",
        "pred. /grad": "0.0213",
        "pred. /s": "45.7",
        "to NNGP": "0.500 (0.490-0.510)",
        "z": "-",
        "accept": "0.81",
        "seconds": "12.3",
    }
    assert "-" in cells(make_summary(7, "marginal", squared_distance=None))


def test_how_it_was_made_is_told(page: Page) -> None:
    assert page.texts["code"] == ["code plain", "command plain"]
    assert page.texts["dt"] == ["data", "seed"]
    assert page.texts["dd"] == ["data plain", "20"]
    assert page.texts["title"] == page.texts["h1"] == ["Title plain"]
    assert page.attributes("html") == [{"lang": "en"}]


def test_text_is_escaped_wherever_it_appears() -> None:
    text = html(NASTY)
    assert "<script" not in text
    parsed = Page(text)
    assert parsed.attributes("img")[0]["alt"] == f"Heading {NASTY}. Caption {NASTY}"
    for word in (
        "Title",
        "Headline",
        "Paragraph",
        "Heading",
        "Caption",
        "Question",
        "Statement",
        "code",
        "command",
        "data",
    ):
        assert f"{word} {NASTY}" in parsed.words


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_valid_svg_with_readable_text(name: str) -> None:
    text = figures.as_svg(FIGURES[name]())
    assert_svg_alone(text)
    assert "<text" in text  # letters stay letters: found by search and read aloud


@pytest.mark.parametrize("name", ["efficiency", "trace"])
def test_the_same_data_give_the_same_bytes(name: str) -> None:
    assert figures.as_svg(FIGURES[name]()) == figures.as_svg(FIGURES[name]())


def test_lines_of_the_efficiency_figure_are_the_summaries_rates() -> None:
    figure = figures.efficiency_figure(
        [make_summary(w, "marginal", per_gradient=rate) for w, rate in ((7, 0.4), (3, 0.1))]
    )
    titles = {axis.get_title(): axis.lines[0].get_xydata() for axis in figure.axes}
    assert list(titles) == ["hidden weights", "readout weights", "predictions"]
    np.testing.assert_allclose(titles["predictions"], [(3, 0.1), (7, 0.4)])
    np.testing.assert_allclose(titles["readout weights"], [(3, 0.03), (7, 0.12)])


def test_markers_of_the_efficiency_figure_are_open_where_chains_did_not_converge() -> None:
    figure = figures.efficiency_figure(
        [make_summary(w, "marginal", rhat=rhat) for w, rhat in ((3, 1.01), (7, 1.2), (9, 1.05))]
    )
    for axis in figure.axes:
        filled, rough = axis.lines
        assert list(filled.get_xdata()) == [3, 7, 9]
        assert filled.get_markerfacecolor() != "white"
        assert list(rough.get_xdata()) == [7]
        assert rough.get_markerfacecolor() == "white"


def test_lines_come_in_the_same_order_in_every_figure() -> None:
    summaries = [make_summary(5, name) for name in ("own", "marginal", "standard")]
    for draw in (figures.efficiency_figure, figures.distance_figure):
        [legend] = draw(summaries).legends
        assert [text.get_text() for text in legend.texts] == ["standard", "marginal", "own"]


def test_the_trace_shows_the_component_whose_chains_differ_most() -> None:
    arrays = iid_draws(3, chains=3, draws=20)
    arrays["f"][1, :, 4, 1] += 50
    figure = figures.trace_figure([("standard", make_run(arrays))])
    shown = np.array([line.get_ydata() for line in figure.axes[1].lines])
    np.testing.assert_array_equal(shown, arrays["f"][:, :, 4, 1])


def test_traces_of_chains_that_never_moved_are_drawn_without_a_warning() -> None:
    arrays = iid_draws(4, chains=3, draws=20)
    arrays["hidden_projection"][:] = np.arange(3.0)[:, None, None]  # each chain at its own point
    arrays["f"][:] = 2.0  # all chains at one
    assert_svg_alone(figures.as_svg(figures.trace_figure([("standard", make_run(arrays))])))
