"""``fit`` and ``predict``: a table in, a run with its page out, and predictions at new rows."""

from __future__ import annotations

import html
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bnnsample as bnn
from bnnsample.cli import main
from bnnsample.tabular import predictions as module
from bnnsample.tabular.fits import read_fit
from bnnsample.tabular.predictions import predictions
from bnnsample.tabular.problem import pose
from tests.cli.conftest import made
from tests.conftest import X64
from tests.tabular.tables import wine

pytestmark = pytest.mark.skipif(not X64, reason="the command line computes in float64")


def test_a_fit_tells_what_it_did_and_writes_run_and_page(numbers):
    verdict = bnn.diagnose(bnn.load_run(numbers.folder / "run"))
    assert numbers.status == (0 if verdict.ok else 1)
    for told in (
        "to predict: progression, numbers of mean",
        "text, a column of 0 and 1 for each value: region (north, south, west; ",
        "48 rows to fit to, 16 inputs to the network; 12 rows held out, drawn at random",
        str(verdict),
        "at the 12 rows held out, in the units of progression:",
        f"page: {numbers.folder / 'report.html'}",
        f"bnnsample predict {numbers.folder} NEW.csv",
    ):
        assert told in numbers.out
    assert {path.name for path in numbers.folder.iterdir()} == {
        "table.json", "run", "report.html", "lock",
    }  # fmt: skip
    page = (numbers.folder / "report.html").read_text()
    assert page.index("in the units of progression") < page.index("Scores at the test inputs")
    assert "region (north, south, west; " in page
    assert "an error of 1 there is one of" in page
    assert "RMSE and CRPS are in units of the run&#39;s targets." in page
    assert "in the units of the targets" not in page
    (line,) = (line for line in numbers.out.splitlines() if line.startswith("RMSE"))
    fit = read_fit(numbers.folder)
    f = bnn.load_run(numbers.folder / "run")["predictions"]["f_mean"].values.mean(axis=(0, 1))
    errors = (f - fit.y_test) * fit.target.std
    assert float(line.split()[1]) == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-3)


def test_numbers_are_predicted_in_their_units_by_all_draws(numbers, monkeypatch):
    fit, run = read_fit(numbers.folder), bnn.load_run(numbers.folder / "run")
    posed = pose(numbers.table, fit.settings)
    rows = numbers.table.loc[posed.held_out.index]
    found = predictions(fit, run, rows)
    f = run["predictions"]["f"].values.reshape(-1, len(rows))
    noise = run["posterior"]["noise_std"].values.ravel()
    mean, std = posed.target.mean, posed.target.std
    np.testing.assert_allclose(found["mean"], mean + std * f.mean(axis=0), rtol=1e-6)
    spread = std * np.sqrt(f.var(axis=0) + np.mean(noise**2))
    np.testing.assert_allclose(found["std"], spread, rtol=1e-6)
    for share, name in ((0.05, "quantile_5"), (0.95, "quantile_95")):
        z = (found[name].to_numpy() - mean) / std
        below = norm.cdf(z, f, noise[:, None]).mean(axis=0)
        np.testing.assert_allclose(below, share, atol=1e-6)
    monkeypatch.setattr(module, "ROWS", 5)
    pd.testing.assert_frame_equal(predictions(fit, run, rows), found, rtol=1e-9)


def test_predictions_keep_rows_whatever_the_order_of_columns(numbers, tmp_path, capsys):
    new = numbers.table.iloc[:9].copy()
    new.loc[2, "region"], new.loc[3, "age"] = "east", np.nan
    found = []
    for table in (new, new[new.columns[::-1]].drop(columns=["progression", "study"])):
        table.to_csv(tmp_path / "new.csv", index=False)
        words = ["predict", numbers.folder, tmp_path / "new.csv", "--out", tmp_path / "p.csv"]
        assert main(list(map(str, words))) == 0
        found.append(pd.read_csv(tmp_path / "p.csv"))
    pd.testing.assert_frame_equal(*found, check_exact=True)
    assert len(found[0]) == 9
    inside = found[0]["quantile_5"] < found[0]["mean"], found[0]["mean"] < found[0]["quantile_95"]
    assert np.all(inside)
    told = capsys.readouterr().out
    assert "region: 1 value that the training rows have not (east)" in told
    assert "age: 1 missing value, filled with the median" in told
    assert "columns not used: progression, study" in told


