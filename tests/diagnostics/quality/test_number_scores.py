"""Scores of numbers and counts against SciPy's laws, quadrature and data that are calibrated."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.integrate import quad
from scipy.special import logsumexp

import bnnsample as bnn
from bnnsample.diagnostics.quality import predictive as module
from bnnsample.diagnostics.quality import scores
from bnnsample.diagnostics.quality.predictive import Predictive
from bnnsample.diagnostics.quality.quality import quality
from bnnsample.diagnostics.quality.scores import (
    LEVELS,
    REPLICATES,
    TARGET_DRAWS,
    _crps,
    point_scores,
)
from bnnsample.models.scales import Hyperparameter
from tests.conftest import X64
from tests.zoo import LIKELIHOODS, PRIORS

K, M, OUT = 7, 5, 4
CLOSE = {"rtol": 1e-9, "atol": 1e-11} if X64 else {"rtol": 2e-3, "atol": 2e-4}
UNKNOWN = Hyperparameter("noise_std", PRIORS["half-normal"])
NOISE = np.random.default_rng(3).uniform(0.3, 1.6, K)
BY_DRAW = NOISE[:, None, None]
F_STD = np.random.default_rng(4).uniform(0.1, 0.9, (K, M, OUT))


def of_gaussian(noise_std, f_std=0.0):
    return lambda f: scipy.stats.norm(f, np.sqrt(noise_std**2 + f_std**2))


CASES = {
    "Gaussian": (LIKELIHOODS["Gaussian"].likelihood, None, {}, of_gaussian(0.4)),
    "by output": (
        bnn.Gaussian(np.array([0.3, 1.2, 0.5, 0.9])),
        None,
        {},
        of_gaussian(np.array([0.3, 1.2, 0.5, 0.9])),
    ),
    "unknown noise": (
        bnn.Gaussian(UNKNOWN), None, {"noise_std": NOISE}, of_gaussian(BY_DRAW),
    ),
    "unknown noise by output": (
        bnn.Gaussian(Hyperparameter("noise_std", PRIORS["half-normal"].expand((OUT,)))),
        F_STD,
        {"noise_std": F_STD[:, 0] + 0.1},
        of_gaussian(F_STD[:, :1] + 0.1, F_STD),
    ),
    "readout integrated out": (
        bnn.Gaussian(UNKNOWN), F_STD, {"noise_std": NOISE}, of_gaussian(BY_DRAW, F_STD),
    ),
    "heteroscedastic": (
        bnn.HeteroscedasticGaussian(),
        None,
        {},
        lambda f: scipy.stats.norm(f[..., : OUT // 2], np.exp(f[..., OUT // 2 :] / 2)),
    ),
    "Student t": (bnn.StudentT(3.5, 0.7), None, {}, lambda f: scipy.stats.t(3.5, f, 0.7)),
    "Poisson": (bnn.Poisson(), None, {}, lambda f: scipy.stats.poisson(np.exp(f))),
    "negative binomial": (
        bnn.NegativeBinomial(Hyperparameter("concentration", PRIORS["gamma"])),
        None,
        {"concentration": NOISE},
        lambda f: scipy.stats.nbinom(BY_DRAW, BY_DRAW / (BY_DRAW + np.exp(f))),
    ),
}  # fmt: skip


def case(name: str, rng) -> tuple[Predictive, scipy.stats.distributions.rv_frozen, np.ndarray]:
    """A random mixture of this kind, SciPy's laws of its components, and targets."""
    likelihood, f_std, values, law = CASES[name]
    f = 0.7 * rng.standard_normal((K, M, OUT))
    predictive = Predictive(
        likelihood,
        jnp.asarray(f),
        None if f_std is None else jnp.asarray(f_std),
        {name: jnp.asarray(value) for name, value in values.items()},
    )
    laws = law(f)
    y = laws.rvs(random_state=rng)[3]
    return predictive, laws, y


