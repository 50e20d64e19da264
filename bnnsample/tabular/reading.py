"""Tables from files; what has no clear heading, separator or encoding is refused in a line."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import shlex
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bnnsample.checks import BadInput, bad_input

PARQUET = (".parquet", ".pq")

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""What a table that seems to have one column is probably separated by."""

MOST_NAMED = 12
"""Columns or values that a line names."""


def read_table(path: Path, *, text: Collection[str] = ()) -> pd.DataFrame:
    """The rows of a CSV file (commas, UTF-8, names in the first line), or of a Parquet file.

    Cells that are empty, or are one of pandas' marks for it such as NA, are missing. Columns of a
    CSV file named in ``text`` are read as they are written. Raises ``ValueError`` naming what is
    wrong, ``OSError`` for a file that cannot be opened.
    """
    try:
        table = _parquet(path) if is_parquet(path) else _csv(path, text)
    except BadInput:
        raise
    except UnicodeDecodeError as error:
        raise _unreadable(
            path, "bytes that are not UTF-8", "another encoding, or another kind of file"
        ) from error
    except (ValueError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise _unreadable(
            path, reason, "a truncated copy, cells with commas but no quotes, or another file"
        ) from error
    if table.empty:
        raise _unreadable(path, "no rows", "an empty or truncated file")
    return table


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its name."""
    return path.suffix.lower() in PARQUET


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, by which a fit knows its data again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def column_of(table: pd.DataFrame, name: str, *, asked_by: str) -> pd.Series:
    """A column by its name; raises ``ValueError`` with the nearest names where there is none."""
    if name not in table:
        raise bad_input(
            asked_by,
            got=repr(name),
            expected=f"a column of the table: {listed(table.columns)}",
            probably=nearest(name, table.columns, otherwise="a column of another table"),
        )
    found: Any = table[name]  # no frame, as no two columns have one name
    return found


def nearest(name: str, known: Iterable[Any], *, otherwise: str) -> str:
    """What was probably meant by a name that is not known."""
    close = difflib.get_close_matches(name, [*map(str, known)])
    return f"{' or '.join(map(repr, close))} was meant" if close else otherwise


def listed(names: Iterable[Any]) -> str:
    """Names in a line, the first of many."""
    told = [*map(str, names)]
    more = f" and {len(told) - MOST_NAMED} more" if len(told) > MOST_NAMED else ""
    return ", ".join(told[:MOST_NAMED]) + more


def drop_advice(names: Iterable[Any]) -> str:
    """The option that leaves columns out."""
    return f"--drop {shlex.join(map(str, names))}"


def _csv(path: Path, text: Collection[str]) -> pd.DataFrame:
    same: dict[str, Any] = {"skipinitialspace": True, "encoding": "utf-8-sig"}
    first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, **same)
    names = [str(name).strip() for name in first.iloc[0]]
    _check_names(path, names)
    with warnings.catch_warnings():
        # rows with more cells than there are names
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            path, header=0, names=names, index_col=False, low_memory=False,
            dtype={name: str for name in text if name in names}, **same,
        )  # fmt: skip


def check_pyarrow(path: Path) -> None:
    """Raise ``ValueError`` for a Parquet file where nothing is installed that knows the format."""
    if is_parquet(path) and importlib.util.find_spec("pyarrow") is None:
        raise bad_input(
            str(path),
            got="Parquet, and no pyarrow",
            expected="pyarrow, which reads and writes it, or a .csv file",
            probably="pip install 'bnnsample[parquet]' was left out",
        )


def _parquet(path: Path) -> pd.DataFrame:
    check_pyarrow(path)
    table = pd.read_parquet(path, engine="pyarrow")
    table = table.reset_index(drop=table.index.names == [None])
    table.columns = [str(name).strip() for name in table.columns]
    _check_names(path, list(table.columns))
    return table


def _check_names(path: Path, names: list[str]) -> None:
    if len(names) == 1:
        for mark, meant in SEPARATORS.items():
            if mark in names[0]:
                raise _unreadable(path, f"one column, named {names[0]!r}", f"{meant} between cells")
    if "" in names:
        place = names.index("") + 1
        raise _unreadable(
            path, f"no name for column {place} of {len(names)}",
            "row numbers that were written along, as by pandas' to_csv without index=False"
            if place == 1 else "a comma too many in the first line",
        )  # fmt: skip
    if twice := sorted({name for name in names if names.count(name) > 1}):
        probably = "two tables that were joined"
        if all(map(_is_number, names)):
            probably = "a table without names in its first line"
        raise _unreadable(path, f"several columns named {listed(twice)}", probably)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _unreadable(path: Path, got: str, probably: str) -> BadInput:
    return bad_input(
        str(path),
        got=got,
        expected="a CSV file (commas, UTF-8, the columns' names in the first line) or a Parquet "
        "file",
        probably=probably,
    )
