"""What ``fit``, ``predict`` and their kin refuse: in one line, and with nothing written."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bnnsample as bnn
from bnnsample.cli import main
from bnnsample.tabular.fits import fit_of, read_fit, write_fit
from bnnsample.tabular.problem import Problem, pose
from bnnsample.tabular.reading import digest
from tests.conftest import X64

pytestmark = pytest.mark.skipif(not X64, reason="the command line computes in float64")


@pytest.mark.slow
def test_a_fit_that_began_meanwhile_is_not_mixed_with_another(
    numbers, tmp_path, monkeypatch, capsys
):
    words = [*numbers.words[:-1], str(tmp_path / "fit")]
    fitted = Problem.posterior

    def overtaken(problem: Problem) -> bnn.Posterior:
        shutil.copytree(numbers.folder, tmp_path / "fit")
        return fitted(problem)

    monkeypatch.setattr(Problem, "posterior", overtaken)
    assert main([*words, "--seed", "1", "--test", "0.3"]) == 2
    assert "a fit with test 0.2; seed 0; expected test 0.3; seed 1" in capsys.readouterr().err
    assert read_fit(tmp_path / "fit") == read_fit(numbers.folder)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fit none.csv --target y --out new", "No such file"),
        ("fit . --target y --out new", "directory"),
        ("fit table.csv --target progress --out new", "'progression' was meant"),
        ("fit table.csv --target region --out new", "add --classes"),
        ("fit table.csv --target progression --drop bpm --out new", "--drop: got 'bpm'"),
        ("fit table.csv --target progression --width 0 --out new", "width: got 0"),
        ("fit table.csv --target progression --draws 0 --out new", "draws: got 0"),
        ("fit table.csv --target progression --test 2 --out new", "test: got 2.0"),
        ("fit table.csv --target progression --activation rleu --out new", "rleu"),
        ("fit table.csv --target progression --out notes", "holds something else"),
        ("fit table.csv --target progression --out table.csv", "table.csv is a file"),
        ("fit table.csv --target progression --out fit", "width 7; "),
        ("fit semicolons.csv --target a --out new", "semicolons"),
        ("fit dates.csv --target a --out new", "--drop when"),
        ("predict none table.csv --out p.csv", "no fit in none"),
        ("predict fit semicolons.csv --out p.csv", "semicolons"),
        ("predict fit dates.csv --out p.csv", "got no column age, sex"),
        ("predict fit table.csv --out table.csv", "the table itself"),
        ("predict stopped table.csv --out p.csv", "the same `bnnsample fit` command goes on"),
        ("diagnose stopped", "the same `bnnsample fit` command goes on"),
        ("predict fit table.csv --out .", "--out: got ., a folder"),
        ("predict fit table.csv --out notes", "--out: got notes, a folder"),
        ("predict fit table.csv --out table.csv/p.csv", "table.csv is a file"),
        ("predict mixed table.csv --out p.csv", "got table.json of one fit and run of another"),
        ("diagnose mixed", "got table.json of one fit and run of another"),
        ("resume mixed", "got table.json of one fit and run of another"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(words, told, numbers, copy, monkeypatch, capsys):
    folder = copy.parent
    monkeypatch.chdir(folder)
    shutil.copy(numbers.data, folder)
    (folder / "semicolons.csv").write_text("a;b\n1;2\n")
    days = pd.date_range("2020-01-01", periods=30).astype(str)
    pd.DataFrame({"a": range(30), "when": days}).to_csv(folder / "dates.csv", index=False)
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")
    (folder / "stopped").mkdir()
    shutil.copy(copy / "table.json", folder / "stopped")
    shutil.copytree(copy, folder / "mixed")
    posed = pose(numbers.table, dataclasses.replace(read_fit(copy).settings, seed=1))
    write_fit(folder / "mixed", fit_of(posed, digest(numbers.data)))
    before = sorted(map(str, folder.rglob("*")))
    assert main(shlex.split(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert told in error
    assert sorted(map(str, folder.rglob("*"))) == before


def test_an_unreadable_file_is_one_line(numbers, tmp_path, monkeypatch, capsys):
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "table.csv")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert main([*numbers.words[:-1], str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err == "error: [Errno 13] Permission denied: 'table.csv'\n"
