"""Whether warm-up has converged, or has failed: looks at one chain, a window after the other."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bnnsample.checks import bad_input
from bnnsample.sampling.samplers.base import AbstractSampler

WINDOW = 25
"""Transitions between two looks at whether the last phase has converged."""

STEADY_STEP_SIZE = 0.1
STEADY_SIGNAL = 0.1
"""Converged: the logarithm of the step size moved less than this over the last window, and the mean
acceptance in it was within this of the target. Arbitrary."""

LEAST_ACCEPTANCE = 0.05
"""The last window of warm-up must accept at least this fraction of the target."""


class Window(NamedTuple):
    """What the current look at convergence has seen, and the last one's step size and level.

    ``deviation`` and ``squared``: means over the window of the log likelihood less its ``first``
    one, and of its square; so does float32 resolve them, however large a log likelihood is.
    """

    signal: Float[Array, ""]
    first: Float[Array, ""]
    deviation: Float[Array, ""]
    squared: Float[Array, ""]
    last_log_step_size: Float[Array, ""]
    last_log_likelihood: Float[Array, ""]
    last_signal: Float[Array, ""]


def empty_window(dtype: jnp.dtype) -> Window:
    """A window that has seen nothing, and none before it."""
    zero = jnp.zeros((), dtype)
    return Window(zero, zero, zero, zero, zero + jnp.inf, zero + jnp.inf, zero + jnp.nan)


def look(
    window: Window,
    sampler: AbstractSampler,
    number: Int[Array, ""],
    signal: Float[Array, ""],
    log_step_size: Float[Array, ""],
    log_likelihood: Float[Array, ""],
) -> tuple[Window, Bool[Array, ""]]:
    """The window with transition ``number`` of the last phase, from 1 on; has it converged?"""
    seen, share = number % WINDOW, 1 / WINDOW
    began = jnp.where(seen == 1, 0.0, 1.0).astype(signal.dtype)
    first = jnp.where(seen == 1, log_likelihood, window.first)
    step = log_likelihood - first
    mean_signal = began * window.signal + share * signal
    deviation = began * window.deviation + share * step
    squared = began * window.squared + share * step**2
    complete = (number > 0) & (seen == 0)
    spread = jnp.sqrt(jnp.maximum(squared - deviation**2, 0.0))
    level = first + deviation
    steady = jnp.abs(level - window.last_log_likelihood) <= spread
    if sampler.tunes_step_size:
        steady &= jnp.abs(log_step_size - window.last_log_step_size) < STEADY_STEP_SIZE
        steady &= _accepts_enough(sampler, mean_signal, log_step_size)
    after = Window(
        mean_signal,
        first,
        deviation,
        squared,
        jnp.where(complete, log_step_size, window.last_log_step_size),
        jnp.where(complete, level, window.last_log_likelihood),
        jnp.where(complete, mean_signal, window.last_signal),
    )
    return after, complete & steady


def _accepts_enough(
    sampler: AbstractSampler, signal: Float[Array, ""], log_step_size: Float[Array, ""]
) -> Bool[Array, ""]:
    """Near the target, or above it where the step size is as large as it may be."""
    excess = signal - sampler.target_acceptance
    longest = log_step_size > math.log(sampler.max_step_size) - STEADY_STEP_SIZE
    return (excess > -STEADY_SIGNAL) & ((excess < STEADY_SIGNAL) | longest)


class NoUsableStepSize(RuntimeError):
    """Warm-up has found no step size at which proposals are accepted."""


def check_starts(log_likelihood: np.ndarray) -> None:
    """Refuse chains whose log likelihood (chains,) is not finite where they start."""
    lost = np.flatnonzero(~np.isfinite(log_likelihood))
    if lost.size:
        raise bad_input(
            "posterior",
            got=f"no finite log likelihood at the start of chain {lost[0]}",
            expected="a finite one at every draw from the prior",
            probably="the noise_std is tiny for this precision, or the data are not standardised",
        )


def check_step_sizes(
    sampler: AbstractSampler, signal: np.ndarray, log_step_size: np.ndarray, taken: int
) -> None:
    """Raise ``NoUsableStepSize`` for a chain that accepted next to nothing in its last window.

    ``signal`` and ``log_step_size`` (chains,) are those of the window; NaN where the last phase was
    too short for one.
    """
    if not sampler.tunes_step_size:
        return
    for chain in np.flatnonzero(signal < LEAST_ACCEPTANCE * sampler.target_acceptance):
        raise NoUsableStepSize(
            f"warm-up: got acceptance {signal[chain]:.2g} in chain {chain} after {taken} "
            f"transitions, at step size {np.exp(log_step_size[chain]):.2g}; expected about "
            f"{sampler.target_acceptance:g}; probably the noise_std is tiny, the data are not "
            "standardised, or float32 is too coarse for this posterior"
        )
