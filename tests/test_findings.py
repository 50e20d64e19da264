"""Tables and figures of the experiments are what their commands make of the kept records."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import bnnsample as bnn
from tests.shared import shared_file

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
README = (EXPERIMENTS / "README.md").read_text()
RECORDS = sorted((EXPERIMENTS / "records").glob("*.json"))

FURTHER = {
    "widths-fcn": [
        "--points 256 --widths 32 64 128 256 512 1024",
        "--points 128 --widths 4096 --samplers",
        "--points 256 --widths 2048 4096 --samplers",
    ],
    "widths-resnet": [
        "--pixels 8 --hmc-draws 30 --widths 8 16 32 64",
        "--samplers langevin --widths 64",
    ],
}
"""What a section names beside the command of its finding."""

CIFAR10 = "cifar10_subset.npz"
NEEDED = {
    "finite-vs-infinite": CIFAR10,
    "uci": "uci/yacht.npz",
    "widths-fcn": CIFAR10,
    "widths-resnet": CIFAR10,
}
"""Data without which a command ends at once, though it would measure nothing."""


def tables(text: str) -> dict[str, list[str]]:
    """The lines of each Markdown table by its heading."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line, following in pairwise([*text.splitlines(), ""]):
        if following.startswith("|--"):
            heading = line
        elif line.startswith("|") and not line.startswith("|--"):
            found.setdefault(heading, []).append(line)
    return found


def unfounded(readme: str, printed: str) -> list[str]:
    """Lines of the README's tables that are not printed, where a table of that heading is."""
    ours, theirs = tables(readme), tables(printed)
    missing = [heading for heading in theirs if heading not in ours]
    return missing + [
        line for heading in theirs for line in ours.get(heading, []) if line not in theirs[heading]
    ]


def same_drawing(ours: str, theirs: str) -> bool:
    """Whether two SVG have the same words and styles, and coordinates to a hundredth of a point.

    Last digits differ between processors, and with them the hashes that name paths and markers.
    """
    number = r"(?<=[ \"(\n])-?\d+(?:\.\d+)?(?=[ \")\n])(?=[^<>]*>)"  # alone, inside a tag
    first, second = (_by_first_use(svg) for svg in (ours, theirs))
    if re.sub(number, "", first) != re.sub(number, "", second):
        return False
    values = [np.array(re.findall(number, svg), float) for svg in (first, second)]
    return np.allclose(*values, rtol=0, atol=0.01)


def _by_first_use(svg: str) -> str:
    """An SVG whose hashes are named by the order in which they come."""
    names: dict[str, str] = {}
    return re.sub(
        r"\b[mp][0-9a-f]{10}\b", lambda m: names.setdefault(m[0], f"path{len(names)}"), svg
    )


def commands(name: str) -> list[list[str]]:
    """The options with which the README has an experiment run."""
    script = name.replace("-", "_")
    (given,) = re.findall(rf"\| `(?:experiments/{script}\.py|make {name})([^`]*)` \|", README)
    return [shlex.split(options) for options in (given, *FURTHER.get(name, []))]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Experiments run in this process, none of which may measure anything."""

    def none_new(measure: Any, points: list[dict[str, Any]], *_: Any, **__: Any) -> None:
        assert not points, f"the record lacks {points}"

    precision = jax.config.read("jax_enable_x64")
    monkeypatch.syspath_prepend(str(EXPERIMENTS / "benchmarks"))
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    monkeypatch.setattr(bnn, "sweep", none_new)
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # as they set it, undone here
    yield importlib.import_module
    jax.config.update("jax_enable_x64", precision)


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_tables_and_figures_are_those_of_the_record(
    record: Path, scripts: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    name = record.stem
    if name in NEEDED:
        file = shared_file("data", NEEDED[name])
        monkeypatch.setenv("BNNSAMPLE_DATA", str(file).removesuffix(NEEDED[name]))
    script = scripts(name.replace("-", "_"))
    if name == "peers":  # which measures anew
        printed = script.table(json.loads(record.read_text())["rows"])
    else:
        out = tmp_path / name
        out.mkdir()
        (out / "record.json").write_bytes(record.read_bytes())
        for options in commands(name)[::-1]:  # so that figures are those of the finding
            monkeypatch.setattr("sys.argv", [f"{name}.py", *options, "--out", str(out)])
            script.main()
        drawn, kept = (sorted(at.glob(f"{name}*.svg")) for at in (out, EXPERIMENTS / "figures"))
        assert [figure.name for figure in drawn] == [figure.name for figure in kept]
        for ours, theirs in zip(drawn, kept, strict=True):
            assert same_drawing(ours.read_text(), theirs.read_text())
        printed = capsys.readouterr().out
    assert len(tables(printed)) > 0
    assert unfounded(README, printed) == []
    assert all(f"`{options}`" in README for options in FURTHER.get(name, []))


def test_drawings_are_told_apart() -> None:
    kept = (EXPERIMENTS / "figures" / "widths-resnet-8.svg").read_text()
    x, y = re.findall(r"L (\d+\.\d+) (\d+\.\d+)", kept)[0]
    marker, another = sorted(set(re.findall(r"#(m[0-9a-f]{10})", kept)))[:2]

    def moved(by: float) -> str:
        return kept.replace(f"L {x} {y}", f"L {float(x) + by} {y}")

    assert same_drawing(kept, kept.replace(marker, "m0123456789"))
    assert same_drawing(kept, moved(0.005))
    assert not same_drawing(kept, moved(0.02))
    assert not same_drawing(kept, kept.replace(f"#{marker}", f"#{another}"))
    assert not same_drawing(kept, kept.replace("#000000", "#0000e0"))
    assert not same_drawing(kept, kept.replace("R-hat above 1.05", "R-hat above 1.06"))


def test_the_table_of_a_gpu_is_that_of_its_record(scripts: Any) -> None:
    record = json.loads((EXPERIMENTS / "records/gpu/widths-fcn.json").read_text())
    places = {"n": lambda r: r["points"], "width": lambda r: r["width"]}
    runs = [row for row in record["rows"] if "sampler" in row]
    table = without(scripts("comparison").table(runs, places), "a second", "by second")
    assert table in README


def without(table: str, *titles: str) -> str:
    """A Markdown table but for the columns of these titles."""
    rows = [line.split("|") for line in table.splitlines()]
    kept = [number for number, cell in enumerate(rows[0]) if cell.strip() not in titles]
    return "\n".join("|".join(row[number] for number in kept) for row in rows)


def test_a_figure_that_was_not_found_is_seen() -> None:
    printed = "| n | R-hat |\n|---|---|\n| 3 | 1.02 |\n| 4 | 1.03 |"
    assert unfounded(f"words\n\n{printed}\n\nmore", printed) == []
    assert unfounded(printed.replace("1.03", "1.02"), printed) == ["| 4 | 1.02 |"]
    assert unfounded("nothing", printed) == ["| n | R-hat |"]
