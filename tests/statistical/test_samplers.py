"""Every exact sampler draws from the posterior, on every target, and a broken one does not.

Two posteriors are known without sampling: fixed features make the readout Gaussian (conjugate
regression), and a network of one hidden unit has two hidden weights, so that its predictions are
integrals over a plane. Each check is of 16 or 20 first and second moments at 4 Monte-Carlo standard
errors: over all samplers, targets and seeds a few thousand z-scores, of which free seeds would put
one beyond 4 in about one suite of ten; with the fixed ones a failure is a change of law.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arviz_stats.sampling_diagnostics import mcse
from xarray import DataArray

import bnnsample as bnn
from bnnsample.pytrees import as_pytree
from bnnsample.repriorisation.targets import TARGETS
from tests.conftest import X64
from tests.zoo import EXACT_SAMPLERS, SAMPLERS, goes_with

pytestmark = pytest.mark.skipif(not X64, reason="checks the law, which precision does not change")
NOISE_STD = 0.5
QUICK = {
    ("standard", "HMC rotation"),
    ("marginal", "Langevin rotation"),
    ("repriorised", "pCN"),
}


def seeds(*, slow: bool) -> list:
    marks = [(), pytest.mark.slow, pytest.mark.slow]
    return [
        pytest.param(seed, marks=pytest.mark.slow if slow else mark)
        for seed, mark in zip((1, 2, 3), marks, strict=True)
    ]


PAIRS = [
    pytest.param(target, sampler, *seed.values, marks=seed.marks)
    for target in sorted(TARGETS)
    for sampler in EXACT_SAMPLERS
    if goes_with(sampler, target)
    for seed in seeds(slow=(target, sampler) not in QUICK)
]  # fmt: skip


def draw(target, sampler, seed, **changes):
    settings = {"chains": 8, "warmup": 400, "draws": 3000}
    return bnn.sample(target, sampler, seed=seed, **(settings | changes))


def z_scores(draws: DataArray, mean: np.ndarray, second_moment: np.ndarray) -> np.ndarray:
    scores = []
    for values, expected in ((draws, mean), ((draws - mean[None, None]) ** 2, second_moment)):
        error = np.asarray(mcse(values, method="mean"))
        scores.append((values.mean(("chain", "draw")).values - expected) / error)
    return np.abs(np.concatenate([score.ravel() for score in scores]))


@pytest.fixture(scope="module")
def regression() -> bnn.Posterior:
    rng = np.random.default_rng(41)
    x, y = rng.standard_normal((7, 4)), rng.standard_normal((7, 2))
    network = bnn.Network([bnn.Activation("relu"), bnn.Dense(2, 1.4, 0.3)])
    return bnn.Posterior(network, x, y, bnn.Gaussian(NOISE_STD))


def conjugate(regression: bnn.Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the readout and the variance of each of its entries, by linear algebra."""
    psi = np.asarray(regression.network.features(((),), regression.x))
    covariance = np.linalg.inv(np.eye(psi.shape[1]) + psi.T @ psi / NOISE_STD**2)
    mean = covariance @ psi.T @ np.asarray(regression.y) / NOISE_STD**2
    return mean, np.broadcast_to(np.diag(covariance)[:, None], mean.shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sampler", "seed"), [pair for pair in PAIRS if pair.values[0] != "marginal"]
)
def test_a_known_gaussian_is_recovered(regression, name, sampler, seed):
    run = draw(TARGETS[name](regression), EXACT_SAMPLERS[sampler], seed)
    assert np.max(z_scores(run["posterior"]["readout"], *conjugate(regression))) < 4


@pytest.fixture(scope="module")
def one_unit() -> bnn.Posterior:
    rng = np.random.default_rng(43)
    x, y = rng.standard_normal((6, 1)), rng.standard_normal((6, 2))
    network = bnn.fcn(1, 1, 2, "gelu", b_std=0.5, b_std_out=0.5)
    return bnn.Posterior(network, x, y, bnn.Gaussian(NOISE_STD))


X_TEST = np.array([[-1.5], [-0.3], [0.4], [2.0]])


