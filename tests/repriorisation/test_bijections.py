"""The map of the readout: exact in both forms, on both sides of n = p, for 1 output and 3."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnsample.repriorisation.bijections import Dual, Identity, Primal, readout_bijection
from tests.conftest import X64
from tests.zoo import SHAPES

TOLERANCE = 1e-9 if X64 else 2e-3
RIDGE = 0.37


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request) -> tuple[int, int]:
    return request.param


@pytest.fixture(params=[1, 3], ids=["one output", "three outputs"])
def problem(shape, request, rng):
    (n, p), o = shape, request.param
    features, y, phi = (jnp.asarray(rng.standard_normal(s)) for s in ((n, p), (n, o), (p, o)))
    return features / p**0.5, y, phi


@pytest.fixture(params=[Primal, Dual], ids=["primal", "dual"])
def form(request):
    return request.param


def posterior_moments(features, y, ridge):
    """Mean and covariance of the readout by the textbook formula, in numpy."""
    features, y = np.asarray(features, float), np.asarray(y, float)
    covariance = np.linalg.inv(np.eye(features.shape[1]) + features.T @ features / ridge)
    return covariance @ features.T @ y / ridge, covariance


def test_inverse_undoes_forward_and_forward_inverse(form, problem):
    features, y, phi = problem
    bijection = form(y, RIDGE)
    readout, logdet = bijection.forward_and_logdet(features, phi)
    back, inverse_logdet = bijection.inverse_and_logdet(features, readout)
    np.testing.assert_allclose(back, phi, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(inverse_logdet, -logdet, rtol=TOLERANCE)
    again, _ = bijection.forward_and_logdet(
        features, bijection.inverse_and_logdet(features, phi)[0]
    )
    np.testing.assert_allclose(again, phi, rtol=TOLERANCE, atol=TOLERANCE)


def test_log_determinant_is_that_of_the_autodiff_jacobian(form, problem):
    features, y, phi = problem
    bijection = form(y, RIDGE)
    jacobian = jax.jacfwd(lambda v: bijection.forward_and_logdet(features, v)[0])(phi)
    _, expected = jnp.linalg.slogdet(jacobian.reshape(phi.size, phi.size))
    np.testing.assert_allclose(
        bijection.forward_and_logdet(features, phi)[1], expected, rtol=TOLERANCE, atol=TOLERANCE
    )


def test_linear_part_is_a_square_root_of_the_posterior_covariance(form, problem):
    features, y, phi = problem
    p, o = phi.shape
    bijection = form(y, RIDGE)
    mean, covariance = posterior_moments(features, y, RIDGE)
    at_zero = bijection.forward_and_logdet(features, jnp.zeros_like(phi))[0]
    np.testing.assert_allclose(at_zero, mean, rtol=TOLERANCE, atol=TOLERANCE)
    jacobian = jax.jacfwd(lambda v: bijection.forward_and_logdet(features, v)[0])(phi)
    for output in range(o):
        root = np.asarray(jacobian[:, output, :, output], float)
        np.testing.assert_allclose(root @ root.T, covariance, rtol=TOLERANCE, atol=TOLERANCE)
    if o > 1:
        assert not np.any(jacobian[:, 0, :, 1])
    assert p == covariance.shape[0]


def test_predictions_are_those_of_bayesian_linear_regression(form, problem, rng):
    features, y, _ = problem
    test_features = jnp.asarray(rng.standard_normal((4, features.shape[1])))
    bijection = form(y, RIDGE)
    factor = bijection.factor(features)
    mean, covariance = posterior_moments(features, y, RIDGE)
    test = np.asarray(test_features, float)
    f_mean, f_std = bijection.predict(features, factor, test_features)
    np.testing.assert_allclose(f_mean, test @ mean, TOLERANCE, TOLERANCE)
    std = np.sqrt(np.diag(test @ covariance @ test.T))
    np.testing.assert_allclose(f_std, std, TOLERANCE, TOLERANCE)


def test_the_two_forms_have_one_law_but_are_different_square_roots(problem):
    features, y, phi = problem
    primal, dual = (form(y, RIDGE).forward_and_logdet(features, phi) for form in (Primal, Dual))
    np.testing.assert_allclose(primal[1], dual[1], rtol=TOLERANCE)
    assert jnp.max(jnp.abs(primal[0] - dual[0])) > 1e-2


def test_the_cheaper_form_is_chosen(shape, rng):
    n, p = shape
    bijection = readout_bijection(p, jnp.asarray(rng.standard_normal((n, 2))), RIDGE)
    assert isinstance(bijection, Dual if p > n else Primal)


def test_a_smaller_ridge_contracts_more_and_a_huge_one_is_the_identity(form, problem):
    features, y, phi = problem
    logdets = [form(y, ridge).forward_and_logdet(features, phi)[1] for ridge in (0.01, 1.0, 1e6)]
    assert logdets[0] < logdets[1] < logdets[2] <= 0
    readout, _ = form(y, 1e8).forward_and_logdet(features, phi)
    np.testing.assert_allclose(readout, phi, atol=1e-5 if X64 else 1e-2)


def test_identity_is_a_member(problem):
    features, _, phi = problem
    readout, logdet = Identity().forward_and_logdet(features, phi)
    assert logdet == 0
    assert jnp.array_equal(Identity().inverse_and_logdet(features, readout)[0], phi)


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_a_ridge_that_is_not_positive_is_refused(form, ridge):
    with pytest.raises(ValueError, match="ridge: got"):
        form(jnp.ones((3, 1)), ridge)
