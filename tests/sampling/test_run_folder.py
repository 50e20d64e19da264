"""What a run folder refuses: other settings, other data, something else, what was tampered with."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import pytest

import bnnsample as bnn
from bnnsample.sampling.folder import CannotWrite, claimed
from tests.conftest import X64
from tests.sampling.conftest import DRAWS, EVERY
from tests.sampling.run_to_be_killed import main

pytestmark = pytest.mark.skipif(not X64, reason="the runs of this file are in float64")


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(CannotWrite, match="Permission denied.*read-only"):
        main(str(tmp_path / "run"), DRAWS, EVERY)


def test_a_folder_of_other_settings_is_refused(stopped):
    record = json.loads((stopped / "run.json").read_text())
    (stopped / "run.json").write_text(json.dumps(record | {"seed": 4, "draws": DRAWS - 1}))
    expected = "out: got .*other settings .seed 4; draws 699.*expected seed 3; draws 700.*new run"
    with pytest.raises(ValueError, match=expected):
        main(str(stopped), DRAWS, EVERY)


@pytest.mark.parametrize("draws", [DRAWS, DRAWS + 30])
def test_a_folder_that_another_process_writes_to_is_refused(stopped, draws):
    record = (stopped / "run.json").read_text()
    with claimed(stopped), pytest.raises(ValueError, match="run folder: .*another process"):
        main(str(stopped), draws, EVERY)
    with claimed(stopped), pytest.raises(ValueError, match="run folder: .*another process"):
        bnn.resume(stopped, extra_draws=30)
    assert (stopped / "run.json").read_text() == record


@pytest.mark.parametrize("judge", [bnn.diagnose, bnn.distance_to_nngp, bnn.per_layer])
def test_an_unfinished_run_is_not_judged_but_refused(stopped, judge):
    with pytest.raises(ValueError, match="run: got a run that is not finished.*resume"):
        judge(bnn.load_run(stopped))


@pytest.mark.parametrize("of", [lambda run: None, lambda run: run["posterior"]])
def test_what_is_not_a_run_is_not_judged_but_refused(stopped, of):
    with pytest.raises(ValueError, match="run: got a .* without the group sample_stats"):
        bnn.diagnose(of(bnn.load_run(stopped)))


def test_a_run_of_another_precision_is_refused(stopped):
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="precision: got jax_enable_x64 False"):
            bnn.resume(stopped)
    finally:
        jax.config.update("jax_enable_x64", True)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="out: got .*holds something else"):
        main(str(tmp_path), DRAWS, EVERY)


def test_resuming_where_there_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run in .*it has no run\.json"):
        bnn.resume(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sampler": "__import__('os').abort()"}, "cannot be made again from text"),
        (
            {"network": "Network(layers=(tanh,))"},
            "cannot be made again.*function or prior of your own",
        ),
        ({"data": "0"}, "data or settings that are not those"),
    ],
)
def test_a_tampered_record_is_refused(stopped, change, expected):
    record = json.loads((stopped / "run.json").read_text())
    (stopped / "run.json").write_text(json.dumps(record | change))
    with pytest.raises(ValueError, match=expected):
        bnn.resume(stopped)
