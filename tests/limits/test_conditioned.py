"""The limit given data of any likelihood, and its average over unknown hyperparameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import bnnsample as bnn
from bnnsample.diagnostics.baselines.evidence_mode import at_evidence_mode
from bnnsample.limits import hyperposterior as search
from bnnsample.limits.conditioned import conditioned, limit_kernel
from bnnsample.limits.hyperposterior import hyperposterior, log_evidence
from bnnsample.limits.monte_carlo import MonteCarloKernel
from bnnsample.limits.predictive import limit_marginals
from bnnsample.models.hyperpriors import constrained
from bnnsample.models.scales import substitute
from tests.conftest import X64
from tests.quick import cases

N, M, D, OUT = 9, 4, 3, 2
RELATIVE = 1e-8 if X64 else 2e-3
NOISE = {"one": (), "output": (OUT,), "point": (N, 1), "both": (N, OUT)}


@pytest.fixture
def data(rng):
    return rng.standard_normal((N, D)), rng.standard_normal((N, OUT))


@pytest.fixture
def x_test(rng):
    return jnp.asarray(rng.standard_normal((M, D)))


def textbook(network, x, y, noise_std, x_test):
    """Mean, variance and log evidence of each output, in numpy."""
    k, cross, prior = (
        np.asarray(part, float)
        for part in (bnn.nngp(network, x), bnn.nngp(network, x, x_test), bnn.nngp(network, x_test))
    )
    means, variances, evidence = [], [], 0.0
    for o, stds in enumerate(np.broadcast_to(noise_std, y.shape).T):
        covariance = k + np.diag(stds**2)
        means.append(cross.T @ np.linalg.solve(covariance, y[:, o]))
        variances.append(np.diag(prior - cross.T @ np.linalg.solve(covariance, cross)))
        evidence += scipy.stats.multivariate_normal.logpdf(y[:, o], cov=covariance)
    return np.stack(means, 1), np.stack(variances, 1), evidence


@pytest.mark.parametrize("shape", NOISE.values(), ids=NOISE)
def test_regression_with_any_noise(shape, data, x_test, rng):
    x, y = data
    network, noise_std = bnn.fcn(1, 5, OUT), rng.uniform(0.3, 0.9, shape)
    noise_std = noise_std if shape else float(noise_std)
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(noise_std))
    given = conditioned(posterior, limit_kernel(network, posterior.x))
    mean, variance, evidence = textbook(network, x, y, noise_std, x_test)
    ours = given.marginals(x_test)
    np.testing.assert_allclose(ours[0], mean, rtol=RELATIVE, atol=RELATIVE)
    np.testing.assert_allclose(ours[1], variance, rtol=RELATIVE, atol=RELATIVE)
    np.testing.assert_allclose(given.log_evidence, evidence, rtol=RELATIVE)


def test_classes_are_predicted_where_they_were_seen(data):
    x, _ = data
    labels = np.arange(N) % 3
    posterior = bnn.Posterior(bnn.fcn(1, 5, 3, w_std_out=5.0), x, labels, bnn.Categorical())
    mean, std = limit_marginals(posterior, posterior.x, None)
    assert np.array_equal(np.argmax(mean, axis=1), labels)
    assert mean.shape == std.shape == (N, 3)
    assert np.all(np.asarray(std) > 0)


def test_a_network_without_a_limit_has_an_estimated_kernel(data):
    x, y = data
    own = bnn.Custom(
        lambda key, shape: jax.random.normal(key, (*shape, 20)), lambda w, x: jnp.tanh(x @ w)
    )
    network = bnn.Network([own, bnn.Scale(20**-0.5), bnn.Dense(OUT, dist.HalfNormal(1.0))])
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(dist.HalfNormal(1.0)))
    assert isinstance(limit_kernel(posterior.network, posterior.x), MonteCarloKernel)
    coordinates = hyperposterior(posterior)
    assert np.isfinite(coordinates.centre).all()
    assert coordinates.root.shape == (2, 2)


def test_a_scale_for_each_unit_has_an_estimated_kernel(data):
    layers = [bnn.Dense(5), bnn.Scale(dist.LogNormal(np.zeros(5), 0.5)), bnn.Dense(OUT)]
    posterior = bnn.Posterior(bnn.Network(layers), *data, bnn.Gaussian(0.3))
    assert isinstance(limit_kernel(posterior.network, posterior.x), MonteCarloKernel)
    assert bnn.marginal(posterior).hyperparameters(jnp.zeros(20, posterior.x.dtype))["factor"].shape


def test_some_points_stand_for_all_of_many(monkeypatch):
    """Mode and curvature near those of all points; of too little curvature without the power."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 3)).astype(np.float64 if X64 else np.float32)
    y = np.sin(x[:, :OUT]) + 0.4 * rng.standard_normal((400, OUT)).astype(x.dtype)
    posterior = unknown((x, y), dist.LogNormal(0.0, 1.0))
    every = hyperposterior(posterior)
    monkeypatch.setattr(search, "MOST_POINTS", 100)
    some = hyperposterior(posterior)
    stds, found = (np.linalg.norm(np.asarray(c.root), axis=1) for c in (every, some))
    np.testing.assert_allclose(found, stds, rtol=0.5)
    off = np.abs(np.asarray(some.centre - every.centre)) / stds
    assert np.all(off > 0)
    assert np.all(off < 4 * 2)  # 400 / 100 points: twice the standard deviation of all


