"""Simulation-based calibration (Talts et al. 2018, 1804.06788) of likelihoods and hyperparameters.

Parameters and hyperparameters come from their priors, targets from the likelihood; the rank of each
quantity among draws of the posterior is then uniform. 128 replications each; a correct case fails
with probability 2e-3 at most, the 15 of them together at most 3 times in 100 seeds; the seed is
fixed.
"""

from __future__ import annotations

import numpy as np
import numpyro.distributions as dist
import pytest

import bnnsample as bnn
from bnnsample.diagnostics.validation.calibration import simulation_based_calibration
from bnnsample.repriorisation.targets import TARGETS
from tests.zoo import LIKELIHOODS

pytestmark = pytest.mark.slow

LEVEL = 2e-3
SAMPLERS = {
    "standard": bnn.HMC(6, integrator="leapfrog"),
    "repriorised": bnn.AlternatingHMC(3),
    "marginal": bnn.HMC(4),
}
N, D, WIDTH = 6, 2, 3
X = np.random.default_rng(1).standard_normal((N, D))


def model(likelihood: bnn.AbstractLikelihood, columns: int, outputs: int, **scales):
    """A posterior with as many outputs as its likelihood needs, and where it says so unknown
    scales.
    """
    network = bnn.fcn(1, WIDTH, outputs, "tanh", w_std=1.2, b_std=0.4, **scales)
    return bnn.Posterior(network, X, np.zeros((N, columns)), likelihood)


def of(name: str, columns: int, outputs: int) -> bnn.Posterior:
    return model(LIKELIHOODS[name].likelihood, columns, outputs)


MODELS = {
    "Gaussian": of("Gaussian", 1, 1),
    "heteroscedastic": of("heteroscedastic", 1, 2),
    "Student t": of("Student t", 1, 1),
    "Bernoulli": of("Bernoulli", 2, 2),
    "categorical": of("categorical", 1, 3),
    "Poisson": of("Poisson", 1, 1),
    "negative binomial": of("negative binomial", 1, 1),
    "unknown noise": model(bnn.Gaussian(dist.LogNormal(-0.7, 0.5)), 1, 1),
    "unknown noise and scale": model(
        bnn.Gaussian(dist.LogNormal(-0.7, 0.5)), 2, 2, w_std_out=dist.Gamma(4.0, 3.0)
    ),
    "unknown scale of Student t": model(bnn.StudentT(4.0, dist.LogNormal(-0.7, 0.5)), 1, 1),
    "unknown concentration": model(bnn.NegativeBinomial(dist.LogNormal(0.5, 0.5)), 1, 1),
}
DEFAULTS = {
    name: "marginal" if isinstance(posterior.likelihood, bnn.Gaussian) else "repriorised"
    for name, posterior in MODELS.items()
}
CASES = [
    *DEFAULTS.items(),
    ("categorical", "standard"),
    ("unknown noise", "standard"),
    ("unknown noise", "repriorised"),
    ("unknown noise and scale", "repriorised"),
]


@pytest.mark.filterwarnings("ignore:the Laplace fit:RuntimeWarning")
@pytest.mark.parametrize(("name", "target"), CASES)
def test_ranks_of_prior_draws_are_uniform(name, target):
    found = simulation_based_calibration(
        MODELS[name], TARGETS[target], SAMPLERS[target], level=LEVEL
    )
    assert found.verdict.ok, found.verdict


def test_a_wrong_noise_is_caught():
    """A negative control: noise of half its size, as a variance taken for a standard deviation."""

    def fitted(posterior: bnn.Posterior) -> bnn.AbstractTarget:
        wrong = bnn.Gaussian(0.16)
        return bnn.marginal(bnn.Posterior(posterior.network, posterior.x, posterior.y, wrong))

    found = simulation_based_calibration(MODELS["Gaussian"], fitted, bnn.HMC(4), level=LEVEL)
    assert not found.verdict.ok, found.verdict