@pytest.mark.parametrize("command", ["diagnose {}", "report {}", "compare {} {}2 --out {}.html"])
def test_other_commands_take_the_folder_of_a_fit(command, copy, capsys):
    shutil.copytree(copy, f"{copy}2")
    (copy / "report.html").unlink()
    status = main(shlex.split(command.format(copy, copy, copy)))
    if command.startswith("diagnose"):
        assert status == (0 if capsys.readouterr().out.startswith("passed") else 1)
        return
    assert status == 0
    page = copy / "report.html" if command.startswith("report") else Path(f"{copy}.html")
    assert "NNGP" in page.read_text()


def test_targets_beside_those_of_a_fit_are_refused(copy, tmp_path, capsys):
    np.savetxt(tmp_path / "y.csv", np.zeros(12))
    before = (copy / "report.html").read_text()
    assert main(["report", str(copy), "--y-test", str(tmp_path / "y.csv")]) == 2
    assert "which has the targets of the rows held out" in capsys.readouterr().err
    assert (copy / "report.html").read_text() == before


def test_what_is_printed_is_not_changed(capsys):
    assert main(["diagnose", "a:100:b[red]:x:"]) == 2
    assert "a:100:b[red]:x:" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_command_goes_on_where_it_was_stopped(numbers, tmp_path, monkeypatch, capsys):
    words = [*numbers.words[:-1], str(tmp_path / "fit")]
    sample = bnn.sample

    def stopped(*args: Any, on_progress: Any, **settings: Any) -> Any:
        def stop(progress: bnn.Progress) -> None:
            on_progress(progress)
            if progress.phase == "sampling":
                raise KeyboardInterrupt

        return sample(*args, on_progress=stop, **settings)

    monkeypatch.setattr(bnn, "sample", stopped)
    assert main(words) == 130
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("interrupted; the same command, or bnnsample resume ")
    other = shutil.copytree(tmp_path / "fit", tmp_path / "other")
    assert not (other / "report.html").exists()
    unfinished = ["predict", other, numbers.data, "--out", tmp_path / "p.csv"]
    assert main(list(map(str, unfinished))) == 2
    assert f"`bnnsample resume {other}` goes on" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()
    monkeypatch.setattr(bnn, "sample", None)
    assert main(words) == numbers.status
    assert main(["resume", str(other)]) == numbers.status
    whole = bnn.load_run(numbers.folder / "run")["predictions"]["f"].values
    for folder in (tmp_path / "fit", other):
        again = bnn.load_run(folder / "run")["predictions"]["f"].values
        np.testing.assert_array_equal(again, whole)
        assert (folder / "report.html").exists()


@pytest.mark.slow
def test_more_draws_make_a_fit_longer_and_fewer_are_refused(numbers, copy, capsys):
    words = [*numbers.words[:-1], str(copy)]
    assert main([*words, "--draws", "65"]) in (0, 1)
    assert bnn.load_run(copy / "run").attrs["draws"] == 65
    assert main([*words, "--draws", "60"]) == 2
    assert "draws: got 60, and a fit" in capsys.readouterr().err
    assert main(["resume", str(copy), "--draws", "+2"]) in (0, 1)
    assert bnn.load_run(copy / "run").attrs["draws"] == 67


def test_a_dry_run_estimates_and_writes_nothing(numbers, tmp_path, capsys):
    words = [*numbers.words[:-1], str(tmp_path / "dry")]
    assert main([*words, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "note time: about " in told
    assert "note compilation: these checks took " in told
    assert "ok   memory: about " in told
    assert told.endswith("nothing was written\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_labels_are_predicted_in_words(tmp_path, capsys):
    fit = made(tmp_path, wine(60), "--target", "grape", "--classes", "--drop", "ash", "hue")
    assert fit.status in (0, 1)
    assert "to predict: grape, one of 3: barbera, barolo, grignolino" in fit.out
    assert "left out by --drop: ash, hue" in fit.out
    assert "accuracy" in fit.out
    page = html.unescape((fit.folder / "report.html").read_text())
    assert 'classes are numbered: 0 = "barbera", 1 = "barolo", 2 = "grignolino".' in page
    words = ["predict", fit.folder, fit.data, "--out", tmp_path / "p.parquet"]
    assert main(list(map(str, words))) == 0
    found = pd.read_parquet(tmp_path / "p.parquet")
    assert np.mean(found["grape"].to_numpy() == fit.table["grape"].to_numpy()) > 0.8
    np.testing.assert_allclose(found.drop(columns="grape").sum(axis=1), 1)
