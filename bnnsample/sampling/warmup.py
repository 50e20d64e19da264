"""Warm-up: what each chain finds out about its step size, trajectory and scales, by itself.

Three phases: the step size is adapted by dual averaging (and the spread of each coordinate learnt,
if asked for); numbers of steps a trajectory are tried in turn; the step size is adapted again to
what was found. Nothing of a chain's warm-up depends on other chains.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.adaptation.mass_matrix import WelfordAlgorithmState, welford_algorithm
from blackjax.adaptation.step_size import (
    DualAveragingAdaptationState,
    dual_averaging_adaptation,
)
from jaxtyping import Array, Bool, Float, Int

from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.sampling.samplers.base import AbstractSampler, Info, Tuning
from bnnsample.sampling.steadiness import Window, empty_window, look
from bnnsample.sampling.trajectory import (
    CANDIDATES,
    Search,
    best_num_steps,
    half_turn,
    new_search,
    record,
)

FIRST_STEP_SIZE = 0.1
"""Where dual averaging starts; arbitrary, it moves by orders of magnitude in ten draws."""

LONGEST_FIRST_PHASE = 120
LONGEST_TRIAL = 15
"""Transitions of the first phase, and of each number of steps tried; fewer in a short warm-up."""

SHRINKAGE = 5.0
"""Draws of N(0, 1) that a coordinate's variance is pooled with, as Stan's warm-up does."""


class Adaptation(NamedTuple):
    """A chain's adaptation: how far it is, what it has found, whether it has converged."""

    taken: Int[Array, ""]
    step_size: DualAveragingAdaptationState
    num_steps: Int[Array, ""]
    scale: Float[Array, ""] | Float[Array, " dim"]
    spread: WelfordAlgorithmState | None
    search: Search | None
    window: Window
    converged: Bool[Array, ""]


class Phases(NamedTuple):
    """First transitions of the search for a number of steps and of the last phase.

    ``trial``: transitions that each number is tried for, 0 where there is no search.
    """

    search: Int[Array, ""]
    trial: Int[Array, ""]
    last: Int[Array, ""]


