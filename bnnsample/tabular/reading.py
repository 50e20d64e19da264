"""Tables from files; what has no clear heading, separator or encoding is refused in a line."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bnnsample.checks import bad_input
from bnnsample.tabular.comma_separated import names_and_rows, unreadable
from bnnsample.tabular.kinds import is_truth

PARQUET = (".parquet", ".pq")

MARKS = frozenset(
    {"na", "n/a", "nan", "-nan", "null", "none", "<na>", "#n/a", "#na", "#n/a n/a"}
    | {"1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
)
"""What stands for a missing number, in any case: what pandas takes for it."""

TAKEN = "taken for missing"
"""The attribute of a table with the marks of each column that are not empty cells."""

MOST_NAMED = 12
"""Columns or values that a line names."""


def read_table(path: Path, *, text: Collection[str] = ()) -> pd.DataFrame:
    """The rows of a CSV file (commas, UTF-8, names in the first line), or of a Parquet file.

    Cells that are empty are missing; among numbers, and among yes and no, ``MARKS`` are too, of
    which ``told_of_marks`` speaks. Columns of a CSV file named in ``text`` are text whatever is in
    them. Blanks around a text are no part of it. Raises ``ValueError`` naming what is wrong,
    ``OSError`` for a file that cannot be opened.
    """
    table = _parquet(path) if is_parquet(path) else _csv(path, text)
    if table.empty:
        raise unreadable(path, "no rows", "an empty or truncated file")
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


def told_of_marks(table: pd.DataFrame, names: Iterable[Any]) -> list[str]:
    """What ``read_table`` took for missing in these columns though cells were not empty."""
    taken = table.attrs.get(TAKEN, {})
    return [f"{name}: {taken[name]}, taken for missing" for name in names if name in taken]


def _csv(path: Path, text: Collection[str]) -> pd.DataFrame:
    names, rows = names_and_rows(path)
    _check_names(path, names)
    cells = pd.DataFrame(rows, columns=pd.Index(names), dtype="str")
    columns, taken = {}, {}
    for name in names:
        own = columns[name] = _stripped(cells[name])
        marked = own.str.lower().isin(MARKS)
        others = own[~marked].dropna().astype(object)
        as_numbers: Any = pd.to_numeric(others, errors="coerce")
        is_number = bool(as_numbers.notna().all())
        if name in text or not (is_number or is_truth(others)):
            continue
        if marked.any():
            taken[name] = f"{listed(own[marked].unique())} in {marked.sum()} of {len(own)} rows"
        own = own.mask(marked)
        columns[name] = pd.to_numeric(own.astype(object)) if is_number else own
    table = pd.DataFrame(columns)
    table.attrs[TAKEN] = taken
    return table


def _stripped(text: Any) -> pd.Series:
    """Text without blanks around it, missing where nothing is left."""
    text = text.str.strip()
    return text.mask(text == "")


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
    try:
        table = pd.read_parquet(path, engine="pyarrow")
    except ValueError as error:  # pyarrow's own are such
        reason = " ".join(str(error).split())
        raise unreadable(
            path, f"no Parquet ({reason})", "a truncated copy or another file"
        ) from error
    table = table.reset_index(drop=table.index.names == [None])
    table.columns = [str(name).strip() for name in table.columns]
    _check_names(path, list(table.columns))
    for name in table:
        if pd.api.types.is_string_dtype(table[name].dropna()):
            table[name] = _stripped(table[name])
    return table


def _check_names(path: Path, names: list[str]) -> None:
    if "" in names:
        place = names.index("") + 1
        raise unreadable(
            path, f"no name for column {place} of {len(names)}",
            "row numbers that were written along, as by pandas' to_csv without index=False"
            if place == 1 else "a comma too many in the first line",
        )  # fmt: skip
    if twice := sorted({name for name in names if names.count(name) > 1}):
        probably = "two tables that were joined"
        if all(map(_is_number, names)):
            probably = "a table without names in its first line"
        raise unreadable(path, f"several columns named {listed(twice)}", probably)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
