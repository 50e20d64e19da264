"""What a column is: numbers, yes and no, text, or something that no number stands for."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
from jaxtyping import Float

from bnnsample.checks import bad_input

TRUTH = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
"""Words that are numbers, in any case."""


def kind_of(column: pd.Series) -> str:
    """``"number"``, ``"bool"``, ``"text"``, or else the name of a type.

    Text of nothing but yes and no, or true and false, is ``"bool"``.
    """
    kind = _type_of(column)
    return "bool" if kind == "text" and is_truth(column) else kind


def is_truth(text: pd.Series) -> bool:
    """Whether all words are yes or no, or all are true or false; False where there is none."""
    words = {word.lower() for word in as_text(text).dropna().unique()}
    return bool(words) and (words <= {"yes", "no"} or words <= {"true", "false"})


def _type_of(column: pd.Series) -> str:
    kind = column.dtype
    if pd.api.types.is_object_dtype(kind):
        return _of_objects(column.dropna())
    if isinstance(kind, pd.CategoricalDtype):
        return "text"
    if pd.api.types.is_complex_dtype(kind):
        return "complex numbers"
    if pd.api.types.is_bool_dtype(kind):
        return "bool"
    if pd.api.types.is_numeric_dtype(kind):
        return "number"
    if pd.api.types.is_string_dtype(kind):
        return "text"
    return "dates" if pd.api.types.is_datetime64_any_dtype(kind) else f"type {kind}"


def _of_objects(values: pd.Series) -> str:
    types = {type(value) for value in values}
    if types and types <= {bool, np.bool_}:
        return "bool"
    if types == {str}:
        return "text"
    # whole numbers of more than 64 bits, and decimal ones of Parquet
    if types and types <= {int, float, Decimal}:
        return "number"
    return f"type {' or '.join(sorted(kind.__name__ for kind in types)) or 'object'}"


def as_floats(column: pd.Series) -> Float[np.ndarray, " n"]:
    """Numbers or truth values, NaN where they are missing, and for other words than of truth."""
    if _type_of(column) == "text":
        truth = as_text(column).map(lambda word: TRUTH.get(word.lower()), na_action="ignore")
        return truth.to_numpy(np.float64)
    return column.astype(object).where(column.notna(), np.nan).to_numpy(np.float64)


def as_text(column: pd.Series) -> pd.Series:
    """Values as they are written; whole numbers without a point, missing ones stay missing.

    Each by itself, so that a part of a column has the texts that the whole has.
    """
    return column.astype(object).map(_written, na_action="ignore")


def _written(value: object) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return f"{float(value) + 0.0:.0f}"  # -0.0 as 0
    return str(value)


def check_finite(column: pd.Series, values: Float[np.ndarray, " n"]) -> None:
    """Raise ``ValueError`` for infinite values, and for those too large to be squared.

    ``values`` are those of ``column``, whose index has the numbers of the table's rows, from 0.
    """
    with np.errstate(over="ignore"):
        bad = np.isinf(values) | np.isinf(values**2 * len(values))
    if bad.any():
        raise bad_input(
            f"column {column.name}",
            got=f"{values[bad][0]} in row {column.index[bad][0] + 1}",
            expected="finite numbers, or empty cells where they are missing",
            probably="a division by zero, or a number that stands for a missing one",
        )