def test_the_limit_of_too_many_points_is_not_computed(data, monkeypatch):
    from bnnsample.limits import predictive

    posterior = unknown(data, dist.LogNormal(0.0, 1.0))
    coordinates = hyperposterior(posterior)
    monkeypatch.setattr(predictive, "MOST_POINTS", 3 * len(data[0]) - 1)
    with pytest.raises(bnn.NoKnownLimit, match="more than"):
        limit_marginals(posterior, posterior.x, coordinates)


def unknown(data, noise_std) -> bnn.Posterior:
    x, y = data
    network = bnn.fcn(1, 5, OUT, w_std=dist.LogNormal(0.2, 0.5), b_std=0.3)
    return bnn.Posterior(network, x, y, bnn.Gaussian(noise_std))


def test_mode_and_curvature_are_those_of_the_evidence(data):
    """Against finite differences of the textbook evidence and scipy's priors."""
    posterior = unknown(data, dist.Gamma(3.0, 4.0))

    def log_density(z):
        w_std, noise_std = np.exp(z)
        network = bnn.fcn(1, 5, OUT, w_std=float(w_std), b_std=0.3)
        evidence = textbook(network, *data, noise_std, data[0][:1])[2]
        prior = scipy.stats.norm.logpdf(z[0], 0.2, 0.5)
        prior += scipy.stats.gamma.logpdf(noise_std, 3.0, scale=1 / 4.0) + z[1]
        return evidence + prior

    coordinates = hyperposterior(posterior)
    centre = np.asarray(coordinates.centre, float)
    kernel = limit_kernel(posterior.network, posterior.x)
    ours = log_evidence(posterior, kernel, coordinates.centre)
    np.testing.assert_allclose(ours, log_density(centre), rtol=RELATIVE)
    if not X64:
        return  # differences of differences
    step = 1e-3 * np.eye(2)
    slope = [(log_density(centre + s) - log_density(centre - s)) / 2e-3 for s in step]
    np.testing.assert_allclose(slope, 0, atol=1e-3)
    hessian = np.array(
        [
            [
                log_density(centre + s + t)
                - log_density(centre + s - t)
                - log_density(centre - s + t)
                + log_density(centre - s - t)
                for t in step
            ]
            for s in step
        ]
    ) / (4e-6)
    covariance = np.asarray(coordinates.root) @ np.asarray(coordinates.root).T
    np.testing.assert_allclose(covariance, np.linalg.inv(-hessian), rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(
        coordinates.log_det, 0.5 * np.linalg.slogdet(covariance)[1], rtol=1e-9
    )


def test_the_average_over_noise_is_the_integral(data, x_test):
    """Against a fine grid in the logarithm of the noise."""
    posterior = bnn.Posterior(bnn.fcn(1, 5, OUT), *data, bnn.Gaussian(dist.HalfNormal(1.0)))
    network = posterior.network
    grid = np.linspace(-4.0, 2.0, 201)
    weights, firsts, seconds = [], [], []
    for z in grid:
        mean, variance, evidence = textbook(network, *data, np.exp(z), x_test)
        weights.append(evidence + scipy.stats.halfnorm.logpdf(np.exp(z)) + z)
        firsts.append(mean)
        seconds.append(mean**2 + variance)
    weights = np.exp(np.array(weights) - max(weights))
    weights /= weights.sum()
    expected = np.tensordot(weights, firsts, 1)
    std = np.sqrt(np.tensordot(weights, seconds, 1) - expected**2)
    mean, ours = limit_marginals(posterior, x_test, hyperposterior(posterior))
    np.testing.assert_allclose(mean, expected, atol=2e-3 * std.max())
    np.testing.assert_allclose(ours, std, rtol=2e-3)


@pytest.mark.slow
def test_the_average_over_many_scales_is_that_of_a_random_walk(rng):
    """Nine scales, against 40 000 Metropolis steps on the evidence; the fit alone is not."""
    x, y = rng.standard_normal((25, 6)), rng.standard_normal(25)
    y += 2 * np.sin(x[:, 0])
    layers = bnn.fcn(1, 5, 1, w_std=dist.LogNormal(0.3, 1.0), w_std_out=dist.HalfNormal(1.0)).layers
    network = bnn.Network([bnn.Scale(dist.LogNormal(np.zeros(6), 1.0)), *layers])
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(dist.HalfNormal(1.0)))
    coordinates = hyperposterior(posterior)
    x_test = jnp.asarray(rng.standard_normal((M, 6)))
    kernel = limit_kernel(posterior.network, posterior.x)

    def step(state, key):
        u, value = state
        proposal_key, key = jax.random.split(key)
        new = u + 0.7 * jax.random.normal(proposal_key, u.shape, u.dtype)
        new_value = log_evidence(posterior, kernel, coordinates.unconstrained(new))
        accepted = jnp.log(jax.random.uniform(key)) < new_value - value
        state = jnp.where(accepted, new, u), jnp.where(accepted, new_value, value)
        return state, state[0]

    u = jnp.zeros_like(coordinates.centre)
    start = u, log_evidence(posterior, kernel, coordinates.centre)
    _, walk = jax.jit(lambda keys: jax.lax.scan(step, start, keys))(
        jax.random.split(jax.random.key(0), 40_000)
    )

    def moments(u):
        values, _ = constrained(posterior.hyperpriors, coordinates.unconstrained(u))
        known = substitute(posterior, values)
        mean, variance = conditioned(known, substitute(kernel, values)).marginals(x_test)
        return mean, mean**2 + variance

    firsts, seconds = jax.jit(lambda walk: jax.lax.map(moments, walk))(walk[2000::20])
    expected = firsts.mean(axis=0)
    std = np.sqrt(seconds.mean(axis=0) - expected**2)
    mean, ours = limit_marginals(posterior, x_test, coordinates)
    plugged_in, square = moments(u)

    def distance(mean, found):
        return np.sqrt(np.mean(((mean - expected) / std) ** 2 + (found / std - 1) ** 2))

    assert distance(mean, ours) < 0.03
    assert distance(plugged_in, np.sqrt(square - plugged_in**2)) > 0.06


