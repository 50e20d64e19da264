"""The time that a run would take is that of its gradients, all chains together."""

from __future__ import annotations

import math
import time
from itertools import accumulate, chain, repeat

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.diagnostics.validation import timing
from tests.conftest import X64
from tests.diagnostics.validation.faults import X
from tests.zoo import SAMPLERS, goes_with

pytestmark = pytest.mark.skipif(not X64, reason="moves positions by less than float32 resolves")
TARGET = bnn.marginal(bnn.Posterior(bnn.fcn(1, 3, 1), X, X[:, :1], bnn.Gaussian(0.4)))
POSITIONS = jnp.stack([TARGET.init(jax.random.key(seed)) for seed in range(3)])


@pytest.mark.parametrize(
    ("sampler", "fewest", "most"),
    [
        (bnn.HMC(5), 5, 5),
        (bnn.HMC(), 1, 64),
        (bnn.AlternatingHMC(3), 4, 4),
        (bnn.AlternatingHMC(), 2, 33),
        (bnn.NUTS(max_doublings=4), 1, 15),
        (bnn.MALA(), 1, 1),
        (bnn.PCN(), 1, 1),
        (bnn.EllipticalSlice(), 1, math.inf),
        (bnn.MicrocanonicalLangevin(3), 6, 6),
        (bnn.UnadjustedMicrocanonicalLangevin(), 2, 2),
    ],
)
def test_evaluations_are_those_of_the_sampler(sampler, fewest, most):
    assert timing.evaluations(sampler) == (fewest, most)


QUICK = ("HMC rotation", "elliptical slice", "microcanonical")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in SAMPLERS
        if goes_with(name, TARGET.name)
    ],
)
def test_runs_take_as_many_gradients_as_are_told(name):
    sampler = SAMPLERS[name]
    run = bnn.sample(TARGET, sampler, chains=2, warmup=30, draws=10, seed=1)
    steps = run["sample_stats"]["n_steps"].values
    fewest, most = timing.evaluations(sampler)
    assert fewest <= steps.min()
    assert steps.max() <= most


def clock(monkeypatch, laps):
    """A clock that stands still between laps, and goes on by the next of ``laps`` in each."""
    ticks = accumulate(chain.from_iterable(zip(repeat(0.0), laps, strict=False)))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))


@pytest.mark.parametrize(
    ("laps", "lap"),
    [
        ([0.1, 0.12, 0.2, 1.7, 0.1], 0.2 / 4),  # of 1, 2, 4 and 8 evaluations, in 2.12 s
        ([1.5, 2.0, 0.1], 2.0 / 2),
        ([1e-3] * 11 + [1e-9], 1e-3 / 1024),
    ],
)
def test_the_fastest_go_counts(laps, lap, monkeypatch):
    clock(monkeypatch, laps)
    assert timing.seconds_per_evaluation(TARGET, POSITIONS, gradients=True) == pytest.approx(lap)


@pytest.mark.parametrize(
    ("sampler", "figure", "value"),
    [
        (bnn.HMC(5), "about 50 seconds and compilation, at 100 ms a gradient of all 3 chains", 50),
        (bnn.HMC(), "about 10 to 640 seconds and compilation, at 100 ms a gradient of", 640),
        (
            bnn.EllipticalSlice(),
            "about 10 or more seconds and compilation, at 100 ms a likelihood",
            10,
        ),
    ],
)
def test_the_finding_is_of_every_chains_transitions(sampler, figure, value, monkeypatch):
    monkeypatch.setattr(timing, "seconds_per_evaluation", lambda *_, **__: 0.1)
    finding = timing.seconds(TARGET, sampler, POSITIONS, 100)
    assert finding.ok is None
    assert finding.figure.startswith(figure)
    assert finding.value == pytest.approx(value)


def test_every_evaluation_that_is_asked_for_is_made():
    """Each moves the positions by 1e-9 of a gradient, by as much as is told."""
    gradient = jax.vmap(jax.value_and_grad(TARGET.log_likelihood))
    for in_turn in (False, True):
        after = timing._evaluate(
            TARGET, POSITIONS, jnp.asarray(1000), gradients=True, in_turn=in_turn
        )
        values, slopes = gradient(POSITIONS)
        expected = 1e-6 * (values[:, None] + slopes)
        np.testing.assert_allclose(after - POSITIONS, expected, rtol=1e-3)


@pytest.mark.slow
def test_what_is_told_is_what_a_run_takes(rng):
    """Within a factor of four, on a machine that others use too."""
    sampler, x = bnn.HMC(8), rng.normal(size=(100, 5))
    target = bnn.marginal(bnn.Posterior(bnn.fcn(1, 256, 1), x, x[:, :1], bnn.Gaussian(0.4)))
    positions = jnp.stack([target.init(jax.random.key(seed)) for seed in range(4)])

    def run(draws: int) -> float:
        began = time.perf_counter()
        bnn.sample(target, sampler, chains=4, warmup=10, draws=draws, keep=("projections",))
        return time.perf_counter() - began

    short, long = 20, 220
    run(short)
    taken = run(long) - run(short)
    told = timing.seconds(target, sampler, positions, long - short).value
    assert taken / 4 < told < 4 * taken
