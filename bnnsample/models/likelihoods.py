"""Likelihoods of the targets given the network's outputs."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.checks import check_scale
from bnnsample.pytrees import as_pytree


@as_pytree("noise_std")
@dataclass(frozen=True)
class Gaussian:
    """``y | f ~ N(f, noise_std^2)``, independent over points and outputs, with known noise.

    ``noise_std`` is a standard deviation in the units of ``y``.
    """

    noise_std: float | Array

    def __post_init__(self) -> None:
        check_scale("Gaussian noise_std", self.noise_std)
        if isinstance(self.noise_std, numbers.Real):
            # a NumPy scalar would drag float32 data to float64
            object.__setattr__(self, "noise_std", float(self.noise_std))

    def log_density(self, f: Float[Array, "n o"], y: Float[Array, "n o"]) -> Float[Array, ""]:
        """Normalised log density of all of ``y``, summed over points and outputs."""
        scaled = jnp.sum(((y - f) / self.noise_std) ** 2)
        return -0.5 * scaled - y.size * (jnp.log(self.noise_std) + 0.5 * jnp.log(2 * jnp.pi))
