"""A fit that commands are tried on."""

from __future__ import annotations

import contextlib
import io
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from bnnsample.cli import main
from tests.tabular.tables import diabetes

TINY = shlex.split("--width 7 --chains 2 --warmup 10 --draws 60 --test 0.2")


class Made(NamedTuple):
    """A fit that a command made, of ``table`` in the file ``data``."""

    table: pd.DataFrame
    data: Path
    folder: Path
    words: list[str]
    status: int
    out: str


def made(folder: Path, table: pd.DataFrame, *words: str) -> Made:
    data, out = folder / "table.csv", folder / "fit"
    table.to_csv(data, index=False)
    command = ["fit", str(data), *words, *TINY, "--out", str(out)]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = main(command)
    return Made(table, data, out, command, status, printed.getvalue())


@pytest.fixture(scope="session")
def numbers(tmp_path_factory) -> Made:
    return made(tmp_path_factory.mktemp("numbers"), diabetes(60), "--target", "progression")


@pytest.fixture
def copy(numbers, tmp_path) -> Path:
    return shutil.copytree(numbers.folder, tmp_path / "fit")
