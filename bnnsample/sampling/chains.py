"""Chains that advance together: transitions, step-size adaptation, one compilation for both."""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.adaptation.step_size import (
    DualAveragingAdaptationState,
    dual_averaging_adaptation,
)
from jaxtyping import Array, Bool, Float, Int, Key

from bnnsample.repriorisation.targets import AbstractTarget
from bnnsample.sampling.samplers import AbstractSampler, transition_stats

FIRST_STEP_SIZE = 0.1
"""Where dual averaging starts; arbitrary, it moves by orders of magnitude in ten draws."""


class ChainKeys(NamedTuple):
    """Independent streams of each chain, so that no chain depends on how many there are."""

    init: Key[Array, " chains"]
    transitions: Key[Array, " chains"]
    functionals: Key[Array, " chains"]


class Chains(NamedTuple):
    """All chains' sampler states and step-size adaptation, chain axis first."""

    sampler: Any
    adaptation: DualAveragingAdaptationState


class Transitions(NamedTuple):
    """What a segment of draws leaves behind, draw axis first, chain axis second."""

    positions: Float[Array, "draws chains dim"]
    stats: dict[str, Array]


def chain_keys(seed: int, target: str, chains: int) -> ChainKeys:
    """The chains' key streams from one integer, other ones for each name of a target.

    Runs of two targets with one seed are then independent and can be held against each other.
    """
    root = jax.random.fold_in(jax.random.key(seed), zlib.crc32(target.encode()))
    per_chain = jax.vmap(lambda chain: jax.random.split(jax.random.fold_in(root, chain), 3))(
        jnp.arange(chains)
    )
    return ChainKeys(*(per_chain[:, stream] for stream in range(3)))


@partial(jax.jit, static_argnames="sampler")
def start(target: AbstractTarget, sampler: AbstractSampler, keys: Key[Array, " chains"]) -> Chains:
    """Chains at their starting points, before any adaptation."""
    init_adaptation, _, _ = dual_averaging_adaptation(sampler.target_acceptance)
    dtype = target.posterior.x.dtype

    def start_one(key: Key[Array, ""]) -> Chains:
        first = jnp.asarray(min(FIRST_STEP_SIZE, sampler.max_step_size), dtype)
        algorithm: Any = sampler.build(target, first)
        state = algorithm.init(target.init(key))
        adaptation = init_adaptation(first)  # pyright: ignore[reportArgumentType]
        return Chains(state, jax.tree.map(lambda value: jnp.asarray(value, dtype), adaptation))

    return jax.vmap(start_one)(keys)


@partial(jax.jit, static_argnames=("sampler", "capacity"))
def advance(
    target: AbstractTarget,
    sampler: AbstractSampler,
    chains: Chains,
    keys: Key[Array, " chains"],
    first: Int[Array, ""],
    count: Int[Array, ""],
    adapting: Bool[Array, ""],
    *,
    capacity: int,
) -> tuple[Chains, Transitions]:
    """``count <= capacity`` transitions of every chain, of which the first has index ``first``.

    ``count`` and ``adapting`` are traced, so warm-up, draws and a shorter last segment share one
    compilation; ``count = 0`` only compiles. Entries from ``count`` on are zero.
    """
    transition = jax.vmap(partial(_transition, target, sampler, adapting))

    def body(index: Array, carry: tuple[Chains, Transitions]) -> tuple[Chains, Transitions]:
        chains, record = carry
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, first + index)
        chains, transitions = transition(chains, step_keys)
        return chains, jax.tree.map(lambda kept, new: kept.at[index].set(new), record, transitions)

    _, shapes = jax.eval_shape(transition, chains, keys)
    empty = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)
    return jax.lax.fori_loop(0, count, body, (chains, empty))


def _transition(
    target: AbstractTarget,
    sampler: AbstractSampler,
    adapting: Bool[Array, ""],
    chain: Chains,
    key: Key[Array, ""],
) -> tuple[Chains, Transitions]:
    _, update_adaptation, _ = dual_averaging_adaptation(sampler.target_acceptance)
    size = step_size(sampler, chain.adaptation, adapting)
    algorithm: Any = sampler.build(target, size)
    state, info = algorithm.step(key, chain.sampler)
    adapted = update_adaptation(chain.adaptation, info.acceptance_rate)
    adaptation = jax.tree.map(
        lambda new, old: jnp.where(adapting, new, old).astype(old.dtype), adapted, chain.adaptation
    )
    stats = transition_stats(chain.sampler, state, info) | {"step_size": size}
    return Chains(state, adaptation), Transitions(state.position, stats)


def step_size(
    sampler: AbstractSampler, adaptation: DualAveragingAdaptationState, adapting: Bool[Array, ""]
) -> Float[Array, ...]:
    """The step size being tried while adapting, and the adapted average afterwards."""
    log_size = jnp.where(adapting, adaptation.log_step_size, adaptation.log_step_size_avg)
    return jnp.minimum(jnp.exp(log_size), sampler.max_step_size)
