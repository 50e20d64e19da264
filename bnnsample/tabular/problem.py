"""A table and what is asked of it become inputs, targets and a posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from bnnsample.checks import bad_input, check_count
from bnnsample.models.posterior import Posterior
from bnnsample.tabular import repeats
from bnnsample.tabular.encoding import Encoding
from bnnsample.tabular.learning import learn, row_numbers
from bnnsample.tabular.reading import column_of, drop_advice, listed, told_of_marks
from bnnsample.tabular.scales import at_fitted_scales, judged_rows, network_with_priors
from bnnsample.tabular.targets import NumberTarget, Target, target_of, told

FEWEST_ROWS = 2


@dataclass(frozen=True)
class Settings:
    """What is asked of a table; ``test`` is the share of the rows that are held out.

    Raises ``ValueError`` for what cannot be run.
    """

    target: str
    classes: bool = False
    drop: tuple[str, ...] = ()
    test: float = 0.1
    depth: int = 1
    width: int = 100
    activation: str = "gelu"
    chains: int = 4
    warmup: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("depth", "width", "chains", "warmup"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, minimum=0)
        if not 0 <= self.test < 1:
            raise bad_input(
                "test",
                got=repr(self.test),
                expected="the share of the rows to hold out, from 0 to below 1",
                probably="a number of rows",
            )


@dataclass(frozen=True, eq=False)
class Problem:
    """Encoded rows: those fitted to, and those that are predicted while sampling.

    ``held_out`` are the targets of the latter as they came, none where no row is held out;
    ``sentences`` say what was done with the table.
    """

    settings: Settings
    encoding: Encoding
    target: Target
    x: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, "n 1"]
    x_test: Float[np.ndarray, "m d"]
    held_out: pd.Series
    sentences: tuple[str, ...]

    def posterior(self) -> Posterior:
        """What is sampled: the network's scales are fitted, noise is unknown."""
        chosen = self.settings
        network = network_with_priors(
            chosen.depth, chosen.width, self.target.outputs, chosen.activation
        )
        likelihood = self.target.likelihood
        network, _ = at_fitted_scales(network, self.x, self.y, likelihood, chosen.seed)
        return Posterior(network, self.x, self.y, likelihood)


def pose(table: pd.DataFrame, settings: Settings) -> Problem:
    """What ``settings`` ask of ``table``.

    Raises ``ValueError`` for columns that are not there or cannot be learned from.
    """
    rows, left_out = _with_target(table, settings)
    inputs = inputs_of(rows, (settings.target, *settings.drop))
    column: Any = rows[settings.target]
    numbers = repeats.numbered(pd.concat([inputs, column], axis=1))
    train, test = _split(numbers, settings)
    target = target_of(column, train, classes=settings.classes)
    if isinstance(target, NumberTarget):
        repeats.check_some_single(repeats.numbered(inputs)[train], numbers[train])
    encoding = learn(inputs.iloc[train])
    x = encoding.encoded(inputs.iloc[train])
    sentences = [target.sentence(), *told(column, target), *encoding.sentences()]
    sentences += told_of_marks(table, [settings.target, *inputs])
    sentences += repeats.told(numbers)
    if left_out:
        sentences.append(f"rows without {settings.target}, left out: {left_out}")
    if settings.drop:
        sentences.append(f"left out by --drop: {listed(settings.drop)}")
    sentences += row_number_advice(inputs)
    counted = f"{len(train)} rows to fit to, {x.shape[1]} inputs to the network"
    if len(test):
        sentences += [f"held out: {one}" for one in encoding.told(inputs.iloc[test])]
        counted += f"; {len(test)} rows held out, drawn at random"
    return Problem(
        settings=settings,
        encoding=encoding,
        target=target,
        x=x,
        y=target.encoded(column.iloc[train]),
        x_test=encoding.encoded(inputs.iloc[test]) if len(test) else judged_rows(x),
        held_out=column.iloc[test],
        sentences=(*sentences, counted),
    )


def inputs_of(table: pd.DataFrame, without: tuple[str, ...]) -> pd.DataFrame:
    """The columns of ``table`` but some, each of which must be there."""
    for name in without:
        column_of(table, name, asked_by="--drop")
    return table.drop(columns=[*without])


def row_number_advice(inputs: pd.DataFrame) -> list[str]:
    """What is to be said of columns that are like a row number."""
    return [
        f"{name} only rises, as a row number does: if it is one, {drop_advice([name])}"
        for name in row_numbers(inputs)
    ]


def _with_target(table: pd.DataFrame, settings: Settings) -> tuple[pd.DataFrame, int]:
    """The rows that have a target, and how many have none."""
    missing = column_of(table, settings.target, asked_by="--target").isna()
    rows = table.loc[~missing]
    if len(rows) < FEWEST_ROWS:
        raise bad_input(
            f"target {settings.target}",
            got=f"{len(rows)} rows with a value",
            expected=f"{FEWEST_ROWS} or more",
            probably="a table to predict, whose targets are not known, or the wrong column",
        )
    return rows, int(missing.sum())


def _split(
    numbers: Int[np.ndarray, " n"], settings: Settings
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " m"]]:
    """Training rows and those held out, each in the order of the table.

    Rows of one number are on one side.
    """
    rows = len(numbers)
    drawn = np.random.default_rng(settings.seed).permutation(rows)
    order = repeats.side_by_side(drawn, numbers)
    count = max(1, round(settings.test * rows)) if settings.test else 0
    while 0 < count < rows and numbers[order[count]] == numbers[order[count - 1]]:
        count += 1
    if rows - count < FEWEST_ROWS:
        raise bad_input(
            "test",
            got=f"{settings.test:g}, {count} of {rows} rows",
            expected=f"a share that leaves {FEWEST_ROWS} rows to fit to",
            probably="a small table: --test 0 holds none out",
        )
    return np.sort(order[count:]), np.sort(order[:count])
