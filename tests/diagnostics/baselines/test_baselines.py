"""Every baseline against the formula that it is, and all of them judged by one call."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from sklearn.linear_model import LogisticRegression

import bnnsample as bnn
from bnnsample.diagnostics.baselines import deep_ensemble as ensemble_module
from bnnsample.diagnostics.baselines import map as map_module
from bnnsample.diagnostics.baselines import nngp as nngp_module
from bnnsample.diagnostics.baselines import ntk_ensemble as ntk_module
from bnnsample.diagnostics.baselines.baselines import baselines
from bnnsample.diagnostics.baselines.deep_ensemble import deep_ensemble
from bnnsample.diagnostics.baselines.evidence_mode import at_evidence_mode
from bnnsample.diagnostics.baselines.last_layer_laplace import last_layer_laplace
from bnnsample.diagnostics.baselines.map import find_modes, map_baseline
from bnnsample.diagnostics.baselines.nngp import nngp_baseline
from bnnsample.diagnostics.baselines.ntk_ensemble import ntk_ensemble
from bnnsample.diagnostics.quality.quality import quality
from bnnsample.limits.conditioned import limit_kernel
from bnnsample.limits.hyperposterior import log_evidence
from bnnsample.models.hyperpriors import constrained
from bnnsample.models.priors import log_prior
from tests.conftest import X64

N, M, D, OUT, WIDTH = 14, 5, 3, 2, 6
CLOSE = {"rtol": 1e-7, "atol": 1e-9} if X64 else {"rtol": 2e-2, "atol": 2e-3}
NAMES = ("NNGP", "NTK ensemble", "MAP", "deep ensemble", "last-layer Laplace")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(13)
    x, x_test = rng.standard_normal((N, D)), rng.standard_normal((M, D))
    truth = rng.standard_normal((D, OUT))
    y, y_test = (np.sin(a @ truth) + 0.2 * rng.standard_normal((len(a), OUT)) for a in (x, x_test))
    return x, y, x_test, y_test


@pytest.fixture(scope="module")
def posterior(data):
    x, y, *_ = data
    return bnn.Posterior(bnn.fcn(1, WIDTH, OUT, "erf"), x, y, bnn.Gaussian(0.3))


def std_of(predictive):
    assert predictive.f_std is not None
    return predictive.f_std[0]


def log_density(posterior, params):
    return posterior.log_likelihood(params) + log_prior(params)


def test_nngp_is_regression_with_its_kernel(data, posterior):
    x, y, x_test, _ = data
    found = nngp_baseline(posterior, x_test)
    mean, variance = bnn.nngp_posterior(posterior.network, x, y, 0.3).marginals(x_test)
    np.testing.assert_allclose(found.f[0], mean, **CLOSE)
    expected = np.broadcast_to(np.sqrt(variance)[:, None], (M, OUT))
    np.testing.assert_allclose(std_of(found), expected, **CLOSE)


def test_ntk_ensemble_is_that_of_lee_and_others(data, posterior):
    x, y, x_test, _ = data
    found = ntk_ensemble(posterior, x_test)
    theta, gram = (np.asarray(kernel(posterior.network, x)) for kernel in (bnn.ntk, bnn.nngp))
    gain = np.asarray(bnn.ntk(posterior.network, x_test, x)) @ np.linalg.inv(theta)
    cross = np.asarray(bnn.nngp(posterior.network, x_test, x))
    prior = np.asarray(bnn.nngp(posterior.network, x_test))
    covariance = prior - gain @ cross.T - cross @ gain.T + gain @ gram @ gain.T
    close = {"rtol": 1e-5, "atol": 1e-7} if X64 else {"rtol": 0.1, "atol": 0.02}
    np.testing.assert_allclose(found.f[0], gain @ y, **close)
    expected = np.sqrt(np.diagonal(covariance))[:, None]
    np.testing.assert_allclose(std_of(found), np.broadcast_to(expected, (M, OUT)), **close)


@pytest.mark.parametrize("method", [nngp_baseline, ntk_ensemble, last_layer_laplace])
def test_functions_have_the_covariance_of_the_law(method, data, posterior, monkeypatch):
    _, _, x_test, y_test = data
    found = method(posterior, x_test)
    functions = np.asarray(found.functions)
    count, std = len(functions), np.asarray(std_of(found))
    # 10 means and 10 deviations within 4 errors
    assert np.all(np.abs(functions.mean(axis=0) - found.f[0]) < 4 * std / count**0.5)
    np.testing.assert_allclose(functions.std(axis=0), std, rtol=4 / (2 * count) ** 0.5)
    if method is nngp_baseline:
        gp = bnn.nngp_posterior(posterior.network, posterior.x, posterior.y, 0.3)
        _, covariance = gp.predict(x_test)
        own = np.cov(functions[..., 1], rowvar=False)
        error = 4 * (2 / count) ** 0.5 * np.max(std**2)
        np.testing.assert_allclose(own, covariance, rtol=0, atol=error)
    assert quality(found, y_test).joint
    for module in (nngp_module, ntk_module):
        monkeypatch.setattr(module, "MOST_POINTS", M - 1)
    apart = method(posterior, x_test)
    assert apart.functions is None
    assert not quality(apart, y_test).joint


def test_hyperparameters_are_at_the_mode_of_the_evidence(data):
    x, y, x_test, _ = data
    network = bnn.fcn(1, WIDTH, OUT, "erf", w_std_out=dist.LogNormal(0.0, 0.7))
    unknown = bnn.Posterior(network, x, y, bnn.Gaussian(dist.LogNormal(-1.0, 1.0)))
    known = at_evidence_mode(unknown)
    values = [known.network.readout_layer.w_std, known.likelihood.noise_std]
    kernel = limit_kernel(unknown.network, unknown.x)
    mode = jnp.log(jnp.asarray(values))
    at, _ = constrained(unknown.hyperpriors, mode)
    assert [float(value) for value in at.values()] == pytest.approx(list(map(float, values)))
    slope = jax.grad(log_evidence, argnums=2)(unknown, kernel, mode)
    assert np.abs(slope).max() < (1e-3 if X64 else 0.1)
    assert np.abs(jax.grad(log_evidence, argnums=2)(unknown, kernel, mode + 0.3)).max() > 0.5
    assert at_evidence_mode(known) is known
    mean, _ = bnn.nngp_posterior(known.network, x, y, values[1]).marginals(x_test)
    np.testing.assert_allclose(nngp_baseline(unknown, x_test).f[0], mean, **CLOSE)


def test_the_most_probable_parameters_are_a_mode(data, posterior):
    params = find_modes(posterior, jax.random.split(jax.random.key(0), 3))
    modes = [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(3)]
    densities = [float(log_density(posterior, mode)) for mode in modes]
    for mode, density in zip(modes, densities, strict=True):
        gradient = jax.grad(log_density, argnums=1)(posterior, mode)
        start = posterior.network.init(jax.random.key(1), (D,))
        steep = jax.grad(log_density, argnums=1)(posterior, start)
        size, other = (
            max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
            for tree in (gradient, steep)
        )
        assert size < 1e-3 * other
        for seed in range(5):  # uphill nowhere near
            leaves = jax.tree.leaves(mode)
            keys = jax.random.split(jax.random.key(seed), len(leaves))
            moved = [
                leaf + 0.05 * jax.random.normal(key, leaf.shape, leaf.dtype)
                for leaf, key in zip(leaves, keys, strict=True)
            ]
            near = jax.tree.unflatten(jax.tree.structure(mode), moved)
            assert float(log_density(posterior, near)) < density


def test_its_density_is_above_that_of_every_draw(data, posterior):
    run = bnn.sample(
        bnn.repriorised(posterior), bnn.HMC(4), chains=2, warmup=20, draws=40,
        keep=("parameters",),
    )  # fmt: skip
    draws = run["posterior"].dataset
    weight, bias, readout = (
        draws[name].values.reshape(80, *draws[name].shape[2:])
        for name in ("layer_0_weight", "layer_0_bias", "readout")
    )
    of_draws = jax.vmap(
        lambda w, b, r: log_density(posterior, bnn.Parameters(({"weight": w, "bias": b}, ()), r))
    )(weight, bias, readout)
    mode = find_modes(posterior, jax.random.split(jax.random.key(0), 1))
    best = float(log_density(posterior, jax.tree.map(lambda leaf: leaf[0], mode)))
    assert best > float(of_draws.max())


def test_without_hidden_weights_the_mode_is_ridge_regression(data):
    x, y, x_test, _ = data
    network = bnn.Network([bnn.Activation("relu"), bnn.Dense(OUT, 1.4, 0.3)])
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(0.3))
    features, test = (np.asarray(network.features(((),), jnp.asarray(a))) for a in (x, x_test))
    covariance = np.linalg.inv(features.T @ features / 0.09 + np.eye(features.shape[1]))
    mean = test @ covariance @ features.T @ y / 0.09
    close = {"atol": 1e-4 if X64 else 2e-2}
    np.testing.assert_allclose(map_baseline(posterior, x_test).f[0], mean, **close)
    laplace = last_layer_laplace(posterior, x_test)
    np.testing.assert_allclose(laplace.f[0], mean, **CLOSE)
    std = np.sqrt(np.diagonal(test @ covariance @ test.T))[:, None]
    np.testing.assert_allclose(std_of(laplace), np.broadcast_to(std, (M, OUT)), **CLOSE)


def test_last_layer_laplace_is_exact_given_the_features(data, posterior):
    x, y, x_test, _ = data
    mode = find_modes(posterior, jax.random.split(jax.random.key(4), 1))
    hidden = jax.tree.map(lambda leaf: leaf[0], mode.hidden)
    features, test = (
        np.asarray(posterior.network.features(hidden, jnp.asarray(a, posterior.x.dtype)))
        for a in (x, x_test)
    )
    covariance = np.linalg.inv(features.T @ features / 0.09 + np.eye(WIDTH + 1))
    found = last_layer_laplace(posterior, x_test, seed=4)
    np.testing.assert_allclose(found.f[0], test @ covariance @ features.T @ y / 0.09, **CLOSE)
    std = np.sqrt(np.diagonal(test @ covariance @ test.T))[:, None]
    np.testing.assert_allclose(std_of(found), np.broadcast_to(std, (M, OUT)), **CLOSE)


def test_last_layer_laplace_of_classes_is_scikit_learns_mode_and_curvature(data):
    x, y, x_test, _ = data
    labels = (y[:, :1] > 0.1).astype(int)
    network = bnn.Network([bnn.Activation("relu"), bnn.Dense(1, 1.4, 0.3)])
    posterior = bnn.Posterior(network, x, labels, bnn.Bernoulli())
    features, test = (np.asarray(network.features(((),), jnp.asarray(a))) for a in (x, x_test))
    model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-9, max_iter=1000)
    model.fit(features, labels[:, 0])
    p = model.predict_proba(features)[:, 1]
    precision = features.T @ (features * (p * (1 - p))[:, None]) + np.eye(features.shape[1])
    mean = test @ model.coef_[0]
    std = np.sqrt(np.diagonal(test @ np.linalg.inv(precision) @ test.T))
    f = np.asarray(last_layer_laplace(posterior, x_test).f)[..., 0]
    # 5 means and 5 deviations of 1000 draws within 4 errors
    assert np.abs(f.mean(axis=0) - mean).max() < 4 * std.max() / 1000**0.5
    np.testing.assert_allclose(f.std(axis=0), std, rtol=4 / 2000**0.5)


def test_members_of_an_ensemble_differ_and_come_back(data, posterior):
    _, _, x_test, _ = data
    found = deep_ensemble(posterior, x_test, members=3, seed=1)
    assert found.f.shape == (3, M, OUT)
    assert found.f_std is None
    apart = np.asarray(found.f.std(axis=0)) / np.abs(np.asarray(found.f)).mean()
    assert apart.max() > 1e-3
    again = deep_ensemble(posterior, x_test, members=3, seed=1)
    np.testing.assert_array_equal(found.f, again.f)
    other = deep_ensemble(posterior, x_test, members=3, seed=2)
    assert not np.array_equal(found.f, other.f)
    assert map_baseline(posterior, x_test).f.shape == (1, M, OUT)


@pytest.fixture
def retrained(monkeypatch):
    """Another setting of the training, which is compiled with it."""

    def change(name: str, value: float) -> None:
        ensemble_module.trained.clear_cache()
        monkeypatch.setattr(ensemble_module, name, value)

    yield change
    ensemble_module.trained.clear_cache()


def test_members_without_hidden_weights_are_least_squares(rng, retrained):
    """Of so few points that none is held out; the prior, which would shrink them, plays no role."""
    retrained("STEPS", 5000)
    x, y = rng.standard_normal((6, 2)), 0.3 * rng.standard_normal((6, 1))
    network = bnn.Network([bnn.Dense(1, b_std=None)])
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(1.0))
    exact = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    found = np.asarray(deep_ensemble(posterior, x, members=3).f)
    np.testing.assert_allclose(found, np.broadcast_to(exact, found.shape), atol=0.02)
    assert np.abs(np.asarray(map_baseline(posterior, x).f)[0] - exact).max() > 0.05


@pytest.mark.slow
def test_members_stop_where_points_that_they_do_not_see_are_predicted_best(rng, retrained):
    """Of noise alone nothing can be learnt, and what is, is not kept."""
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 1))
    posterior = bnn.Posterior(bnn.fcn(1, 50, 1), x, y, bnn.Gaussian(0.3))

    def misfit() -> float:
        return float(np.mean((np.asarray(deep_ensemble(posterior, x, members=4).f) - y) ** 2))

    retrained("STEPS", 5000)
    stopped = misfit()
    retrained("HELD_OUT", 0.0)
    assert 3 * misfit() < stopped


def test_one_call_judges_them_all(data, posterior):
    _, _, x_test, y_test = data
    found = baselines(posterior, x_test, members=2)
    assert tuple(found) == NAMES
    assert found.left_out == {}
    table = {name: quality(predictive, y_test) for name, predictive in found.items()}
    for own in table.values():
        assert np.isfinite([score.value for score in own.scores.values()]).all()
    assert len({own.scores["log density"].value for own in table.values()}) == len(NAMES)
    assert found["deep ensemble"].f.shape[0] == 2
    np.testing.assert_array_equal(found["MAP"].f, map_baseline(posterior, x_test).f)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("likelihood", "targets"),
    [
        (bnn.Categorical(), lambda y: y.argmax(axis=1)[:, None]),
        (bnn.Poisson(), lambda y: np.round(np.exp(y)).astype(int)),
        (bnn.Bernoulli(), lambda y: (y > 0).astype(int)),
        (bnn.StudentT(3.0, 0.4), lambda y: y),
    ],
)
def test_what_does_not_apply_is_left_out_and_says_why(likelihood, targets, data, monkeypatch):
    monkeypatch.setattr(map_module, "STEPS", 20)
    find_modes.clear_cache()
    x, y, x_test, y_test = data
    posterior = bnn.Posterior(bnn.fcn(1, WIDTH, OUT, "erf"), x, targets(y), likelihood)
    found = baselines(posterior, x_test, members=2)
    find_modes.clear_cache()
    assert set(found) == set(NAMES) - {"NTK ensemble"}
    assert "expected Gaussian()" in found.left_out["NTK ensemble"]
    for predictive in found.values():
        assert predictive.f.shape[1:] == (M, OUT)
        assert np.isfinite(predictive.f).all()
        assert predictive.f_std is None
    scores = quality(found["deep ensemble"], targets(y_test)).scores
    assert all(np.isfinite(score.value) for score in scores.values())


def test_a_network_without_a_limit_is_still_trained(data, monkeypatch):
    monkeypatch.setattr(map_module, "STEPS", 20)
    find_modes.clear_cache()
    x, y, x_test, _ = data
    network = bnn.Network(
        [bnn.Dense(WIDTH), bnn.Activation("relu"), bnn.LayerNorm(), bnn.Dense(OUT)]
    )
    with pytest.raises(bnn.NoKnownLimit):
        bnn.nngp(network, x)
    found = baselines(bnn.Posterior(network, x, y, bnn.Gaussian(0.3)), x_test, members=2)
    find_modes.clear_cache()
    assert set(found) == {"MAP", "deep ensemble", "last-layer Laplace"}
    assert set(found.left_out) == {"NNGP", "NTK ensemble"}


@pytest.mark.slow
def test_single_precision_stays_so(data, monkeypatch):
    monkeypatch.setattr(map_module, "STEPS", 20)
    find_modes.clear_cache()
    x, y, x_test, y_test = (np.asarray(a, "f4") for a in data)
    posterior = bnn.Posterior(bnn.fcn(1, WIDTH, OUT, "erf"), x, y, bnn.Gaussian(0.3))
    found = baselines(posterior, x_test, members=2)
    find_modes.clear_cache()
    assert {p.f.dtype for p in found.values()} == {np.dtype("f4")}
    assert quality(found["MAP"], y_test).pit.dtype == np.float32


def test_twice_the_same_input_has_no_ntk_ensemble(data):
    x, y, x_test, _ = data
    network = bnn.fcn(1, WIDTH, OUT, "erf")
    twice = bnn.Posterior(network, np.r_[x, x[:1]], np.r_[y, y[:1] + 0.1], bnn.Gaussian(0.3))
    with pytest.raises(ValueError, match="probably duplicate inputs"):
        ntk_ensemble(twice, x_test)


def test_bad_input_is_refused_and_not_left_out(data, posterior):
    _, _, x_test, _ = data
    with pytest.raises(ValueError, match=r"x_test: got examples of shape \(4,\)"):
        baselines(posterior, np.ones((M, D + 1)))
    with pytest.raises(ValueError, match="posterior: got a Network"):
        baselines(posterior.network, x_test)
    with pytest.raises(ValueError, match="members: got 0"):
        baselines(posterior, x_test, members=0)
    with pytest.raises(ValueError, match="seed: got None"):
        baselines(posterior, x_test, seed=None)
