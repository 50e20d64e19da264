"""The NNGP kernel of a network, and the posterior of its infinite-width limit."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from bnnsample.checks import as_finite_array, bad_input, check_scale
from bnnsample.models.network import Network
from bnnsample.models.posterior import as_test_inputs, as_training_data
from bnnsample.numerics import add_diagonal, cholesky, half_log_det, solve_lower
from bnnsample.pytrees import as_pytree


def nngp(network: Network, x1: ArrayLike, x2: ArrayLike | None = None) -> Float[Array, "n1 n2"]:
    """Prior covariance of one output at infinite width (Lee et al. 2018, 1711.00165).

    For inputs ``x1`` (n1, d) and ``x2`` (n2, d), which defaults to ``x1``. Outputs are independent
    and share it. Differentiable in the inputs and in the layers' scales.
    """
    x1 = as_finite_array("x1", x1)
    x2 = x1 if x2 is None else as_test_inputs(x2, x1)
    network.parameter_shapes(x1.shape[1:])
    return network.kernel(x1, x2).cross


@as_pytree("x", "factor", "weights", "log_evidence")
@dataclass(frozen=True)
class GaussianProcess:
    """The posterior of an infinitely wide network, from ``nngp_posterior``.

    ``factor`` (n, n): Cholesky factor of ``K + noise_std^2 I``. ``weights`` (n, o): its solve
    against ``y``. ``log_evidence``: ``log p(y | x)``, summed over outputs.
    """

    network: Network
    x: Float[Array, "n d"]
    factor: Float[Array, "n n"]
    weights: Float[Array, "n o"]
    log_evidence: Float[Array, ""]

    def predict(self, x_test: ArrayLike) -> tuple[Float[Array, "m o"], Float[Array, "m m"]]:
        """Mean (m, o) and covariance (m, m) of the noise-free function at ``x_test`` (m, d).

        The outputs are independent and share the covariance.
        """
        x_test = as_test_inputs(x_test, self.x)
        cross = self.network.kernel(self.x, x_test).cross
        prior = self.network.kernel(x_test, x_test).cross
        whitened = solve_lower(self.factor, cross)
        return cross.T @ self.weights, prior - whitened.T @ whitened


def nngp_posterior(
    network: Network, x: ArrayLike, y: ArrayLike, noise_std: float | Array
) -> GaussianProcess:
    """Gaussian-process regression of ``y`` (n, o) on ``x`` (n, d) with the NNGP kernel.

    ``noise_std`` is the standard deviation of Gaussian noise on ``y``, in its units.

    Raises ``ValueError`` for bad data, and where ``K + noise_std^2 I`` is not positive definite
    in the arrays' precision.
    """
    x, y = as_training_data(network, x, y)
    check_scale("noise_std", noise_std)
    factor = cholesky(add_diagonal(network.kernel(x, x).cross, noise_std**2))
    whitened = solve_lower(factor, y)
    n, outputs = y.shape
    log_evidence = (
        -0.5 * jnp.sum(whitened**2)
        - outputs * half_log_det(factor)
        - 0.5 * n * outputs * jnp.log(2 * jnp.pi)
    )
    _check_factorised(log_evidence, noise_std, x)
    weights = solve_lower(factor, whitened, transpose=True)
    return GaussianProcess(network, x, factor, weights, log_evidence)


def _check_factorised(log_evidence: Array, noise_std: float | Array, x: Array) -> None:
    if not isinstance(log_evidence, Tracer) and jnp.isnan(log_evidence):
        raise bad_input(
            "noise_std",
            got=f"{noise_std} with {len(x)} points in {x.dtype}",
            expected="a kernel matrix that is positive definite with the noise on its diagonal",
            probably="noise below the rounding error of the kernel; use float64 or more noise",
        )
