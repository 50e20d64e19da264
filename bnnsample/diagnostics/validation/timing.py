"""How long a run would take: gradients are timed as its chains take them."""

from __future__ import annotations

import math
import time
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from threadpoolctl import threadpool_limits

from bnnsample.diagnostics.findings import Finding
from bnnsample.repriorisation.base import AbstractTarget, Position
from bnnsample.sampling.chains import every_chain
from bnnsample.sampling.engine import IN_TURN
from bnnsample.sampling.run import LAPACK_THREADS
from bnnsample.sampling.samplers.alternating import MOST_STEPS, AlternatingHMC
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sampling.samplers.crank_nicolson import EllipticalSlice
from bnnsample.sampling.samplers.hamiltonian import HMC
from bnnsample.sampling.samplers.microcanonical import (
    GRADIENTS_PER_STEP,
    MicrocanonicalLangevin,
    UnadjustedMicrocanonicalLangevin,
)
from bnnsample.sampling.samplers.nuts import NUTS
from bnnsample.sampling.trajectory import CANDIDATES

ENOUGH, PATIENCE = 1024, 2.0
"""Evaluations of the longest go, and seconds after which there is no other. The fastest go counts:
another process may take the cores for a while."""


def seconds(
    target: AbstractTarget,
    sampler: AbstractSampler,
    positions: Float[Array, "chains dim"],
    transitions: int,
) -> Finding:
    """Time of so many transitions of each chain, at the fewest and the most gradients a draw."""
    lap = seconds_per_evaluation(target, positions, gradients=sampler.uses_gradients)
    fewest, most = evaluations(sampler)
    what = "gradient" if sampler.uses_gradients else "likelihood"
    shortest, longest = (lap * count * transitions for count in (fewest, most))
    figure = f"about {_range(shortest, longest)} seconds and compilation, at {lap * 1e3:.3g} ms "
    figure += f"a {what} of all {len(positions)} chains and {_range(fewest, most)} a draw"
    return Finding(
        name="time",
        ok=None,
        figure=figure + ("" if fewest == most else ", which is found on the way"),
        value=longest if math.isfinite(longest) else shortest,
    )


def evaluations(sampler: AbstractSampler) -> tuple[int, float]:
    """The fewest and the most gradients, or likelihoods, that a draw can take.

    One of a sampler that is not the library's.
    """
    match sampler:
        case AlternatingHMC(num_steps=steps):
            return (steps or 1) + 1, (steps or MOST_STEPS) + 1
        case HMC(num_steps=steps):
            return steps or CANDIDATES[0], steps or CANDIDATES[-1]
        case NUTS(max_doublings=doublings):
            return 1, 2**doublings - 1
        case MicrocanonicalLangevin(num_steps=steps):
            return GRADIENTS_PER_STEP * steps, GRADIENTS_PER_STEP * steps
        case UnadjustedMicrocanonicalLangevin():
            return GRADIENTS_PER_STEP, GRADIENTS_PER_STEP
        case EllipticalSlice():
            return 1, math.inf
        case _:
            return 1, 1


def seconds_per_evaluation(
    target: AbstractTarget, positions: Float[Array, "chains dim"], *, gradients: bool
) -> float:
    """Seconds that a gradient, or else a likelihood, takes of all chains, one after another."""
    in_turn = jax.default_backend() == "cpu" and target.dim >= IN_TURN
    evaluate = partial(_evaluate, target, positions, gradients=gradients, in_turn=in_turn)
    jax.block_until_ready(evaluate(jnp.asarray(1)))
    laps, total, count = [], 0.0, 1
    with threadpool_limits(LAPACK_THREADS, user_api="blas"):  # as in a run
        while count <= ENOUGH and total < PATIENCE:
            began = time.perf_counter()
            jax.block_until_ready(evaluate(jnp.asarray(count)))
            elapsed = time.perf_counter() - began
            laps.append(elapsed / count)
            total += elapsed
            count *= 2
    return min(laps)


@partial(jax.jit, static_argnames=("gradients", "in_turn"))
def _evaluate(
    target: AbstractTarget,
    positions: Float[Array, "chains dim"],
    count: Int[Array, ""],
    *,
    gradients: bool,
    in_turn: bool,
) -> Float[Array, "chains dim"]:
    """Positions after so many evaluations, each of which moves them by next to nothing.

    Were they to stay, the compiler might evaluate once. Each chain has a loop of its own, as in
    samplers.
    """

    def moved(_: Int[Array, ""], position: Position) -> Position:
        if gradients:
            value, gradient = jax.value_and_grad(target.log_likelihood)(position)
            return position + 1e-9 * (value + gradient)
        return position + 1e-9 * target.log_likelihood(position)

    def trajectory(position: Position, count: Int[Array, ""]) -> Position:
        return jax.lax.fori_loop(0, count, moved, position)

    counts = jnp.full(len(positions), count)
    return every_chain(trajectory, in_turn)(positions, counts)


def _range(low: float, high: float) -> str:
    first, last = (f"{number:.3g}" if number < 100 else f"{number:.0f}" for number in (low, high))
    if low == high:
        return first
    return f"{first} to {last}" if math.isfinite(high) else f"{first} or more"
