"""The three targets are one posterior, and a target without its log-determinant is another.

Each check compares 16 first and second moments of predictions at 4.5 standard errors. With three
seeds and two comparisons that is about 100 z-scores: by chance one suite in a thousand would fail
with free seeds; with the fixed ones a failure means a change in the law of the draws.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest
from arviz_stats.sampling_diagnostics import mcse, rhat
from xarray import DataArray, DataTree

import bnnsample as bnn
from bnnsample.diagnostics.validation.conjugate import conjugate_test
from tests.conftest import X64
from tests.diagnostics.validation.faults import WithoutLogDeterminant, variance_for_std

pytestmark = pytest.mark.skipif(not X64, reason="checks the law, which precision does not change")
LARGEST_Z = 4.5


@pytest.fixture(scope="module")
def posterior() -> bnn.Posterior:
    rng = np.random.default_rng(31)
    x, y = rng.standard_normal((8, 2)), rng.standard_normal((8, 2))
    return bnn.Posterior(bnn.fcn(1, 5, 2), x, y, bnn.Gaussian(0.4))


@pytest.fixture(scope="module")
def x_test() -> np.ndarray:
    return np.random.default_rng(32).standard_normal((4, 2))


def draw(target, x_test, seed, sampler=None) -> DataTree:
    return bnn.sample(
        target, sampler, chains=4, warmup=300, draws=2000, seed=seed, x_test=x_test,
        keep=("predictions",),
    )  # fmt: skip


def moments(f: DataArray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and second moments about ``centre`` of every prediction, and their standard errors."""
    functionals = [f - centre, (f - centre) ** 2]
    means = [v.mean(("chain", "draw")).values.ravel() for v in functionals]
    errors = [np.asarray(mcse(v, method="mean")).ravel() for v in functionals]
    return np.concatenate(means), np.concatenate(errors)


def z_scores(run: DataTree, reference: DataTree) -> np.ndarray:
    centre = reference["predictions"]["f"].mean(("chain", "draw")).values[None, None]
    mean, error = moments(run["predictions"]["f"], centre)
    expected, reference_error = moments(reference["predictions"]["f"], centre)
    return (mean - expected) / np.hypot(error, reference_error)


SEEDS = [pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3)]


@pytest.fixture(scope="module", params=SEEDS, ids=lambda seed: f"seed {seed}")
def reference(request, posterior, x_test) -> tuple[int, DataTree]:
    return request.param, draw(bnn.marginal(posterior), x_test, request.param)


def test_targets_agree_in_predictive_mean_and_variance(posterior, x_test, reference):
    seed, marginal = reference
    standard = draw(bnn.standard(posterior), x_test, seed + 10, bnn.HMC(16, integrator="leapfrog"))
    repriorised = draw(bnn.repriorised(posterior), x_test, seed + 20)
    regularised = draw(bnn.repriorised(posterior, 0.5), x_test, seed + 30)
    for run in (standard, repriorised, regularised):
        assert np.max(np.asarray(rhat(run["predictions"]["f"]))) < 1.03
        assert np.max(np.abs(z_scores(run, marginal))) < LARGEST_Z


def test_rao_blackwellised_predictions_have_the_moments_of_the_draws(reference):
    predictions = reference[1]["predictions"]
    f, mean, std = (predictions[name] for name in ("f", "f_mean", "f_std"))
    for exact, drawn in ((mean, f), (mean**2 + std**2, f**2)):
        difference = drawn - exact
        error = np.asarray(mcse(difference, method="mean"))
        assert np.max(np.abs(difference.mean(("chain", "draw")).values / error)) < LARGEST_Z


def test_a_dropped_log_determinant_is_caught(posterior, x_test, reference):
    seed, marginal = reference
    broken = draw(WithoutLogDeterminant(posterior, 0.16), x_test, seed + 40)
    assert np.max(np.abs(z_scores(broken, marginal))) > 2 * LARGEST_Z


@pytest.fixture(scope="module")
def fixed_features() -> bnn.Posterior:
    """No hidden parameters: Bayesian linear regression on relu features of the inputs."""
    rng = np.random.default_rng(33)
    network = bnn.Network([bnn.Activation("relu"), bnn.Dense(2, 1.4, 0.3)])
    x, y = rng.standard_normal((7, 4)), rng.standard_normal((7, 2))
    return bnn.Posterior(network, x, y, bnn.Gaussian(0.5))


@pytest.mark.parametrize(
    ("target", "sampler"),
    [
        pytest.param(bnn.standard, bnn.HMC(12, integrator="leapfrog"), marks=pytest.mark.slow),
        pytest.param(bnn.standard, bnn.NUTS(), marks=pytest.mark.slow),
        (bnn.repriorised, bnn.HMC()),
        pytest.param(bnn.repriorised, bnn.NUTS(integrator="leapfrog"), marks=pytest.mark.slow),
        (bnn.marginal, bnn.HMC()),
    ],
    ids=["standard HMC", "standard NUTS", "repriorised HMC", "repriorised NUTS", "marginal"],
)
def test_fixed_features_give_conjugate_linear_regression(fixed_features, target, sampler):
    verdict = conjugate_test(fixed_features, target, sampler, seed=3)
    assert verdict.ok, verdict


def test_noise_taken_for_a_variance_is_caught(fixed_features):
    """Negative control of the conjugate check: noise_std = 0.25 in place of 0.5."""
    verdict = conjugate_test(fixed_features, variance_for_std, bnn.HMC(), seed=3)
    assert max(finding.value for finding in verdict.findings) > 8


@pytest.mark.slow
def test_wide_networks_approach_the_limit_and_stay_apart_from_a_wrong_one(posterior, x_test):
    """The distance to the NNGP falls from width 4 to 64, beyond its error."""
    distances = []
    for width in (4, 64):
        network = bnn.fcn(1, width, 2)
        target = bnn.marginal(
            bnn.Posterior(network, posterior.x, posterior.y, posterior.likelihood)
        )
        distances.append(bnn.distance_to_nngp(draw(target, x_test, 5)))
    narrow, wide = distances
    assert wide.interval[1] < narrow.interval[0]
    assert wide.value < narrow.value / 3


def test_keys_are_consumed_once_per_draw(posterior, x_test):
    """Momenta, acceptance and readout noise of successive draws are uncorrelated."""
    run = draw(bnn.marginal(posterior), x_test, 7)
    noise = (run["predictions"]["f"] - run["predictions"]["f_mean"]).values[..., 0, 0]
    lagged = [np.corrcoef(chain[:-1], chain[1:])[0, 1] for chain in noise]
    between = np.corrcoef(noise)[np.triu_indices(4, 1)]
    # 10 correlations of 2000 values, at five standard errors
    assert np.max(np.abs([*lagged, *between])) < 5 / 2000**0.5


def test_jit_of_the_marginal_start_needs_no_hidden_parameters(fixed_features):
    assert bnn.marginal(fixed_features).init(jax.random.key(0)).shape == (0,)