@pytest.fixture(scope="module")
def by_quadrature(one_unit) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every prediction, by a grid over the two hidden weights."""
    target = bnn.marginal(one_unit)
    line = jnp.linspace(-7, 7, 281)
    grid = jnp.stack(jnp.meshgrid(line, line), axis=-1).reshape(-1, 2)
    log_weight = jax.lax.map(target.logdensity, grid, batch_size=1000)
    weight = jnp.exp(log_weight - jnp.max(log_weight))
    weight = weight / jnp.sum(weight)

    def moments(position):
        predictions = target.drawer(jnp.asarray(X_TEST))(position, jax.random.key(0)).predictions
        mean = predictions["f_mean"]
        return mean, mean**2 + predictions["f_std"] ** 2

    means, squares = jax.lax.map(moments, grid, batch_size=1000)
    mean, square = (jnp.tensordot(weight, values, 1) for values in (means, squares))
    return np.asarray(mean), np.asarray(square - mean**2)


@pytest.mark.parametrize(("name", "sampler", "seed"), PAIRS)
def test_predictions_of_a_network_are_those_of_quadrature(
    one_unit, by_quadrature, name, sampler, seed
):
    run = draw(TARGETS[name](one_unit), EXACT_SAMPLERS[sampler], seed, x_test=X_TEST)
    assert np.max(z_scores(run["predictions"]["f"], *by_quadrature)) < 4


@partial(jax.custom_vjp)
def flattened(value: jax.Array) -> jax.Array:
    """Zero, with the gradient of ``value``."""
    return 0.0 * value


flattened.defvjp(lambda value: (0.0 * value, None), lambda _, cotangent: (cotangent,))


@as_pytree("exact", "posterior")
@dataclass(init=False)
class Broken(bnn.AbstractTarget):
    """A target whose likelihood is lost in the accept step, and in it alone."""

    name = "broken"
    exact: bnn.AbstractTarget
    posterior: bnn.Posterior

    def __init__(self, exact):
        self.exact, self.posterior = exact, exact.posterior

    def log_likelihood(self, position):
        return flattened(self.exact.log_likelihood(position))

    def given_hidden(self, position):
        log_likelihood = self.exact.given_hidden(position)
        return lambda readout: flattened(log_likelihood(readout))

    def constrain(self, position, key):
        return self.exact.constrain(position, key)

    def drawer(self, x_test=None, *, whole=True):
        return self.exact.drawer(x_test, whole=whole)

    def fitted(self, position):
        return self.exact.fitted(position)

    def init(self, key):
        return self.exact.init(key)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [name for name in EXACT_SAMPLERS if name != "alternating"])
def test_a_broken_accept_step_is_caught(one_unit, by_quadrature, sampler):
    target = bnn.marginal if goes_with(sampler, "marginal") else bnn.standard
    run = draw(Broken(target(one_unit)), EXACT_SAMPLERS[sampler], 1, x_test=X_TEST)
    assert np.max(z_scores(run["predictions"]["f"], *by_quadrature)) > 6


@as_pytree("exact", "posterior")
@dataclass(init=False)
class BrokenReadout(Broken):
    """One that is lost in the accept step of the readout's own trajectory only."""

    def log_likelihood(self, position):
        return self.exact.log_likelihood(position)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [Broken, BrokenReadout])
def test_a_broken_accept_step_of_either_trajectory_is_caught(one_unit, by_quadrature, broken):
    """Warm-up answers a broken accept step by tiny steps, whose bias takes more draws to see."""
    sampler = bnn.AlternatingHMC(target_acceptance=0.5)
    run = draw(broken(bnn.standard(one_unit)), sampler, 1, x_test=X_TEST, draws=12000)
    assert np.max(z_scores(run["predictions"]["f"], *by_quadrature)) > 6


@pytest.mark.slow
def test_the_unadjusted_sampler_is_biased_and_says_so(one_unit, by_quadrature):
    sampler = bnn.UnadjustedMicrocanonicalLangevin(energy_error=2.0)
    run = draw(bnn.marginal(one_unit), sampler, 1, x_test=X_TEST)
    assert not run.attrs["exact"]
    assert not bnn.diagnose(run).ok
    assert np.max(z_scores(run["predictions"]["f"], *by_quadrature)) > 6


def test_every_sampler_is_marked_exact_but_one():
    assert [name for name, sampler in SAMPLERS.items() if not sampler.exact] == [
        "microcanonical, unadjusted"
    ]
