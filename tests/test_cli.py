"""The command line explains itself and refuses bad input before it samples or writes."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.cli import main
from bnnsample.reports import widths as job
from bnnsample.sampling.checkpoints import CHECKPOINTS
from tests.conftest import X64

WORDS = shlex.split(
    "widths --data diabetes --train 12 --test 5 --widths 3 7 --warmup 5 --draws 10 --chains 3"
)


def words_with(*changes: str) -> list[str]:
    """``WORDS`` with options replaced; argparse keeps the last of an option given twice."""
    return [*WORDS, *changes]


@pytest.fixture
def no_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("sampled")

    monkeypatch.setattr(job, "sample", refuse)


def help_text(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(list(words))
    assert exit_.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_help_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(capsys, "--help")
    assert "posterior samples of wide Bayesian neural networks" in text
    assert "widths" in text
    assert help_text(capsys, "--version").strip().count(".") >= 1


def test_help_of_a_command_names_every_setting_with_its_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = " ".join(help_text(capsys, "widths", "--help").split())
    for field in dataclasses.fields(job.WidthsSettings):
        option = "target" if field.name == "targets" else field.name.replace("_", "-")
        assert f"--{option} " in text
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert f"(default: {default})" in text
    for file in ("report.html", "table.csv", "record.json"):
        assert file in text


def assert_refused(words: list[str], subject: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.endswith(".\n")
    assert error.startswith(f"error: {subject}: got ")
    assert error.index("; expected ") < error.index("; probably ")


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ("--data mnist", "data set"),
        ("--widths 0", "width"),
        ("--widths 7 -3", "width"),
        ("--widths 7 7", "widths"),
        ("--noise-std 0", "Gaussian noise_std"),
        ("--noise-std=-0.1", "Gaussian noise_std"),
        ("--noise-std nan", "Gaussian noise_std"),
        ("--noise-std inf", "Gaussian noise_std"),
        ("--target standard posterior", "target"),
        ("--target marginal marginal", "targets"),
        ("--activation rleu", "Activation"),
        ("--train 438", "data set size"),
        ("--train 0", "train"),
        ("--test 0", "test"),
        ("--chains 0", "chains"),
        ("--warmup 0", "warmup"),
        ("--draws 0", "draws"),
        ("--seed -1", "seed"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_no_folder(
    changes: str, subject: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_with(*shlex.split(changes), "--out", str(tmp_path / "new" / "out"))
    assert_refused(words, subject, capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_sampling")
def test_noise_below_the_rounding_of_the_kernel_is_refused_before_sampling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 64 points in 10 features: the linear kernel has rank 11 without noise
    changes = shlex.split("--activation identity --noise-std 1e-9 --train 64")
    assert_refused(words_with(*changes, "--out", str(tmp_path / "out")), "noise_std", capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize("out", ["notes", "notes/txt", "notes/txt/deeper"])
def test_a_folder_of_other_files_and_names_taken_by_files_are_refused(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "txt").write_text("mine")
    assert_refused(words_with("--out", str(tmp_path / out)), "out", capsys)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == {
        "notes/txt"
    }
    assert (tmp_path / "notes" / "txt").read_text() == "mine"


def test_the_command_of_a_record_survives_awkward_values(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = job.WidthsSettings(widths=(5, 2), targets=("marginal",), noise_std=1e-5, seed=9)
    out = Path("a folder/with 'quotes' & $signs")
    seen = []

    def stop(settings: job.WidthsSettings, out: Path, **_: Any) -> None:
        seen.append((settings, out))
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "compare_widths", stop)
    assert main(shlex.split(job.command(settings, out))[1:]) == 130
    assert seen == [(settings, out)]


TINY = {"chains": 2, "warmup": 10, "draws": 60, "seed": 1, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in float64 that was stopped after its first 50 draws."""
    jax.config.update("jax_enable_x64", True)
    folder = tmp_path_factory.mktemp("stopped") / "run"
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 2)), rng.standard_normal((5, 1))
    posterior = bnn.Posterior(bnn.fcn(1, 3, 1), x, y, bnn.Gaussian(0.5))

    def stop(progress: bnn.Progress) -> None:
        if progress.phase == "sampling" and progress.done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bnn.sample(posterior, bnn.MALA(), x_test=x, out=folder, on_progress=stop, **TINY)
    jax.config.update("jax_enable_x64", X64)
    return folder


