"""What random affine layers have in common: ``w_std W x / sqrt(fan_in) + b_std b``."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array

from bnnsample.models.kernel import Covariance, Kernel, Shape
from bnnsample.models.layers.base import Parameterisation
from bnnsample.models.scales import Std
from bnnsample.numerics import safe_reciprocal


def affine_kernel(
    kernel: Kernel,
    average: Callable[[Covariance], Covariance],
    output_shape: Shape,
    *,
    fan_in: int,
    w_std: Std,
    b_std: Std | None,
    parameterisation: Parameterisation,
) -> Kernel:
    """The limit of an affine layer whose units see the ``average`` of the input's covariance.

    NTK parameterisation: ``ntk = nngp + w_std^2 average(ntk)``. Improved standard parameterisation
    (2001.07301, eq. 10): a network of this width ``N`` made wider keeps the gradients of its own
    parameters, ``ntk = fan_in average(nngp) + w_std^2 average(ntk) + 1``, the 1 for the bias.
    """
    bias = 0.0 if b_std is None else b_std**2
    averaged = kernel.map(average)
    scaled = averaged.map(lambda covariance: w_std**2 * covariance)
    nngp = scaled.nngp + bias
    ntk = None
    if kernel.wants_ntk:
        standard = parameterisation == "standard"
        ntk = fan_in * averaged.nngp + float(b_std is not None) if standard else nngp
        ntk = ntk if scaled.ntk is None else ntk + scaled.ntk
    return Kernel(
        nngp=nngp,
        ntk=ntk,
        cov1=None if scaled.cov1 is None else scaled.cov1 + bias,
        cov2=None if scaled.cov2 is None else scaled.cov2 + bias,
        shape=output_shape,
        wants_ntk=kernel.wants_ntk,
        gaussian=True,
        mixed=True,
    )


def affine_init(key: Array, weight_shape: Shape, has_bias: bool, dtype: object) -> dict[str, Array]:
    """Weights, and a bias per output channel where there is one, from N(0, 1)."""
    weight_key, bias_key = jax.random.split(key)
    params = {"weight": jax.random.normal(weight_key, weight_shape, dtype)}  # pyright: ignore[reportArgumentType]
    if has_bias:
        params["bias"] = jax.random.normal(bias_key, weight_shape[-1:], dtype)  # pyright: ignore[reportArgumentType]
    return params


def affine_learning_rates(
    fan_in: int, w_std: Std, b_std: Std | None, parameterisation: Parameterisation
) -> dict[str, Std]:
    """``1 / std^2`` of the parameters that standard parameterisation trains; 1 otherwise."""
    standard = parameterisation == "standard"
    rates: dict[str, Std] = {"weight": fan_in / w_std**2 if standard else 1.0}
    if b_std is not None:
        # an array may hold a 0, which is then trained as if it were not there
        inverse = safe_reciprocal(b_std**2) if isinstance(b_std, jax.Array) else 1 / b_std**2
        rates["bias"] = inverse if standard else 1.0
    return rates
