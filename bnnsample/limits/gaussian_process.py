"""Gaussian-process regression with the kernel of an infinitely wide network, or any other."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from bnnsample.checks import as_finite_array, as_scale, bad_input, check_count
from bnnsample.limits.kernels import nngp, ntk
from bnnsample.models.network import Network
from bnnsample.models.posterior import as_test_inputs, as_training_data
from bnnsample.numerics import cholesky, full_precision, half_log_det, solve_lower, symmetric_root
from bnnsample.pytrees import as_pytree

type KernelFunction = Callable[..., Array]
"""``kernel(x1, x2=None)``, the prior covariance of one output: (n1, n2), or (n1, n1) without x2.

One that also takes ``diagonal=True`` returns the variances (n1,) then.
"""

POINTS_PER_BLOCK = 128
"""Test points whose variances are cut out of one matrix, for kernels without ``diagonal``."""


@as_pytree("kernel", "x", "factor", "weights", "log_evidence")
@dataclass(frozen=True, eq=False)
class GaussianProcess:
    r"""A Gaussian process given data, from ``nngp_posterior`` or ``ntk_posterior``.

    Mean and covariance at test inputs (Rasmussen and Williams 2006, eqs. 2.25 and 2.26):

    $$m_* = K_*^\top (K + \sigma^2 I)^{-1} y, \quad
    C_* = K_{**} - K_*^\top (K + \sigma^2 I)^{-1} K_*$$

    ``factor`` (n, n): Cholesky factor of ``K + noise_std^2 I``. ``weights`` (n, o): its solve
    against ``y``. ``log_evidence``: ``log p(y | x)``, summed over outputs. Outputs are independent
    and share their covariance, which is that of the function, without the noise on ``y``.
    """

    kernel: KernelFunction
    x: Float[Array, "n ..."]
    factor: Float[Array, "n n"]
    weights: Float[Array, "n o"]
    log_evidence: Float[Array, ""]

    @full_precision
    def predict(self, x_test: ArrayLike) -> tuple[Float[Array, "m o"], Float[Array, "m m"]]:
        """Mean (m, o) and covariance (m, m) of the function at ``x_test`` (m, ...)."""
        x_test = as_test_inputs(x_test, self.x)
        mean, whitened = self._mean_and_whitened(x_test)
        return mean, self._prior(x_test) - whitened.T @ whitened

    @full_precision
    def marginals(self, x_test: ArrayLike) -> tuple[Float[Array, "m o"], Float[Array, " m"]]:
        """Mean (m, o) and variance (m,) at each of many points, without their (m, m) covariance."""
        x_test = as_test_inputs(x_test, self.x)
        mean, whitened = self._mean_and_whitened(x_test)
        variance = prior_variances(self.kernel, x_test) - jnp.sum(whitened**2, axis=0)
        return mean, jnp.maximum(variance, 0.0)

    @full_precision
    def sample(
        self, key: Key[Array, ""], x_test: ArrayLike, draws: int
    ) -> Float[Array, "draws m o"]:
        """Functions drawn at ``x_test`` (m, ...), jointly over its points.

        Nothing is added to the covariance: its root is taken by eigenvalues, and those that
        rounding has left below 0 count as 0. Raises ``ValueError`` where they are further below
        than rounding explains.
        """
        check_count("draws", draws)
        x_test = as_test_inputs(x_test, self.x)
        mean, whitened = self._mean_and_whitened(x_test)
        prior = self._prior(x_test)
        root, smallest = symmetric_root(prior - whitened.T @ whitened)
        _check_is_covariance(smallest, prior)
        noise = jax.random.normal(key, (draws, *mean.shape), mean.dtype)
        return mean[None] + jnp.einsum("ij,sjo->sio", root, noise)

    def _mean_and_whitened(
        self, x_test: Float[Array, "m ..."]
    ) -> tuple[Float[Array, "m o"], Float[Array, "n m"]]:
        cross = self._prior(self.x, x_test)
        return cross.T @ self.weights, solve_lower(self.factor, cross)

    def _prior(
        self, x1: Float[Array, "n1 ..."], x2: Float[Array, "n2 ..."] | None = None
    ) -> Float[Array, "n1 n2"]:
        return jnp.asarray(self.kernel(x1, x2), self.x.dtype)


def prior_variances(kernel: KernelFunction, x: Float[Array, "m ..."]) -> Float[Array, " m"]:
    """The diagonal of ``kernel(x)`` without the rest, as far as the kernel lets it."""
    if "diagonal" in inspect.signature(kernel).parameters:
        return jnp.asarray(kernel(x, diagonal=True), x.dtype)
    starts = range(0, len(x), POINTS_PER_BLOCK)
    blocks = [kernel(x[start : start + POINTS_PER_BLOCK]) for start in starts]
    return jnp.concatenate([jnp.diagonal(block) for block in blocks]).astype(x.dtype)


def nngp_posterior(
    network: Network | KernelFunction, x: ArrayLike, y: ArrayLike, noise_std: ArrayLike
) -> GaussianProcess:
    """Gaussian-process regression of ``y`` (n, o) on ``x`` (n, ...) with the NNGP kernel.

    The posterior of an infinitely wide Bayesian network under N(0, 1) priors. In place of the
    network any kernel: a callable ``kernel(x1, x2=None)``, a pytree if it is to be differentiated
    in. ``noise_std`` is the standard deviation of Gaussian noise on ``y``, in its units. The log
    evidence is differentiable in the network's scales, the noise and the inputs.

    Raises ``ValueError`` for bad data, and where ``K + noise_std^2 I`` is not positive definite
    in the arrays' precision.
    """
    return _regression(nngp, network, x, y, noise_std)


def ntk_posterior(
    network: Network | KernelFunction, x: ArrayLike, y: ArrayLike, noise_std: ArrayLike
) -> GaussianProcess:
    """Gaussian-process regression with the tangent kernel as prior covariance.

    The NTKGP of He et al. 2020 (2007.05864). As the noise goes to 0, its mean becomes that of
    ``gradient_flow`` after infinite time. Its covariance does not become that of
    ``gradient_flow``, an ensemble which starts with the variance of the NNGP and forgets only what
    the data contradict: here the prior itself is the tangent kernel. Arguments and errors as
    ``nngp_posterior``.
    """
    return _regression(ntk, network, x, y, noise_std)


def _regression(
    limit: KernelFunction,
    network: Network | KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    noise_std: ArrayLike,
) -> GaussianProcess:
    if isinstance(network, Network):
        kernel: KernelFunction = Partial(limit, network)
        inputs, targets = as_training_data(network, x, y)
    else:
        kernel = as_kernel(network)
        inputs, targets = as_data_of_a_kernel(x, y)
    noise = jnp.asarray(as_scale("noise_std", noise_std), inputs.dtype)
    gram = jnp.asarray(kernel(inputs), inputs.dtype)
    check_square(gram, targets)
    factor, weights, log_evidence = conditioned_on(gram, targets, noise)
    check_factorised(log_evidence, noise_std, inputs)
    return GaussianProcess(kernel, inputs, factor, weights, log_evidence)


@full_precision
@jax.jit
def conditioned_on(
    gram: Float[Array, "n n"], y: Float[Array, "n o"], noise_std: Float[Array, ...]
) -> tuple[Float[Array, "n n"], Float[Array, "n o"], Float[Array, ""]]:
    """Factor of ``gram`` with the noise, its solve against ``y``, and the log evidence.

    ``noise_std`` is one for all points, or (n,).
    """
    variances = jnp.broadcast_to(noise_std**2, len(y))
    factor = cholesky(gram + jnp.diag(variances))
    whitened = solve_lower(factor, y)
    log_evidence = (
        -0.5 * jnp.sum(whitened**2)
        - y.shape[1] * half_log_det(factor)
        - 0.5 * y.size * jnp.log(2 * jnp.pi)
    )
    return factor, solve_lower(factor, whitened, transpose=True), log_evidence


def check_factorised(log_evidence: ArrayLike, noise_std: object, x: Float[Array, "n ..."]) -> None:
    """Raise where the kernel with the noise was not positive definite, by its ``log_evidence``."""
    if not isinstance(log_evidence, Tracer) and not jnp.isfinite(log_evidence):
        raise bad_input(
            "noise_std",
            got=f"{noise_std} with {len(x)} points in {x.dtype}",
            expected="a kernel matrix that is positive definite with the noise on its diagonal",
            probably="noise below the rounding error of the kernel; use float64 or more noise",
        )


def as_data_of_a_kernel(
    x: ArrayLike, y: ArrayLike
) -> tuple[Float[Array, "n ..."], Float[Array, "n o"]]:
    """Inputs and targets of one floating type, where no network says what fits it."""
    inputs, targets = as_finite_array("x", x), as_finite_array("y", y, min_ndim=1)
    targets = targets[:, None] if targets.ndim == 1 else targets
    dtype = jnp.promote_types(inputs.dtype, targets.dtype)
    return inputs.astype(dtype), targets.astype(dtype)


def as_kernel(kernel: KernelFunction) -> KernelFunction:
    """``kernel`` as a pytree, so that what holds it can pass through compiled functions."""
    if not callable(kernel):
        raise bad_input(
            "network",
            got=f"an object of type {type(kernel).__name__}",
            expected="a Network, or a kernel: a callable kernel(x1, x2=None)",
            probably="a kernel matrix in place of the function that computes it",
        )
    return Partial(kernel) if jax.tree_util.all_leaves([kernel]) else kernel


def check_square(gram: Array, y: Float[Array, "n o"]) -> None:
    """Raise unless ``gram`` is a kernel matrix of the points of ``y``."""
    if gram.shape != (len(y), len(y)):
        raise bad_input(
            "x and y",
            got=f"a kernel matrix of shape {gram.shape} for {len(y)} rows of y",
            expected="a row and a column of the kernel for each row of y",
            probably="x and y of different lengths, or a kernel that does not take points as rows",
        )


def _check_is_covariance(smallest: Array, prior: Float[Array, "m m"]) -> None:
    """Raise where the posterior's ``smallest`` eigenvalue is below 0 by more than rounding.

    Kernels near coinciding inputs may be wrong by the square root of the machine's epsilon.
    """
    if isinstance(smallest, Tracer):
        return
    rounding = jnp.finfo(prior.dtype).eps ** 0.5 * jnp.sqrt(jnp.sum(prior**2))
    if not smallest >= -rounding:
        raise bad_input(
            "kernel",
            got=f"a posterior covariance with eigenvalue {smallest:.3g}",
            expected=f"none further below 0 than rounding in {prior.dtype}, {rounding:.3g}",
            probably="a kernel that is not positive semidefinite",
        )