@pytest.mark.parametrize("name", CASES)
def test_densities_means_and_distribution_functions_are_scipys(name, rng):
    predictive, laws, y = case(name, rng)
    found = point_scores(predictive, predictive.as_targets(y), seed=0)
    log = laws.logpmf(y) if hasattr(laws.dist, "pmf") else laws.logpdf(y)
    expected = logsumexp(log.sum(axis=-1), axis=0) - math.log(K)
    # JAX's betaln errs by 1e-6
    close = CLOSE if name != "negative binomial" else {"rtol": 0, "atol": 5e-6 if X64 else 1e-3}
    np.testing.assert_allclose(found.log_density, expected, **close)
    np.testing.assert_allclose(found.error, y - laws.mean().mean(axis=0), **CLOSE)
    at = laws.cdf(y).mean(axis=0)
    if hasattr(laws.dist, "pmf"):
        before = laws.cdf(y - 1).mean(axis=0)
        slack = 10 * CLOSE["atol"]
        assert np.all((found.pit >= before - slack) & (found.pit <= at + slack))
        assert not np.allclose(found.pit, at)
    else:
        np.testing.assert_allclose(found.pit, at, **CLOSE)


def mixture_crps(laws, y: np.ndarray, place: tuple[int, int], *, whole: bool) -> float:
    """The integral of ``(F(z) - 1[y <= z])^2``, of counts a sum."""

    def square(z: float) -> float:
        return float((laws.cdf(z)[:, *place].mean() - (y[place] <= z)) ** 2)

    if whole:
        return sum(square(z) for z in range(400))
    low, high = quad(square, -60, y[place], limit=200)[0], quad(square, y[place], 60, limit=200)[0]
    return low + high


@pytest.mark.parametrize("name", ["readout integrated out", "Student t", "Poisson"])
def test_crps_is_that_of_the_mixture(name, rng):
    predictive, laws, y = case(name, rng)
    found = [point_scores(predictive, predictive.as_targets(y), seed=s).crps for s in range(3)]
    place = 2, 1
    exact = mixture_crps(laws, y, place, whole=name == "Poisson")
    draws = laws.rvs((400, *laws.mean().shape), random_state=rng)[:, :, *place]
    # the mean of 2000 draws' distances, and half of that of pairs
    error = 1.5 * np.std(np.abs(draws - y[place])) / math.sqrt(TARGET_DRAWS)
    for crps in found:
        assert abs(crps[place] - exact) < 4 * error
    assert abs(1.2 * found[0][place] - exact) > 0.1 * exact


def gaussian_crps(mean, std, y):
    """Gneiting and Raftery 2007, eq. 21's closed form."""
    z = (y - mean) / std
    norm = scipy.stats.norm
    return std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / math.sqrt(math.pi))


def test_crps_of_one_gaussian_is_the_closed_form(rng):
    mean, std, y = rng.standard_normal((3, 40, 2))
    std = 0.5 + std**2
    predictive = Predictive(bnn.Gaussian(0.3), jnp.asarray(mean[None]), jnp.asarray(std[None]))
    total = np.sqrt(std**2 + 0.09)
    expected = gaussian_crps(mean, total, y)
    found = point_scores(predictive, jnp.asarray(y), seed=1)
    # 80 scores with an error of about 1.5 % of the std each
    np.testing.assert_allclose(found.crps / total, expected / total, atol=0.07)
    assert np.mean(found.crps) == pytest.approx(np.mean(expected), abs=4 * 0.015 / 80**0.5)
    widths = 2 * scipy.stats.norm.ppf((1 + np.array(LEVELS)) / 2) * total[..., None]
    np.testing.assert_allclose(np.mean(found.widths / widths, axis=(0, 1)), 1, atol=0.02)


