"""Pseudo-observations: what they leave free, how many there are, and that they are Laplace's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF

import bnnsample as bnn
from bnnsample.limits import pseudo
from bnnsample.limits.laplace import laplace_fit
from bnnsample.limits.pseudo import pseudo_observations
from tests.conftest import X64
from tests.zoo import EACH_LIKELIHOOD, LIKELIHOODS

N, OUT = 12, 4
TOLERANCE = 1e-6 if X64 else 2e-3


@pytest.fixture
def gram(rng):
    return jnp.asarray(9.0 * RBF(1.5)(rng.standard_normal((N, 2))))


@pytest.fixture(params=EACH_LIKELIHOOD)
def problem(request, rng):
    likelihood, targets = LIKELIHOODS[request.param]
    x, network = np.ones((N, 1)), bnn.fcn(1, 2, OUT)
    return likelihood, bnn.Posterior(network, x, targets(rng, N, OUT), likelihood).y


def test_the_basis_is_orthonormal_and_points_are_those_worth_it(problem, gram):
    likelihood, y = problem
    found = pseudo_observations(gram, likelihood, y, OUT)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(OUT), atol=TOLERANCE)
    gains = np.linalg.eigvalsh(np.asarray(found.points @ gram @ found.points.T, float))
    assert np.all(gains > pseudo.LEAST_GAIN * (1 - 1e-3))
    assert 1 <= len(found.points) <= N
    assert found.targets.shape[0] == len(found.points)


def test_classes_have_contrasts_alone(gram, rng):
    y = jnp.asarray(rng.integers(0, OUT, (N, 1)))
    found = pseudo_observations(gram, bnn.Categorical(), y, OUT)
    assert found.targets.shape[1] == OUT - 1
    # the common level is the direction left free
    np.testing.assert_allclose(np.abs(found.basis[:, -1]), OUT**-0.5, atol=TOLERANCE)


def test_all_of_them_at_full_precision_have_the_mode_of_one_output(gram, rng, monkeypatch):
    monkeypatch.setattr(pseudo, "SOFTENED", 1.0)
    monkeypatch.setattr(pseudo, "LEAST_GAIN", 0.0)
    y = jnp.asarray(rng.poisson(2.0, (N, 1)))
    found = pseudo_observations(gram, bnn.Poisson(), y, 1)
    assert found.points.shape == (N, N)
    seen = found.points @ gram
    precision = np.eye(N) + np.asarray(seen @ found.points.T)
    mean = np.asarray(seen).T @ np.linalg.solve(
        precision, np.asarray(found.targets @ found.basis.T)
    )
    mode = laplace_fit(gram, bnn.Poisson(), y, outputs=1).mode
    np.testing.assert_allclose(mean, mode, atol=1e-4 if X64 else 2e-2)


def test_data_that_say_little_leave_one_observation(rng):
    y = jnp.asarray(rng.integers(0, 2, (N, 1)))
    found = pseudo_observations(1e-6 * jnp.eye(N), bnn.Bernoulli(), y, 1)
    assert found.points.shape == (1, N)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_a_likelihood_that_is_flat_at_the_mode_has_observations_all_the_same(gram):
    y = 300 * jnp.where(jnp.arange(len(gram)) % 2, 1.0, -1.0)[:, None].astype(gram.dtype)
    found = pseudo_observations(gram, bnn.StudentT(3.0, 0.1), y, 1)
    assert len(found.points) == 1
    assert all(np.isfinite(part).all() for part in found)
