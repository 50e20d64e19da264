"""Classes and counts: logits, or logarithms of rates, from the network's outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, Key

from bnnsample.checks import bad_input
from bnnsample.models.likelihoods.base import (
    AbstractLikelihood,
    check_columns,
    one_column_per_output,
    whole_numbers,
)
from bnnsample.models.scales import Std, as_std
from bnnsample.pytrees import as_pytree


@as_pytree()
@dataclass(frozen=True)
class Bernoulli(AbstractLikelihood):
    """Labels 0 or 1, one for each output, which is their logit: ``log p(1) / p(0)``."""

    def distribution(self, f: Float[Array, "n o"]) -> dist.Distribution:
        return dist.BernoulliLogits(f)

    def log_density(self, f: Float[Array, "n o"], y: Int[Array, "n o"]) -> Float[Array, ""]:
        return jnp.sum(y.astype(f.dtype) * f - jax.nn.softplus(f))

    def as_targets(self, y: Float[Array, "n o"], outputs: int) -> Int[Array, "n o"]:
        one_column_per_output(y, outputs)
        return whole_numbers(
            y, 0, 1, expected="labels 0 and 1", probably="labels -1 and 1, or more than two classes"
        )


@as_pytree()
@dataclass(frozen=True)
class Categorical(AbstractLikelihood):
    """One label in 0 .. C - 1 for each point, whose C logits are the network's outputs."""

    def distribution(self, f: Float[Array, "n classes"]) -> dist.Distribution:
        return dist.CategoricalLogits(f[:, None, :])

    def log_density(self, f: Float[Array, "n classes"], y: Int[Array, "n 1"]) -> Float[Array, ""]:
        return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(f, axis=1), y, axis=1))

    def as_targets(self, y: Float[Array, "n 1"], outputs: int) -> Int[Array, "n 1"]:
        if outputs == 1:
            raise bad_input(
                "Posterior network",
                got="1 output",
                expected="a logit for each of two classes or more",
                probably="Bernoulli() was meant, of one logit and labels 0 and 1",
            )
        check_columns(
            y,
            1,
            outputs=outputs,
            probably="one-hot targets; labels are y.argmax(axis=1)",
        )
        return whole_numbers(
            y,
            0,
            outputs - 1,
            expected=f"labels 0 to {outputs - 1}, as the network has {outputs} outputs",
            probably="labels that start at 1, or a readout of another width",
        )


@as_pytree()
@dataclass(frozen=True)
class Poisson(AbstractLikelihood):
    """Counts, one for each output, which is the logarithm of their rate.

    Drawn counts end at the largest integer.
    """

    def distribution(self, f: Float[Array, "n o"]) -> dist.Distribution:
        return dist.Poisson(jnp.exp(f))

    def draw(self, key: Key[Array, ""], f: Float[Array, "n o"]) -> Int[Array, "n o"]:
        return super().draw(key, _countable(f))

    def as_targets(self, y: Float[Array, "n o"], outputs: int) -> Int[Array, "n o"]:
        one_column_per_output(y, outputs)
        return _counts(y)


@as_pytree("concentration")
@dataclass(frozen=True)
class NegativeBinomial(AbstractLikelihood):
    """Overdispersed counts with mean ``exp(f)`` and variance ``mean + mean^2 / concentration``.

    One for each output. ``concentration`` may be a prior: a NumPyro distribution. Drawn counts end
    at the largest integer.
    """

    concentration: Std

    def __post_init__(self) -> None:
        value = as_std("NegativeBinomial concentration", self.concentration)
        object.__setattr__(self, "concentration", value)

    def distribution(self, f: Float[Array, "n o"]) -> dist.Distribution:
        return dist.NegativeBinomial2(jnp.exp(f), self.concentration)

    def draw(self, key: Key[Array, ""], f: Float[Array, "n o"]) -> Int[Array, "n o"]:
        return super().draw(key, _countable(f))

    def as_targets(self, y: Float[Array, "n o"], outputs: int) -> Int[Array, "n o"]:
        one_column_per_output(y, outputs)
        return _counts(y)


def _countable(f: Float[Array, "n o"]) -> Float[Array, "n o"]:
    """Logarithms of rates, at most that of the largest integer: of larger ones JAX draws 0 too."""
    return jnp.minimum(f, math.log(jnp.iinfo(jnp.result_type(int)).max))


def _counts(y: Float[Array, "n o"]) -> Int[Array, "n o"]:
    return whole_numbers(
        y,
        0,
        None,
        expected="counts: whole numbers from 0 on",
        probably="rates, logarithms of counts, or standardised targets",
    )
