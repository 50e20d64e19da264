"""Before a long run: what can be known in seconds about a target, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from bnnsample.diagnostics.findings import Finding, Verdict
from bnnsample.diagnostics.validation.costs import memory, precision, traces
from bnnsample.diagnostics.validation.gradients import density, looks
from bnnsample.diagnostics.validation.positions import (
    density_gap,
    has_way_back,
    logdet_gap,
    position_of,
)
from bnnsample.diagnostics.validation.shapes import shapes
from bnnsample.diagnostics.validation.timing import seconds
from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior, as_test_inputs
from bnnsample.numerics import full_precision
from bnnsample.repriorisation.base import AbstractTarget, Position
from bnnsample.sampling.chains import Segment, advance, chain_keys, start
from bnnsample.sampling.choice import choose
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sampling.settings import check_arguments

POSITIONS = 8
"""Starts and draws of N(0, I), half of either, that everything is looked at."""

SMALL_READOUT = 64
"""Entries up to which the map's Jacobian is made by autodiff."""

ROUNDINGS = 1e4
"""Multiple of the rounding error that a formula may be off by; arbitrary."""

SHAKEN = 5.0
"""Multiple of what rounding of parameters moves a position by that it may be off by."""


@full_precision
def preflight(
    target: AbstractTarget | Posterior,
    sampler: AbstractSampler | None = None,
    *,
    chains: int = 4,
    warmup: int = 500,
    draws: int = 500,
    x_test: ArrayLike | None = None,
    seed: int = 0,
    posterior: Posterior | None = None,
) -> Verdict:
    """Check in seconds what would otherwise be found out after hours, without a draw.

    The arguments are those of ``bnn.sample``; ``posterior`` is the one that the target is meant to
    be of, by default its own. Findings: shapes; log density and gradient, finite at starts and
    draws of N(0, I) and of the right slope; the way from positions to parameters and back; the
    density against that of the parameters and the map's log-determinant, at any width, and the
    log-determinant against autodiff where the readout is small; nats lost in float32; how often the
    density is traced; memory and time, roughly. A check that does not apply is told and not judged.
    Raises ``ValueError`` for what ``bnn.sample`` refuses.
    """
    check_arguments(
        target, sampler, chains=chains, warmup=warmup, draws=draws, seed=seed,
        on_progress=None, out=None,
    )  # fmt: skip
    target, sampler = choose(target, sampler)
    meant = target.posterior if posterior is None else posterior
    test = None if x_test is None else as_test_inputs(x_test, target.posterior.x)
    # other numbers than those of a run with this seed
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 4), 3)
    _check_sampler(target, sampler)
    findings = [shapes(target, test)]
    positions = _positions(target, keys[0])
    findings += density(looks(target, positions, jax.random.split(keys[1], POSITIONS)))
    findings += _maps(target, meant, positions, keys[2])
    findings += [precision(target, positions), traces(target, positions)]
    findings.append(memory(target, chains, draws, test))
    of_chains = positions[jnp.arange(chains) % POSITIONS]
    findings.append(seconds(target, sampler, of_chains, warmup + draws))
    return Verdict.of(findings)


def _check_sampler(target: AbstractTarget, sampler: AbstractSampler) -> None:
    """Let a sampler refuse a target that it is not for, as it does once it is traced."""
    keys = chain_keys(0, target.name, 1)
    chain = jax.eval_shape(partial(start, target, sampler), keys.init)
    segment = Segment(*map(jnp.asarray, (0, 1, 1, True)))
    step = partial(advance, sampler=sampler, keys=keys.warmup, segment=segment, capacity=1)
    jax.eval_shape(lambda chains: step(target, chains=chains), chain)


def _positions(target: AbstractTarget, key: Key[Array, ""]) -> Float[Array, "positions dim"]:
    start_key, prior_key = jax.random.split(key)
    half = POSITIONS // 2
    starts = jax.lax.map(target.init, jax.random.split(start_key, half))
    prior = jax.random.normal(prior_key, starts.shape, starts.dtype)
    return jnp.concatenate([starts, prior])


def _maps(
    target: AbstractTarget,
    posterior: Posterior,
    positions: Float[Array, "positions dim"],
    key: Key[Array, ""],
) -> Iterator[Finding]:
    if not has_way_back(target):
        kind = type(target).__name__
        yield Finding("round trip", None, f"not checked: no way back is known of a {kind}")
        return
    keys = jax.random.split(key, POSITIONS)
    allowed = ROUNDINGS * float(jnp.finfo(positions.dtype).eps)
    small = target.readout_size <= SMALL_READOUT
    back, shaken, gaps, logdets, sizes = _trips(target, posterior, positions, keys, small=small)
    worst, near = float(jnp.max(back)), max(allowed, SHAKEN * float(jnp.max(shaken)))
    yield Finding(
        name="round trip",
        ok=worst <= near,
        figure=f"positions come back to within {worst:.1e} (at most {near:.1e})",
        advice="The map of the readout is close to singular: raise the noise, or use float64",
        value=worst,
        threshold=near,
    )
    for name, gap, shown in (
        ("log density against the parameters'", gaps, True),
        ("log-determinant against autodiff", logdets, small),
    ):
        largest = float(jnp.max(jnp.abs(gap)))
        nats = allowed * max(1.0, float(jnp.max(sizes)))
        yield Finding(
            name=name,
            ok=largest <= nats if shown else None,
            figure=f"off by up to {largest:.1e} nats (at most {nats:.1e})"
            if shown
            else f"not checked: the readout has more than {SMALL_READOUT} entries",
            advice="Probably a log-determinant that is missing, or a scale that is another"
            if shown
            else "",
            value=largest if shown else float("nan"),
            threshold=nats,
        )


@partial(jax.jit, static_argnames="small")
def _trips(
    target: AbstractTarget,
    posterior: Posterior,
    positions: Float[Array, "positions dim"],
    keys: Key[Array, " positions"],
    *,
    small: bool,
) -> tuple[Array, ...]:
    """How far positions come back from themselves, how far rounding of the parameters moves them,
    gaps in nats of density and log-determinant, and sizes of log densities.
    """

    def one(arguments: tuple[Position, Key[Array, ""]]) -> tuple[Array, ...]:
        position, key = arguments
        draw: Any = target.drawer()(position, key)
        params, values = draw.params, draw.hyperparameters
        back = position_of(target, params, values)
        shaken = position_of(target, _rounded(params, key), values)
        far, moved = (jnp.max(jnp.abs(back - other), initial=0.0) for other in (position, shaken))
        gap = density_gap(target, posterior, position, key)
        logdet = logdet_gap(target, params, values) if small else jnp.zeros_like(gap)
        return far, moved, gap, logdet, jnp.abs(posterior.log_density(params, values))

    return jax.lax.map(one, (positions, keys))


def _rounded(params: Parameters, key: Key[Array, ""]) -> Parameters:
    """``params`` off by a rounding error each."""
    flat, unflatten = ravel_pytree(params)
    noise = jax.random.normal(key, flat.shape, flat.dtype)
    return unflatten(flat * (1 + jnp.finfo(flat.dtype).eps * noise))
