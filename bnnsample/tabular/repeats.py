"""Rows that repeat others: counted, kept on one side of the split, refused where all of them do."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Int

from bnnsample.checks import bad_input
from bnnsample.tabular.kinds import kind_of
from bnnsample.tabular.learning import USED


def numbered(table: pd.DataFrame) -> Int[np.ndarray, " n"]:
    """A number for each row, one for all rows that are equal in every column that is used."""
    names = [name for name, column in table.items() if kind_of(column) in USED]
    if not names:
        return np.arange(len(table))
    return table.groupby(names, dropna=False, sort=False, observed=True).ngroup().to_numpy()


def side_by_side(
    order: Int[np.ndarray, " n"], numbers: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """``order`` with the copies of a row next to its first; as it was where there are none."""
    _, first, group = np.unique(numbers[order], return_index=True, return_inverse=True)
    return order[np.argsort(first[group], kind="stable")]


def told(numbers: Int[np.ndarray, " n"]) -> list[str]:
    """What is to be said of rows that repeat others."""
    count = len(numbers) - len(np.unique(numbers))
    if not count:
        return []
    return [
        f"rows that repeat another exactly, in inputs and target: {count}, on one side of the "
        "split with it; unless they were observed by themselves, leave them out"
    ]


def check_some_single(inputs: Int[np.ndarray, " n"], numbers: Int[np.ndarray, " n"]) -> None:
    """Raise ``ValueError`` where all rows to fit to have copies and no inputs have two targets.

    The evidence of such rows is the larger the smaller the noise. ``inputs``: the numbers of rows
    without the target.
    """
    rows, counts = np.unique(numbers, return_counts=True)
    if counts.min() > 1 and len(rows) == len(np.unique(inputs)):
        raise bad_input(
            "table",
            got=f"{len(numbers)} rows to fit to, copies of {len(rows)}, none of which is single",
            expected="rows that were observed by themselves, from which noise can be learned",
            probably="a table that was joined with itself: leave the copies out, as by pandas' "
            "drop_duplicates()",
        )
