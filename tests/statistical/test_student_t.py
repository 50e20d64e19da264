"""An unknown scale with a closed integral: the posterior is Student's t, under every target.

Features without hidden parameters, and one scale ``s`` of readout and noise with ``s^2`` from an
inverse gamma law: ``s^2`` given the data is inverse gamma, the outputs are Student's t.
"""

from __future__ import annotations

import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from arviz_stats.sampling_diagnostics import mcse

import bnnsample as bnn
from bnnsample.repriorisation.targets import TARGETS
from tests.conftest import X64

pytestmark = pytest.mark.skipif(not X64, reason="the standard errors are those of float64 runs")
SEEDS = (1, 2, 3)
LARGEST_Z = 4
A, B = 4.0, 3.0
N, D, M, OUT = 7, 3, 4, 2


def prior(shape: float) -> dist.Distribution:
    power = dist.transforms.PowerTransform(0.5)
    return dist.TransformedDistribution(dist.InverseGamma(shape, B), power)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    x, y, x_test = (rng.standard_normal(shape) for shape in ((N, D), (N, OUT), (M, D)))
    return x, y, x_test + 1.0


class Exact:
    """The laws in closed form."""

    def __init__(self, x, y, x_test):
        psi, test = (np.maximum(part, 0) / D**0.5 for part in (x, x_test))
        covariance = psi @ psi.T + np.eye(N)
        cross = test @ psi.T
        self.shape = A + N * OUT / 2
        self.rate = B + 0.5 * np.sum(y * np.linalg.solve(covariance, y))
        self.mean = cross @ np.linalg.solve(covariance, y)
        inner = test @ test.T - cross @ np.linalg.solve(covariance, cross.T)
        self.variance = np.diag(inner)[:, None] * self.rate / (self.shape - 1)


def run_of(data, target, seed, shape=A):
    x, y, x_test = data
    scale = prior(shape)
    network = bnn.Network([bnn.Activation("relu"), bnn.Dense(OUT, scale)])
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(scale))
    return bnn.sample(TARGETS[target](posterior), chains=4, draws=1500, seed=seed, x_test=x_test)


def largest_z(run, exact: Exact) -> float:
    """Over mean and second moment of ``s^2``, its distribution function, and the outputs."""
    found = run["posterior"]["w_std_out"]
    squares = found**2
    law = scipy.stats.invgamma(exact.shape, scale=exact.rate)
    quantities = [
        (squares, law.mean()),
        (squares**2, law.moment(2)),
        *(((squares < law.ppf(p)).astype(float), p) for p in (0.1, 0.5, 0.9)),
    ]
    scores = [
        abs(float(drawn.mean()) - expected) / float(mcse(drawn, method="mean"))
        for drawn, expected in quantities
    ]
    f = run["predictions"]["f"]
    for drawn, expected in ((f, exact.mean), (f**2, exact.mean**2 + exact.variance)):
        difference = drawn.mean(("chain", "draw")).values - expected
        scores.append(np.max(np.abs(difference) / np.asarray(mcse(drawn, method="mean"))))
    return max(scores)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_draws_have_the_exact_law(data, target, seed):
    assert largest_z(run_of(data, target, seed), Exact(*data)) < LARGEST_Z


@pytest.mark.slow
def test_another_prior_is_caught(data):
    assert largest_z(run_of(data, "marginal", 1, shape=2 * A), Exact(*data)) > 2 * LARGEST_Z
