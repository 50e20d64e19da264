"""The main job, run once for real by its command line: what it leaves, finished or interrupted."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import html
import io
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xarray import DataTree

import bnnsample as bnn
from bnnsample.cli import main
from bnnsample.reports import widths as job
from bnnsample.reports.settings import WidthsSettings

SETTINGS = {
    "data": "diabetes",
    "widths": [3, 7],
    "targets": ["standard", "marginal"],
    "train": 12,
    "test": 5,
    "noise_std": 0.1,
    "activation": "gelu",
    "chains": 3,
    "warmup": 5,
    "draws": 10,
    "seed": 0,
}
WORDS = shlex.split(
    "widths --data diabetes --train 12 --test 5 --widths 3 7 --target standard marginal "
    "--warmup 5 --draws 10 --chains 3"
)
"""Two targets of the three: nearly all of the job's time is compilation, run by run."""

RUNS = [(width, name) for width in (3, 7) for name in ("standard", "marginal")]
IN_ORDER = [(width, name) for width in (3, 7) for name in ("marginal", "standard")]
"""Of sampling: the reference first."""


def draws_file(folder: Path, width: int, name: str) -> Path:
    return folder / "draws" / f"width-{width}-{name}.nc"


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of one real job, the only one that is sampled in this file."""
    folder = tmp_path_factory.mktemp("job") / "new" / "out"
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main([*WORDS, "--out", str(folder)]) == 0
    return folder, output.getvalue()


@pytest.fixture
def replay(finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Runs come from the finished job's draws instead of being sampled; lists which."""
    asked = []

    def load(target: Any, sampler: Any, **_: Any) -> DataTree:
        asked.append((target.posterior.network.layers[0].width, target.name))
        return bnn.load_run(draws_file(finished[0], *asked[-1]))

    monkeypatch.setattr(job, "sample", load)
    return asked


