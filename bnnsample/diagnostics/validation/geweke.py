"""Geweke's joint-distribution test: a chain that also draws its targets keeps the joint law."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from threadpoolctl import threadpool_limits

from bnnsample.checks import check_count
from bnnsample.diagnostics.findings import Verdict
from bnnsample.diagnostics.validation.calibration import check_level
from bnnsample.diagnostics.validation.moments import Reference, judge_moments
from bnnsample.diagnostics.validation.positions import check_way_back, position_of
from bnnsample.diagnostics.validation.replications import TargetOf, choose_target
from bnnsample.diagnostics.validation.simulate import (
    Joint,
    Probe,
    Quantities,
    given_targets,
    probe_of,
    quantities,
    simulate_all,
    with_targets,
)
from bnnsample.models.posterior import Posterior
from bnnsample.numerics import full_precision
from bnnsample.repriorisation.base import AbstractTarget, check_posterior
from bnnsample.sampling.chains import Segment, advance, chain_keys, start
from bnnsample.sampling.choice import choose
from bnnsample.sampling.run import LAPACK_THREADS
from bnnsample.sampling.samplers.base import AbstractSampler, Tuning
from bnnsample.sampling.warmup import phases, tuning

REFERENCE, BATCHES = 20_000, 10
"""Draws of the joint law at a time, and times: all are what moments are held against, many more
than the chains' effective ones, so that their error hides nothing."""


@full_precision
def joint_distribution_test(
    posterior: Posterior,
    target: TargetOf | None = None,
    sampler: AbstractSampler | None = None,
    *,
    chains: int = 128,
    transitions: int = 100,
    warmup: int = 200,
    seed: int = 0,
    level: float = 0.001,
) -> Verdict:
    """Hold successive-conditional draws of parameters and targets against their joint law.

    Geweke 2004 (*Getting it right*). A chain alternates one transition of the sampler given the
    targets, at a fixed tuning that one warm-up has found, with new targets given the parameters. An
    error of the transition accumulates over the rounds, so that few draws see a small one. Chains
    begin at draws of the joint law and so have nothing to burn in, and errors are those of
    independent chains (as in Gandy and Scott 2020, 2001.06465), not of an estimated ESS. The map of
    the readout changes with the targets; one fitted by Laplace stays as it was, exact all the same.

    Of the posterior its network, prior, likelihood and inputs are used, not its targets. ``level``
    is the probability that all of it raises a false alarm. Raises ``ValueError`` for what is no
    posterior, bad counts, and targets of another kind than the library's.
    """
    check_posterior(posterior)
    check_level(level)
    for name, count, least in (
        ("chains", chains, 2), ("transitions", transitions, 1), ("warmup", warmup, 1)
    ):  # fmt: skip
        check_count(name, count, minimum=least)
    probe = probe_of(posterior)
    root = jax.random.split(jax.random.fold_in(jax.random.key(seed), 2), 3)
    reference = _reference(posterior, probe, root[0])
    begin, _ = simulate_all(posterior, probe, jax.random.split(root[1], chains))
    fitted = choose_target(given_targets(posterior, begin.y[0]), target)
    check_way_back(fitted)
    sampler = choose(fitted, sampler)[1]
    with threadpool_limits(LAPACK_THREADS, user_api="blas"):  # as in a run
        tuned = _tuned(fitted, sampler, seed, warmup)
        found = jax.block_until_ready(
            _successive(
                fitted, posterior, sampler, tuned, probe, begin, jax.random.split(root[2], chains),
                transitions=transitions,
            )
        )  # fmt: skip
    return Verdict.of(
        judge_moments(
            "joint distribution",
            {name: np.asarray(own).T for name, own in found.items()},
            {name: Reference.of(own) for name, own in reference.items()},
            level=level,
            advice="Transitions do not keep the posterior that targets are drawn by",
        )
    )


def _reference(posterior: Posterior, probe: Probe, key: Key[Array, ""]) -> dict[str, np.ndarray]:
    """Quantities of independent draws of the joint law; the draws themselves are not kept."""
    batches = [
        simulate_all(posterior, probe, jax.random.split(own, REFERENCE))[1]
        for own in jax.random.split(key, BATCHES)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _tuned(target: AbstractTarget, sampler: AbstractSampler, seed: int, warmup: int) -> Tuning:
    """What a warm-up on one set of targets finds."""
    keys = chain_keys(seed, target.name, 1)
    segment = Segment(*map(jnp.asarray, (0, warmup, warmup, True)))
    chain, _ = advance(
        target, sampler, start(target, sampler, keys.init), keys.warmup, segment, capacity=warmup
    )
    adaptation = jax.tree.map(lambda leaf: leaf[0], chain.adaptation)
    done, never = jnp.asarray(warmup), jnp.zeros((), bool)
    return tuning(sampler, adaptation, phases(sampler, done), done, never)


@partial(jax.jit, static_argnames=("sampler", "transitions"))
def _successive(
    target: AbstractTarget,
    posterior: Posterior,
    sampler: AbstractSampler,
    tuned: Tuning,
    probe: Probe,
    begin: Joint,
    keys: Key[Array, " chains"],
    *,
    transitions: int,
) -> Quantities:
    """Quantities of successive-conditional chains, (chain, transition) by name."""

    def round_of(joint: Joint, key: Key[Array, ""]) -> tuple[Joint, Quantities]:
        init_key, step_key, draw_key, targets_key = jax.random.split(key, 4)
        given = with_targets(target, joint.y)
        algorithm: Any = sampler.build(given, tuned)
        state = algorithm.init(position_of(given, joint.params, joint.values), init_key)
        after, _ = algorithm.step(step_key, state)
        draw = given.drawer(probe.x_test)(after.position, draw_key)
        params, values = draw.params, draw.hyperparameters
        known = posterior.given(values)
        f = known.network.apply(params, posterior.x)
        y = known.likelihood.draw(targets_key, f).astype(joint.y.dtype)
        seen = quantities(with_targets(posterior, y), probe, params, values, draw.predictions["f"])
        return Joint(params, values, y), seen

    def chain(begin: Joint, key: Key[Array, ""]) -> Quantities:
        return jax.lax.scan(round_of, begin, jax.random.split(key, transitions))[1]

    return jax.vmap(chain)(begin, keys)
