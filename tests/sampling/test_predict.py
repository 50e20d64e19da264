"""Predictions and log likelihoods from a run's kept parameters are those of the network itself."""

from __future__ import annotations

import re

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from xarray import DataTree

import bnnsample as bnn
from bnnsample.sampling import predict as module
from bnnsample.sampling.predict import log_likelihood, predict
from bnnsample.sampling.predict import posterior_of as posterior_of_run
from tests.conftest import X64
from tests.drawn import DRAWS, drawn_run
from tests.zoo import LIKELIHOODS, NETWORKS

N, M, D, OUT = 6, 3, 2, 4
CHAINS = 2
SETTINGS = {"chains": CHAINS, "warmup": 8, "draws": DRAWS, "seed": 3}
ROUNDING = 1e-10 if X64 else 1e-4


def posterior_of(name: str, rng, **scales) -> bnn.Posterior:
    likelihood, targets = LIKELIHOODS[name]
    x = rng.standard_normal((N, D))
    return bnn.Posterior(bnn.fcn(1, 5, OUT, **scales), x, targets(rng, N, OUT), likelihood)


def sample(target, x_test=None, **more):
    return bnn.sample(target, bnn.HMC(2), x_test=x_test, **SETTINGS | more)


@pytest.fixture
def x_test(rng):
    return rng.standard_normal((M, D))


