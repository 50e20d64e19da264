"""The posterior: its density against numpyro's distributions, and its boundary."""

from __future__ import annotations

import jax
import numpy as np
import numpyro.distributions as dist
import pytest

import bnnsample as bnn
from tests.conftest import X64

N, D, OUT = 7, 4, 3


@pytest.fixture
def data(rng) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((N, D)), rng.standard_normal((N, OUT))


@pytest.fixture
def network() -> bnn.Network:
    return bnn.fcn(2, 5, OUT)


def test_log_density_is_prior_times_likelihood_normalised(network, data):
    x, y = data
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(0.37))
    params = network.init(jax.random.key(4), (D,))
    f = network.apply(params, posterior.x)
    prior = sum(dist.Normal(0.0, 1.0).log_prob(p).sum() for p in jax.tree.leaves(params))
    likelihood = dist.Normal(f, 0.37).log_prob(posterior.y).sum()
    expected = prior + likelihood
    np.testing.assert_allclose(posterior.log_density(params), expected, rtol=1e-9 if X64 else 1e-5)


def test_one_dimensional_targets_are_one_output(data):
    x, y = data
    posterior = bnn.Posterior(bnn.fcn(1, 5, 1), x, y[:, 0], bnn.Gaussian(0.2))
    assert posterior.y.shape == (N, 1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x, y: (np.where(x == x[3, 1], np.nan, x), y), r"x: got 1 values.*\(3, 1\)"),
        (lambda x, y: (x, np.where(y == y[2, 0], np.inf, y)), r"y: got 1 values.*\(2, 0\)"),
        (lambda x, y: (x[:-1], y), "6 points in x and 7 in y"),
        (lambda x, y: (x, y[:, :2]), r"y: got shape \(7, 2\).*one-hot"),
        (lambda x, y: (x, y[:, 0]), r"y: got shape \(7, 1\)"),
        (lambda x, y: (x[:, 0], y), r"x: got shape \(7,\).*reshape"),
        (lambda x, y: (x[:0], y[:0]), r"x: got shape \(0, 4\)"),
        (lambda x, y: ([["a", "b"]], y), "x: got list that is not an array of numbers"),
        (lambda x, y: (x + 1j, y), "x: got dtype complex128"),
        (lambda x, y: (x[:, :, None], y), r"shape \(4, 1\).*flat"),
    ],
)
def test_bad_data_is_refused(network, data, change, expected):
    x, y = change(*data)
    with pytest.raises(ValueError, match=expected) as caught:
        bnn.Posterior(network, x, y, bnn.Gaussian(0.1))
    assert all(word in str(caught.value) for word in ("got", "expected", "probably"))


@pytest.mark.parametrize("noise_std", [0.0, -0.1, float("nan"), float("inf"), "0.1", True])
def test_bad_noise_is_refused(noise_std):
    with pytest.raises(ValueError, match="noise_std: got .*expected a finite number above 0"):
        bnn.Gaussian(noise_std)


def test_dtypes_follow_the_wider_of_the_data(network, data):
    x, y = data
    posterior = bnn.Posterior(
        network, x.astype(np.float32), y.astype(np.float32), bnn.Gaussian(0.1)
    )
    assert posterior.x.dtype == posterior.parameter_shapes.readout.dtype == np.float32
    mixed = bnn.Posterior(network, x.astype(np.float32), y, bnn.Gaussian(0.1))
    assert mixed.x.dtype == mixed.y.dtype == (np.float64 if X64 else np.float32)
    whole = bnn.Posterior(network, (10 * x).astype(int), y, bnn.Gaussian(0.1))
    assert whole.x.dtype == whole.y.dtype


def test_posteriors_of_one_structure_share_a_compilation(network, data):
    x, y = data
    traces = []

    @jax.jit
    def density(posterior, params):
        traces.append(1)
        return posterior.log_density(params)

    params = network.init(jax.random.key(0), (D,))
    values = [
        density(bnn.Posterior(network, x * scale, y, bnn.Gaussian(scale)), params)
        for scale in (1.0, 2.0)
    ]
    assert len(traces) == 1
    assert values[0] != values[1]