def test_a_scale_common_to_kernel_and_noise_makes_students_t(rng, x_test):
    """``s^2 ~ InverseGamma(a, b)`` times ``K + I``: Student t of 2 a + n o degrees of freedom."""
    a, b = 3.0, 2.0
    scale = dist.TransformedDistribution(
        dist.InverseGamma(a, b), dist.transforms.PowerTransform(0.5)
    )
    x, y = rng.standard_normal((N, D)), 1.3 * rng.standard_normal((N, OUT))
    network = bnn.Network([bnn.Dense(5, 1.3), bnn.Activation("erf"), bnn.Dense(OUT, scale)])
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(scale))
    assert list(posterior.hyperpriors) == ["w_std_out"]
    known = bnn.Network([*network.layers[:2], bnn.Dense(OUT, 1.0)])
    mean, variance, _ = textbook(known, x, y, 1.0, x_test)
    covariance = np.asarray(bnn.nngp(known, x), float) + np.eye(N)
    shape = a + N * OUT / 2
    rate = b + 0.5 * np.sum(y * np.linalg.solve(covariance, y))
    std = np.sqrt(variance * rate / (shape - 1))
    ours = limit_marginals(posterior, x_test, hyperposterior(posterior))
    np.testing.assert_allclose(ours[0], mean, rtol=RELATIVE, atol=RELATIVE)
    np.testing.assert_allclose(ours[1], std, rtol=1e-3)


