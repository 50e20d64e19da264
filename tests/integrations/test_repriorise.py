"""A NumPyro user's own model, repriorised: the same posterior, and refused where it is not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, Predictive
from numpyro.infer.reparam import LocScaleReparam
from numpyro.infer.util import log_density

import bnnsample as bnn
from bnnsample.integrations.numpyro import Repriorise
from bnnsample.models.scales import promoting_as_numpyro
from tests.conftest import X64

N, D, WIDTH, OUT = 9, 2, 4, 2
RELATIVE = 1e-8 if X64 else 1e-3
SITES = {"readout": "w", "features": "psi", "likelihood": "y"}


@pytest.fixture(autouse=True)
def numpyros_rules():
    with promoting_as_numpyro():
        yield


@pytest.fixture
def data(rng):
    return jnp.asarray(rng.standard_normal((N, D))), jnp.asarray(rng.standard_normal((N, OUT)))


def model(
    x,
    y=None,
    *,
    prior=None,
    use=lambda psi, w: psi @ w,
    law=dist.Normal,
    noise=lambda sigma, w: sigma,
    hidden_scale=lambda w: 1.0,
    psi_of=lambda h, w: h,
):
    """One hidden layer, an offset, a readout with a prior mean, noise drawn after the readout."""
    prior = dist.Normal(0.3, 1.7).expand([WIDTH, OUT]).to_event(2) if prior is None else prior
    a = numpyro.sample("a", dist.Normal(0.0, 1.0).expand([D, WIDTH]).to_event(2))
    offset = numpyro.sample("offset", dist.Normal(0.0, 1.0))
    w = numpyro.sample("w", prior)
    psi = numpyro.deterministic("psi", psi_of(jnp.tanh(x @ a), w))
    sigma = numpyro.sample("sigma", dist.HalfNormal(hidden_scale(w)))
    f = numpyro.deterministic("f", offset + use(psi, w))
    with numpyro.plate("points", len(x)):
        return numpyro.sample("y", law(f, noise(sigma, w)).to_event(1), obs=y)


def values_of(rng, base=False):
    values = {
        "a": jnp.asarray(rng.standard_normal((D, WIDTH))),
        "offset": jnp.asarray(0.4),
        "sigma": jnp.asarray(0.6),
    }
    if base:
        values["w_base"] = jnp.asarray(rng.standard_normal((WIDTH, OUT)))
    return values


def test_the_repriorised_density_is_the_models_pulled_back(data, rng):
    wrapped = Repriorise(model, **SITES)
    values = values_of(rng, base=True)
    density, trace = log_density(wrapped, data, {}, values)

    def readout(base):
        return log_density(wrapped, data, {}, values | {"w_base": base})[1]["w"]["value"]

    jacobian = jax.jacfwd(readout)(values["w_base"])
    own = {name: value for name, value in values.items() if name != "w_base"}
    size = WIDTH * OUT
    log_det = jnp.linalg.slogdet(jacobian.reshape(size, size))[1]
    expected, _ = log_density(model, data, {}, own | {"w": trace["w"]["value"]})
    np.testing.assert_allclose(density, expected + log_det, rtol=RELATIVE)
    np.testing.assert_allclose(
        trace["f"]["value"], 0.4 + trace["psi"]["value"] @ trace["w"]["value"], rtol=1e-5
    )


def test_the_marginal_density_is_the_repriorised_one_without_the_base(data, rng):
    marginal = Repriorise(model, **SITES, form="marginal")
    values = values_of(rng, base=True)
    joint, _ = log_density(Repriorise(model, **SITES), data, {}, values)
    base = dist.Normal(0.0, 1.0).log_prob(values.pop("w_base")).sum()
    density, trace = log_density(marginal, data, {}, values)
    np.testing.assert_allclose(density, joint - base, rtol=RELATIVE)
    assert set(trace) == {"a", "offset", "sigma", "points", "y_collapsed"}


@pytest.mark.parametrize("form", ["repriorised", "marginal"])
def test_priors_of_whole_numbers(form, data):
    """``Normal(0, 1)`` is a law of real numbers all the same."""

    def own(x, y=None):
        a = numpyro.sample("a", dist.Normal(0, 1).expand([D, WIDTH]).to_event(2))
        psi = numpyro.deterministic("psi", jnp.tanh(x @ a))
        w = numpyro.sample("w", dist.Normal(0, 1).expand([WIDTH, OUT]).to_event(2))
        numpyro.sample("y", dist.Normal(psi @ w, 1).to_event(2), obs=y)

    wrapped = Repriorise(own, **SITES, form=form)
    trace = numpyro.handlers.trace(numpyro.handlers.seed(wrapped, 0)).get_trace(*data)
    if form == "marginal":
        samples = {"a": trace["a"]["value"][None]}
        w = wrapped.complete(jax.random.key(0), samples, *data)["w"][0]
    else:
        w = trace["w"]["value"]
    assert w.shape == (WIDTH, OUT)
    assert not np.any(w == np.round(w))


def test_a_vector_readout_with_a_scale_for_each_row(rng):
    scales = jnp.asarray(rng.uniform(0.5, 1.5, WIDTH))

    def own(x, y=None):
        a = numpyro.sample("a", dist.Normal(0.0, 1.0).expand([D, WIDTH]).to_event(2))
        psi = numpyro.deterministic("psi", jnp.tanh(x @ a))
        w = numpyro.sample("w", dist.Normal(jnp.zeros(WIDTH), scales).to_event(1))
        numpyro.sample("y", dist.Normal(psi @ w, 0.4), obs=y)

    x, y = jnp.asarray(rng.standard_normal((N, D))), jnp.asarray(rng.standard_normal(N))
    a = jnp.asarray(rng.standard_normal((D, WIDTH)))
    psi = np.tanh(np.asarray(x @ a)) * np.asarray(scales)
    covariance = psi @ psi.T + 0.16 * np.eye(N)
    _, logdet = np.linalg.slogdet(covariance)
    collapsed = -0.5 * (y @ np.linalg.solve(covariance, y) + logdet + N * np.log(2 * np.pi))
    wrapped = Repriorise(own, **SITES, form="marginal")
    density, _ = log_density(wrapped, (x, y), {}, {"a": a})
    prior = dist.Normal(0.0, 1.0).log_prob(a).sum()
    np.testing.assert_allclose(density, collapsed + prior, rtol=RELATIVE)


def test_completed_samples_have_the_readouts_conditional_moments(data, rng):
    """2000 draws given one hidden state: mean and variance of each weight at 5 standard errors."""
    draws = 2000
    wrapped = Repriorise(model, **SITES, form="marginal")
    values = values_of(rng)
    samples = {name: jnp.stack([value] * draws) for name, value in values.items()}
    completed = wrapped.complete(jax.random.key(4), samples, *data)
    assert set(completed) == {"a", "offset", "sigma", "w", "psi", "f"}
    psi = np.tanh(np.asarray(data[0] @ values["a"]))
    covariance = np.linalg.inv(np.eye(WIDTH) / 1.7**2 + psi.T @ psi / 0.36)
    residual = np.asarray(data[1]) - 0.4
    mean = covariance @ (0.3 / 1.7**2 + psi.T @ residual / 0.36)
    std = np.sqrt(np.diag(covariance))[:, None]
    w = np.asarray(completed["w"], float)
    assert np.all(np.abs(w.mean(0) - mean) < 5 * std / draws**0.5)
    assert np.all(np.abs(w.var(0) / std**2 - 1) < 5 * (2 / draws) ** 0.5)
    drawn = Predictive(model, {k: v[:7] for k, v in completed.items()})(jax.random.key(1), data[0])
    assert drawn["y"].shape == (7, N, OUT)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["repriorised", "marginal"])
def test_numpyros_nuts_runs_on_it(data, form):
    wrapped = Repriorise(model, **SITES, form=form)
    mcmc = MCMC(NUTS(wrapped, max_tree_depth=3), num_warmup=5, num_samples=6, progress_bar=False)
    mcmc.run(jax.random.key(0), *data)
    samples = mcmc.get_samples()
    if form == "marginal":
        assert set(samples) == {"a", "offset", "sigma"}
        samples = wrapped.complete(jax.random.key(3), samples, *data)
    assert samples["w"].shape == (6, WIDTH, OUT)
    np.testing.assert_allclose(
        samples["f"], samples["offset"][:, None, None] + samples["psi"] @ samples["w"], rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("form", ["repriorised", "marginal"])
def test_numpyros_nuts_on_the_wrapped_model_agrees_with_ours(form, seed, rng):
    """Means and second moments of predictions, 4 points by 2 outputs, at 5 standard errors."""
    from arviz_stats.sampling_diagnostics import mcse

    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, OUT))
    x_test = rng.standard_normal((4, D))
    posterior = bnn.Posterior(
        bnn.fcn(1, WIDTH, OUT, "tanh", w_std=1.0, b_std=None, w_std_out=1.3, b_std_out=None),
        x, y, bnn.Gaussian(dist.HalfNormal(1.0)),
    )  # fmt: skip

    def own(x, y=None):
        a = numpyro.sample("a", dist.Normal(0.0, 1.0).expand([D, WIDTH]).to_event(2))
        psi = numpyro.deterministic("psi", jnp.tanh(x @ a / D**0.5) / WIDTH**0.5)
        w = numpyro.sample("w", dist.Normal(0.0, 1.3).expand([WIDTH, OUT]).to_event(2))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        numpyro.deterministic("f", psi @ w)
        numpyro.sample("y", dist.Normal(psi @ w, sigma).to_event(2), obs=y)

    ours = bnn.sample(bnn.marginal(posterior), chains=4, draws=4000, seed=seed, x_test=x_test)
    wrapped = Repriorise(own, **SITES, form=form)
    kernel = NUTS(wrapped)
    mcmc = MCMC(
        kernel,
        num_warmup=1000,
        num_samples=4000,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(seed), jnp.asarray(x), jnp.asarray(y))
    samples = mcmc.get_samples()
    if form == "marginal":
        samples = wrapped.complete(jax.random.key(9), samples, jnp.asarray(x), jnp.asarray(y))
    predict = Predictive(own, {k: samples[k] for k in ("a", "w", "sigma")}, return_sites=["f"])
    theirs = np.asarray(predict(jax.random.key(2), jnp.asarray(x_test))["f"])
    theirs = theirs.reshape(4, -1, *theirs.shape[1:])
    f = ours["predictions"]["f"].values
    for power in (1, 2):
        errors = [np.asarray(mcse(_as_draws(part**power), method="mean")) for part in (f, theirs)]
        difference = (f**power).mean((0, 1)) - (theirs**power).mean((0, 1))
        assert np.max(np.abs(difference) / np.hypot(*errors)) < 5


def _as_draws(values):
    from xarray import DataArray

    return DataArray(values, dims=("chain", "draw", "point", "output"))


REFUSED = {
    "a prior that is not Gaussian": (
        {"prior": dist.Laplace(0.0, 1.0).expand([WIDTH, OUT]).to_event(2)},
        "site w: got a Laplace; expected a Normal",
    ),
    "a likelihood that is not Gaussian": ({"law": dist.Laplace}, "site y: got a Laplace"),
    "a scale for each output": (
        {"prior": dist.Normal(0.0, jnp.array([1.0, 2.0])).expand([WIDTH, OUT]).to_event(2)},
        "readout: got a prior with scales",
    ),
    "a nonlinear use": ({"use": lambda psi, w: jnp.tanh(psi @ w)}, "site y: got a mean that is"),
    "a squared readout": ({"use": lambda psi, w: psi @ w**2}, "site y: got a mean that is"),
    "other features": ({"use": lambda psi, w: psi**2 @ w}, "site y: got a mean that is"),
    "noise that depends on it": (
        {"noise": lambda sigma, w: sigma * jnp.exp(w[0, 0])},
        "the noise change with w",
    ),
    "a prior that depends on it": (
        {"hidden_scale": lambda w: jnp.exp(w[0, 0])},
        "site sigma: got the density change with w",
    ),
    "features that depend on it": (
        {"psi_of": lambda h, w: h + w[0, 0]},
        "the features change with w",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_not_exact_is_refused_with_the_reason(case, data):
    change, message = case
    wrapped = Repriorise(lambda x, y=None: model(x, y, **change), **SITES)
    with pytest.raises(ValueError, match=message) as caught:
        log_density(numpyro.handlers.seed(wrapped, 0), data, {}, {})
    assert all(word in str(caught.value) for word in ("got", "expected", "probably"))


BENT = {
    "clipped": (lambda f: jnp.clip(f, -20.0, 20.0), 50.0),
    "clipped far out": (lambda f: jnp.clip(f, -100.0, 100.0), 3.0),
    "switched off below": (lambda f: jax.nn.relu(f + 100.0), 100.0),
    "slightly cubic": (lambda f: f + 1e-9 * f**3, 1e3),
}


@pytest.mark.parametrize("case", BENT.values(), ids=BENT)
def test_what_bends_within_the_readouts_prior_is_refused(case, data):
    link, std = case
    change = {
        "prior": dist.Normal(0.3, std).expand([WIDTH, OUT]).to_event(2),
        "use": lambda psi, w: link(psi @ w),
    }
    wrapped = Repriorise(lambda x, y=None: model(x, y, **change), **SITES)
    with pytest.raises(ValueError, match="site y: got a mean that is not features @ readout"):
        log_density(numpyro.handlers.seed(wrapped, 0), data, {}, {})


@pytest.mark.parametrize("std", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, 1e5 if X64 else 1e2])
def test_what_is_linear_is_taken_whatever_its_size(std, offset, data):
    change = {
        "prior": dist.Normal(0.3 * std, std).expand([WIDTH, OUT]).to_event(2),
        "use": lambda psi, w: psi @ w + offset * std,
    }
    wrapped = Repriorise(lambda x, y=None: model(x, y, **change), **SITES, form="marginal")
    assert np.isfinite(log_density(numpyro.handlers.seed(wrapped, 0), data, {}, {})[0])


@pytest.mark.parametrize("role", SITES)
def test_a_site_that_is_not_there_is_refused(role, data):
    wrapped = Repriorise(model, **(SITES | {role: "elsewhere"}))
    with pytest.raises(ValueError, match=f"Repriorise {role}: got 'elsewhere', which is no site"):
        log_density(numpyro.handlers.seed(wrapped, 0), data, {}, {})


def test_two_sites_of_one_name_are_refused():
    with pytest.raises(ValueError, match="Repriorise: got sites .*; expected three names"):
        Repriorise(model, readout="w", features="y", likelihood="y")


def test_a_readout_that_is_reparametrised_is_refused(data):
    apart = handlers.reparam(model, config={"w": LocScaleReparam(0)})
    with pytest.raises(ValueError, match="got 'w', which is a deterministic site.*reparametrised"):
        log_density(numpyro.handlers.seed(Repriorise(apart, **SITES), 0), data, {}, {})


AROUND = {
    "a known readout": lambda m: handlers.condition(m, {"w": jnp.ones((WIDTH, OUT))}),
    "other targets": lambda m: handlers.condition(m, {"y": jnp.ones((N, OUT))}),
    "an intervention": lambda m: handlers.do(m, {"w": jnp.ones((WIDTH, OUT))}),
    "a power of the density": lambda m: handlers.scale(m, scale=0.5),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("form", ["repriorised", "marginal"])
def test_handlers_outside_that_would_change_what_is_hidden_are_refused(around, form, data):
    wrapped = around(Repriorise(model, **SITES, form=form))
    with pytest.raises(ValueError, match=r"Repriorise: got handlers\.\w+ around it.*belongs"):
        log_density(numpyro.handlers.seed(wrapped, 0), data, {}, {})


def test_handlers_outside_that_change_other_sites_are_taken(data, rng):
    values = values_of(rng)
    wrapped = Repriorise(model, **SITES, form="marginal")
    expected, _ = log_density(wrapped, data, {}, values)
    known = handlers.condition(wrapped, {"sigma": values.pop("sigma")})
    density, _ = log_density(known, data, {}, values)
    np.testing.assert_allclose(density, expected, rtol=RELATIVE)


def test_a_subsampled_likelihood_is_refused(data):
    scaled = numpyro.handlers.scale(model, scale=2.0)
    with pytest.raises(ValueError, match="got a scaled or subsampled log density"):
        log_density(numpyro.handlers.seed(Repriorise(scaled, **SITES), 0), data, {}, {})


def test_a_likelihood_without_observations_is_refused(data):
    wrapped = Repriorise(model, **SITES)
    with pytest.raises(ValueError, match="site y: got a likelihood without observations"):
        log_density(numpyro.handlers.seed(wrapped, 0), data[:1], {}, {})


def test_an_observed_readout_is_refused(data):
    known = numpyro.handlers.condition(model, {"w": jnp.ones((WIDTH, OUT))})
    with pytest.raises(ValueError, match="site w: got a readout with observations"):
        log_density(numpyro.handlers.seed(Repriorise(known, **SITES), 0), data, {}, {})


def vector_model(x, y=None, *, column: bool = False):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0).expand([D, WIDTH]).to_event(2))
    psi = numpyro.deterministic("psi", jnp.tanh(x @ a))
    shape = [WIDTH, 1] if column else [WIDTH]
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape)))
    numpyro.sample("y", dist.Normal((psi @ w).reshape(-1), 0.4), obs=y)


def test_a_column_of_a_readout_serves_a_vector_of_targets(data):
    x, y = data[0], data[1][:, 0]
    a = {"a": jnp.ones((D, WIDTH))}
    densities = [
        log_density(Repriorise(vector_model, **SITES, form="marginal"), (x, y), {"column": c}, a)[0]
        for c in (False, True)
    ]
    np.testing.assert_allclose(*densities, rtol=RELATIVE)


def test_targets_of_another_shape_than_the_likelihoods_are_refused(data):
    wrapped = Repriorise(vector_model, **SITES)
    with pytest.raises(ValueError, match=r"targets \(9, 1\) of a likelihood of \(9,\)"):
        log_density(numpyro.handlers.seed(wrapped, 0), (data[0], data[1][:, :1]), {}, {})


def test_missing_targets_are_refused(data):
    x, y = data
    wrapped = numpyro.handlers.seed(Repriorise(model, **SITES), 0)
    with pytest.raises(ValueError, match=r"site y: got 1 values that are NaN or infinite"):
        log_density(wrapped, (x, y.at[3, 1].set(jnp.nan)), {}, {})


def test_samples_that_are_not_the_models_are_refused(data, rng):
    wrapped = Repriorise(model, **SITES, form="marginal")
    samples = {name: jnp.stack([value] * 6) for name, value in values_of(rng).items()}
    grouped = {name: value.reshape(2, 3, *value.shape[1:]) for name, value in samples.items()}
    without = {name: value for name, value in samples.items() if name != "sigma"}
    for wrong, message in (
        ({}, "samples of a: got those of .. alone"),
        (without, "samples of sigma: got those of"),
        (grouped, r"samples of a: got shape \(2, 3, 2, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            wrapped.complete(jax.random.key(0), wrong, *data)


def test_samples_that_have_the_readout_are_refused(data, rng):
    mapped = Repriorise(model, **SITES)
    with pytest.raises(ValueError, match="'marginal', whose samples lack the readout"):
        mapped.complete(jax.random.key(0), values_of(rng, base=True), *data)


def test_parameters_outside_the_prior_are_those_given(data, rng):
    """``numpyro.param``, as SVI fits it: deterministic sites follow its value, not its start."""

    def shifted(x, y):
        shift = numpyro.param("shift", 5.0)
        model(x, y - shift)
        numpyro.deterministic("seen", shift)

    sites = values_of(rng, base=True) | {"shift": jnp.asarray(-0.7)}
    seeded = handlers.substitute(handlers.seed(Repriorise(shifted, **SITES), 0), sites)
    trace = handlers.trace(seeded).get_trace(*data)
    assert trace["seen"]["value"] == sites["shift"]


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="Repriorise form: got 'collapsed'"):
        Repriorise(model, **SITES, form="collapsed")
