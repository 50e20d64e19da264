"""What a likelihood is, and what its targets must be."""

from __future__ import annotations

from abc import ABC, abstractmethod

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input
from bnnsample.models.scales import promoting_as_numpyro


class AbstractLikelihood(ABC):
    """The law of the targets ``y`` given the network's outputs ``f`` (n, o).

    A new one is a pytree whose leaves are its scales, with the two methods here and a line in the
    test zoo. Points are independent given ``f``.
    """

    @property
    def varies_by_point(self) -> bool:
        """Whether it is known at the training points alone, so that no targets can be drawn."""
        return False

    @abstractmethod
    def distribution(self, f: Float[Array, "n o"]) -> dist.Distribution:
        """NumPyro's distribution of ``y`` (n, columns)."""

    @abstractmethod
    def as_targets(self, y: Float[Array, "n columns"], outputs: int) -> Array:
        """``y`` in the type of its distribution; raises ``ValueError`` for what it cannot be."""

    def log_density(self, f: Float[Array, "n o"], y: Array) -> Float[Array, ""]:
        """Normalised log density of all of ``y``."""
        with promoting_as_numpyro():
            return jnp.sum(self.distribution(f).log_prob(y))

    def point_log_densities(self, f: Float[Array, "n o"], y: Array) -> Float[Array, " n"]:
        """Normalised log density of each point's targets, summed over their columns."""
        with promoting_as_numpyro():
            return jnp.sum(self.distribution(f).log_prob(y), axis=1)

    def draw(self, key: Key[Array, ""], f: Float[Array, "n o"]) -> Array:
        """Targets (n, columns) drawn given the outputs at their points."""
        with promoting_as_numpyro():
            return jnp.asarray(self.distribution(f).sample(key))


def check_columns(y: Array, columns: int, *, outputs: int, probably: str) -> None:
    """Raise unless ``y`` has as many ``columns`` as a network with these ``outputs`` asks for."""
    if y.ndim != 2 or y.shape[1] != columns:
        shape = f"(n, {columns})" if columns > 1 else "(n,) or (n, 1)"
        raise bad_input(
            "y",
            got=f"shape {y.shape}",
            expected=f"{shape}, as the network has {outputs} outputs",
            probably=probably,
        )


def one_column_per_output(y: Array, outputs: int) -> None:
    """Raise unless ``y`` has a column for each output."""
    check_columns(
        y,
        outputs,
        outputs=outputs,
        probably="class labels, to be one-hot encoded or given to Categorical(), or a readout of "
        "another width",
    )


def whole_numbers(y: Array, low: int, high: int | None, *, expected: str, probably: str) -> Array:
    """``y`` as integers from ``low`` to ``high``; raises ``ValueError`` where it has others.

    And where its floating type, through which all data pass, leaves out whole numbers.
    """
    if isinstance(y, Tracer):
        return y.astype(int)
    values = np.asarray(y)
    wrong = (values != np.round(values)) | (values < low)
    if high is not None:
        wrong |= values > high
    _check_none(wrong, values, expected, probably)
    below = 2 ** (np.finfo(np.result_type(values, np.float16)).nmant + 1)
    _check_none(
        values >= below,
        values,
        expected=f"whole numbers below {below}, from where on {values.dtype} leaves some out",
        probably="counts of another unit, or float32 where jax_enable_x64 would give float64",
    )
    return jnp.asarray(values.astype(int))


def _check_none(wrong: np.ndarray, values: np.ndarray, expected: str, probably: str) -> None:
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise bad_input(
            "y",
            got=f"{values[index]:g} at index {index}",
            expected=expected,
            probably=probably,
        )
