"""Training an infinitely wide network by gradient descent, in closed form at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from bnnsample.checks import bad_input
from bnnsample.limits.gaussian_process import (
    KernelFunction,
    as_data_of_a_kernel,
    as_kernel,
    check_square,
)
from bnnsample.limits.kernels import Kernels, check_network, nngp, nngp_and_ntk
from bnnsample.models.network import Network
from bnnsample.models.posterior import as_test_inputs, as_training_data
from bnnsample.numerics import eigh, full_precision, horner, in_eigenbasis
from bnnsample.pytrees import as_pytree

type KernelPair = tuple[KernelFunction, KernelFunction]

SMALL = 0.5
SLOPE_SERIES = tuple((-1) ** n * (n + 1) / math.factorial(n + 2) for n in reversed(range(14)))
"""Highest order first; the next term is below 1e-17 at ``SMALL``."""


@as_pytree("network", "x", "y", "kernels", "eigenvalues", "eigenvectors")
@dataclass(frozen=True, eq=False)
class GradientFlow:
    """An ensemble of infinitely wide networks being trained, from ``gradient_flow``.

    ``kernels`` (n, n) of the training points ``x`` (n, ...) with targets ``y`` (n, o), and the
    ``eigenvalues`` (n,), ascending, and ``eigenvectors`` (n, n) of the tangent kernel ``Theta``.
    """

    network: Network | KernelPair
    x: Float[Array, "n ..."]
    y: Float[Array, "n o"]
    kernels: Kernels
    eigenvalues: Float[Array, " n"]
    eigenvectors: Float[Array, "n n"]

    @full_precision
    def predict(
        self, x_test: ArrayLike, t: ArrayLike
    ) -> tuple[Float[Array, "m o"], Float[Array, "m m"]]:
        r"""Mean (m, o) and covariance (m, m) of the outputs at ``x_test`` (m, ...) at time ``t``.

        $$A y \quad \mathrm{and} \quad K_{**} - A K_* - (A K_*)^\top + A K A^\top, \quad
        A = \Theta_* \Theta^{-1} (I - e^{-\Theta t})$$

        (1902.06720, eqs. 14 to 16). ``x_test`` may be the training inputs. ``t`` is 0 or
        more, infinity included, or a traced number. At 0 that is the prior of the NNGP. The outputs
        are independent and share the covariance.

        Raises ``ValueError`` where the tangent kernel is numerically singular and ``t`` so large
        that it matters.
        """
        x_test = as_test_inputs(x_test, self.x)
        cross = _both(self.network, x_test, self.x)
        time = self._checked(t)
        learned = spent(self.kernels.ntk, self.eigenvalues, self.eigenvectors, time)
        gain = cross.ntk @ learned
        network = self.network
        prior = nngp(network, x_test) if isinstance(network, Network) else network[0](x_test)
        change = 0.5 * gain @ self.kernels.nngp @ gain.T - gain @ cross.nngp.T
        return gain @ self.y, prior + (change + change.T)

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


@full_precision
def gradient_flow(network: Network | KernelPair, x: ArrayLike, y: ArrayLike) -> GradientFlow:
    """Train ``network`` at infinite width on ``x`` (n, ...), ``y`` (n, o) by gradient flow.

    Parameters start as draws from N(0, 1) and follow ``d theta / dt = -dL / d theta`` with
    ``L = sum (f - y)^2 / 2`` over points and outputs; the outputs are then a Gaussian process at
    every time (Lee et al. 2019, 1902.06720). ``s`` steps of gradient descent with learning rate
    ``r`` are ``t = r s`` if ``r`` is well below 2 / (largest eigenvalue), and ``t = r s / (n o)``
    for the mean of the squares instead of their sum, halved as here. Layers in standard
    parameterisation train with the rates of ``network.learning_rates``.

    In place of a network two kernels will do, NNGP and tangent kernel, such as those of
    ``monte_carlo_kernel``.

    Raises ``ValueError`` for bad data.
    """
    if isinstance(network, tuple) and len(network) == 2:
        network = as_kernel(network[0]), as_kernel(network[1])
        inputs, targets = as_data_of_a_kernel(x, y)
    else:
        inputs, targets = as_training_data(check_network(network), x, y)
    kernels = _both(network, inputs)
    check_square(kernels.ntk, targets)
    # spent() differentiates the tangent kernel itself: eigenvectors may have no derivative
    values, vectors = eigh(jax.lax.stop_gradient(kernels.ntk))
    return GradientFlow(network, inputs, targets, kernels, values, vectors)


def _both(network: Network | KernelPair, x1: Array, x2: Array | None = None) -> Kernels:
    if isinstance(network, Network):
        return nngp_and_ntk(network, x1, x2)
    own = (x1,) if x2 is None else (x1, x2)
    return Kernels(*(jnp.asarray(kernel(*own), x1.dtype) for kernel in network))


@jax.custom_jvp
def spent(
    ntk: Float[Array, "n n"],
    eigenvalues: Float[Array, " n"],
    eigenvectors: Float[Array, "n n"],
    t: Float[Array, ""],
) -> Float[Array, "n n"]:
    """``Theta^-1 (I - exp(-Theta t))``, of ``ntk = Theta`` with these eigenvalues and vectors."""
    return (eigenvectors * elapsed(eigenvalues, t)[None, :]) @ eigenvectors.T


@spent.defjvp
def _spent_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    ntk, _, _, t = primals
    d_ntk, _, _, d_t = tangents
    values, vectors = eigh(ntk)
    d_spent = in_eigenbasis(vectors, _divided_differences(values, t), d_ntk)
    d_spent += (vectors * (left(values, t) * d_t)[None, :]) @ vectors.T
    return spent(*primals), d_spent


def _divided_differences(rates: Float[Array, " n"], t: Float[Array, ""]) -> Float[Array, "n n"]:
    """``(f(a) - f(b)) / (a - b)`` of ``f(rate) = elapsed(rate, t)`` for all pairs of rates.

    Where they are so close that rounding wins, the slope half-way.
    """
    a, b = rates[:, None], rates[None, :]
    middle = 0.5 * (a + b)
    scale = jnp.maximum(middle, 1 / jnp.maximum(t, jnp.finfo(t.dtype).tiny))
    close = jnp.abs(a - b) <= float(jnp.finfo(t.dtype).eps) ** (1 / 3) * scale
    f = elapsed(rates, t)
    apart = (f[:, None] - f[None, :]) / jnp.where(close, 1.0, a - b)
    return jnp.where(close, elapsed_slope(middle, t), apart)


@jax.custom_jvp
def elapsed(rates: Float[Array, " n"], t: Float[Array, ""]) -> Float[Array, " n"]:
    """``(1 - exp(-rate t)) / rate``, the integral of ``exp(-rate s)`` from 0 to ``t``.

    ``t`` where the rate is 0, or below it by rounding; ``1 / rate`` at infinity.
    """
    positive = rates > 0
    safe = jnp.where(positive, rates, 1.0)
    return jnp.where(positive, -jnp.expm1(-safe * t) / safe, t)


@elapsed.defjvp
def _elapsed_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (rates, t), (d_rates, d_t) = primals, tangents
    return elapsed(rates, t), elapsed_slope(rates, t) * d_rates + left(rates, t) * d_t


def left(rates: Float[Array, ...], t: Float[Array, ""]) -> Float[Array, ...]:
    """``exp(-rate t)``, the share that is left to learn; 1 where the rate is not above 0."""
    positive = rates > 0
    return jnp.where(positive, jnp.exp(-jnp.where(positive, rates, 1.0) * t), 1.0)


def elapsed_slope(rates: Float[Array, ...], t: Float[Array, ""]) -> Float[Array, ...]:
    """The derivative of ``elapsed`` in the rate, ``-(1 - exp(-u) (1 + u)) / rate^2``, u = rate t.

    By its series ``-t^2 (1/2 - u/3 + u^2/8 - ...)`` where ``u`` is small.
    """
    u = jnp.where(rates > 0, rates, 0.0) * jnp.where(rates > 0, t, 0.0)
    small = u < SMALL
    series = jnp.where(small, t, 0.0) ** 2 * horner(SLOPE_SERIES, jnp.where(small, u, 0.0))
    # beyond, exp(-u) is 0, and infinity times 0 would not be
    large = jnp.minimum(jnp.where(small, 1.0, u), 1e3)
    direct = (1 - jnp.exp(-large) * (1 + large)) / jnp.where(small, 1.0, rates) ** 2
    return -jnp.where(small, series, direct)


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