@pytest.fixture(scope="module")
def small():
    """A posterior with unknown scales, and its run."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, OUT))
    network = bnn.fcn(1, 5, OUT, w_std=dist.LogNormal(0.0, 0.5))
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(dist.HalfNormal(np.full(OUT, 0.7))))
    return posterior, drawn_run(posterior, x[:M])


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(bnn.standard, marks=pytest.mark.slow),
        bnn.repriorised,
        pytest.param(bnn.marginal, marks=pytest.mark.slow),
    ],
)
def test_at_the_test_inputs_they_are_the_runs_own(target, rng, x_test):
    scales = {"w_std": dist.LogNormal(0.0, 0.5), "w_std_out": 1.3}
    run = sample(target(posterior_of("Gaussian", rng, **scales)), x_test)
    found, stored = predict(run, x_test), run["predictions"].dataset
    np.testing.assert_allclose(found["f"], stored["f"], rtol=ROUNDING, atol=ROUNDING)
    for name in ("f", "y"):
        assert found[name].dims == stored[name].dims
        assert found[name].dtype == stored[name].dtype
        assert found.indexes.keys() <= stored.indexes.keys()
    # noise of its own
    assert not np.allclose(found["y"], stored["y"])


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_new_targets_are_of_the_likelihoods_kind(name, rng, x_test):
    run = drawn_run(posterior_of(name, rng), x_test)
    again, stored = predict(run, x_test[:2], seed=4)["y"], run["predictions"]["y"]
    assert again.shape == (*stored.shape[:2], 2, stored.shape[3])
    assert (again.dims, again.dtype) == (stored.dims, stored.dtype)
    assert again.equals(predict(run, x_test[:2], seed=4)["y"])
    assert not again.equals(predict(run, x_test[:2], seed=5)["y"])


def test_the_noise_has_the_law_of_each_draw(small):
    posterior, run = small
    found = predict(run, np.repeat(np.asarray(posterior.x), 40, axis=0))
    noise_std = run["posterior"]["noise_std"].values[:, :, None]
    z = (found["y"] - found["f"]).values / noise_std
    # 5760 of each output: a p-value a test, four tests
    for output in range(OUT):
        assert scipy.stats.kstest(z[..., output].ravel(), "norm").pvalue > 1e-4
    assert scipy.stats.kstest(1.1 * z.ravel(), "norm").pvalue < 1e-4


@pytest.mark.parametrize("chunk", [1, 900, 3000])
def test_memory_decides_nothing_but_how_many_draws_are_together(chunk, small, monkeypatch):
    posterior, run = small
    whole, whole_likelihood = predict(run, posterior.x), log_likelihood(run)
    lengths = []
    original = module._of_chunk

    def counted(of_draw, posterior, chunk, keys, *arrays):
        lengths.append(len(keys))
        return original(of_draw, posterior, chunk, keys, *arrays)

    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(module, "_of_chunk", counted)
    part = predict(run, posterior.x)
    assert set(lengths) == {1} if chunk == 1 else len(set(lengths)) == 1
    assert lengths[0] < DRAWS
    assert len(lengths) == CHAINS * -(-DRAWS // lengths[0])
    for name in ("f", "y"):
        np.testing.assert_allclose(part[name], whole[name], rtol=ROUNDING, atol=ROUNDING)
    here, there = (
        log_likelihood(run)["log_likelihood"]["y"],
        whole_likelihood["log_likelihood"]["y"],
    )
    np.testing.assert_allclose(here, there, rtol=ROUNDING, atol=ROUNDING)


def test_a_chunk_is_compiled_once(small):
    posterior, run = small
    module._of_chunk.clear_cache()
    predict(run, posterior.x)
    predict(run, posterior.x, seed=7)
    assert module._of_chunk._cache_size() == 1


ORACLES = {
    "Gaussian": lambda f, y: scipy.stats.norm(f, 0.4).logpdf(y),
    "heteroscedastic": lambda f, y: scipy.stats.norm(
        f[:, : OUT // 2], np.exp(f[:, OUT // 2 :] / 2)
    ).logpdf(y),
    "Student t": lambda f, y: scipy.stats.t(3.5, f, 0.7).logpdf(y),
    "Bernoulli": lambda f, y: scipy.stats.bernoulli(1 / (1 + np.exp(-f))).logpmf(y),
    "categorical": lambda f, y: np.take_along_axis(
        f - np.log(np.sum(np.exp(f), axis=1, keepdims=True)), y, axis=1
    ),
    "Poisson": lambda f, y: scipy.stats.poisson(np.exp(f)).logpmf(y),
    "negative binomial": lambda f, y: scipy.stats.nbinom(1.7, 1.7 / (1.7 + np.exp(f))).logpmf(y),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_likelihoods_are_scipys_and_sum_to_the_posteriors(name, rng):
    posterior = posterior_of(name, rng)
    run = drawn_run(posterior)
    found = log_likelihood(run)["log_likelihood"]["y"]
    assert found.dims == ("chain", "draw", "point")
    draw = run["posterior"].dataset.isel(chain=1, draw=4)
    weights = {part: draw[f"layer_0_{part}"].values for part in ("weight", "bias")}
    params = bnn.Parameters((weights, ()), draw["readout"].values)
    f = np.asarray(posterior.network.apply(params, posterior.x))
    expected = ORACLES[name](f, np.asarray(posterior.y)).sum(axis=1)
    tolerance = {"rtol": 1e-9, "atol": 1e-10} if X64 else {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(found[1, 4], expected, **tolerance)
    total = float(posterior.log_likelihood(params))
    np.testing.assert_allclose(float(found[1, 4].sum()), total, **tolerance)


def test_the_rest_of_the_run_is_shared(small):
    _, run = small
    longer = log_likelihood(run)
    assert set(longer.children) == {*run.children, "log_likelihood"}
    assert "log_likelihood" not in run.children
    assert longer.attrs == run.attrs
    ours, theirs = (r["posterior"]["readout"].values for r in (longer, run))
    assert np.shares_memory(ours, theirs)


def test_draws_of_a_folder_are_read_as_they_are_needed(rng, x_test, tmp_path):
    run = sample(bnn.standard(posterior_of("Poisson", rng)), x_test, out=tmp_path / "run")
    again = bnn.load_run(tmp_path / "run")
    assert predict(again, x_test).equals(predict(run, x_test))


def test_what_cannot_be_made_again_is_to_be_passed(rng, x_test):
    network = NETWORKS["own function"]
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, 2))
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(0.3))
    run = drawn_run(posterior, x_test)
    with pytest.raises(ValueError, match="network that cannot.*as posterior="):
        predict(run, x_test)
    found = predict(run, x_test, posterior=posterior)["f"]
    np.testing.assert_allclose(found, run["predictions"]["f"], rtol=ROUNDING, atol=ROUNDING)
    other = bnn.Posterior(bnn.fcn(1, 6, 2), x, y, bnn.Gaussian(0.3))
    with pytest.raises(ValueError, match="probably the posterior of another run"):
        predict(run, x_test, posterior=other)


@pytest.mark.parametrize("change", ["network", "likelihood", "x", "y", "function"])
def test_the_posterior_of_another_run_is_refused(change, rng, x_test):
    def act(z):
        return np.sqrt(0.5) * z

    def other(z):
        return 2.0 * z

    def made(activation, noise_std=0.3, **data):
        network = bnn.Network([bnn.Dense(5), bnn.Activation(activation), bnn.Dense(1)])
        return bnn.Posterior(network, data["x"], data["y"], bnn.Gaussian(noise_std))

    data = {"x": rng.standard_normal((N, D)), "y": rng.standard_normal((N, 1))}
    kind = act if change == "function" else "tanh"
    run = drawn_run(made(kind, **data), x_test)
    run.attrs["network"] = re.sub("0x[0-9a-f]+", "0xabc", run.attrs["network"])
    assert posterior_of_run(run, made(kind, **data)) is not None
    wrong = {
        "network": lambda: made("relu", **data),
        "likelihood": lambda: made(kind, 0.4, **data),
        "x": lambda: made(kind, x=data["x"] + 1e-9 ** (1 if X64 else 0.5), y=data["y"]),
        "y": lambda: made(kind, x=data["x"], y=data["y"][::-1]),
        "function": lambda: made(other, **data),
    }[change]()
    name = "network" if change == "function" else change
    for use in (
        lambda: posterior_of_run(run, wrong),
        lambda: bnn.predictive_of(run, wrong),
        lambda: predict(run, x_test, posterior=wrong),
    ):
        with pytest.raises(ValueError, match=f"one of another {name} than the run's"):
            use()


def test_noise_by_point_has_log_likelihoods_and_no_new_targets(rng, x_test):
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, OUT))
    noise_std = rng.uniform(0.3, 0.9, (N, 1))
    posterior = bnn.Posterior(bnn.fcn(1, 5, OUT), x, y, bnn.Gaussian(noise_std))
    run = drawn_run(posterior)
    assert set(predict(run, x_test, posterior=posterior).data_vars) == {"f"}
    f = predict(run, x, posterior=posterior)["f"]
    expected = scipy.stats.norm(f, noise_std).logpdf(y).sum(axis=-1)
    found = log_likelihood(run, posterior=posterior)["log_likelihood"]["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-9 if X64 else 1e-3, atol=1e-4)


def test_bad_input_is_refused(small, x_test):
    posterior, run = small
    bare = run.copy(deep=False)
    bare["posterior"] = DataTree(run["posterior"].to_dataset()[["noise_std", "w_std"]])
    with pytest.raises(ValueError, match=r"x_test: got examples of shape \(3,\)"):
        predict(run, np.ones((M, D + 1)))
    with pytest.raises(ValueError, match="got no parameters.*keep="):
        predict(bare, x_test)
    with pytest.raises(ValueError, match="without the attribute network"):
        log_likelihood(run["posterior"])
    with pytest.raises(ValueError, match="seed: got -1"):
        predict(run, x_test, seed=-1)
    with pytest.raises(ValueError, match="posterior: got a Network"):
        predict(run, x_test, posterior=posterior.network)


@pytest.mark.skipif(not X64, reason="needs two precisions")
def test_another_precision_is_refused(small, x_test):
    posterior, run = small
    narrow = [np.asarray(a, "f4") for a in (posterior.x, posterior.y)]
    other = bnn.Posterior(posterior.network, *narrow, posterior.likelihood)
    with pytest.raises(ValueError, match="precision: got a posterior in float32"):
        predict(run, x_test, posterior=other)
    with jax.enable_x64(False), pytest.raises(ValueError, match="in float32; expected float64"):
        predict(run, x_test)
