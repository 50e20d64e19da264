"""Where targets lie is judged by sets of targets that depend on each other as the targets do."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import bnnsample as bnn
from bnnsample.diagnostics.quality import scores
from bnnsample.diagnostics.quality.coverage import interval, uniformity
from bnnsample.diagnostics.quality.predictive import Predictive
from bnnsample.diagnostics.quality.quality import quality
from bnnsample.diagnostics.quality.scores import _draws, _ranks
from bnnsample.models.scales import Hyperparameter
from tests.zoo import LIKELIHOODS, PRIORS

M, COLUMNS, SETS = 30, 2, 400


def shared(rng, sets: int, *, common: float = 0.5, width: float = 1.0, shift: float = 0.0):
    """PIT (m, columns, sets) of targets that share a part, under laws of another width or place."""
    part = rng.standard_normal((1, 1, sets))
    own = rng.standard_normal((M, COLUMNS, sets))
    z = common**0.5 * part + (1 - common) ** 0.5 * own
    return scipy.stats.norm.cdf((z + shift) / width)


@pytest.mark.slow
def test_p_values_are_those_of_chance_where_points_share_a_part(rng):
    replicated = shared(rng, SETS)
    pits = np.moveaxis(shared(rng, 600), -1, 0)
    found = np.array([uniformity(pit, replicated) for pit in pits])
    # binomial: 4 errors of 600 trials, and the level's own, of 400 sets
    for level in (0.01, 0.05, 0.2, 0.5):
        error = (level * (1 - level) * (1 / 600 + 1 / SETS)) ** 0.5
        assert abs(np.mean(found <= level) - level) < 4 * error
    # SciPy's, which takes points for independent
    apart = [scipy.stats.kstest(pit.ravel(), "uniform").pvalue for pit in pits]
    assert np.mean(np.array(apart) <= 0.01) > 0.3
    alone = shared(rng, SETS, common=0.0)
    assert np.mean([uniformity(pit, alone) <= 0.01 for pit in pits]) > 0.3


@pytest.mark.parametrize(
    "wrong", [{"width": 0.5}, {"width": 2.0}, {"shift": 2.0}, {"shift": -2.0}, {}]
)
def test_wrong_width_and_wrong_place_are_caught(wrong, rng):
    replicated = shared(rng, SETS, common=0.05)
    pits = np.moveaxis(shared(rng, 50, common=0.05, **wrong), -1, 0)
    caught = np.mean([uniformity(pit, replicated) <= 0.01 for pit in pits])
    # of 50 right ones more than 5 have a probability of 1e-5
    assert caught > 0.9 if wrong else caught <= 0.1


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_band_holds_95_of_100_coverages(level, rng):
    replicated = shared(rng, 2000)
    pits = np.moveaxis(shared(rng, 1000), -1, 0)
    found = [interval(level, pit, replicated, 1.0) for pit in pits]
    inside = np.mean([one.low <= one.coverage <= one.high for one in found])
    # as many may be at the ends, a share being one of 60
    assert 0.92 < inside < 0.99
    pit = pits[0]
    assert found[0].coverage == np.mean((pit >= (1 - level) / 2) & (pit <= (1 + level) / 2))
    binomial = scipy.stats.binom.interval(0.95, pit.size, level)
    assert found[0].high - found[0].low > 1.3 * (binomial[1] - binomial[0]) / pit.size


def wave(seed: int, *, narrower: float = 1.0, points: int = 80):
    """Ten random waves, which all points share, and the exact law of what is seen of them."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, points)
    features = np.cos(np.arange(10)[:, None] * np.pi * x).T / 10**0.5
    y = features @ rng.standard_normal(10) + 0.3 * rng.standard_normal(points)
    std = np.sqrt(np.sum(features**2, axis=1))
    drawn = narrower * rng.standard_normal((500, 10)) @ features.T
    return Predictive(
        bnn.Gaussian(0.3 * narrower),
        jnp.zeros((1, points, 1)),
        jnp.asarray(narrower * std[None, :, None]),
        functions=jnp.asarray(drawn[..., None]),
    ), y


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr(scores, "TARGET_DRAWS", 200)
    scores._scores.clear_cache()
    yield
    scores._scores.clear_cache()


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
def test_the_exact_law_of_a_wave_is_right_and_others_are_not():
    seeds = range(100)
    fair = [quality(*wave(seed), seed=seed) for seed in seeds]
    # binomial: more than 6 of 100 below 0.01, or 15 below 0.05, have a probability of 1e-4
    p = np.array([found.pit_p_value for found in fair])
    assert np.sum(p <= 0.01) <= 6
    assert np.sum(p <= 0.05) <= 15
    missed = [not own.low <= own.coverage <= own.high for found in fair for own in found.intervals]
    assert np.mean(missed) < 0.15
    assert all(found.ok == (found.pit_p_value >= 0.01) for found in fair)
    assert {found.direction for found in fair if found.ok} == {"as sure as they should be"}
    # the same law without what points share
    apart = []
    for seed in range(30):
        predictive, y = wave(seed)
        assert predictive.joint
        predictive = dataclasses.replace(predictive, functions=None)
        found = quality(predictive, y, seed=seed)
        apart.append(found.pit_p_value <= 0.01)
        assert not found.joint
        assert str(found).endswith("(were test points independent)")
    # 1 of 30 at a level of 0.01
    assert np.mean(apart) > 0.2
    for narrower, told in ((0.2, "too sure"), (2.5, "not sure enough")):
        found = [quality(*wave(seed, narrower=narrower), seed=seed) for seed in range(15)]
        assert np.mean([one.direction == told for one in found]) > 0.6


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize(("shift", "told"), [(0.5, "too low"), (-0.5, "too high")])
def test_predictions_that_are_off_centre_are_told(shift, told, rng):
    # 0.9 of N(0.5, 0.86) lies within 0.9 of N(0, 1)
    y = shift + 0.86 * rng.standard_normal(400)
    found = quality(Predictive(bnn.Gaussian(1.0), jnp.zeros((1, 400, 1))), y)
    assert not found.ok
    assert found.direction == told