@pytest.mark.parametrize("count", [2, 5])
def test_crps_of_few_draws_is_unbiased_where_the_plug_in_score_is_not(count, rng):
    replicates, mean, std, y = 4000, 0.4, 1.7, 1.1
    draws = np.sort(mean + std * rng.standard_normal((count, replicates, 1)), axis=0)
    found = np.asarray(_crps(jnp.asarray(draws), jnp.full((replicates, 1), y)))[:, 0]
    exact = gaussian_crps(mean, std, y)

    def z_score(values):
        return (np.mean(values) - exact) / (np.std(values) / math.sqrt(replicates))

    assert abs(z_score(found)) < 4
    pairs = np.abs(draws[:, None] - draws[None]).mean(axis=(0, 1))[:, 0]
    plug_in = np.abs(draws - y).mean(axis=0)[:, 0] - pairs / 2
    assert z_score(plug_in) > 6


def simulated(seed: int, family: str, *, narrower: float = 1.0):
    """A mixture for 300 points and targets of it; ``narrower`` than it is where told otherwise."""
    rng = np.random.default_rng(seed)
    f = 1.5 * rng.standard_normal((1, 300, 1)) + 0.4 * rng.standard_normal((60, 300, 1))
    chosen = f[rng.integers(60, size=300), np.arange(300)]
    if family == "Gaussian":
        y = chosen + 0.8 * rng.standard_normal(chosen.shape)
        centre = f.mean(axis=0)
        f = centre + (f - centre) * narrower
        return Predictive(bnn.Gaussian(0.8 * narrower), jnp.asarray(f)), y
    rate = np.exp(chosen) * (rng.gamma(0.3, 1 / 0.3, chosen.shape) if narrower < 1 else 1)
    return Predictive(bnn.Poisson(), jnp.asarray(f)), rng.poisson(rate)


@pytest.fixture
def few_draws(monkeypatch):
    """Coverage and PIT do not rest on draws, of which counts take long."""
    monkeypatch.setattr(scores, "TARGET_DRAWS", 2)
    scores._scores.clear_cache()
    yield
    scores._scores.clear_cache()


