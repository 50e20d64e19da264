"""Hyperparameters: their names, their density in unconstrained space, and their boundary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_density, unconstrain_fn

import bnnsample as bnn
from bnnsample.models.hyperpriors import constrained, prior_centre
from bnnsample.models.scales import substitute
from bnnsample.repriorisation.span import span_of
from bnnsample.sampling.rebuild import rebuild
from tests.conftest import X64
from tests.zoo import PRIORS

N, D = 6, 3
RELATIVE = 1e-9 if X64 else 1e-4


@pytest.fixture
def data(rng):
    return rng.standard_normal((N, D)), rng.standard_normal((N, 2))


def test_one_prior_in_several_places_is_one_hyperparameter(data):
    w_std, b_std = dist.HalfNormal(1.0), dist.LogNormal(0.0, 1.0)
    network = bnn.fcn(3, 5, 2, w_std=w_std, b_std=b_std, w_std_out=dist.Gamma(2.0, 1.0))
    posterior = bnn.Posterior(network, *data, bnn.Gaussian(dist.HalfNormal(0.3)))
    assert list(posterior.hyperpriors) == ["w_std", "b_std", "w_std_out", "noise_std"]


def test_priors_made_apart_are_named_by_their_layers(data):
    layers = [
        bnn.Dense(5, dist.HalfNormal(1.0), 0.1),
        bnn.Residual([bnn.Activation("erf"), bnn.Dense(5, dist.HalfNormal(1.0))]),
        bnn.Dense(2, dist.HalfNormal(2.0), dist.HalfNormal(1.0)),
    ]
    posterior = bnn.Posterior(bnn.Network(layers), *data, bnn.Gaussian(0.3))
    names = ["layer_0_w_std", "layer_1_branch_1_w_std", "w_std_out", "b_std_out"]
    assert list(posterior.hyperpriors) == names


def _apart():
    return bnn.Network(
        [bnn.Dense(5, dist.HalfNormal(1.0)), bnn.Dense(4, dist.HalfNormal(1.0)), bnn.Dense(2)]
    ), bnn.Gaussian(0.3)


def _shared_by_layers():
    w_std = dist.HalfNormal(1.0)
    return bnn.fcn(1, 5, 2, w_std=w_std, w_std_out=w_std), bnn.Gaussian(dist.HalfNormal(0.3))


def _shared_with_the_noise():
    scale = dist.HalfNormal(1.0)
    return bnn.fcn(1, 5, 2, w_std=scale, b_std=dist.Gamma(2.0, 1.0)), bnn.Gaussian(scale)


def _shared_and_apart():
    w_std = dist.HalfNormal(1.0)
    layers = [bnn.Dense(5, w_std), bnn.Dense(4, dist.HalfNormal(1.0)), bnn.Dense(2, w_std, w_std)]
    return bnn.Network(layers), bnn.Gaussian(0.3)


PARTS = {
    "short names": (
        lambda: (bnn.fcn(1, 5, 2, w_std=dist.HalfNormal(1.0)), bnn.Gaussian(dist.HalfNormal(0.3))),
        ["w_std", "noise_std"],
    ),
    "long names": (_apart, ["layer_0_w_std", "layer_1_w_std"]),
    "shared by layers": (_shared_by_layers, ["w_std", "noise_std"]),
    "shared with the noise": (_shared_with_the_noise, ["w_std", "b_std"]),
    "shared and apart": (_shared_and_apart, ["layer_0_w_std", "layer_1_w_std"]),
}


@pytest.fixture(params=PARTS.values(), ids=PARTS)
def parts(request):
    """Network and likelihood, and the names of their hyperparameters."""
    make, names = request.param
    return *make(), names


def test_names_stay_when_a_posterior_is_made_of_anothers_parts(parts, data):
    network, likelihood, names = parts
    first = bnn.Posterior(network, *data, likelihood)
    assert list(first.hyperpriors) == names
    again = bnn.Posterior(first.network, *data, first.likelihood)
    assert again.hyperpriors == first.hyperpriors
    passed = jax.jit(lambda posterior: posterior)(first)
    assert list(passed.hyperpriors) == list(first.hyperpriors)


def test_names_stay_where_the_network_is_that_of_the_inputs_span(parts, rng):
    network, likelihood, names = parts
    x, y = rng.standard_normal((3, D + 4)), rng.standard_normal((3, 2))
    span = span_of(bnn.Posterior(network, x, y, likelihood))
    assert span is not None
    assert list(span.posterior.hyperpriors) == names


def test_a_prior_in_several_places_is_one_hyperparameter_after_its_text_too(parts, data):
    """As a run is resumed: each place has a distribution of its own, with the name of the first."""
    network, likelihood, names = parts
    first = bnn.Posterior(network, *data, likelihood)
    again = bnn.Posterior(rebuild(repr(first.network)), *data, rebuild(repr(first.likelihood)))
    assert list(again.hyperpriors) == names
    assert repr(again.network) == repr(first.network)
    params = first.network.init(jax.random.key(2), (D,))
    values = {name: 0.4 + 0.3 * index for index, name in enumerate(names)}
    np.testing.assert_allclose(
        again.log_density(params, values), first.log_density(params, values), rtol=RELATIVE
    )


def test_a_new_prior_is_not_taken_for_a_named_one(rng):
    """Layer 2 of another posterior, moved to 4, has the name that the new layer 2 is to have."""
    erf, (x, y) = bnn.Activation("erf"), rng.standard_normal((2, N, 1))

    def own():
        return bnn.Dense(4, dist.HalfNormal(1.0))

    old = bnn.Posterior(
        bnn.Network([own(), erf, own(), erf, bnn.Dense(1)]), x, y, bnn.Gaussian(0.3)
    )
    moved = [own(), erf, own(), erf, old.network.layers[2], erf, bnn.Dense(1)]
    with pytest.raises(ValueError, match="hyperparameter layer_2_w_std: got a prior beside anoth"):
        bnn.Posterior(bnn.Network(moved), x, y, bnn.Gaussian(0.3))


def test_log_density_is_that_of_the_scales_known_and_their_priors(data):
    w_std, noise_std = dist.LogNormal(0.1, 0.7), dist.HalfNormal(np.array([0.6, 0.9]))
    posterior = bnn.Posterior(bnn.fcn(2, 5, 2, w_std=w_std), *data, bnn.Gaussian(noise_std))
    values = {"w_std": 1.3, "noise_std": jnp.array([0.4, 0.7])}
    known = bnn.Posterior(bnn.fcn(2, 5, 2, w_std=1.3), *data, bnn.Gaussian(np.array([0.4, 0.7])))
    params = known.network.init(jax.random.key(2), (D,))
    hyperprior = w_std.log_prob(1.3) + noise_std.log_prob(values["noise_std"]).sum()
    expected = known.log_density(params) + hyperprior
    np.testing.assert_allclose(posterior.log_density(params, values), expected, rtol=RELATIVE)
    given = substitute(posterior, values)
    np.testing.assert_allclose(given.log_density(params), known.log_density(params), rtol=RELATIVE)


@pytest.mark.parametrize("name", PRIORS)
def test_the_unconstrained_density_is_numpyros(name, rng):
    priors = {"a": PRIORS[name], "b": PRIORS["gamma"].expand([3])}

    def model():
        for site, prior in priors.items():
            numpyro.sample(site, prior.to_event(len(prior.batch_shape)))

    z = jnp.asarray(rng.standard_normal(4))
    values, log_prior = constrained(priors, z)
    sites = {"a": z[0], "b": z[1:]}
    expected = unconstrain_fn(model, (), {}, values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), expected, sites)
    density, _ = log_density(model, (), {}, values)
    jacobian = sum(
        jnp.sum(dist.biject_to(priors[site].support).log_abs_det_jacobian(part, values[site]))
        for site, part in sites.items()
    )
    np.testing.assert_allclose(log_prior, density + jacobian, rtol=RELATIVE, atol=RELATIVE)


@pytest.mark.parametrize("name", PRIORS)
def test_the_unconstrained_density_integrates_to_one(name):
    z = np.linspace(-30.0, 30.0, 60_001)
    density = jax.vmap(lambda z: constrained({"a": PRIORS[name]}, z[None])[1])(jnp.asarray(z))
    total = np.trapezoid(np.exp(np.asarray(density, float)), z)
    assert abs(total - 1) < (1e-6 if X64 else 1e-3)


def test_the_centre_of_the_priors_is_their_median_in_unconstrained_space():
    centre = prior_centre({"a": dist.LogNormal(0.7, 0.5), "b": dist.LogNormal(-1.0, 2.0)}, float)
    # 1000 draws each, five standard errors, of a median 1.25 times those of a mean
    errors = 1.25 * np.array([0.5, 2.0]) / 1000**0.5
    assert np.all(np.abs(centre - np.array([0.7, -1.0])) < 5 * errors)


@pytest.mark.parametrize("vague", [dist.InverseGamma(1e-3, 1e-3), dist.Gamma(1e-3, 1e-3)])
def test_vague_priors_have_a_centre_where_numbers_are_finite(vague):
    centre = prior_centre({"a": vague, "b": dist.LogNormal(0.7, 0.5)}, float)
    assert 1 < abs(float(centre[0])) < 10
    assert abs(float(centre[1]) - 0.7) < 0.2


BAD_PRIORS = {
    "real": dist.Normal(0.0, 1.0),
    "counts": dist.Poisson(3.0),
    "negative too": dist.Uniform(-0.5, 2.0),
    "hardly negative": dist.Uniform(-0.001, 10.0),
    "improper": dist.ImproperUniform(dist.constraints.positive, (), ()),
    "masked": dist.HalfNormal(1.0).mask(False),
    "masked inside": dist.TransformedDistribution(
        dist.HalfNormal(1.0).mask(False), dist.transforms.PowerTransform(0.5)
    ),
    "several": dist.HalfNormal(np.ones(2)),
    "vector": dist.Dirichlet(np.ones(3)),
}


@pytest.mark.parametrize("prior", BAD_PRIORS.values(), ids=BAD_PRIORS)
@pytest.mark.parametrize(
    "make",
    [
        lambda p: bnn.Dense(3, p),
        lambda p: bnn.Dense(3, 1.0, p),
        lambda p: bnn.Conv(3, 2, w_std=p),
        lambda p: bnn.StudentT(3.0, p),
    ],
)
def test_priors_of_other_than_one_positive_number_are_refused(make, prior):
    with pytest.raises(ValueError, match="got .*; expected .*; probably"):
        make(prior)


@pytest.mark.parametrize("make", [bnn.Gaussian, bnn.Scale])
def test_priors_whose_numbers_depend_on_each_other_are_refused(make):
    with pytest.raises(ValueError, match="got Dirichlet"):
        make(dist.Dirichlet(np.ones(3)))


@pytest.mark.parametrize("make", [bnn.Gaussian, bnn.Scale, lambda p: bnn.Dense(3, 1.0, p)])
def test_a_prior_without_its_arguments_is_refused(make):
    with pytest.raises(ValueError, match=r"got the class HalfNormal; .*HalfNormal\(1.0\)"):
        make(dist.HalfNormal)


@pytest.mark.parametrize("bad", [-1.0, 0.0, float("nan"), np.ones(3), dist.HalfNormal(1.0)])
def test_values_that_are_not_of_a_hyperparameter_are_refused(bad, data):
    posterior = bnn.Posterior(bnn.fcn(1, 5, 2), *data, bnn.Gaussian(dist.HalfNormal(1.0)))
    with pytest.raises(ValueError, match="noise_std: got .*; expected"):
        posterior.given({"noise_std": bad})


def test_two_priors_are_two_hyperparameters_wherever_they_are(rng):
    first, second = dist.LogNormal(0.0, 1.0), dist.LogNormal(3.0, 0.1)
    block = bnn.Residual([bnn.Dense(5, first), bnn.Activation("relu")], [bnn.Dense(5, second)])
    network = bnn.Network([bnn.Dense(5), block, bnn.Dense(2)])
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, 2))
    found = bnn.Posterior(network, x, y, bnn.Gaussian(0.3)).hyperpriors
    assert found["layer_1_branch_0_w_std"] is first
    assert found["layer_1_shortcut_0_w_std"] is second


def test_layers_of_another_posterior_keep_their_hyperparameters_and_their_names(rng):
    first, second = dist.LogNormal(0.0, 1.0), dist.LogNormal(3.0, 0.1)
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, 2))
    old = bnn.Posterior(bnn.fcn(1, 5, 2, w_std=first), x, y, bnn.Gaussian(0.3))
    longer = bnn.Network([bnn.Dense(4, second), *old.network.layers])
    found = bnn.Posterior(longer, x, y, bnn.Gaussian(0.3)).hyperpriors
    assert found == {"w_std": first, "layer_0_w_std": second}
    again = bnn.Network([bnn.Dense(4, first), *old.network.layers])
    assert bnn.Posterior(again, x, y, bnn.Gaussian(0.3)).hyperpriors == {"w_std": first}


def test_two_priors_of_one_name_are_refused(rng):
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, 2))
    first, second = (
        bnn.Posterior(bnn.fcn(1, 5, 2, w_std=dist.LogNormal(loc, 1.0)), x, y, bnn.Gaussian(0.3))
        for loc in (0.0, 1.0)
    )
    mixed = bnn.Network([*first.network.layers[:-1], *second.network.layers])
    with pytest.raises(ValueError, match=r"hyperparameter w_std: got two priors, LogNormal"):
        bnn.Posterior(mixed, x, y, bnn.Gaussian(0.3))


def test_a_likelihood_that_is_no_pytree_is_refused(data):
    class Plain(bnn.AbstractLikelihood):
        def distribution(self, f):
            return dist.Laplace(f, 1.0)

        def as_targets(self, y, outputs):
            return y

    with pytest.raises(ValueError, match="got a Plain, which JAX does not know.*as_pytree"):
        bnn.Posterior(bnn.fcn(1, 5, 2), *data, Plain())


def test_a_prior_is_told_with_what_it_is_made_of():
    truncated = dist.TruncatedNormal(1.0, 2.0, low=0.5)
    text = "LeftTruncatedDistribution(Normal(loc=1.0, scale=2.0), low=0.5)"
    assert text in repr(bnn.Gaussian(truncated))
    assert "LogNormal(loc=1.0, scale=2.0)" in repr(bnn.Gaussian(dist.LogNormal(1.0, 2.0)))


def test_outputs_of_a_network_with_a_prior_are_refused(rng):
    network = bnn.fcn(1, 5, 2, w_std=dist.LogNormal(0.0, 0.5))
    params = network.init(jax.random.key(0), (D,))
    with pytest.raises(ValueError, match="network: got an unknown scale"):
        network.apply(params, rng.standard_normal((N, D)))


def test_a_prior_of_other_than_as_many_noises_as_outputs_is_refused(data):
    prior = dist.HalfNormal(np.ones(3))
    with pytest.raises(ValueError, match=r"noise_std: got shape \(3,\)"):
        bnn.Posterior(bnn.fcn(1, 5, 2), *data, bnn.Gaussian(prior))


def test_a_scale_for_each_input_acts_on_its_input_and_has_a_limit_there(rng):
    factor = rng.uniform(0.3, 1.8, D)
    x = jnp.asarray(rng.standard_normal((N, D)))
    layers = bnn.fcn(1, 5, 2).layers
    scaled, plain = bnn.Network([bnn.Scale(factor), *layers]), bnn.Network(layers)
    np.testing.assert_allclose(
        bnn.nngp(scaled, x), bnn.nngp(plain, x * factor[None]), rtol=RELATIVE
    )
    params = scaled.init(jax.random.key(0), (D,), x.dtype)
    inner = bnn.Parameters(params.hidden[1:], params.readout)
    np.testing.assert_allclose(
        scaled.apply(params, x), plain.apply(inner, x * factor[None]), RELATIVE
    )
    images = rng.standard_normal((2, 3, 3, D))
    out = bnn.Scale(factor).apply((), jnp.asarray(images))
    np.testing.assert_allclose(out, images * factor, rtol=RELATIVE)


def test_relevances_are_one_hyperparameter_of_many_numbers(rng):
    """The second input does not matter, and its scale is found to be the smallest."""
    x = rng.standard_normal((60, D))
    y = np.sin(2 * x[:, 0]) + x[:, 2]
    relevance = bnn.Scale(dist.LogNormal(np.zeros(D), 1.0))
    network = bnn.Network([relevance, *bnn.fcn(1, 5, 1).layers])
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(dist.HalfNormal(1.0)))
    assert posterior.hyperpriors["factor"].shape() == (D,)
    target = bnn.marginal(posterior)
    factor = target.hyperparameters(jnp.zeros(target.dim))["factor"]
    assert int(np.argmin(factor)) == 1


def test_a_scale_for_each_channel_behind_weights_has_no_known_limit(rng):
    network = bnn.Network([bnn.Dense(3), bnn.Scale(np.ones(3)), bnn.Dense(1)])
    with pytest.raises(bnn.NoKnownLimit, match="each scaled by a factor of its own"):
        bnn.nngp(network, rng.standard_normal((4, D)))


def test_scales_of_other_inputs_are_refused(data):
    layers = [bnn.Scale(dist.HalfNormal(np.ones(D + 1))), bnn.Dense(2)]
    with pytest.raises(ValueError, match=r"Scale factor: got shape \(4,\).*\(3,\)"):
        bnn.Posterior(bnn.Network(layers), *data, bnn.Gaussian(0.3))
