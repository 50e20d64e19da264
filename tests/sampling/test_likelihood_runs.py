"""Runs of every likelihood and of unknown scales: what they keep, and that they go on."""

from __future__ import annotations

import json

import jax
import numpy as np
import numpyro.distributions as dist
import pytest

import bnnsample as bnn
from bnnsample.diagnostics.function_space import has_limit
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling.choice import choose
from bnnsample.sampling.rebuild import rebuild
from tests.conftest import X64
from tests.quick import cases
from tests.sampling.conftest import Stop
from tests.zoo import EACH_LIKELIHOOD, LIKELIHOODS, PRIORS

N, M, D, OUT = 6, 3, 2, 4
CHAINS, WARMUP, DRAWS = 2, 8, 12


def posterior_of(name: str, rng, **scales) -> bnn.Posterior:
    likelihood, targets = LIKELIHOODS[name]
    x = rng.standard_normal((N, D))
    return bnn.Posterior(bnn.fcn(1, 5, OUT, **scales), x, targets(rng, N, OUT), likelihood)


def sample(target, x_test, **settings):
    settings = {"chains": CHAINS, "warmup": WARMUP, "draws": DRAWS, "seed": 3} | settings
    return bnn.sample(target, bnn.HMC(2), x_test=x_test, **settings)


@pytest.fixture
def x_test(rng):
    return rng.standard_normal((M, D))


@pytest.mark.slow
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_run_draws_targets_of_the_likelihoods_kind(name, rng, x_test):
    posterior = posterior_of(name, rng)
    run = sample(posterior, x_test)
    y, seen = run["predictions"]["y"], run["observed_data"]["y"]
    columns = posterior.y.shape[1]
    assert y.shape == (CHAINS, DRAWS, M, columns)
    dimension = "output" if columns == OUT else "target"
    assert y.dims[-1] == seen.dims[-1] == dimension
    assert run["predictions"]["f"].shape == (CHAINS, DRAWS, M, OUT)
    whole = name in ("Bernoulli", "categorical", "Poisson", "negative binomial")
    assert whole == np.issubdtype(seen.dtype, np.integer)
    if whole:
        assert np.array_equal(y, np.round(y))
        assert y.min() >= 0
    limits = "laplace" if name != "Gaussian" else "nngp"
    assert run["constant_data"][f"{limits}_mean"].shape == (M, OUT)
    assert has_limit(run) == (name == "Gaussian")


@pytest.mark.parametrize("name", EACH_LIKELIHOOD)
def test_the_choice_is_what_measured_best(name, rng):
    chosen = {"Gaussian": ("marginal", bnn.HMC()), "heteroscedastic": ("standard", bnn.HMC())}
    target, sampler = choose(posterior_of(name, rng), None)
    assert (target.name, sampler) == chosen.get(name, ("repriorised", bnn.AlternatingHMC()))
    assert choose(target, bnn.NUTS()) == (target, bnn.NUTS())


@pytest.mark.parametrize("b_std_out", [pytest.param(0.0, marks=pytest.mark.slow), 0.2])
@pytest.mark.parametrize(
    ("likelihood", "few", "many"),
    [(bnn.Poisson(), "repriorised", "standard"), (bnn.Gaussian(0.4), "marginal", "marginal")],
)
def test_the_map_is_left_out_where_points_are_many_for_the_features(
    likelihood, few, many, b_std_out, rng
):
    network = bnn.fcn(2, 3, 1, b_std_out=b_std_out)
    features = 3 + (b_std_out > 0)
    for count, name in ((5 * features, few), (5 * features + 1, many)):
        x, y = rng.standard_normal((count, D)), rng.poisson(2.0, count)
        target, sampler = choose(bnn.Posterior(network, x, y, likelihood), None)
        assert target.name == name
        assert sampler == (bnn.AlternatingHMC() if name == "repriorised" else bnn.HMC())


def test_noise_known_by_point_is_not_known_elsewhere(rng, x_test):
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, OUT))
    noise_std = rng.uniform(0.3, 0.9, (N, 1))
    run = sample(bnn.Posterior(bnn.fcn(1, 5, OUT), x, y, bnn.Gaussian(noise_std)), x_test)
    assert "y" not in run["predictions"].data_vars
    assert run["predictions"]["f"].shape == (CHAINS, DRAWS, M, OUT)


@pytest.mark.parametrize("target", cases(TARGETS, slow={"standard", "repriorised"}))
def test_hyperparameters_are_kept_judged_and_used(target, rng, x_test):
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, OUT))
    network = bnn.fcn(1, 5, OUT, w_std=dist.LogNormal(0.0, 0.5))
    noise_std = dist.HalfNormal(np.full(OUT, 0.7))
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(noise_std))
    run = sample(target(posterior), x_test, keep=("predictions", "projections"))
    kept = run["posterior"].dataset
    assert kept["w_std"].shape == (CHAINS, DRAWS)
    assert kept["noise_std"].shape == (CHAINS, DRAWS, OUT)
    assert float(kept["w_std"].min()) > 0
    assert json.loads(run.attrs["hyperparameters"]) == ["w_std", "noise_std"]
    assert "hyperparameters" in bnn.convergence(run)
    assert "hyperparameters" in [f.name for f in bnn.diagnose(run).findings]
    assert run["constant_data"]["nngp_std"].shape == (M, OUT)
    assert set(bnn.per_layer(run)) == set()


