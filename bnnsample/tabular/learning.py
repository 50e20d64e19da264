"""An encoding learned from the training rows; columns that have none are refused with advice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from bnnsample.checks import bad_input
from bnnsample.tabular.encoding import Category, Encoding, Number
from bnnsample.tabular.kinds import as_floats, as_text, check_finite, kind_of
from bnnsample.tabular.reading import drop_advice, listed

MOST_VALUES = 20
"""Different texts that a column may have: each becomes a column of its own; arbitrary."""

MOSTLY = 0.8
"""Share of numbers from which other texts in a column are probably marks of missing values."""

USED = ("number", "bool", "text")

ROW_NUMBERS = 10
"""Rows from which whole numbers that only rise are told to be like a row number."""


def learn(table: pd.DataFrame) -> Encoding:
    """The encoding of the columns of ``table``, of the rows that are fitted to.

    Columns with one value are left out. Raises ``ValueError``, naming all of them, for columns of
    dates, of text with more than ``MOST_VALUES`` different values and of other types, and where no
    column is left.
    """
    columns, left_out, refused = [], {}, {}
    for name, column in table.items():
        kind = kind_of(column)
        if kind == "bool":
            column = pd.Series(as_floats(column))
        if kind in USED and column.nunique(dropna=False) == 1:
            left_out[name] = "no value" if column.isna().all() else "one value in all rows"
        elif kind in ("number", "bool"):
            columns.append(_number(str(name), column, is_bool=kind == "bool"))
        elif kind == "text" and column.nunique() <= MOST_VALUES:
            columns.append(_category(str(name), column))
        else:
            refused[name] = _of_many(column) if kind == "text" else kind
    if refused:
        raise bad_input(
            f"{'column' if len(refused) == 1 else 'columns'} {listed(refused)}",
            got=listed(dict.fromkeys(refused.values())),
            expected=f"numbers, yes or no, or text of at most {MOST_VALUES} different values",
            probably="names, identifiers or dates, from which nothing is learned as they are: "
            f"{drop_advice(refused)}",
        )
    if not columns:
        raise bad_input(
            "table",
            got="no column to learn from",
            expected="columns beside the target with two values or more",
            probably="all of them dropped, or the wrong table",
        )
    return Encoding(tuple(columns), left_out)


def row_numbers(table: pd.DataFrame) -> Iterator[str]:
    """Columns that are like a row number: whole numbers that rise from row to row."""
    if len(table) < ROW_NUMBERS:
        return
    for name, column in table.items():
        if kind_of(column) == "number" and not column.isna().any():
            values = as_floats(column)
            if np.all(values == np.round(values)) and np.all(np.diff(values) > 0):
                yield str(name)


def _number(name: str, column: pd.Series, *, is_bool: bool) -> Number:
    values = as_floats(column)
    check_finite(column, values)
    gone = np.isnan(values)
    median = float(np.median(values[~gone]))
    filled = np.where(gone, median, values)
    one_value = filled.min() == filled.max()  # whose std is rounding, not always 0
    mean, std = (median, 1.0) if one_value else (float(filled.mean()), float(filled.std()))
    return Number(
        name=name,
        median=median,
        mean=0.0 if is_bool else mean,
        std=1.0 if is_bool else std,
        missing=int(gone.sum()),
        is_bool=is_bool,
    )


def _category(name: str, column: pd.Series) -> Category:
    text = as_text(column)
    return Category(name, tuple(sorted(set(text.dropna()))), int(text.isna().sum()))


def _of_many(column: pd.Series) -> str:
    """What is said of text with many different values."""
    text = as_text(column).dropna()
    numbers: Any = pd.to_numeric(text, errors="coerce")
    others = text[numbers.isna()]
    if 0 < len(others) <= (1 - MOSTLY) * len(text):
        marks = listed(map(repr, dict.fromkeys(others)))
        return f"numbers and texts, {marks} (where that means missing, leave the cell empty)"
    return f"text of {text.nunique()} different values"
