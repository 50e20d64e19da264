"""Gaussian noise, of a known or unknown size, or of one that the network predicts."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from bnnsample.checks import bad_input
from bnnsample.models.likelihoods.base import (
    AbstractLikelihood,
    check_columns,
    one_column_per_output,
)
from bnnsample.models.scales import Std, as_std, is_unknown
from bnnsample.pytrees import as_pytree


@as_pytree("noise_std")
@dataclass(frozen=True)
class Gaussian(AbstractLikelihood):
    """``y | f ~ N(f, noise_std^2)``, independent over points and outputs.

    ``noise_std`` is a standard deviation in the units of ``y``: a number, an array (o,) with one
    for each output, (n, 1) with one for each point, or (n, o); or a prior, a NumPyro distribution
    of a positive number or of (o,) of them, which makes it a sampled quantity.
    """

    noise_std: Std | Float[Array, ...]

    def __post_init__(self) -> None:
        value = as_std("Gaussian noise_std", self.noise_std, shaped=True)
        object.__setattr__(self, "noise_std", value)

    @property
    def varies_by_point(self) -> bool:
        """Whether each training point has its own noise, so that new points' is not known."""
        shape = () if is_unknown(self.noise_std) else jnp.shape(self.noise_std)
        return len(shape) == 2 and shape[0] > 1

    def distribution(self, f: Float[Array, "n o"]) -> dist.Distribution:
        return dist.Normal(f, self._std(f))

    def log_density(self, f: Float[Array, "n o"], y: Float[Array, "n o"]) -> Float[Array, ""]:
        std = self._std(f)
        log_std = (
            y.size * jnp.log(std)
            if std.ndim == 0
            else jnp.sum(jnp.broadcast_to(jnp.log(std), y.shape))
        )
        return -0.5 * jnp.sum(((y - f) / std) ** 2) - log_std - 0.5 * y.size * jnp.log(2 * jnp.pi)

    def as_targets(self, y: Float[Array, "n o"], outputs: int) -> Float[Array, "n o"]:
        one_column_per_output(y, outputs)
        unknown = is_unknown(self.noise_std)
        shape = self.noise_std.shape if unknown else jnp.shape(self.noise_std)  # pyright: ignore[reportAttributeAccessIssue]
        fits = shape in ((), (1,), (outputs,))
        if not fits and (
            unknown or shape not in {(n, o) for n in (1, len(y)) for o in (1, outputs)}
        ):
            raise bad_input(
                "Gaussian noise_std",
                got=f"shape {shape} for y of shape {y.shape}",
                expected=f"one number, ({outputs},) by output"
                + ("" if unknown else f", ({len(y)}, 1) by point")
                + ("" if unknown or outputs == 1 else f", {y.shape} by both"),
                probably="noise by point, which can be known alone, or HeteroscedasticGaussian()"
                if unknown
                else "noise by point, which is a column: noise_std[:, None]",
            )
        return y

    def _std(self, f: Float[Array, "n o"]) -> Array:
        std = jnp.asarray(self.noise_std, f.dtype)
        return std if std.ndim != 1 else std[None, :]


@as_pytree()
@dataclass(frozen=True)
class HeteroscedasticGaussian(AbstractLikelihood):
    """Gaussian noise whose size the network predicts too.

    Of 2 k outputs for k columns of targets, the first k are their means and the others the
    logarithms of their variances: ``y_j ~ N(f_j, exp(f_(k+j)))``.
    """

    def distribution(self, f: Float[Array, "n outputs"]) -> dist.Distribution:
        mean, log_variance = jnp.split(f, 2, axis=1)
        return dist.Normal(mean, jnp.exp(0.5 * log_variance))

    def as_targets(self, y: Float[Array, "n columns"], outputs: int) -> Float[Array, "n columns"]:
        if outputs % 2:
            raise bad_input(
                "Posterior network",
                got=f"{outputs} output{'s' if outputs > 1 else ''}",
                expected="two for each column of y: means, then log variances",
                probably="a readout as wide as y, which is for Gaussian()",
            )
        check_columns(
            y,
            outputs // 2,
            outputs=outputs,
            probably="a readout as wide as y; it needs two outputs for each column",
        )
        return y