def test_a_folder_of_another_experiment_is_refused_and_left_alone(
    finished: tuple[Path, str], replay: list[tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = finished
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    assert main([*WORDS, "--seed", "1", "--out", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: out: got {folder}, made with other settings (seed 0)")
    assert "; expected seed 1; probably " in error
    assert error.count("\n") == 1
    assert replay == []
    assert before == {name: (folder / name).read_bytes() for name in files(folder)}


WRITTEN = {"report.html", "table.csv", "record.json"} | {
    f"figures/{name}.svg" for name in ("efficiency", "distance", "predictions", "chains")
}
"""What the job writes beside the draws."""


def test_the_job_writes_every_file_and_no_other(finished: tuple[Path, str]) -> None:
    draws = {f"draws/width-{width}-{name}.nc" for width, name in RUNS}
    assert files(finished[0]) == WRITTEN | draws


def test_the_table_has_one_row_per_run_by_width_and_target(finished: tuple[Path, str]) -> None:
    with (finished[0] / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["width"]), row["target"]) for row in rows] == RUNS
    record = {(row["width"], row["target"]): row for row in record_of(finished[0])["runs"]}
    for row in rows:
        same = record[int(row["width"]), row["target"]]
        assert set(row) == set(same)
        assert float(row["predictions_ess_bulk"]) == same["predictions_ess_bulk"]
        assert (row["disagreement_with_marginal"] == "") == (row["target"] == "marginal")


def test_the_record_says_what_was_done(finished: tuple[Path, str]) -> None:
    record = record_of(finished[0])
    assert record["status"] == "finished"
    assert record["settings"] == SETTINGS
    assert [(row["width"], row["target"]) for row in record["runs"]] == IN_ORDER
    assert record["dtype"] == "float64"
    assert {"jax", "blackjax", "numpy", "bnnsample"} <= set(record["versions"])
    assert record["total_seconds"] > sum(row["compile_seconds"] for row in record["runs"])
    assert record["device"]
    assert record["samplers"]["standard"]["integrator"] == "leapfrog"
    assert record["samplers"]["marginal"]["integrator"] == "rotation"
    page = html.unescape((finished[0] / "report.html").read_text())
    assert all(text in page for text in record["verdict"])


def test_the_record_s_command_parses_back_to_the_same_job(
    finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def stop(settings: job.WidthsSettings, out: Path, **_: Any) -> None:
        seen.append((settings, out))
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "compare_widths", stop)
    program, *words = shlex.split(record_of(finished[0])["command"])
    assert program == "bnnsample"
    assert main(words) == 130
    assert json.loads(json.dumps(dataclasses.asdict(seen[0][0]))) == SETTINGS
    assert seen[0][1] == finished[0]


@pytest.mark.parametrize(("width", "name"), RUNS)
def test_the_draws_load_and_are_the_settings(
    finished: tuple[Path, str], width: int, name: str
) -> None:
    run = bnn.load_run(draws_file(finished[0], width, name))
    assert run.attrs["target"] == name
    assert f"Dense(width={width}," in run.attrs["network"]
    assert (run.attrs["seed"], run.attrs["warmup"]) == (0, 5)
    f = run.children["predictions"].dataset["f"]
    assert f.shape == (3, 10, 5, 1)
    assert np.isfinite(f.values).all()
    assert run.children["constant_data"].dataset["x"].shape == (12, 10)


def test_the_standard_target_is_given_fewer_draws() -> None:
    draws = [WidthsSettings(draws=count).draws_of("standard") for count in (30, 90, 600)]
    assert draws == [30, 50, 200]
    assert WidthsSettings(draws=600).draws_of("marginal") == 600


def test_the_output_has_the_table_the_verdict_and_the_page(finished: tuple[Path, str]) -> None:
    folder, output = finished
    lines = output.splitlines()
    assert lines[0].endswith("starting")
    heading = next(i for i, line in enumerate(lines) if line.startswith("width"))
    rows = [line.split() for line in lines[heading + 1 :]]
    assert [row[:2] for row in rows if row[:1] in (["3"], ["7"])] == [
        [str(width), name] for width, name in IN_ORDER
    ]
    for text in record_of(folder)["verdict"]:
        assert text in output
    assert lines[-1] == f"page: {folder / 'report.html'}"
    assert "\x1b" not in output


def test_an_interrupt_leaves_the_finished_runs_and_a_true_record(
    replay: list[tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load = job.sample

    def interrupted(*arguments: Any, **options: Any) -> DataTree:
        if replay:
            raise KeyboardInterrupt
        return load(*arguments, **options)

    monkeypatch.setattr(job, "sample", interrupted)
    words = [*WORDS, "--widths", "7", "--out", str(tmp_path)]
    assert main(words) == 130
    assert "interrupted" in capsys.readouterr().out
    assert files(tmp_path) == {"record.json", "draws/width-7-marginal.nc"}
    record = record_of(tmp_path)
    assert record["status"] == "unfinished"
    assert record["settings"] == SETTINGS | {"widths": [7]}
    assert [(row["width"], row["target"]) for row in record["runs"]] == [(7, "marginal")]
    assert bnn.load_run(draws_file(tmp_path, 7, "marginal")).attrs["chains"] == 3

    # the same command again finishes the job in the same folder
    monkeypatch.setattr(job, "sample", load)
    replay.clear()
    assert main(words) == 0
    assert replay == IN_ORDER[2:]
    draws = {f"draws/width-7-{name}.nc" for _, name in replay}
    assert files(tmp_path) == WRITTEN | draws
    assert record_of(tmp_path)["status"] == "finished"


@pytest.mark.usefixtures("replay")
def test_an_interrupt_while_draws_are_written_leaves_no_broken_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = DataTree.to_netcdf

    def write_half(self: DataTree, path: Path, **options: Any) -> None:
        write(self, path, **options)
        if "standard" in str(path):
            Path(path).write_bytes(Path(path).read_bytes()[:1000])
            raise KeyboardInterrupt

    monkeypatch.setattr(DataTree, "to_netcdf", write_half)
    assert main([*WORDS, "--out", str(tmp_path)]) == 130
    assert files(tmp_path) == {"record.json", "draws/width-3-marginal.nc"}
    assert len(record_of(tmp_path)["runs"]) == 1