@pytest.mark.parametrize("family", ["Gaussian", pytest.param("Poisson", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("few_draws")
def test_calibrated_predictions_cover_and_overconfident_ones_do_not(family):
    seeds = range(4)
    fair = [quality(*simulated(seed, family), seed=seed) for seed in seeds]
    # 4 p-values below 0.005, and 12 coverages outside of 4 binomial errors: one test of 50
    assert min(found.pit_p_value for found in fair) > 0.005
    for found in fair:
        for interval in found.intervals:
            error = math.sqrt(interval.level * (1 - interval.level) / 300)
            assert abs(interval.coverage - interval.level) < 4 * error
            assert interval.low < interval.level < interval.high
        counts, _ = np.histogram(found.pit, 10, (0, 1))
        np.testing.assert_allclose(found.pit_histogram, counts / 300)
        assert found.pit_histogram.max() < 0.2
        assert found.pit_band is not None
        low, high = found.pit_band
        # 9 or 10 of 10 on average: fewer than 6 of 10 have a probability of 1e-5
        assert np.sum((low <= found.pit_histogram) & (found.pit_histogram <= high)) > 5
        assert np.all((low < 0.1) & (high > 0.1))
    for seed in seeds:
        found = quality(*simulated(seed, family, narrower=0.5), seed=seed)
        assert found.pit_p_value <= 2 / (1 + REPLICATES)
        assert found.intervals[1].coverage < found.intervals[1].low
        assert found.direction == "too sure"
        assert found.pit_band is not None
        assert np.any(found.pit_histogram > found.pit_band[1])


@pytest.mark.slow
def test_tails_that_are_too_narrow_are_seen_and_right_ones_pass():
    fair = [quality(*simulated(seed, "Gaussian"), seed=seed) for seed in range(20)]
    # each fails 1 time of 40: more than 4 of 20 have a probability of 1.1e-4
    assert sum(not found.ok for found in fair) <= 4
    seen = 0
    for seed in range(10):
        predictive, y = simulated(seed, "Gaussian")
        outliers = np.random.default_rng(seed).permutation(len(y))[: len(y) // 6]
        centre = np.asarray(predictive.f).mean(axis=0)
        y[outliers] = centre[outliers] + 3 * (y - centre)[outliers]
        found = quality(predictive, y, seed=seed)
        seen += not found.ok
    # a coverage of 0.95 is 0.86 then, 7 standard errors away
    assert seen >= 9


@pytest.mark.usefixtures("few_draws")
def test_targets_that_all_lie_on_one_side_are_not_called_noise():
    predictive, y = simulated(1, "Gaussian")
    assert quality(predictive, y + 9.0).direction == "too low"
    assert quality(predictive, y - 9.0).direction == "too high"


def test_right_predictions_score_best_by_every_proper_score():
    for narrower in (0.4, 2.5):
        for seed in range(3):
            best, y = simulated(seed, "Gaussian")
            wrong, _ = simulated(seed, "Gaussian", narrower=narrower)
            best, wrong = (quality(each, y).scores for each in (best, wrong))
            assert best["log density"].value > wrong["log density"].value
            assert best["CRPS"].value < wrong["CRPS"].value
            assert best["RMSE"].value == pytest.approx(wrong["RMSE"].value)


@pytest.mark.parametrize(
    "name", ["readout integrated out", pytest.param("negative binomial", marks=pytest.mark.slow)]
)
def test_points_are_scored_some_at_a_time(name, rng, monkeypatch):
    predictive, _, y = case(name, rng)
    targets = predictive.as_targets(y)
    whole = point_scores(predictive, targets, seed=0)
    rows = max(K, TARGET_DRAWS)
    monkeypatch.setattr(module, "BLOCK_BYTES", 2 * rows * OUT * predictive.f.dtype.itemsize)
    sizes = []

    def score(part, y, key):
        sizes.append((part.f.shape[1], len(y)))
        return y

    again = predictive.by_blocks(score, targets, 0, draws=TARGET_DRAWS)
    np.testing.assert_array_equal(again, targets)
    assert sizes == [(2, 2), (2, 2), (1, 1)]
    parts = point_scores(predictive, targets, seed=0)
    for exact in ("log_density", "error"):
        np.testing.assert_allclose(getattr(parts, exact), getattr(whole, exact), **CLOSE)
    # other draws
    np.testing.assert_allclose(parts.crps, whole.crps, rtol=0.3, atol=0.1)
    assert not np.allclose(parts.crps, whole.crps, rtol=1e-12)


def test_errors_are_those_of_means_over_points(rng):
    mean, y = rng.standard_normal((2, 1, 500, 3))
    found = quality(Predictive(bnn.Gaussian(1.0), jnp.asarray(mean)), y[0]).scores
    squares = (y[0] - mean[0]) ** 2
    assert found["RMSE"].value == pytest.approx(np.sqrt(squares.mean()), rel=1e-5)
    log = scipy.stats.norm(mean[0], 1.0).logpdf(y[0]).sum(axis=1)
    assert found["log density"].value == pytest.approx(log.mean(), rel=1e-5)
    assert found["log density"].error == pytest.approx(log.std(ddof=1) / 500**0.5, rel=1e-4)
    resampled = [np.sqrt(squares[rng.integers(500, size=500)].mean()) for _ in range(400)]
    assert found["RMSE"].error == pytest.approx(np.std(resampled), rel=0.15)


def test_one_point_has_scores_without_errors():
    found = quality(Predictive(bnn.Gaussian(1.0), jnp.zeros((3, 1, 1))), [0.5])
    assert all(math.isfinite(score.value) for score in found.scores.values())
    assert math.isnan(found.scores["CRPS"].error)


def test_same_seed_same_scores(rng):
    predictive, _, y = case("Poisson", rng)
    first, again, other = (quality(predictive, y, seed=seed) for seed in (1, 1, 2))
    assert first.scores == again.scores
    np.testing.assert_array_equal(first.pit, again.pit)
    assert not np.array_equal(first.pit, other.pit)


def test_scoring_compiles_once_for_all_values(rng):
    predictive, _, y = case("Gaussian", rng)
    scores._scores.clear_cache()
    for seed in range(3):
        point_scores(predictive, predictive.as_targets(y + seed), seed=seed)
    assert scores._scores._cache_size() == 1
    assert jax.tree.leaves(predictive)
