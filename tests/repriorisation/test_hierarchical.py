"""Targets with hyperparameters: the joint density under a change of variables, for all three."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import bnnsample as bnn
from bnnsample.limits.hyperposterior import Coordinates
from bnnsample.models.priors import NORMALISER, log_prior
from bnnsample.repriorisation.base import flatten
from bnnsample.repriorisation.hierarchical import Hierarchical
from bnnsample.repriorisation.targets import TARGETS
from tests.conftest import X64
from tests.quick import cases, quickly
from tests.zoo import LIKELIHOODS

RELATIVE = 1e-8 if X64 else 1e-3
SIZES = {"dual": (4, 3, 5), "primal": (11, 3, 5), "dual, span": (4, 8, 5)}
OUT = 2
ANY_LIKELIHOOD = cases(LIKELIHOODS.keys(), slow=set(LIKELIHOODS) - {"heteroscedastic"})


@pytest.fixture(params=SIZES.values(), ids=SIZES)
def posterior(request, rng) -> bnn.Posterior:
    """Priors of a scale before the readout, of the readout's, and of each output's noise."""
    n, d, width = request.param
    x, y = rng.standard_normal((n, d)), rng.standard_normal((n, OUT))
    network = bnn.fcn(
        1,
        width,
        OUT,
        "erf",
        w_std=dist.LogNormal(0.1, 0.5),
        b_std=0.3,
        w_std_out=dist.Gamma(3.0, 2.0),
    )
    return bnn.Posterior(network, x, y, bnn.Gaussian(dist.HalfNormal(np.array([0.5, 0.9]))))


@pytest.fixture(params=sorted(TARGETS))
def target(request, posterior) -> Hierarchical:
    made = TARGETS[request.param](posterior)
    assert isinstance(made, Hierarchical)
    assert made.name == request.param
    return made


@pytest.fixture
def position(target, rng):
    return jnp.asarray(rng.standard_normal(target.dim))


def assert_close(actual, expected):
    scale = float(jnp.max(jnp.abs(jnp.asarray(expected))))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=RELATIVE * max(scale, 1.0))


@pytest.mark.parametrize("posterior", cases(SIZES, slow={"primal", "dual, span"}), indirect=True)
@pytest.mark.parametrize("name", [pytest.param("standard", marks=pytest.mark.slow), "repriorised"])
def test_density_is_the_joint_pulled_back_through_the_whole_map(posterior, name, rng):
    """The log-determinant of the Jacobian of everything by everything, by autodiff."""
    target = TARGETS[name](posterior)
    position = jnp.asarray(rng.standard_normal(target.dim))

    def everything(position):
        params = target.constrain(position, jax.random.key(0))
        return target.hyperparameters(position), params

    values, params = everything(position)
    jacobian = jax.jacfwd(lambda q: flatten(everything(q)))(position)
    pulled_back = posterior.log_density(params, values) + jnp.linalg.slogdet(jacobian)[1]
    expected = pulled_back - target.dim * NORMALISER
    assert len(position) - len(flatten(params)) == 4
    assert_close(target.logdensity(position), expected)


def test_marginal_density_is_the_repriorised_one_integrated_over_the_readout(posterior, rng):
    repriorised, marginal = bnn.repriorised(posterior), bnn.marginal(posterior)
    if marginal.inner.span is not None:
        marginal = Hierarchical(type(marginal.inner)(posterior), marginal.coordinates)
    position = jnp.asarray(rng.standard_normal(marginal.dim))
    phi = jnp.asarray(rng.standard_normal(repriorised.dim - marginal.dim))
    joint = repriorised.logdensity(jnp.concatenate([position, phi]))
    assert_close(marginal.logdensity(position), joint - log_prior(phi))


def test_the_span_of_the_inputs_changes_no_likelihood(rng):
    x, y = rng.standard_normal((4, 8)), rng.standard_normal((4, OUT))
    network = bnn.fcn(1, 5, OUT, w_std=dist.LogNormal(0.1, 0.5))
    reduced = bnn.marginal(bnn.Posterior(network, x, y, bnn.Gaussian(0.3)))
    assert reduced.inner.span is not None
    position = jnp.asarray(rng.standard_normal(reduced.dim))
    draw = reduced.drawer()(position, jax.random.key(1))
    known = bnn.Posterior(
        bnn.fcn(1, 5, OUT, w_std=draw.hyperparameters["w_std"]), x, y, bnn.Gaussian(0.3)
    )
    unreduced = type(reduced.inner)(known)
    expected = unreduced.log_likelihood(flatten(draw.hidden))
    u, log_hyperprior = position[:1], dist.LogNormal(0.1, 0.5)
    z = reduced.coordinates.unconstrained(u)
    correction = log_hyperprior.log_prob(jnp.exp(z[0])) + z[0] + reduced.coordinates.log_det
    assert_close(
        reduced.log_likelihood(position), expected + correction - log_prior(u) - NORMALISER
    )


def test_inputs_that_depend_on_a_hyperparameter_have_no_span_of_their_own(rng):
    x, y = rng.standard_normal((4, 8)), rng.standard_normal((4, OUT))
    layers = [bnn.Scale(dist.HalfNormal(1.0)), bnn.Activation("erf"), bnn.Dense(5), bnn.Dense(OUT)]
    target = bnn.marginal(bnn.Posterior(bnn.Network(layers), x, y, bnn.Gaussian(0.3)))
    assert target.inner.span is None
    position = jnp.asarray(rng.standard_normal(target.dim))
    assert np.isfinite(target.logdensity(position))


def test_a_draw_predicts_with_its_own_hyperparameters(posterior, target, position, rng):
    x_test = jnp.asarray(rng.standard_normal((3, *posterior.input_shape)))
    draw = quickly(target.drawer(x_test))(position, jax.random.key(2))
    values = draw.hyperparameters
    assert set(values) == {"w_std", "w_std_out", "noise_std"}
    assert values["noise_std"].shape == (OUT,)
    expected = posterior.given(values).network.apply(draw.params, x_test)
    assert_close(draw.predictions["f"], expected)
    jax.tree.map(assert_close, draw.params, quickly(target.constrain)(position, jax.random.key(2)))
    if target.name == "marginal":
        assert draw.predictions["f_std"].shape == (3, OUT)
        # outputs differ in noise
        assert jnp.all(draw.predictions["f_std"][:, 0] != draw.predictions["f_std"][:, 1])
    else:
        fitted = posterior.given(values).network.apply(draw.params, posterior.x)
        assert_close(target.fitted(position), fitted)


def test_starts_are_finite_and_differ(target):
    first, again, other = (target.init(jax.random.key(k)) for k in (1, 1, 2))
    assert jnp.array_equal(first, again)
    assert not jnp.any(first == other)
    assert np.isfinite(target.logdensity(first))
    gradient = jax.grad(target.logdensity)(first)
    assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_repriorised_hyperparameters_have_unit_variance_under_a_wide_posterior(rng):
    """The second derivative of the density in ``u`` is -1: noise is what the data know best."""
    x, y = rng.standard_normal((60, 3)), rng.standard_normal((60, 1))
    network = bnn.fcn(1, 400, 1)
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(dist.HalfNormal(1.0)))
    curvatures = []
    for coordinates in (None, Coordinates(jnp.zeros(1), jnp.eye(1))):
        target = bnn.marginal(posterior)
        if coordinates is not None:
            centre = target.coordinates.centre
            target = Hierarchical(target.inner, coordinates._replace(centre=centre))
        position = jnp.asarray(rng.standard_normal(target.dim)).at[0].set(0.0)
        second = jax.grad(lambda u, t=target, q=position: jax.grad(t.logdensity)(q.at[0].set(u))[0])
        curvatures.append(float(second(0.0)))
    assert -1.5 < curvatures[0] < -0.6
    assert curvatures[1] < -40


def test_marginal_of_another_likelihood_is_refused(rng):
    x = rng.standard_normal((5, 3))
    posterior = bnn.Posterior(bnn.fcn(1, 5, 3), x, [0, 1, 2, 1, 0], bnn.Categorical())
    with pytest.raises(ValueError, match=r"got the likelihood Categorical\(\); expected Gaussian"):
        bnn.marginal(posterior)


def test_a_ridge_for_another_likelihood_is_refused(rng):
    x = rng.standard_normal((5, 3))
    posterior = bnn.Posterior(bnn.fcn(1, 5, 3), x, [0, 1, 2, 1, 0], bnn.Categorical())
    with pytest.raises(ValueError, match=r"ridge: got 0.5 with Categorical"):
        bnn.repriorised(posterior, 0.5)


def check_given_hidden(target, position, rng):
    """Differences between two readouts are those of the whole, and not those elsewhere."""
    size = target.readout_size
    readouts = jnp.asarray(rng.standard_normal((2, size)))
    elsewhere = jnp.asarray(rng.standard_normal(target.dim))
    whole, other = (
        jnp.diff(jnp.stack([target.log_likelihood(at.at[-size:].set(r)) for r in readouts]))
        for at in (position, elsewhere)
    )
    given = target.given_hidden(position)
    found = jnp.diff(jnp.stack([given(readout) for readout in readouts]))
    assert_close(found, whole)
    exact_map = target.name == "repriorised" and isinstance(
        target.posterior.likelihood, bnn.Gaussian
    )
    assert (found == 0) if exact_map else (abs(found - other) > 1e-2)


def test_given_the_hidden_weights_it_is_the_same_likelihood_of_the_readout(target, position, rng):
    if target.name == "marginal":
        with pytest.raises(ValueError, match="got the marginal one; expected .* readout"):
            target.given_hidden(position)
    else:
        check_given_hidden(target, position, rng)


@pytest.mark.parametrize("make", [bnn.standard, bnn.repriorised])
@pytest.mark.parametrize("name", ANY_LIKELIHOOD)
def test_so_it_is_whatever_the_likelihood(name, make, rng):
    likelihood, targets = LIKELIHOODS[name]
    x, y = rng.standard_normal((11, 3)), targets(rng, 11, 4)
    target = make(bnn.Posterior(bnn.fcn(1, 5, 4, w_std_out=2.0), x, y, likelihood))
    check_given_hidden(target, jnp.asarray(rng.standard_normal(target.dim)), rng)


@pytest.mark.parametrize("name", ANY_LIKELIHOOD)
def test_the_map_of_any_likelihood_is_undone_by_its_determinant(name, rng):
    likelihood, targets = LIKELIHOODS[name]
    n = 11
    x, y = rng.standard_normal((n, 3)), targets(rng, n, 4)
    posterior = bnn.Posterior(bnn.fcn(1, 5, 4, w_std_out=2.0), x, y, likelihood)
    target = bnn.repriorised(posterior)
    position = jnp.asarray(rng.standard_normal(target.dim))

    def params_of(position):
        return target.constrain(position, jax.random.key(0))

    params = quickly(params_of)(position)
    jacobian = quickly(jax.jacfwd(lambda q: flatten(params_of(q))))(position)
    log_det = jnp.linalg.slogdet(jacobian)[1]
    expected = posterior.log_density(params) + log_det - target.dim * NORMALISER
    assert_close(quickly(target.logdensity)(position), expected)
