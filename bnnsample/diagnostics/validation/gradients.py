"""A target's log density and its gradient: finite, and the slope that differences find."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from bnnsample.diagnostics.findings import Finding
from bnnsample.repriorisation.base import AbstractTarget, Position

SLOPE_ERROR = {"float64": 1e-3, "float32": 1e-2}
"""By which a gradient may be off, relative to its length, beside what two steps differ by."""


class Look(NamedTuple):
    """A target at one position.

    ``slope_error``: of its gradient against a central difference, relative to its length;
    ``slope_doubt``: what rounding and the size of the step leave of that.
    """

    value: Float[Array, ""]
    finite_gradient: Array
    slope_error: Float[Array, ""]
    slope_doubt: Float[Array, ""]


@jax.jit
def looks(
    target: AbstractTarget, positions: Float[Array, "positions dim"], keys: Key[Array, " positions"]
) -> Look:
    """A look at each position, along its gradient turned by half as much at random.

    Of a random direction alone a wide network's gradient has next to nothing. Where differences of
    two steps disagree, for curvature, kinks or rounding, neither is to be believed any further.
    """

    def one(arguments: tuple[Position, Key[Array, ""]]) -> Look:
        position, key = arguments
        value, gradient = jax.value_and_grad(target.log_likelihood)(position)
        random = jax.random.normal(key, position.shape, position.dtype)
        direction = _unit(_unit(gradient) + 0.5 * _unit(random))
        epsilon = jnp.finfo(position.dtype).eps

        def slope(step: Float[Array, ""]) -> Float[Array, ""]:
            ends = [target.log_likelihood(position + sign * step * direction) for sign in (1, -1)]
            return (ends[0] - ends[1]) / (2 * step)

        steps = epsilon**0.2 * jnp.asarray([1.0, 0.5], position.dtype)
        whole, half = jax.lax.map(slope, steps)
        # a network without hidden weights may have nothing to be sampled, and so no slope
        length = jnp.maximum(jnp.linalg.norm(gradient), 1e-3)
        rounding = 10 * epsilon * jnp.abs(value) / steps[1]
        return Look(
            value,
            jnp.all(jnp.isfinite(gradient)),
            jnp.abs(half - gradient @ direction) / length,
            (jnp.abs(whole - half) + rounding) / length,
        )

    return jax.lax.map(one, (positions, keys))


def _unit(vector: Float[Array, " dim"]) -> Float[Array, " dim"]:
    return vector / jnp.maximum(jnp.linalg.norm(vector), jnp.finfo(vector.dtype).tiny)


def density(looks: Look) -> Iterator[Finding]:
    """Findings on the values, the gradients and their slopes."""
    values = np.asarray(looks.value)
    finite = int(np.isfinite(values).sum())
    shown = values[np.isfinite(values)]
    yield Finding(
        name="log likelihood",
        ok=finite == len(values),
        figure=f"finite at {finite} of {len(values)} starts and prior draws"
        + (f", from {shown.min():.4g} to {shown.max():.4g}" if len(shown) else ""),
        advice="Probably the noise is tiny for this precision, or the data are not standardised",
        value=finite,
        threshold=len(values),
    )
    finite = int(np.asarray(looks.finite_gradient).sum())
    yield Finding(
        name="gradient",
        ok=finite == len(values),
        figure=f"finite at {finite} of {len(values)}",
        advice="Probably a square root or a logarithm at 0 in a layer of your own",
        value=finite,
        threshold=len(values),
    )
    excess = float(np.max(np.asarray(looks.slope_error - looks.slope_doubt)))
    allowed = SLOPE_ERROR[values.dtype.name]
    yield Finding(
        name="gradient against differences",
        ok=excess <= allowed,  # NaN fails
        figure=f"off by up to {np.max(np.asarray(looks.slope_error)):.1e} of its length, "
        f"{max(excess, 0.0):.1e} more than steps of two sizes differ (at most {allowed:g})",
        advice="Probably a custom derivative that is wrong, or an activation with jumps",
        value=max(excess, 0.0),
        threshold=allowed,
    )
