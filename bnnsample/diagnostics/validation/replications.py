"""Chains of many posteriors at once, by the parts of which ``bnn.sample`` is made.

Replications have equal shapes, so that all of them, and all later ones, share one compilation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from threadpoolctl import threadpool_limits

from bnnsample.checks import bad_input, check_count
from bnnsample.diagnostics.validation.simulate import Probe, Quantities, quantities
from bnnsample.models.posterior import Posterior
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.sampling.chains import ChainKeys, Chains, Segment, advance, chain_keys, start
from bnnsample.sampling.choice import choose
from bnnsample.sampling.run import LAPACK_THREADS
from bnnsample.sampling.samplers.base import AbstractSampler

type TargetOf = Callable[[Posterior], AbstractTarget]
"""A posterior's target: ``bnn.marginal``, ``bnn.repriorised``, ``bnn.standard``, or one's own."""


def choose_target(posterior: Posterior, target: TargetOf | None) -> AbstractTarget:
    """The target of a posterior by ``target``, or what ``bnn.sample`` would take.

    Raises ``ValueError`` for what is no function.
    """
    if target is not None and not callable(target):
        kind = type(target).__name__
        raise bad_input(
            "target",
            got=repr(target) if isinstance(target, str) else f"a {kind}",
            expected="a function of a posterior, as each check makes posteriors of its own",
            probably="the function bnn.marginal, not its name or a target of one posterior",
        )
    return choose(posterior if target is None else target(posterior), None)[0]


def kept_draws(
    posteriors: Sequence[Posterior],
    target: TargetOf | None,
    sampler: AbstractSampler | None,
    probe: Probe,
    *,
    seed: int,
    chains: int = 1,
    warmup: int,
    draws: int,
    thinning: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Quantities of every ``thinning``-th of the draws, (draws, posterior, chain) by name.

    ``on_progress`` is called with transitions done and of all. The first ``warmup`` transitions,
    rounded up to a multiple of ``thinning``, tune each chain by itself.
    """
    for name, count in (("chains", chains), ("draws", draws), ("thinning", thinning)):
        check_count(name, count)
    check_count("warmup", warmup)
    targets = [choose_target(posterior, target) for posterior in posteriors]
    sampler = choose(targets[0], sampler)[1]
    keys = jax.tree.map(
        lambda key: key.reshape(len(posteriors), chains),
        chain_keys(seed, targets[0].name, len(posteriors) * chains),
    )
    groups = _alike(targets)
    rounds = Rounds(-(-warmup // thinning), draws, thinning)
    found: dict[str, np.ndarray] = {}
    with threadpool_limits(LAPACK_THREADS, user_api="blas"):  # as in a run
        for number, members in enumerate(groups):
            before = number * rounds.transitions
            part = _draws_of(
                [targets[member] for member in members],
                [posteriors[member] for member in members],
                sampler,
                probe,
                jax.tree.map(lambda key, members=members: key[np.array(members)], keys),
                rounds,
                lambda done, before=before: (
                    on_progress and on_progress(before + done, rounds.transitions * len(groups))
                ),
            )
            for name, values in part.items():
                room = found.setdefault(name, np.empty((draws, len(posteriors), chains)))
                room[:, members] = values
    return found


class Rounds(NamedTuple):
    """How many rounds of ``thinning`` transitions tune, and how many leave a draw."""

    warmup: int
    draws: int
    thinning: int

    @property
    def transitions(self) -> int:
        return (self.warmup + self.draws) * self.thinning


def _alike(targets: Sequence[AbstractTarget]) -> list[list[int]]:
    """Which targets have arrays of equal shapes; maps fitted by Laplace may see fewer points."""
    groups: dict[Any, list[int]] = {}
    for number, target in enumerate(targets):
        leaves, structure = jax.tree.flatten(target)
        groups.setdefault((structure, tuple(map(jnp.shape, leaves))), []).append(number)
    return list(groups.values())


def _draws_of(
    targets: Sequence[AbstractTarget],
    posteriors: Sequence[Posterior],
    sampler: AbstractSampler,
    probe: Probe,
    keys: ChainKeys,
    rounds: Rounds,
    report: Callable[[int], object],
) -> dict[str, np.ndarray]:
    stacked, meant = (stack(trees, posteriors[0].x.dtype) for trees in (targets, posteriors))
    state = _start(stacked, sampler, keys.init)
    kept: list[Quantities] = []
    for index in range(rounds.warmup + rounds.draws):
        number = index - rounds.warmup
        adapting = number < 0
        first = (index if adapting else number) * rounds.thinning
        numbers = (first, rounds.thinning, rounds.warmup * rounds.thinning, adapting)
        state = _advance(
            stacked,
            sampler,
            state,
            keys.warmup if adapting else keys.transitions,
            Segment(*map(jnp.asarray, numbers)),
            capacity=rounds.thinning,
        )
        if not adapting:
            kept.append(
                _observe(
                    stacked,
                    meant,
                    probe,
                    state.sampler.position,
                    keys.functionals,
                    jnp.asarray(number),
                )
            )
        report((index + 1) * rounds.thinning)
    return {name: np.stack([np.asarray(row[name]) for row in kept]) for name in kept[0]}


def stack[T](trees: Sequence[T], dtype: Any) -> T:
    """Trees of one structure as one, with a first axis more; numbers become ``dtype``."""

    def one(*leaves: Any) -> Array:
        exact = isinstance(leaves[0], jax.Array | np.ndarray)
        return jnp.stack([jnp.asarray(leaf, None if exact else dtype) for leaf in leaves])

    return jax.tree.map(one, *trees)


@partial(jax.jit, static_argnames="sampler")
def _start(
    targets: AbstractTarget, sampler: AbstractSampler, keys: Key[Array, "replications chains"]
) -> Chains:
    return jax.vmap(lambda target, own: start(target, sampler, own))(targets, keys)


@partial(jax.jit, static_argnames=("sampler", "capacity"))
def _advance(
    targets: AbstractTarget,
    sampler: AbstractSampler,
    chains: Chains,
    keys: Key[Array, "replications chains"],
    segment: Segment,
    *,
    capacity: int,
) -> Chains:
    def one(target: AbstractTarget, chains: Chains, keys: Key[Array, " chains"]) -> Chains:
        return advance(target, sampler, chains, keys, segment, capacity=capacity)[0]

    return jax.vmap(one)(targets, chains, keys)


@jax.jit
def _observe(
    targets: AbstractTarget,
    posteriors: Posterior,
    probe: Probe,
    positions: Float[Array, "replications chains dim"],
    keys: Key[Array, "replications chains"],
    number: Int[Array, ""],
) -> Quantities:
    def one(target: AbstractTarget, meant: Posterior, position: Array, key: Array) -> Quantities:
        draw = target.drawer(probe.x_test)(position, jax.random.fold_in(key, number))
        return quantities(meant, probe, draw.params, draw.hyperparameters, draw.predictions["f"])

    of_chains = jax.vmap(one, (None, None, 0, 0))
    return jax.vmap(of_chains)(targets, posteriors, positions, keys)
