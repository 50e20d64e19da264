"""The map of the readout: exact in both forms, on both sides of n = p, for 1 output and 3."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnsample.repriorisation.bijections import Dual, Identity, Primal
from bnnsample.repriorisation.conditional import PerOutput, Projected, readout_bijection
from tests.conftest import X64
from tests.zoo import SHAPES

TOLERANCE = 1e-9 if X64 else 2e-3


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request) -> tuple[int, int]:
    return request.param


@pytest.fixture(params=[1, 3], ids=["one output", "three outputs"])
def outputs(request) -> int:
    return request.param


class Problem(NamedTuple):
    features: jax.Array
    y: jax.Array
    phi: jax.Array


@pytest.fixture
def problem(shape, outputs, rng) -> Problem:
    (n, p), o = shape, outputs
    features, y, phi = (jnp.asarray(rng.standard_normal(s)) for s in ((n, p), (n, o), (p, o)))
    return Problem(features / p**0.5, y, phi)


NOISE = {"one noise": (), "by output": (1,), "by point": (0,), "by both": (0, 1)}


@pytest.fixture(params=NOISE.values(), ids=NOISE)
def noise_std(request, shape, outputs, rng) -> jax.Array:
    """From 0.3 to 0.9, along some axes of (n, o)."""
    sizes = (shape[0], outputs)
    axes = request.param
    kept = tuple(size if axis in axes else 1 for axis, size in enumerate(sizes)) if axes else ()
    return jnp.asarray(rng.uniform(0.3, 0.9, kept))


@pytest.fixture(params=[Primal, Dual], ids=["primal", "dual"])
def form(request):
    """The map in one form, whatever the noise."""

    def build(y, noise_std):
        whole = jnp.broadcast_to(noise_std, y.shape)
        if noise_std.ndim == 0 or noise_std.shape[-1] == 1:
            return request.param(y, whole[:, :1])
        return PerOutput(jax.vmap(lambda y, s: request.param(y[:, None], s[:, None]), 1)(y, whole))

    return build


def posterior_moments(features, y, noise_std):
    """Mean and covariance of one output's readout by the textbook formula, in numpy."""
    features, y, noise_std = (np.asarray(a, float) for a in (features, y, noise_std))
    weighted = features / noise_std[:, None] ** 2
    covariance = np.linalg.inv(np.eye(features.shape[1]) + features.T @ weighted)
    return covariance @ weighted.T @ y, covariance


def moments_of_outputs(features, y, noise_std):
    whole = np.broadcast_to(noise_std, y.shape)
    return [posterior_moments(features, y[:, o], whole[:, o]) for o in range(y.shape[1])]