def phases(sampler: AbstractSampler, warmup: Int[Array, ""]) -> Phases:
    """When each phase of ``warmup`` transitions begins; no search in fewer than 50."""
    learns = sampler.searches_num_steps or sampler.adapts_scale
    longest = LONGEST_FIRST_PHASE if learns else LONGEST_FIRST_PHASE // 2
    first = jnp.minimum(2 * warmup // 5, longest)
    trial = jnp.minimum(warmup // 25, LONGEST_TRIAL)
    trial = jnp.where((trial >= 2) & sampler.searches_num_steps, trial, 0)
    return Phases(first, trial, first + len(CANDIDATES) * trial)


def new_adaptation(
    target: AbstractTarget, sampler: AbstractSampler, position: Float[Array, " dim"]
) -> Adaptation:
    """The adaptation of a chain that starts at ``position``."""
    dtype = position.dtype
    first = min(FIRST_STEP_SIZE, sampler.max_step_size)
    return Adaptation(
        taken=jnp.zeros((), int),
        step_size=_dual_averaging(jnp.asarray(first, dtype), sampler),
        num_steps=jnp.zeros((), int),
        scale=jnp.ones(position.shape if sampler.adapts_scale else (), dtype),
        spread=_WELFORD[0](position.shape[0]) if sampler.adapts_scale else None,
        search=new_search(target, position) if sampler.searches_num_steps else None,
        window=empty_window(dtype),
        converged=jnp.zeros((), bool),
    )


def tuning(
    sampler: AbstractSampler,
    adaptation: Adaptation,
    plan: Phases,
    index: Int[Array, ""],
    adapting: Bool[Array, ""],
) -> Tuning:
    """What transition ``index`` is made with: while adapting, a step size or number to be tried."""
    searching = adapting & _searching(index, plan)
    state = adaptation.step_size
    log_size = jnp.where(adapting & ~searching, state.log_step_size, state.log_step_size_avg)
    size = jnp.exp(jnp.asarray(log_size))
    num_steps = adaptation.num_steps
    if adaptation.search is not None:
        tried = jnp.asarray(CANDIDATES)[_candidate(index, plan)]
        num_steps = jnp.minimum(jnp.where(searching, tried, num_steps), half_turn(size))
    return Tuning(size, num_steps, adaptation.scale)


def adapt(
    target: AbstractTarget,
    sampler: AbstractSampler,
    adaptation: Adaptation,
    plan: Phases,
    index: Int[Array, ""],
    before: Float[Array, " dim"],
    state: Any,
    info: Info,
) -> Adaptation:
    """The adaptation after transition ``index``, from a position to the sampler's ``state``."""
    signal = jnp.where(jnp.isfinite(info.tuning_signal), info.tuning_signal, 0.0)
    searching = _searching(index, plan)
    step_size = _update(adaptation.step_size, sampler, signal)
    step_size = _where(searching, adaptation.step_size, step_size)
    taken = index + 1
    adaptation = adaptation._replace(taken=taken, step_size=step_size)
    if adaptation.spread is not None:
        learning = (taken > plan.search // 2) & (taken <= plan.search)
        spread = _where(learning, _WELFORD[1](adaptation.spread, state.position), adaptation.spread)
        scale = jnp.where(taken == plan.search, _scale(spread), adaptation.scale)
        adaptation = adaptation._replace(spread=spread, scale=scale)
    if (search := adaptation.search) is not None:
        search = jax.lax.cond(
            searching,
            lambda search: record(target, search, before, state.position, _candidate(index, plan)),
            lambda search: search,
            search,
        )
        chosen = best_num_steps(search, jnp.exp(step_size.log_step_size_avg))
        ended = (taken == plan.last) & (plan.trial > 0)
        num_steps = jnp.where(ended, chosen, adaptation.num_steps)
        adaptation = adaptation._replace(search=search, num_steps=num_steps)
    adaptation = _restart(adaptation, sampler, plan)
    log_size = jnp.asarray(adaptation.step_size.log_step_size_avg)
    window, converged = look(
        adaptation.window, sampler, taken - plan.last, signal, log_size, state.logdensity
    )
    return adaptation._replace(window=window, converged=converged)


def _searching(index: Int[Array, ""], plan: Phases) -> Bool[Array, ""]:
    return (index >= plan.search) & (index < plan.last)


def _candidate(index: Int[Array, ""], plan: Phases) -> Int[Array, ""]:
    tried = (index - plan.search) // jnp.maximum(plan.trial, 1)
    return jnp.clip(tried, 0, len(CANDIDATES) - 1)


def _restart(adaptation: Adaptation, sampler: AbstractSampler, plan: Phases) -> Adaptation:
    """Dual averaging begins again where the last phase does, from what it has found so far."""
    found = jnp.exp(adaptation.step_size.log_step_size_avg)
    again = (adaptation.taken == plan.last) & (plan.last > 0)
    # at first it tries steps ten times as long, which far from the mode would be rejected for long
    fresh = _dual_averaging(found, sampler)._replace(mu=jnp.log(found))
    return adaptation._replace(step_size=_where(again, fresh, adaptation.step_size))


def _dual_averaging(
    first: Float[Array, ""], sampler: AbstractSampler
) -> DualAveragingAdaptationState:
    state = dual_averaging_adaptation(sampler.target_acceptance)[0](first)  # pyright: ignore[reportArgumentType]
    state = state._replace(log_step_size_avg=jnp.log(first))
    return jax.tree.map(lambda value: jnp.asarray(value, first.dtype), state)


def _update(
    state: DualAveragingAdaptationState, sampler: AbstractSampler, signal: Float[Array, ""]
) -> DualAveragingAdaptationState:
    updated = dual_averaging_adaptation(sampler.target_acceptance)[1](state, signal)  # pyright: ignore[reportArgumentType]
    updated = jax.tree.map(lambda new, old: new.astype(old.dtype), updated, state)
    longest = math.log(sampler.max_step_size)
    return updated._replace(
        log_step_size=jnp.minimum(updated.log_step_size, longest),
        log_step_size_avg=jnp.minimum(updated.log_step_size_avg, longest),
    )


_WELFORD = welford_algorithm(is_diagonal_matrix=True)


def _scale(spread: WelfordAlgorithmState) -> Float[Array, " dim"]:
    variance, count, _ = _WELFORD[2](spread)
    return jnp.sqrt((count * variance + SHRINKAGE) / (count + SHRINKAGE))


def _where[Tree](condition: Bool[Array, ""], new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