OTHERS = {
    "Student t": (bnn.StudentT(4.0, dist.HalfNormal(1.0)), lambda rng: rng.standard_t(3, (30, 1))),
    "Bernoulli": (bnn.Bernoulli(), lambda rng: rng.integers(0, 2, (30, 1))),
}


@pytest.mark.parametrize("case", cases(OTHERS, slow={"Student t"}))
def test_hyperparameters_of_other_likelihoods_have_mode_and_curvature_too(case, rng):
    """By central differences of the evidence's values, which need no derivative of Laplace's."""
    likelihood, targets = case
    network = bnn.fcn(1, 5, 1, w_std=dist.LogNormal(0.0, 0.7), w_std_out=dist.HalfNormal(1.0))
    posterior = bnn.Posterior(network, rng.standard_normal((30, D)), targets(rng), likelihood)
    coordinates = hyperposterior(posterior)
    values, _ = constrained(posterior.hyperpriors, coordinates.centre)
    assert {"w_std", "w_std_out"} <= set(values)
    kernel = limit_kernel(posterior.network, posterior.x)
    size, step = len(coordinates.centre), 1e-2 if X64 else 0.2

    def at(*directions):
        u = step * sum(directions, jnp.zeros(size))
        return float(log_evidence(posterior, kernel, coordinates.unconstrained(u)))

    units = list(jnp.eye(size))
    slope = [(at(e) - at(-e)) / (2 * step) for e in units]
    np.testing.assert_allclose(slope, 0, atol=1e-3 if X64 else 5e-2)
    curvature = [
        [(at(a, b) - at(a, -b) - at(-a, b) + at(-a, -b)) / (4 * step**2) for b in units]
        for a in units
    ]
    np.testing.assert_allclose(curvature, -np.eye(size), atol=5e-3 if X64 else 0.2)


@pytest.mark.parametrize(
    ("use", "consequence"),
    [(hyperposterior, "draws are exact all the same"), (at_evidence_mode, "used all the same")],
)
def test_a_search_that_stopped_short_of_the_mode_warns_of_what_follows(
    use, consequence, data, monkeypatch
):
    monkeypatch.setattr(search, "MAX_ITERATIONS", 1)
    with pytest.warns(
        RuntimeWarning, match=f"nats below it after 1 steps; .*{consequence}"
    ) as seen:
        use(unknown(data, dist.LogNormal(6.0, 3.0)))
    if X64:  # the float32 pass wraps functions, and the wrapper is what called
        assert seen[0].filename == __file__
