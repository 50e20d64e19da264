"""How columns become numbers: learned from the training rows, told in words, kept as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from bnnsample.checks import bad_input
from bnnsample.tabular.kinds import as_floats, as_text, check_finite, kind_of
from bnnsample.tabular.reading import listed

MISSING = "missing"


@dataclass(frozen=True)
class Number:
    """A column of numbers, or of yes and no as 1 and 0.

    Missing values become ``median``; where training rows had any, their number is ``missing`` and a
    second column is 1 where they were; words beside yes and no are such. Then ``mean`` is taken off
    and ``std`` divided by, which are 0 and 1 of yes and no.
    """

    name: str
    median: float
    mean: float
    std: float
    missing: int
    is_bool: bool

    @property
    def features(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} {MISSING}") if self.missing else (self.name,)

    def encoded(self, column: pd.Series) -> Float[np.ndarray, "n features"]:
        values = self._values(column)
        gone = np.isnan(values)
        scaled = (np.where(gone, self.median, values) - self.mean) / self.std
        return np.column_stack([scaled, gone] if self.missing else [scaled]).astype(np.float64)

    def told(self, column: pd.Series) -> Iterator[str]:
        """What was done with values that are not as they should be."""
        if count := int(np.isnan(self._values(column)).sum()):
            what = "missing or unknown" if self.is_bool else "missing"
            marked = ", and marked" if self.missing else ""
            yield (
                f"{self.name}: {count} {what} {'value' if count == 1 else 'values'}, filled with "
                f"the median {self.median:g}{marked}"
            )

    def _values(self, column: pd.Series) -> Float[np.ndarray, " n"]:
        known = ("number", "bool", "text") if self.is_bool else ("number", "bool")
        if (kind := kind_of(column)) not in known:
            raise bad_input(
                f"column {self.name}",
                got=kind,
                expected="numbers, as in the rows that were fitted to",
                probably="another column, or text in place of missing values",
            )
        values = as_floats(column)
        check_finite(column, values)
        return values


@dataclass(frozen=True)
class Category:
    """A column of few different texts: one column of 0 and 1 for each of ``values``.

    Where training rows had ``missing`` ones, their number, they are a value of their own, the last.
    A value that is not known is 0 in all columns.
    """

    name: str
    values: tuple[str, ...]
    missing: int

    @property
    def features(self) -> tuple[str, ...]:
        values = (*self.values, MISSING) if self.missing else self.values
        return tuple(f"{self.name} = {value}" for value in values)

    def __str__(self) -> str:
        missing = f"; {self.missing} missing, a value of its own" if self.missing else ""
        return f"{self.name} ({listed(self.values)}{missing})"

    def encoded(self, column: pd.Series) -> Float[np.ndarray, "n features"]:
        text = as_text(column)
        found = np.column_stack([text == value for value in self.values])
        if self.missing:
            found = np.column_stack([found, text.isna()])
        return found.astype(np.float64)

    def told(self, column: pd.Series) -> Iterator[str]:
        """What was done with values that are not known."""
        text = as_text(column)
        gone = text.isna()
        new = text[~gone & ~text.isin(self.values)]
        if len(new):
            yield (
                f"{self.name}: {len(new)} {'value' if len(new) == 1 else 'values'} that the "
                f"training rows have not ({listed(sorted(set(new)))}), 0 in all columns of it"
            )
        if gone.any() and not self.missing:
            yield f"{self.name}: {gone.sum()} missing, 0 in all columns of it"


KINDS: dict[str, type[Number] | type[Category]] = {"number": Number, "category": Category}


@dataclass(frozen=True)
class Encoding:
    """What becomes of each column of a table; ``left_out`` has the reason by column."""

    columns: tuple[Number | Category, ...]
    left_out: Mapping[str, str]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns of the matrix."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns to be read as they are written."""
        return tuple(column.name for column in self.columns if isinstance(column, Category))

    def encoded(self, table: pd.DataFrame) -> Float[np.ndarray, "n features"]:
        """The rows of ``table`` as numbers, whatever the order of its columns.

        Raises ``ValueError`` where columns are wanting, or are of another kind.
        """
        wanting = [column.name for column in self.columns if column.name not in table]
        if wanting:
            raise bad_input(
                "table",
                got=f"no column {listed(wanting)}",
                expected=f"the columns that were fitted to: {listed(c.name for c in self.columns)}",
                probably="another table, or columns that were renamed",
            )
        return np.column_stack([own.encoded(given) for own, given in self._pairs(table)])

    def told(self, table: pd.DataFrame) -> list[str]:
        """What was done with missing and unknown values of ``table``, a sentence each."""
        return [line for own, given in self._pairs(table) for line in own.told(given)]

    def _pairs(self, table: pd.DataFrame) -> Iterator[tuple[Number | Category, Any]]:
        return ((own, table[own.name]) for own in self.columns)

    def sentences(self) -> list[str]:
        """What becomes of the columns, in words."""
        numbers = [own for own in self.columns if isinstance(own, Number)]
        found = [
            _named("numbers, standardised", [own.name for own in numbers if not own.is_bool]),
            _named("yes or no, as 1 and 0", [own.name for own in numbers if own.is_bool]),
            *(
                f"missing values of {own.name}: {own.missing}, filled with the median "
                f"{own.median:g} and marked in a column of their own"
                for own in numbers
                if own.missing
            ),
            _named(
                "text, a column of 0 and 1 for each value",
                [str(own) for own in self.columns if isinstance(own, Category)],
            ),
            _named("left out", [f"{name} ({why})" for name, why in self.left_out.items()]),
        ]
        return [sentence for sentence in found if sentence]

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        kinds = {kind: name for name, kind in KINDS.items()}
        columns = [{"kind": kinds[type(own)]} | asdict(own) for own in self.columns]
        return {"columns": columns, "left_out": dict(self.left_out)}

    @staticmethod
    def of_dict(stored: Mapping[str, Any]) -> Encoding:
        """What ``as_dict`` was made of."""
        columns = []
        for own in stored["columns"]:
            settings: Any = {n: v for n, v in own.items() if n not in ("kind", "values")}
            if own["kind"] == "category":
                settings["values"] = tuple(own["values"])
            columns.append(KINDS[own["kind"]](**settings))
        return Encoding(tuple(columns), dict(stored["left_out"]))


def _named(what: str, names: list[str]) -> str:
    return f"{what}: {listed(names)}" if names else ""