def test_resume_finishes_lengthens_and_judges_a_run(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(stopped, tmp_path / "run")
    newest = max((folder / CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    jax.config.update("jax_enable_x64", False)
    try:
        assert main(["resume", str(folder)]) == 0
        first = capsys.readouterr()
        assert main(["resume", str(folder), "--draws", "+3"]) == 0
        longer = capsys.readouterr()
        assert main(["resume", str(folder)]) == 0
        again = capsys.readouterr()
    finally:
        jax.config.update("jax_enable_x64", X64)
    assert f"{folder}: finished, 60 draws in each of 2 chains, marginal target, MALA" in first.out
    assert "checks: predictions" in first.out
    assert "ok   divergences: 0 of 120 draws" in first.out
    assert first.err.startswith(f"warning: checkpoint {newest.name} is damaged")
    assert first.err.count("\n") == 1
    assert f"{folder}: finished, 63 draws" in longer.out
    assert f"{folder}: had been finished, 63 draws" in again.out
    assert longer.err == again.err == ""
    assert bnn.load_run(folder)["predictions"]["f"].dtype == np.float64


@pytest.mark.parametrize(
    ("phase", "advice"),
    [("compiling", "it to go on"), ("sampling", "it, without --draws, to go on")],
)
def test_an_interruption_says_whether_draws_were_added(
    phase: str,
    advice: str,
    stopped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, resume = shutil.copytree(stopped, tmp_path / "run"), bnn.resume

    def interrupted(*args: Any, **settings: Any) -> Any:
        def interrupt(progress: bnn.Progress) -> None:
            if progress.phase == phase:
                raise KeyboardInterrupt

        return resume(*args, **settings | {"on_progress": interrupt})

    monkeypatch.setattr(bnn, "resume", interrupted)
    assert main(["resume", str(folder), "--draws", "+3"]) == 130
    assert capsys.readouterr().out.splitlines()[-1] == f"interrupted; resume {advice}"


def test_help_of_resume_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_text(capsys, "resume", "--help").split())
    assert "DIR the folder of the run" in text
    assert "--draws +N make the run longer by N draws" in text


def test_help_names_no_default_where_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "None" not in help_text(capsys, "widths", "--help")


@pytest.mark.parametrize("draws", ["500", "-5", "+", "+2.5", "+ 5", "+5 draws", "many", "+٣"])
def test_draws_without_a_plus_are_refused(
    draws: str, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (stopped / "run.json").read_text()
    assert_refused(["resume", str(stopped), f"--draws={draws}"], "--draws", capsys)
    assert (stopped / "run.json").read_text() == before


def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resume", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: no run in {tmp_path}: it has no run.json\n"
    (tmp_path / "run.json").write_text("{")
    assert_refused(["resume", str(tmp_path)], "run folder", capsys)


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (bnn.NoUsableStepSize("warm-up: got acceptance 0"), 2, "error: warm-up: got acceptance 0"),
        (bnn.CannotWrite("run: got 'No space left'"), 2, "error: run: got 'No space left'"),
        (KeyboardInterrupt(), 130, "interrupted; resume it to go on"),
    ],
)
def test_what_stops_a_resumed_run_is_one_line(
    error: BaseException,
    status: int,
    printed: str,
    stopped: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bnn, "resume", lambda *_, **__: (_ for _ in ()).throw(error))
    assert main(["resume", str(stopped)]) == status
    captured = capsys.readouterr()
    assert printed in (captured.out + captured.err).splitlines()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(2)
    x, x_test = rng.standard_normal((12, 2)), rng.standard_normal((6, 2))
    posterior = bnn.Posterior(bnn.fcn(1, 4, 1), x, x[:, :1], bnn.Gaussian(0.4))
    folder = tmp_path_factory.mktemp("finished") / "run"
    bnn.sample(posterior, bnn.HMC(2), chains=2, warmup=20, draws=50, x_test=x_test, out=folder)
    np.save(folder.parent / "y.npy", x_test[:, :1])
    np.savetxt(folder.parent / "y.csv", x_test[:, :1])
    return folder


LENIENT = shlex.split("--rhat 9 --ess-per-chain 1 --mcse 9 --chains-apart 9 --bfmi 0")


def test_diagnose_is_0_where_all_passed_and_1_otherwise(finished, capsys) -> None:
    assert main(["diagnose", str(finished)]) == 1
    assert capsys.readouterr().out.startswith("failed ")
    assert main(["diagnose", str(finished), *LENIENT]) == 0
    assert capsys.readouterr().out.startswith("passed all ")
    assert main(["diagnose", str(finished), "--distance", "1e-9", *LENIENT]) == 1
    capsys.readouterr()
    assert main(["diagnose", str(finished), "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["ok"] is False
    assert {"name", "ok", "value", "threshold", "figure", "advice", "more_draws"} == set(
        verdict["findings"][0]
    )


def test_the_package_is_a_command_too(finished) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bnnsample", "diagnose", finished],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("targets", ["y.npy", "y.csv"])
def test_report_writes_the_page_into_the_folder(finished, targets, capsys) -> None:
    assert main(["report", str(finished), "--y-test", str(finished.parent / targets)]) == 0
    page = finished / "report.html"
    assert capsys.readouterr().out == f"page: {page}\n"
    assert "Scores at the test inputs" in page.read_text()


@pytest.mark.parametrize("words", ["diagnose {}", "report {}", "compare {} {}2 --out page.html"])
def test_a_run_that_is_not_finished_is_no_run_to_judge(words, stopped, tmp_path, capsys) -> None:
    folder = shutil.copytree(stopped, tmp_path / "run")
    shutil.copytree(stopped, tmp_path / "run2")
    assert_refused(shlex.split(words.format(folder, folder)), str(folder), capsys)
    assert main(["diagnose", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "got a run that is not finished; " in error
    assert f"`bnnsample resume {folder}` goes on" in error


def test_compare_writes_where_it_is_told(finished, tmp_path, capsys) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    out = tmp_path / "both.html"
    assert main(["compare", str(finished), str(copy), "--out", str(out)]) == 0
    assert "Comparison of 2 runs" in out.read_text()


@pytest.mark.parametrize("words", ["diagnose {}", "report {}", "compare {} {}2 --out page.html"])
def test_where_there_is_no_run_the_status_is_2_in_one_line(words, tmp_path, capsys) -> None:
    missing = tmp_path / "none"
    assert main(shlex.split(words.format(missing, missing))) == 2
    assert capsys.readouterr().err == f"error: no run at {missing}\n"


def test_targets_that_are_no_numbers_are_refused(finished, tmp_path, capsys) -> None:
    table = tmp_path / "y.csv"
    table.write_text("price\n1\n2\n")
    assert main(["report", str(finished), "--y-test", str(table)]) == 2
    assert capsys.readouterr().err.startswith(f"error: --y-test: got {table}, which cannot be read")


def test_an_error_of_our_own_is_no_verdict(finished, monkeypatch, capsys) -> None:
    monkeypatch.setattr(bnn, "diagnose", lambda *_, **__: 1 / 0)
    assert main(["diagnose", str(finished)]) == 3
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_runs_are_compared_by_names_without_what_all_paths_begin_with(
    finished, tmp_path, monkeypatch
) -> None:
    other = shutil.copytree(finished, finished.parent / "deeper" / "run")
    seen = []
    monkeypatch.setattr(bnn, "compare", lambda runs, out: seen.extend(runs) or out)
    assert main(["compare", str(finished), str(other), "--out", "page.html"]) == 0
    assert seen == ["run", "deeper/run"]


def test_a_run_is_not_compared_with_itself(finished, tmp_path, capsys) -> None:
    out = tmp_path / "both.html"
    assert main(["compare", str(finished), str(finished), "--out", str(out)]) == 2
    assert "the same path was given twice" in capsys.readouterr().err
    assert not out.exists()