def test_replicated_targets_have_the_law_of_the_functions(rng):
    k, m, sets = 500, 4, 20_000
    root = rng.standard_normal((m, m))
    functions = rng.standard_normal((k, m)) @ root.T
    std = np.sqrt(np.sum(root**2, axis=1))
    noise = np.array([0.3, 1.5])[:, None]
    for likelihood, values, variance in (
        (bnn.Gaussian(0.7), {}, 0.49),
        (
            bnn.Gaussian(Hyperparameter("noise_std", PRIORS["half-normal"])),
            {"noise_std": jnp.asarray(np.repeat(noise, k // 2))},
            np.mean(noise**2),
        ),
    ):
        whole = Predictive(
            likelihood,
            jnp.zeros((k, m, 1)),
            jnp.broadcast_to(jnp.asarray(std)[None, :, None], (k, m, 1)),
            values,
            jnp.asarray(functions[..., None]),
        )
        expected = functions.T @ functions / k + variance * np.eye(m)
        error = 6 * np.trace(expected) / sets**0.5
        y = np.asarray(whole.replicated(jax.random.key(0), sets))[..., 0]
        np.testing.assert_allclose(y.T @ y / sets, expected, rtol=0, atol=error)
        apart = dataclasses.replace(whole, functions=None)
        y = np.asarray(apart.replicated(jax.random.key(0), sets))[..., 0]
        np.testing.assert_allclose(y.T @ y / sets, np.diag(std**2 + variance), rtol=0, atol=error)
        assert (whole.joint, apart.joint) == (True, False)


def test_each_set_goes_through_one_component():
    f = jnp.asarray(np.arange(5.0))[:, None, None] * jnp.ones((1, 3, 1))
    predictive = Predictive(bnn.Gaussian(1e-6), f)
    assert predictive.joint
    y = np.asarray(predictive.replicated(jax.random.key(1), 10))[..., 0]
    np.testing.assert_allclose(y, np.repeat(np.arange(5.0), 2)[:, None] * np.ones(3), atol=1e-4)
    assert not dataclasses.replace(predictive, jointly=False).joint


@pytest.mark.parametrize("name", ["Gaussian", "Poisson"])
def test_ranks_are_the_distribution_function(name, rng):
    f = jnp.asarray(0.7 * rng.standard_normal((6, 5, 2)))
    predictive = Predictive(LIKELIHOODS[name].likelihood, f)
    y = predictive.replicated(jax.random.key(2), 50).astype(f.dtype)
    draws = jnp.sort(_draws(predictive, jax.random.key(3)).astype(f.dtype), axis=0)
    found = np.asarray(_ranks(draws, y, jax.random.key(4)))
    laws = scipy.stats.norm(f, 0.4) if name == "Gaussian" else scipy.stats.poisson(np.exp(f))
    at = laws.cdf(np.asarray(y)[:, None]).mean(axis=1)
    before = at if name == "Gaussian" else laws.cdf(np.asarray(y)[:, None] - 1).mean(axis=1)
    # 500 values, each within 5 errors of a share of 2000
    slack = 5 * 0.5 / len(draws) ** 0.5
    assert np.all((found >= before - slack) & (found <= at + slack))
    assert scipy.stats.kstest(found[0].ravel(), "uniform").pvalue > 1e-4
