"""Chains that advance together: transitions of warm-up and of sampling in one compilation."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from bnnsample.models.priors import log_prior
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.sampling.samplers.base import AbstractSampler, Info
from bnnsample.sampling.warmup import Adaptation, adapt, new_adaptation, phases, tuning


class ChainKeys(NamedTuple):
    """Independent streams of each chain, so that no chain depends on how many there are."""

    init: Key[Array, " chains"]
    warmup: Key[Array, " chains"]
    transitions: Key[Array, " chains"]
    functionals: Key[Array, " chains"]


class Chains(NamedTuple):
    """All chains' sampler states and adaptations, chain axis first."""

    sampler: Any
    adaptation: Adaptation


class Transitions(NamedTuple):
    """What a segment of draws leaves behind, draw axis first, chain axis second."""

    positions: Float[Array, "draws chains dim"]
    stats: dict[str, Array]


def chain_keys(seed: int, target: str, chains: int) -> ChainKeys:
    """The chains' key streams from one integer, other ones for each name of a target.

    Runs of two targets with one seed are then independent and can be held against each other.
    """
    root = jax.random.fold_in(jax.random.key(seed), zlib.crc32(target.encode()))
    return _streams(root, chains)


@partial(jax.jit, static_argnames="chains")
def _streams(root: Key[Array, ""], chains: int) -> ChainKeys:
    def of_chain(chain: Array) -> ChainKeys:
        return ChainKeys(*jax.random.split(jax.random.fold_in(root, chain), len(ChainKeys._fields)))

    return jax.vmap(of_chain)(jnp.arange(chains))


@partial(jax.jit, static_argnames="sampler")
def start(target: AbstractTarget, sampler: AbstractSampler, keys: Key[Array, " chains"]) -> Chains:
    """Chains at their starting points, before any adaptation."""

    def start_one(key: Key[Array, ""]) -> Chains:
        position_key, state_key = jax.random.split(key)
        position = target.init(position_key)
        adaptation = new_adaptation(target, sampler, position)
        begin = jnp.zeros((), int)
        first = tuning(sampler, adaptation, phases(sampler, begin), begin, begin == 0)
        return Chains(sampler.build(target, first).init(position, state_key), adaptation)

    return jax.vmap(start_one)(keys)


class Segment(NamedTuple):
    """Which transitions to make: ``length`` of them from index ``first``, adapting or not."""

    first: Int[Array, ""]
    length: Int[Array, ""]
    warmup: Int[Array, ""]
    adapting: Bool[Array, ""]


@partial(jax.jit, static_argnames=("sampler", "capacity", "in_turn"), donate_argnames="chains")
def advance(
    target: AbstractTarget,
    sampler: AbstractSampler,
    chains: Chains,
    keys: Key[Array, " chains"],
    segment: Segment,
    *,
    capacity: int,
    in_turn: bool = False,
) -> tuple[Chains, Transitions]:
    """At most ``capacity`` transitions of every chain, of all together or ``in_turn``.

    The segment is traced, so warm-up, draws and a shorter last segment share one compilation;
    ``length = 0`` only compiles. Entries from ``length`` on are zero. A chain whose warm-up has
    converged stands still while the others' goes on.
    """
    plan = phases(sampler, segment.warmup)

    def transition(
        index: Int[Array, ""], chain: Chains, key: Key[Array, ""]
    ) -> tuple[Chains, Transitions]:
        size = tuning(sampler, chain.adaptation, plan, index, segment.adapting)
        step: Any = sampler.build(target, size).step
        after, info = step(jax.random.fold_in(key, index), chain.sampler)

        def adapted() -> Chains:
            before = chain.sampler.position
            found = adapt(target, sampler, chain.adaptation, plan, index, before, after, info)
            return jax.tree.map(
                partial(jnp.where, chain.adaptation.converged), chain, Chains(after, found)
            )

        new = jax.lax.cond(segment.adapting, adapted, lambda: Chains(after, chain.adaptation))
        stats = _stats(chain.sampler, new.sampler, info)
        if sampler.tunes_step_size:
            stats["step_size"] = size.step_size
        return new, Transitions(new.sampler.position, stats)

    def body(index: Array, carry: tuple[Chains, Transitions]) -> tuple[Chains, Transitions]:
        chains, record = carry
        chains, new = every_chain(partial(transition, segment.first + index), in_turn)(chains, keys)
        return chains, jax.tree.map(lambda kept, row: kept.at[index].set(row), record, new)

    _, shapes = jax.eval_shape(jax.vmap(partial(transition, segment.first)), chains, keys)
    empty = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)
    return jax.lax.fori_loop(0, segment.length, body, (chains, empty))


def every_chain(function: Callable[..., Any], in_turn: bool) -> Callable[..., Any]:
    """``function`` of one chain for all of them: vectorised, or one after the other.

    In turn, no chain waits for the longest trajectory of the others and arrays stay in cache;
    vectorised, small arrays share the cost of starting each operation.
    """
    if not in_turn:
        return jax.vmap(function)
    return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)


def _stats(before: Any, after: Any, info: Info) -> dict[str, Array]:
    """ArviZ's ``sample_stats`` of one transition, by ArviZ's names.

    ``energy`` is the Hamiltonian at the start of the trajectory, which is what the energy
    diagnostic (BFMI) needs; samplers without momenta have none.
    """
    lp_before, lp = (state.logdensity + log_prior(state.position) for state in (before, after))
    stats = {
        "acceptance_rate": info.acceptance_rate,
        "diverging": info.is_divergent,
        "lp": lp,
        "n_steps": info.num_steps,
    }
    if info.kinetic_energy is not None:
        stats["energy"] = info.kinetic_energy - lp_before
    return stats
