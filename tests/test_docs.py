"""The API reference builds without a warning, has all that is public, and needs no network."""

from __future__ import annotations

import html
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bnnsample

BUILD = Path(__file__).parents[1] / "experiments" / "docs" / "build.py"


def public_names() -> list[str]:
    return [
        name
        for name, value in vars(bnnsample).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    ]


def python(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Pages by their path in the folder of the reference."""
    out = tmp_path_factory.mktemp("docs")
    done = python(BUILD, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {str(path.relative_to(out)): path.read_text() for path in sorted(out.rglob("*.html"))}


def text_of(page: str) -> str:
    """The words of a page, one space between two."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())


def sections(page: str) -> dict[str, str]:
    """The text of each function and class of a page by its name."""
    parts = re.split(r'<section id="(\w+)">', page)
    return dict(zip(parts[1::2], map(text_of, parts[2::2]), strict=True))


def words_of(text: str) -> str:
    return " ".join(re.findall(r"\w+", text))


def opening_words(documented: object) -> str:
    """The words of a docstring's first sentence."""
    return words_of((inspect.getdoc(documented) or "").split(".")[0])


def not_in(page: str, names: list[str]) -> list[str]:
    """Those of the public ``names`` whose docstrings the page does not show."""
    found = {name: words_of(text) for name, text in sections(page).items()}

    def shown(name: str) -> bool:
        words = opening_words(getattr(bnnsample, name))
        return bool(words) and words in found.get(name, "")

    return [name for name in names if not shown(name)]


def test_all_that_is_public_is_there_with_its_docstring(pages: dict[str, str]) -> None:
    page = pages["bnnsample.html"]
    assert not_in(page, public_names()) == []
    without_one = re.sub(r'<section id="fcn">', '<section id="another">', page)
    assert not_in(without_one, public_names()) == ["fcn"]
    other_words = page.replace("fully connected network of", "network of")
    assert not_in(other_words, public_names()) == ["fcn"]


def test_constructors_are_shown_with_shapes_as_they_are_written(pages: dict[str, str]) -> None:
    found = sections(pages["bnnsample.html"])
    assert "w_std: Std = 1.0, b_std: Std | None = None" in found["Dense"]
    assert "factor: Float[Array, 'n n']" in found["GaussianProcess"]
    assert "target: AbstractTarget | Posterior" in found["sample"]
    assert '<a href="#Posterior">Posterior</a>' in pages["bnnsample.html"]


def test_formulas_are_rendered(pages: dict[str, str]) -> None:
    with_formulas = [name for name, page in pages.items() if "<math" in page]
    assert {"bnnsample.html", "bnnsample/repriorisation/bijections.html"} <= set(with_formulas)
    for page in pages.values():
        assert "$$" not in page
        assert "merror" not in page
        assert page.count("<math") == page.count("</math>")
        # a command that has no symbol would be shown as its name
        assert not re.search(r"<m[ion][^>]*>\\", page)


def test_pages_load_nothing_from_the_network(pages: dict[str, str]) -> None:
    loaded = re.compile(r'(?:src|<link[^>]*href)="(?:https?:)?//')
    assert loaded.search('<script async src="https://elsewhere/mathjax.js">')
    assert not [name for name, page in pages.items() if loaded.search(page)]


def test_papers_are_linked(pages: dict[str, str]) -> None:
    assert 'href="https://arxiv.org/abs/2206.07673"' in pages["bnnsample.html"]


def test_a_warning_stops_the_build(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(BUILD.parent)!r})
import build
from pathlib import Path
build.STORY = (*build.STORY, "no_such_step")
build.build(Path({str(tmp_path)!r}))
"""
    done = python("-c", script)
    assert done.returncode == 1
    assert "no_such_step" in done.stderr
