"""Training an infinitely wide network by gradient descent, in closed form at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from bnnsample.checks import bad_input
from bnnsample.limits.kernels import nngp, nngp_and_ntk
from bnnsample.models.network import Network
from bnnsample.models.posterior import as_test_inputs, as_training_data
from bnnsample.numerics import eigh
from bnnsample.pytrees import as_pytree


@as_pytree("network", "x", "eigenvalues", "eigenvectors", "targets", "initial")
@dataclass(frozen=True, eq=False)
class GradientFlow:
    """An ensemble of infinitely wide networks being trained, from ``gradient_flow``.

    ``eigenvalues`` (n,), ascending, and ``eigenvectors`` (n, n) of the tangent kernel ``Theta`` of
    the training points; in their basis the ``targets`` (n, o) and ``initial`` (n, n), the NNGP
    covariance.
    """

    network: Network
    x: Float[Array, "n ..."]
    eigenvalues: Float[Array, " n"]
    eigenvectors: Float[Array, "n n"]
    targets: Float[Array, "n o"]
    initial: Float[Array, "n n"]

    def predict(
        self, x_test: ArrayLike, t: ArrayLike
    ) -> tuple[Float[Array, "m o"], Float[Array, "m m"]]:
        """Mean (m, o) and covariance (m, m) of the outputs at ``x_test`` (m, ...) at time ``t``.

        ``A y`` and ``K** - A K* - (A K*)' + A K A'`` with
        ``A = Theta* Theta^-1 (I - exp(-Theta t))`` (1902.06720, eqs. 14 to 16); ``x_test`` may be
        the training inputs. ``t`` is 0 or more, infinity included, or a traced number. At 0 that
        is the prior of the NNGP. The outputs are independent and share the covariance.

        Raises ``ValueError`` where the tangent kernel is numerically singular and ``t`` so large
        that it matters.
        """
        x_test = as_test_inputs(x_test, self.x)
        cross = nngp_and_ntk(self.network, x_test, self.x)
        time = self._checked(t)
        gain = cross.ntk @ self.eigenvectors * elapsed(self.eigenvalues, time)[None, :]
        forgotten = gain @ (cross.nngp @ self.eigenvectors).T
        change = 0.5 * gain @ self.initial @ gain.T - forgotten
        return gain @ self.targets, nngp(self.network, x_test) + (change + change.T)

    def _checked(self, t: ArrayLike) -> Float[Array, ""]:
        """``t`` as an array; raises unless the eigenvalues are known well enough for it."""
        time = jnp.asarray(t if isinstance(t, Tracer) else _as_time(t), self.x.dtype)
        if isinstance(time, Tracer) or isinstance(self.eigenvalues, Tracer):
            return time
        smallest, largest = float(self.eigenvalues[0]), float(self.eigenvalues[-1])
        rounding = len(self.x) * float(jnp.finfo(time.dtype).eps) * largest
        if smallest < rounding and not float(time) * rounding < 1:
            raise bad_input(
                "t",
                got=f"{t} with smallest eigenvalue {smallest:.3g} of the tangent kernel",
                expected=f"a smallest eigenvalue above rounding in {time.dtype}, {rounding:.3g}, "
                f"or t below {1 / rounding:.3g}",
                probably="duplicate inputs, or float32 where float64 is needed",
            )
        return time


def gradient_flow(network: Network, x: ArrayLike, y: ArrayLike) -> GradientFlow:
    """Train ``network`` at infinite width on ``x`` (n, ...), ``y`` (n, o) by gradient flow.

    Parameters start as draws from N(0, 1) and follow ``d theta / dt = -dL / d theta`` with
    ``L = sum (f - y)^2 / 2`` over points and outputs; the outputs are then a Gaussian process at
    every time (Lee et al. 2019, 1902.06720). ``s`` steps of gradient descent with learning rate
    ``r`` are ``t = r s`` if ``r`` is well below 2 / (largest eigenvalue), and ``t = r s / (n o)``
    for the mean of the squares instead of their sum, halved as here. Layers in standard
    parameterisation train with the rates of ``network.learning_rates``.

    Raises ``ValueError`` for bad data.
    """
    if not isinstance(network, Network):
        raise bad_input(
            "network",
            got=repr(network),
            expected="a Network, whose NNGP and tangent kernels are both needed",
            probably="a kernel",
        )
    inputs, targets = as_training_data(network, x, y)
    kernels = nngp_and_ntk(network, inputs)
    values, vectors = eigh(kernels.ntk)
    return GradientFlow(
        network=network,
        x=inputs,
        eigenvalues=values,
        eigenvectors=vectors,
        targets=vectors.T @ targets,
        initial=vectors.T @ kernels.nngp @ vectors,
    )


def elapsed(rates: Float[Array, " n"], t: Float[Array, ""]) -> Float[Array, " n"]:
    """``(1 - exp(-rate t)) / rate``, the integral of ``exp(-rate s)`` from 0 to ``t``.

    ``t`` where the rate is 0, or below it by rounding; ``1 / rate`` at infinity.
    """
    positive = rates > 0
    safe = jnp.where(positive, rates, 1.0)
    return jnp.where(positive, -jnp.expm1(-safe * t) / safe, t)


def _as_time(t: Any) -> float:
    try:
        number = float(t) if np.ndim(t) == 0 else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number) or number < 0:
        raise bad_input(
            "t",
            got=repr(t),
            expected="one number of at least 0; infinity is allowed",
            probably="several times at once, for which jax.vmap maps predict over an array",
        )
    return number