def test_inverse_undoes_forward_and_forward_inverse(form, problem, noise_std):
    features, y, phi = problem
    bijection = form(y, noise_std)
    readout, logdet = bijection.forward_and_logdet(features, phi)
    back, inverse_logdet = bijection.inverse_and_logdet(features, readout)
    np.testing.assert_allclose(back, phi, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(inverse_logdet, -logdet, rtol=TOLERANCE)
    again, _ = bijection.forward_and_logdet(
        features, bijection.inverse_and_logdet(features, phi)[0]
    )
    np.testing.assert_allclose(again, phi, rtol=TOLERANCE, atol=TOLERANCE)


def test_log_determinant_is_that_of_the_autodiff_jacobian(form, problem, noise_std):
    features, y, phi = problem
    bijection = form(y, noise_std)
    jacobian = jax.jacfwd(lambda v: bijection.forward_and_logdet(features, v)[0])(phi)
    _, expected = jnp.linalg.slogdet(jacobian.reshape(phi.size, phi.size))
    np.testing.assert_allclose(
        bijection.forward_and_logdet(features, phi)[1], expected, rtol=TOLERANCE, atol=TOLERANCE
    )


def test_linear_part_is_a_square_root_of_the_posterior_covariance(form, problem, noise_std):
    features, y, phi = problem
    bijection = form(y, noise_std)
    at_zero = bijection.forward_and_logdet(features, jnp.zeros_like(phi))[0]
    jacobian = jax.jacfwd(lambda v: bijection.forward_and_logdet(features, v)[0])(phi)
    for output, (mean, covariance) in enumerate(moments_of_outputs(features, y, noise_std)):
        np.testing.assert_allclose(at_zero[:, output], mean, rtol=TOLERANCE, atol=TOLERANCE)
        root = np.asarray(jacobian[:, output, :, output], float)
        np.testing.assert_allclose(root @ root.T, covariance, rtol=TOLERANCE, atol=TOLERANCE)
    if y.shape[1] > 1:
        assert not np.any(jacobian[:, 0, :, 1])


def test_predictions_are_those_of_bayesian_linear_regression(form, problem, noise_std, rng):
    features, y, _ = problem
    test_features = jnp.asarray(rng.standard_normal((4, features.shape[1])))
    bijection = form(y, noise_std)
    f_mean, f_std = bijection.predict(features, bijection.factor(features), test_features)
    test = np.asarray(test_features, float)
    for output, (mean, covariance) in enumerate(moments_of_outputs(features, y, noise_std)):
        std = np.sqrt(np.diag(test @ covariance @ test.T))
        np.testing.assert_allclose(f_mean[:, output], test @ mean, TOLERANCE, TOLERANCE)
        np.testing.assert_allclose(f_std[:, output], std, TOLERANCE, TOLERANCE)


def test_the_two_forms_have_one_law_but_are_different_square_roots(problem):
    features, y, phi = problem
    noise_std = jnp.full((len(y), 1), 0.6)
    primal, dual = (form(y, noise_std).forward_and_logdet(features, phi) for form in (Primal, Dual))
    np.testing.assert_allclose(primal[1], dual[1], rtol=TOLERANCE)
    assert jnp.max(jnp.abs(primal[0] - dual[0])) > 1e-2


def test_the_cheaper_form_is_chosen_and_one_for_all_outputs_that_share_their_noise(
    shape, problem, noise_std
):
    (n, p), (features, y, phi) = shape, problem
    bijection = readout_bijection(p, y, noise_std)
    apart = noise_std.ndim > 0 and noise_std.shape[-1] > 1
    assert isinstance(bijection, PerOutput) == apart
    own = bijection.maps if isinstance(bijection, PerOutput) else bijection
    assert isinstance(own, Dual if p > n else Primal)
    readout, _ = bijection.forward_and_logdet(features, phi)
    whole = jnp.broadcast_to(noise_std, y.shape)
    for o in range(y.shape[1]):
        alone = readout_bijection(p, y[:, o : o + 1], whole[:, o : o + 1])
        expected, _ = alone.forward_and_logdet(features, phi[:, o : o + 1])
        np.testing.assert_allclose(readout[:, o], expected[:, 0], TOLERANCE, TOLERANCE)


def test_less_noise_contracts_more_and_huge_noise_is_the_identity(form, problem):
    features, y, phi = problem
    logdets = [
        form(y, jnp.asarray(noise)).forward_and_logdet(features, phi)[1]
        for noise in (0.1, 1.0, 1e3)
    ]
    assert logdets[0] < logdets[1] < logdets[2] <= 0
    readout, _ = form(y, jnp.asarray(1e4)).forward_and_logdet(features, phi)
    np.testing.assert_allclose(readout, phi, atol=1e-5 if X64 else 1e-2)


def test_of_some_combinations_it_is_the_posterior_given_those_and_undone(form, shape, rng):
    """Oracle: regression of all entries of the readout at once, four outputs of which two count."""
    (n, p), m, seen, outputs = shape, 5, 2, 4
    points, features, y, phi = (
        jnp.asarray(rng.standard_normal(s)) for s in ((m, n), (n, p), (m, seen), (p, outputs))
    )
    features = features / p**0.5
    basis = jnp.asarray(np.linalg.qr(rng.standard_normal((outputs, outputs)))[0])
    noise_std = jnp.asarray(rng.uniform(0.3, 0.9, (m, 1)))
    bijection = Projected(points, basis, form(y, noise_std))

    design = np.kron(np.asarray(points @ features, float), np.asarray(basis[:, :seen].T, float))
    mean, covariance = posterior_moments(
        design, np.asarray(y, float).ravel(), np.repeat(np.asarray(noise_std, float), seen)
    )
    readout, logdet = bijection.forward_and_logdet(features, phi)
    root = jax.jacfwd(lambda v: bijection.forward_and_logdet(features, v)[0])(phi)
    root = np.asarray(root, float).reshape(phi.size, phi.size)
    centre = bijection.forward_and_logdet(features, jnp.zeros_like(phi))[0]
    np.testing.assert_allclose(centre.ravel(), mean, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(root @ root.T, covariance, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(logdet, np.linalg.slogdet(root)[1], TOLERANCE, TOLERANCE)

    back, inverse_logdet = bijection.inverse_and_logdet(features, readout)
    np.testing.assert_allclose(back, phi, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(inverse_logdet, -logdet, rtol=TOLERANCE, atol=TOLERANCE)


def test_identity_is_a_member(problem):
    features, _, phi = problem
    readout, logdet = Identity().forward_and_logdet(features, phi)
    assert logdet == 0
    assert jnp.array_equal(Identity().inverse_and_logdet(features, readout)[0], phi)
