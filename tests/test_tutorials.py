"""Every tutorial runs, prints what it promises, and is in the index; links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "tutorials"
TUTORIALS = sorted(FOLDER.glob("*.py"))
EACH = [
    pytest.param(path, id=path.stem, marks=() if path.stem == "theorist" else pytest.mark.slow)
    for path in TUTORIALS
]
PAGES = sorted(FOLDER.glob("*.md"))
DOCUMENTS = [*PAGES, ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "experiments" / "README.md"]

PROMISED = {
    "theorist": ["1. Kernels", "distance to the NNGP", "step size", "4. Trained for a time t"],
    "researcher": ["validation: ", "run: ", "again: ", "sampled again", "MAP", "deep ensemble"],
    "practitioner": ["verdict: ", "90 % interval", "noise: ", "sampled network", "page: "],
}
"""What a tutorial prints, by its name."""


def missing(name: str, printed: str) -> list[str]:
    return [words for words in PROMISED[name] if words not in printed]


def anchors(text: str) -> set[str]:
    """What a link may name of a Markdown page: its headings as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(text: str, folder: Path) -> list[str]:
    """Links of a Markdown page to files or headings that are not there."""
    broken = []
    for link, file, heading in re.findall(r"\]\((?!https?://)(([^)#]*)#?([^)]*))\)", text):
        there = not file or (folder / file).exists()
        if there and heading:
            page = (folder / file).read_text() if file else text
            there = heading in anchors(page)
        broken += [] if there else [link]
    return broken


def test_there_is_a_tutorial_for_each_user_and_the_index_names_it() -> None:
    assert {path.stem for path in TUTORIALS} == set(PROMISED)
    index = (FOLDER / "README.md").read_text()
    assert not [path.name for path in [*TUTORIALS, *PAGES] if f"({path.name})" not in index
                and path.name != "README.md"]  # fmt: skip


@pytest.mark.parametrize("path", EACH)
def test_it_runs_and_prints_what_it_promises(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", path, "--smoke"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert missing(path.stem, done.stdout) == []
    assert missing(path.stem, "") == PROMISED[path.stem]
    assert not re.search(r"\bnan\b", done.stdout)
    written = re.findall(r"^page: (.+)$", done.stdout, re.MULTILINE)
    assert all("<html" in (tmp_path / page).read_text() for page in written)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert "](" in path.read_text() or path.name == "CHANGELOG.md"
    assert broken_links(path.read_text(), path.parent) == []


def test_links_that_lead_nowhere_are_found() -> None:
    page = "# A word, or two\n[a](none.md#there) [b](README.md) [c](#a-word-or-two) [d](#b)"
    page += " [e](README.md#f)"
    assert broken_links(page, FOLDER) == ["none.md#there", "#b", "README.md#f"]
