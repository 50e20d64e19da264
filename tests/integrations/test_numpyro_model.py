"""A posterior as a NumPyro model: the same density, and NumPyro's own tools run on it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, log_likelihood
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import log_density

import bnnsample as bnn
from bnnsample.models.hyperpriors import constrained
from bnnsample.models.network import named_parameters
from bnnsample.models.scales import promoting_as_numpyro
from tests.conftest import X64
from tests.zoo import EACH_LIKELIHOOD, LIKELIHOODS

N, D, OUT = 7, 3, 4
RELATIVE = 1e-9 if X64 else 1e-4


@pytest.fixture(autouse=True)
def numpyros_rules():
    with promoting_as_numpyro():
        yield


@pytest.fixture(params=EACH_LIKELIHOOD)
def posterior(request, rng) -> bnn.Posterior:
    likelihood, targets = LIKELIHOODS[request.param]
    network = bnn.fcn(2, 5, OUT, w_std=dist.LogNormal(0.1, 0.5), w_std_out=dist.Gamma(3.0, 2.0))
    return bnn.Posterior(network, rng.standard_normal((N, D)), targets(rng, N, OUT), likelihood)


def test_log_density_is_ours_at_100_points(posterior):
    model = bnn.numpyro_model(posterior)

    @jax.jit
    def both(key):
        params_key, z_key = jax.random.split(key)
        params = posterior.network.init(params_key, (D,))
        values, _ = constrained(posterior.hyperpriors, jax.random.normal(z_key, (2,)))
        theirs, _ = log_density(model, (), {}, named_parameters(params) | values)
        return theirs, posterior.log_density(params, values)

    theirs, ours = jax.vmap(both)(jax.random.split(jax.random.key(1), 100))
    np.testing.assert_allclose(theirs, ours, rtol=RELATIVE)


def test_the_log_likelihood_is_that_of_each_point(posterior):
    """One column a point, by which ArviZ leaves one out, and the same in all."""
    draws = 3
    params = jax.vmap(lambda key: posterior.network.init(key, (D,)))(
        jax.random.split(jax.random.key(1), draws)
    )
    values = {"w_std": jnp.array([0.7, 1.1, 1.6]), "w_std_out": jnp.array([1.4, 0.6, 0.9])}
    theirs = log_likelihood(bnn.numpyro_model(posterior), named_parameters(params) | values)["obs"]
    assert theirs.shape == (draws, N)
    ours = jax.vmap(posterior.log_likelihood)(params, values)
    np.testing.assert_allclose(theirs.sum(axis=1), ours, rtol=RELATIVE)
    first = posterior.given({name: value[0] for name, value in values.items()})
    f = first.network.apply(jax.tree.map(lambda leaf: leaf[0], params), posterior.x)
    by_point = first.likelihood.point_log_densities(f, posterior.y)
    np.testing.assert_allclose(theirs[0], by_point, rtol=RELATIVE)


def test_data_given_to_the_model_count_as_the_posteriors_do(posterior):
    """Lists, and one column as a vector too."""
    model, y = bnn.numpyro_model(posterior), np.asarray(posterior.y, float)
    y = y[:, 0] if y.shape[1] == 1 else y
    values = {name: jnp.asarray(1.3) for name in ("w_std", "w_std_out")}
    sites = named_parameters(posterior.network.init(jax.random.key(1), (D,))) | values
    own, _ = log_density(model, (), {}, sites)
    given, _ = log_density(model, (np.asarray(posterior.x), y.tolist()), {}, sites)
    np.testing.assert_allclose(given, own, rtol=RELATIVE)


def test_data_that_are_not_the_posteriors_are_refused(rng):
    x, labels = rng.standard_normal((N, D)), rng.integers(0, OUT, N)
    network = bnn.fcn(1, 5, OUT)
    model = bnn.numpyro_model(bnn.Posterior(network, x, labels, bnn.Categorical()))
    for data, message in (
        ((x, labels + OUT), "y: got .*expected labels 0 to 3"),
        ((x, labels[:-1]), "x and y: got 7 points in x and 6 in y"),
        ((x[:, 1:], labels), "x_test: got examples of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            log_density(numpyro.handlers.seed(model, 0), data, {}, {})


def test_targets_where_the_noise_is_not_known_are_refused(rng):
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, 2))
    noise = bnn.Gaussian(rng.uniform(0.1, 0.3, (N, 1)))
    model = bnn.numpyro_model(bnn.Posterior(bnn.fcn(1, 5, 2), x, y, noise))
    with pytest.raises(ValueError, match="x: got 3 points without y; .*known by point"):
        Predictive(model, num_samples=2)(jax.random.key(0), x[:3])


def test_noise_of_each_output_is_one_site(rng):
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, 2))
    noise_std = dist.HalfNormal(np.array([0.5, 0.9]))
    posterior = bnn.Posterior(bnn.fcn(1, 5, 2), x, y, bnn.Gaussian(noise_std))
    params = posterior.network.init(jax.random.key(1), (D,))
    values = {"noise_std": jnp.array([0.3, 0.8])}
    theirs, _ = log_density(bnn.numpyro_model(posterior), (), {}, named_parameters(params) | values)
    np.testing.assert_allclose(theirs, posterior.log_density(params, values), rtol=RELATIVE)


@pytest.mark.slow
def test_numpyros_tools_run_on_it(rng):
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, 2))
    network = bnn.fcn(1, 5, 2, w_std=dist.LogNormal(0.1, 0.5))
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(dist.HalfNormal(1.0)))
    model = bnn.numpyro_model(posterior)
    mcmc = MCMC(NUTS(model, max_tree_depth=3), num_warmup=5, num_samples=6, progress_bar=False)
    mcmc.run(jax.random.key(0))
    samples = mcmc.get_samples()
    assert set(samples) == {
        "layer_0_weight", "layer_0_bias", "readout", "w_std", "noise_std", "f"
    }  # fmt: skip
    drawn = Predictive(model, samples)(jax.random.key(1), x[:3] + 1)
    assert drawn["obs"].shape == drawn["f"].shape == (6, 3, 2)
    prior = Predictive(model, num_samples=4)(jax.random.key(1), x)
    assert prior["obs"].shape == (4, N, 2)
    guide = AutoNormal(model)
    svi = SVI(model, guide, numpyro.optim.Adam(1e-2), Trace_ELBO())
    assert np.isfinite(svi.run(jax.random.key(0), 5, progress_bar=False).losses).all()
    named = numpyro.infer.inspect.get_model_relations(model)
    assert set(named["sample_dist"]) >= {"layer_0_weight", "readout", "w_std", "noise_std", "obs"}


def test_what_is_no_posterior_is_refused():
    with pytest.raises(ValueError, match="posterior: got a Network"):
        bnn.numpyro_model(bnn.fcn(1, 5, 2))


def test_a_vague_prior_whose_draws_overflow_leaves_the_model_to_numpyro(rng):
    noise = bnn.Gaussian(dist.InverseGamma(1e-3, 1e-3))
    posterior = bnn.Posterior(bnn.fcn(1, 5, 1), rng.standard_normal((N, D)), np.ones(N), noise)
    model = bnn.numpyro_model(posterior)
    drawn = Predictive(model, num_samples=20)(jax.random.key(1))
    assert np.isinf(drawn["noise_std"]).any()