@pytest.mark.slow
def test_predictions_come_from_the_draws_own_scales(rng, x_test):
    posterior = posterior_of("Gaussian", rng, w_std=dist.LogNormal(0.0, 0.5))
    run = sample(posterior, x_test)
    draw = run["posterior"].dataset.isel(chain=1, draw=-1)
    weights = {name: draw[f"layer_0_{name}"].values for name in ("weight", "bias")}
    params = bnn.Parameters((weights, ()), draw["readout"].values)
    known = posterior.given({"w_std": draw["w_std"].values})
    expected = known.network.apply(params, x_test.astype(posterior.x.dtype))
    kept = run["predictions"]["f"].isel(chain=1, draw=-1)
    np.testing.assert_allclose(kept, expected, rtol=1e-6 if X64 else 1e-2, atol=1e-4)


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_comes_back_from_text(name):
    network = bnn.fcn(1, 5, 1, w_std=PRIORS[name])
    posterior = bnn.Posterior(network, np.ones((2, 1)), np.ones(2), bnn.Gaussian(PRIORS[name]))
    again = rebuild(repr(posterior.network))
    assert repr(again) == repr(posterior.network)
    prior = again.layers[0].w_std.prior
    assert type(prior) is type(PRIORS[name])
    assert float(prior.log_prob(0.7)) == float(PRIORS[name].log_prob(0.7))
    assert repr(rebuild(repr(posterior.likelihood))) == repr(posterior.likelihood)


def test_a_prior_of_several_numbers_comes_back():
    relevance = bnn.Scale(dist.LogNormal(np.array([0.1, -0.7, 1 / 3]), 0.5))
    network = bnn.Network([relevance, bnn.Dense(4), bnn.Dense(1)])
    again = rebuild(repr(network))
    assert repr(again) == repr(network)
    values = np.array([0.3, 1.2, 2.0])
    assert np.array_equal(
        again.layers[0].factor.prior.log_prob(values), relevance.factor.prior.log_prob(values)
    )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_likelihood_comes_back_from_text(name):
    likelihood = LIKELIHOODS[name].likelihood
    assert rebuild(repr(likelihood)) == likelihood


def interrupted(call):
    def stop(progress):
        if progress.phase == "sampling" and progress.done >= 25:
            raise Stop

    with pytest.raises(Stop):
        call(on_progress=stop, checkpoint_every=1)


@pytest.mark.skipif(not X64, reason="bit for bit in one precision is enough")
@pytest.mark.parametrize(
    "which", ["classes", pytest.param("unknown scales", marks=pytest.mark.slow)]
)
def test_an_interrupted_run_goes_on_bit_for_bit(which, rng, x_test, tmp_path):
    if which == "classes":
        posterior = posterior_of("categorical", rng)
        target = bnn.repriorised(posterior)
    else:
        x, y = rng.standard_normal((N, D)), rng.standard_normal((N, OUT))
        network = bnn.fcn(1, 5, OUT, w_std=dist.Gamma(3.0, 2.0))
        posterior = bnn.Posterior(network, x, y, bnn.Gaussian(dist.HalfNormal(1.0)))
        target = bnn.marginal(posterior)

    def run(out, **more):
        return sample(target, x_test, draws=60, out=out, **more)

    whole = run(tmp_path / "whole")
    interrupted(lambda **more: run(tmp_path / "stopped", **more))
    again = bnn.resume(tmp_path / "stopped")
    for group in ("posterior", "predictions", "sample_stats"):
        assert again[group].dataset.load().equals(whole[group].dataset.load())


@pytest.mark.slow
def test_a_prior_that_text_does_not_tell_cannot_be_resumed_but_called_again(rng, x_test, tmp_path):
    """A truncated or transformed distribution: the same call goes on, another prior does not."""

    def call(scale, **more):
        prior = dist.TruncatedNormal(0.5, scale, low=0.0)
        x, y = np.arange(2.0 * N).reshape(N, 2) / 9, np.arange(float(N))[:, None] / 5
        posterior = bnn.Posterior(bnn.fcn(1, 5, 1), x, y, bnn.Gaussian(prior))
        return sample(posterior, x_test, warmup=50, draws=30, out=tmp_path / "run", **more)

    interrupted(lambda **more: call(0.3, **more))
    with pytest.raises(ValueError, match="settings that cannot be made again from text"):
        bnn.resume(tmp_path / "run")
    with pytest.raises(ValueError, match="made with other settings"):
        call(0.8)
    assert call(0.3)["posterior"]["noise_std"].shape == (CHAINS, 30)


def test_values_of_other_hyperparameters_are_refused(rng):
    posterior = posterior_of("Gaussian", rng, w_std=dist.LogNormal(0.0, 0.5))
    params = posterior.network.init(jax.random.key(0), (D,))
    for values in (None, {}, {"w_std_out": 1.0}, {"w_std": 1.0, "more": 1.0}):
        with pytest.raises(ValueError, match=r"hyperparameters: got .*expected .*w_std"):
            posterior.log_density(params, values)


def test_a_kernel_of_unknown_scales_is_refused(rng):
    with pytest.raises(ValueError, match=r"network: got an unknown scale, Hyperparameter"):
        bnn.nngp(bnn.fcn(1, 5, 1, w_std=dist.HalfNormal(1.0)), rng.standard_normal((3, 2)))


@pytest.mark.slow
def test_a_float32_run_of_labels_goes_on_where_float64_is_the_default(rng, tmp_path):
    posterior = posterior_of("categorical", rng)
    x, y = (np.asarray(a, "f4") for a in (posterior.x, posterior.y))
    narrow = bnn.Posterior(posterior.network, x, y, posterior.likelihood)
    sample(bnn.standard(narrow), None, out=tmp_path)
    run = bnn.resume(tmp_path, extra_draws=2)
    assert run["posterior"].sizes["draw"] == DRAWS + 2
    assert run.attrs["dtype"] == "float32"
