"""What a dual activation is: one call gives the value and the slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import Array, Float

type Covariance = Float[Array, "..."]
type Dual = Callable[[Covariance, Covariance, Covariance], DualValue]
"""``dual(cov, var1, var2)``, elementwise, for zero-mean Gaussian ``(u, v)`` with these moments.

``cov = Cov(u, v)``, ``var1 = Var(u)``, ``var2 = Var(v)`` broadcast against each other. A caller
that uses one output only pays for that one once compiled.
"""


class DualValue(NamedTuple):
    """Both expectations of a dual activation, in the broadcast shape of its arguments.

    ``slope`` is the derivative of ``value`` in ``cov`` (Price's theorem), and the factor by which
    the layer multiplies a tangent kernel.
    """

    value: Covariance
    """``E[phi(u) phi(v)]``."""
    slope: Covariance
    """``E[phi'(u) phi'(v)]``."""


def unshared(*arguments: Covariance) -> tuple[Covariance, ...]:
    """The same arrays, as ones of which the compiler does not know that they are the same.

    For a costly slope: the intermediate results that it shares with the value XLA would write to
    memory, which takes two to three times as long as computing each of the two in one pass.
    """
    return jax.lax.optimization_barrier(arguments)
