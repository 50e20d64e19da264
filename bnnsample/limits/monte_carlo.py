"""Kernels of networks without a closed limit: means over prior draws, with standard errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input, check_count
from bnnsample.limits.empirical import empirical_nngp, empirical_ntk
from bnnsample.limits.kernels import as_input_pair
from bnnsample.limits.tiles import Kind
from bnnsample.models.network import Network
from bnnsample.pytrees import as_pytree


class Estimate(NamedTuple):
    """A Monte-Carlo estimate and its standard error, entry by entry."""

    value: Float[Array, "n1 n2"]
    standard_error: Float[Array, "n1 n2"]


@as_pytree("network", "key")
@dataclass(frozen=True)
class MonteCarloKernel:
    """A kernel averaged over draws from the prior, from ``monte_carlo_kernel``.

    Every call averages over the same draws. So it is one positive semi-definite kernel, whatever
    blocks it is asked for, and serves wherever a network's kernel does.
    """

    network: Network
    key: Key[Array, ""]
    draws: int
    kind: Kind

    def __call__(self, x1: ArrayLike, x2: ArrayLike | None = None) -> Float[Array, "n1 n2"]:
        """The kernel between ``x1`` (n1, ...) and ``x2`` (n2, ...), by default ``x1``."""
        return self.estimate(x1, x2).value

    def estimate(self, x1: ArrayLike, x2: ArrayLike | None = None) -> Estimate:
        """The kernel and its standard error over the draws, both (n1, n2)."""
        return _estimate(self, *as_input_pair(self.network, x1, x2))


def monte_carlo_kernel(
    network: Network, *, draws: int = 100, seed: int = 0, kind: Kind = "nngp"
) -> MonteCarloKernel:
    """The kernel of any network at its own widths, estimated by ``draws`` of its parameters.

    For networks with no closed limit: unusual layers, functions of Flax or Equinox wrapped in
    ``Custom``. The result is called like a kernel, ``kernel(x1, x2)``, and given in place of a
    network to ``nngp_posterior`` and ``ntk_posterior``, two of them to ``gradient_flow``.
    ``kernel.estimate(x1, x2)`` adds the standard error. For ``kind="nngp"`` it is the exact
    covariance of one output of the finite network but for that error; the limit differs from it by
    its finite width too.
    """
    check_count("monte_carlo_kernel draws", draws, minimum=2)
    check_count("monte_carlo_kernel seed", seed, minimum=0)
    if kind not in ("nngp", "ntk"):
        raise bad_input(
            "monte_carlo_kernel kind",
            got=repr(kind),
            expected="'nngp' or 'ntk'",
            probably="a typing error",
        )
    return MonteCarloKernel(network, jax.random.key(seed), draws, kind)


@jax.jit
def _estimate(kernel: MonteCarloKernel, x1: Array, x2: Array | None) -> Estimate:
    """Mean and standard error by Welford's recursion, so that one draw is held at a time."""
    network = kernel.network
    function = empirical_nngp if kernel.kind == "nngp" else empirical_ntk

    def add_draw(state: tuple[Array, Array], index: Array) -> tuple[tuple[Array, Array], None]:
        mean, squares = state
        params = network.init(jax.random.fold_in(kernel.key, index), x1.shape[1:], x1.dtype)
        value = function(network, params, x1, x2)
        deviation = value - mean
        mean = mean + deviation / (index + 1).astype(value.dtype)
        return (mean, squares + deviation * (value - mean)), None

    zeros = jnp.zeros((len(x1), len(x1 if x2 is None else x2)), x1.dtype)
    (mean, squares), _ = jax.lax.scan(add_draw, (zeros, zeros), jnp.arange(kernel.draws))
    variance = squares / (kernel.draws * (kernel.draws - 1))
    return Estimate(mean, jnp.sqrt(variance))
