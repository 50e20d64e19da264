"""The infinitely wide network's posterior of any ``Posterior`` whose hyperparameters are known.

A Gaussian likelihood gives a Gaussian process; any other is replaced by the Gaussian
pseudo-likelihood of its Laplace fit, so that all of them predict by the same formulas.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from bnnsample.checks import NoKnownLimit
from bnnsample.limits.gaussian_process import KernelFunction, conditioned_on, prior_variances
from bnnsample.limits.kernels import nngp
from bnnsample.limits.laplace import laplace_fit
from bnnsample.limits.monte_carlo import monte_carlo_kernel
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.network import Network
from bnnsample.models.posterior import Posterior
from bnnsample.models.scales import hyperparameters, substitute
from bnnsample.numerics import full_precision, solve_lower
from bnnsample.pytrees import as_pytree

KERNEL_DRAWS = 50
"""Prior draws that estimate the kernel of a network without a closed limit. A choice: what rests on
it is how well a map fits, never what is sampled."""


@as_pytree("kernel", "x", "factors", "weights", "log_evidence", "converged")
@dataclass(frozen=True, eq=False)
class Conditioned:
    """A Gaussian process given Gaussian targets and noise, which may differ between outputs.

    ``factors`` (k, n, n): Cholesky factors of the kernel matrix with the noise, one for all outputs
    (k = 1) or one for each. ``weights`` (n, o): their solves against the targets. ``converged``:
    whether the Laplace fit did, where there was one.
    """

    kernel: KernelFunction
    x: Float[Array, "n ..."]
    factors: Float[Array, "k n n"]
    weights: Float[Array, "n o"]
    log_evidence: Float[Array, ""]
    converged: Bool[Array, ""]

    @full_precision
    def marginals(
        self, x_test: Float[Array, "m ..."]
    ) -> tuple[Float[Array, "m o"], Float[Array, "m o"]]:
        """Mean and variance of each output at each point."""
        cross = jnp.asarray(self.kernel(self.x, x_test), self.x.dtype)
        return _marginals(cross, prior_variances(self.kernel, x_test), self.factors, self.weights)

    @full_precision
    def covariances(self, x_test: Float[Array, "m ..."]) -> Float[Array, "k m m"]:
        """Of each output between the points, or of all of them (k = 1) where they share it."""
        cross, prior = (
            jnp.asarray(self.kernel(*inputs), self.x.dtype)
            for inputs in ((self.x, x_test), (x_test,))
        )
        whitened = jax.vmap(lambda factor: solve_lower(factor, cross))(self.factors)
        return prior[None] - jnp.matrix_transpose(whitened) @ whitened


def limit_kernel(network: Network, x: Float[Array, "n ..."]) -> KernelFunction:
    """The NNGP kernel, or where it has no closed form the estimate of it by draws."""
    priors = hyperparameters(network)
    known = substitute(network, {name: jnp.ones(prior.shape()) for name, prior in priors.items()})
    try:
        jax.eval_shape(known.kernel, x[0], x[0])
    except NoKnownLimit:
        return monte_carlo_kernel(network, draws=KERNEL_DRAWS)
    return Partial(nngp, network)


@full_precision
def conditioned(posterior: Posterior, kernel: KernelFunction) -> Conditioned:
    """The limit given the data of a posterior without hyperparameters."""
    x, y, likelihood = posterior.x, posterior.y, posterior.likelihood
    gram = jnp.asarray(kernel(x), x.dtype)
    if not isinstance(likelihood, Gaussian):
        outputs = posterior.network.readout_layer.width
        fit = laplace_fit(gram, likelihood, y, outputs=outputs)
        factors, weights, _ = _regression(gram, fit.pseudo.y, fit.pseudo.noise_std)
        return Conditioned(kernel, x, factors, weights, fit.log_evidence, fit.converged)
    noise_std = jnp.asarray(likelihood.noise_std, x.dtype)
    factors, weights, log_evidence = _regression(gram, y, noise_std)
    return Conditioned(kernel, x, factors, weights, log_evidence, jnp.asarray(True))


@jax.jit
def _marginals(
    cross: Float[Array, "n m"],
    prior: Float[Array, " m"],
    factors: Float[Array, "k n n"],
    weights: Float[Array, "n o"],
) -> tuple[Float[Array, "m o"], Float[Array, "m o"]]:
    whitened = jax.vmap(lambda factor: solve_lower(factor, cross))(factors)
    variance = jnp.maximum(prior[:, None] - jnp.sum(whitened**2, axis=1).T, 0.0)
    mean = cross.T @ weights
    return mean, jnp.broadcast_to(variance, mean.shape)


@jax.jit
def _regression(
    gram: Float[Array, "n n"], y: Float[Array, "n o"], noise_std: Float[Array, ...]
) -> tuple[Float[Array, "k n n"], Float[Array, "n o"], Float[Array, ""]]:
    """Factors, weights and log evidence, sharing one factor where outputs share their noise."""
    if noise_std.ndim == 0 or noise_std.shape[-1] == 1:
        by_point = jnp.broadcast_to(noise_std, (len(y), 1))[:, 0]
        factor, weights, value = conditioned_on(gram, y, by_point)
        return factor[None], weights, value
    noise_std = jnp.broadcast_to(noise_std, y.shape)
    by_output = jax.vmap(conditioned_on, in_axes=(None, 0, 0))
    factors, weights, values = by_output(gram, y.T[:, :, None], noise_std.T)
    return factors, weights[..., 0].T, jnp.sum(values)
