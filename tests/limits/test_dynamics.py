"""Gradient flow at infinite width: against the equations that it solves, and trained networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.integrate import solve_ivp

import bnnsample as bnn
from bnnsample.limits.dynamics import elapsed
from tests.conftest import X64
from tests.quick import cases
from tests.zoo import NETWORKS

N, M, D, OUT = 5, 3, 4, 2
NETWORK = bnn.fcn(1, 4, OUT, "erf", w_std=1.7, b_std=0.6, w_std_out=0.8, b_std_out=0.3)
TIMES = [0.0, 0.2, 1.0, 10.0, 100.0]
CLOSE = {"rtol": 1e-7, "atol": 1e-8} if X64 else {"rtol": 2e-3, "atol": 3e-3}
AT_INFINITY = {"rtol": 1e-7, "atol": 1e-8} if X64 else {"rtol": 5e-3, "atol": 1e-2}


@pytest.fixture
def x(rng) -> np.ndarray:
    return rng.standard_normal((N, D))


@pytest.fixture
def y(rng) -> np.ndarray:
    return rng.standard_normal((N, OUT))


@pytest.fixture
def x_all(x, rng) -> np.ndarray:
    """Training points, then test points."""
    return np.concatenate([x, rng.standard_normal((M, D))])


@pytest.fixture
def kernels(x_all) -> tuple[np.ndarray, np.ndarray]:
    nngp, ntk = bnn.nngp_and_ntk(NETWORK, x_all)
    return np.asarray(nngp, float), np.asarray(ntk, float)


def velocity(ntk: np.ndarray) -> np.ndarray:
    """The matrix ``V`` of ``df / dt = V (f - (y, 0))``: training errors move all points."""
    return np.concatenate([-ntk[:, :N], np.zeros((N + M, M))], axis=1)


def integrated_mean(ntk: np.ndarray, y: np.ndarray, t: float) -> np.ndarray:
    """``df / dt = -Theta (f - y)`` from ``f = 0``, step by step."""

    def derivative(_, flat):
        f = flat.reshape(N + M, OUT)
        return (-ntk[:, :N] @ (f[:N] - y)).ravel()

    solved = solve_ivp(
        derivative, (0, t), np.zeros((N + M) * OUT), method="LSODA", rtol=1e-10, atol=1e-11
    )
    return solved.y[:, -1].reshape(N + M, OUT)


@pytest.mark.parametrize("t", TIMES)
def test_the_mean_solves_its_differential_equation(t, x, y, x_all, kernels):
    mean, _ = bnn.gradient_flow(NETWORK, x, y).predict(x_all, t)
    np.testing.assert_allclose(mean, integrated_mean(kernels[1], y, t), **CLOSE)
    if t == 1.0:  # the loss is half the sum of squares: at twice the time the mean is another one
        assert np.max(np.abs(mean - integrated_mean(kernels[1], y, 2 * t))) > 0.1


@pytest.mark.parametrize("t", TIMES)
def test_the_covariance_is_that_of_prior_functions_carried_along(t, x, y, x_all, kernels):
    """The flow is linear in where it starts, which is a draw of the NNGP at all points jointly."""
    nngp, ntk = kernels
    _, covariance = bnn.gradient_flow(NETWORK, x, y).predict(x_all, t)
    flow = scipy.linalg.expm(t * velocity(ntk))
    np.testing.assert_allclose(covariance, flow @ nngp @ flow.T, **CLOSE)
    if t == 1.0:  # that of regression with the tangent kernel as prior is another one
        assert np.max(np.abs(covariance - flow @ ntk @ flow.T)) > 0.1


def test_at_time_zero_it_is_the_prior(x, y, x_all, kernels):
    mean, covariance = bnn.gradient_flow(NETWORK, x, y).predict(x_all, 0)
    np.testing.assert_array_equal(mean, np.zeros((N + M, OUT)))
    np.testing.assert_allclose(covariance, kernels[0], rtol=1e-12 if X64 else 1e-5)


def test_at_infinity_it_interpolates_the_data_and_the_mean_is_that_of_regression(
    x, y, x_all, kernels
):
    nngp, ntk = kernels
    mean, covariance = bnn.gradient_flow(NETWORK, x, y).predict(x_all, np.inf)
    np.testing.assert_allclose(mean[:N], y, **AT_INFINITY)
    np.testing.assert_allclose(covariance[:N], np.zeros((N, N + M)), **AT_INFINITY)
    # f0 at test points, less what the tangent kernel regresses it to from the training points
    regression = np.linalg.solve(ntk[:N, :N], ntk[:N, N:]).T
    residual = np.concatenate([-regression, np.eye(M)], axis=1)
    np.testing.assert_allclose(covariance[N:, N:], residual @ nngp @ residual.T, **AT_INFINITY)
    np.testing.assert_allclose(mean[N:], regression @ y, **AT_INFINITY)
    process = bnn.ntk_posterior(NETWORK, x, y, 1e-6 if X64 else 1e-3)
    np.testing.assert_allclose(mean, process.predict(x_all)[0], **AT_INFINITY)


def test_training_only_lowers_errors_and_spread_and_leaves_a_covariance(x, y, x_all):
    flow = bnn.gradient_flow(NETWORK, x, y)
    times = jnp.asarray([0.0, *np.geomspace(1e-3, 1e3, 60), np.inf])
    mean, covariance = map(np.asarray, jax.vmap(lambda t: flow.predict(x_all, t))(times))
    slack = 1e-12 if X64 else 1e-5
    assert np.diff(np.sum((mean[:, :N] - y) ** 2, axis=(1, 2))).max() < slack
    training = covariance[:, :N, :N]
    assert np.diff(np.trace(training, axis1=1, axis2=2)).max() < slack
    np.testing.assert_array_equal(covariance, np.swapaxes(covariance, 1, 2))
    assert np.linalg.eigvalsh(covariance).min() > -slack


@pytest.mark.parametrize("t", [0.0, 0.3, 3.0, 30.0])
def test_a_network_linear_in_its_parameters_is_its_own_limit(t, x, y, x_all):
    """Gradient flow of the readout ``W`` from N(0, I), in parameter space, at finite width."""
    network = NETWORKS["no hidden parameters"]
    hidden = network.init(jax.random.key(0), (D,)).hidden
    features = np.asarray(network.features(hidden, jnp.asarray(x_all)), float)
    psi = features[:N]
    curvature = psi.T @ psi
    # d/dt (W, 1) = (-psi' psi W + psi' y, 0)
    generator = np.zeros((D + 1 + OUT, D + 1 + OUT))
    generator[: D + 1] = np.concatenate([-curvature, psi.T @ y], axis=1)
    moved = scipy.linalg.expm(t * generator)[: D + 1]
    mean, covariance = bnn.gradient_flow(network, x, y).predict(x_all, t)
    np.testing.assert_allclose(mean, features @ moved[:, D + 1 :], **CLOSE)
    spread = features @ moved[:, : D + 1]
    np.testing.assert_allclose(covariance, spread @ spread.T, **CLOSE)


def test_duplicate_inputs_can_be_trained_on_for_a_while(x, y, x_all, kernels):
    """Two targets for one input act like their mean, with twice the weight."""
    flow = bnn.gradient_flow(NETWORK, np.concatenate([x, x[:1]]), np.concatenate([y, y[1:2]]))
    mean, _ = flow.predict(x_all, 1.0)
    target = y.copy()
    target[0] = (y[0] + y[1]) / 2
    weights = np.eye(N + M)[:, :N]
    weights[0, 0] = 2

    def derivative(_, flat):
        f = flat.reshape(N + M, OUT)
        return (-kernels[1] @ weights @ (f[:N] - target)).ravel()

    start = np.zeros((N + M) * OUT)
    solved = solve_ivp(derivative, (0, 1.0), start, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(mean, solved.y[:, -1].reshape(N + M, OUT), **CLOSE)


def test_time_may_be_traced_and_differentiated_in(x, y, x_all, kernels):
    flow = bnn.gradient_flow(NETWORK, x, y)
    mean, speed = jax.jvp(
        jax.jit(lambda t: flow.predict(x_all, t)[0]), (jnp.asarray(0.5),), (jnp.asarray(1.0),)
    )
    np.testing.assert_allclose(mean, flow.predict(x_all, np.float32(0.5))[0], **CLOSE)
    np.testing.assert_allclose(speed, -kernels[1][:, :N] @ (mean[:N] - y), **CLOSE)


def test_the_integral_of_an_exponential_is_stable_for_small_rates():
    rates = jnp.asarray([-1e-9, 0.0, 1e-12, 1e-6, 1.0, 1e4])
    t = jnp.asarray(2.0)
    exact = [2.0, 2.0, 2.0 - 2e-12, 2.0 - 2e-6, 1 - np.exp(-2.0), 1e-4]
    np.testing.assert_allclose(elapsed(rates, t), exact, rtol=1e-11 if X64 else 1e-6)
    np.testing.assert_allclose(elapsed(rates[2:], jnp.asarray(np.inf)), 1 / rates[2:], rtol=1e-6)
    slopes = jax.vmap(jax.grad(lambda r, t: elapsed(r[None], t)[0], argnums=1), (0, None))(rates, t)
    np.testing.assert_allclose(slopes, [1, 1, 1, 1 - 2e-6, np.exp(-2.0), 0], rtol=1e-5)


@pytest.mark.parametrize("t", [pytest.param(0.0, marks=pytest.mark.slow), 0.3, np.inf])
@pytest.mark.parametrize(
    "points", cases(["generic", "equiangular", "orthonormal"], slow={"orthonormal"})
)
def test_gradients_are_those_of_the_formula_whatever_the_spectrum(points, t, rng):
    """Equiangular and orthonormal inputs give the tangent kernel eigenvalues that coincide."""
    n = 4
    inputs = {
        "generic": rng.standard_normal((n, n)),
        "equiangular": np.eye(n) + 0.3,
        "orthonormal": np.eye(n),
    }
    x, x_test = jnp.asarray(inputs[points]), jnp.asarray(rng.standard_normal((2, n)))
    y = jnp.asarray(rng.standard_normal((n, 1)))
    weights = jnp.asarray(rng.standard_normal((2, 2)))

    def value(predict, at):
        w_std, x = at
        network = bnn.fcn(1, 8, 1, "erf", w_std=w_std, b_std=0.3)
        mean, covariance = predict(network, x)
        return jnp.sum(mean) + jnp.sum(weights * covariance)

    def by_flow(network, x):
        return bnn.gradient_flow(network, x, y).predict(x_test, t)

    def by_formula(network, x):
        """With matrix exponentials instead of eigenvalues."""
        own, cross = bnn.nngp_and_ntk(network, x), bnn.nngp_and_ntk(network, x_test, x)
        decay = 0 * own.ntk if t == np.inf else jax.scipy.linalg.expm(-own.ntk * t)
        gain = cross.ntk @ jnp.linalg.solve(own.ntk, jnp.eye(n) - decay)
        change = gain @ cross.nngp.T
        covariance = bnn.nngp(network, x_test) - change - change.T + gain @ own.nngp @ gain.T
        return gain @ y, covariance

    at = (jnp.asarray(1.4), x)
    found, expected = (
        jax.jit(jax.value_and_grad(lambda at, own=own: value(own, at)))(at)
        for own in (by_flow, by_formula)
    )
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(
            own, other, rtol=1e-7 if X64 else 2e-2, atol=1e-8 if X64 else 2e-3
        )


def test_slopes_of_the_integral_in_the_rate():
    for t in (0.7, 30.0, np.inf):
        for rate in (1e-7, 0.01, 0.69, 0.72, 5.0, 1e4):
            u = rate * t
            exact = -(-np.expm1(-u) - (u * np.exp(-u) if u < 700 else 0)) / rate**2
            if u < 0.1:
                exact = -(t**2) * (1 / 2 - u / 3 + u**2 / 8 - u**3 / 30 + u**4 / 144)
            slope = jax.grad(lambda r, t=t: elapsed(r[None], jnp.asarray(t))[0])(jnp.asarray(rate))
            np.testing.assert_allclose(slope, exact, rtol=1e-6 if X64 else 1e-4)


@pytest.mark.slow
def test_wide_networks_trained_by_gradient_descent_follow_the_flow(x, y, x_all):
    """256 networks of width 512, whose distance to the limit is of order 1 / sqrt(512)."""
    network = bnn.fcn(1, 512, OUT, "erf", w_std=1.5, b_std=0.3, b_std_out=0.2)
    members, steps = 256, 150
    flow = bnn.gradient_flow(network, x, y)
    t = 2.0 / float(flow.eigenvalues[2])
    points = jnp.asarray(x_all)

    def loss(params):
        return 0.5 * jnp.sum((network.apply(params, points[:N]) - y) ** 2)

    def trained(key):
        def step(params, _):
            return jax.tree.map(
                lambda p, g: p - t / steps * g, params, jax.grad(loss)(params)
            ), None

        params, _ = jax.lax.scan(step, network.init(key, (D,)), None, length=steps)
        return network.apply(params, points)

    assert t / steps * flow.eigenvalues[-1] < 0.2
    keys = jax.random.split(jax.random.key(5), members)
    f = np.asarray(jax.lax.map(jax.jit(trained), keys, batch_size=16))
    mean, covariance = flow.predict(x_all, t)
    variance = np.diagonal(covariance)
    error = np.sqrt(variance / members)[:, None]
    assert np.all(np.abs(f.mean(0) - mean) < 4.5 * error + 0.03)
    spread = np.var(f, axis=0).mean(-1)
    assert np.all(np.abs(spread / variance - 1) < 4.5 * np.sqrt(2 / (members * OUT)) + 0.1)
    # neither would pass untrained, nor trained to the end
    for other in (0.0, np.inf):
        mean, covariance = flow.predict(x_all, other)
        assert np.max(np.abs(f.mean(0) - mean)) > 0.1


@pytest.mark.parametrize(
    ("t", "expected"),
    [
        (-1.0, "t: got -1.0; expected one number of at least 0"),
        (np.nan, "t: got nan"),
        (np.array([1.0, 2.0]), "t: got .*jax.vmap"),
        ("end", "t: got 'end'"),
    ],
)
def test_bad_times_are_refused(t, expected, x, y):
    with pytest.raises(ValueError, match=expected):
        bnn.gradient_flow(NETWORK, x, y).predict(x, t)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_the_end_of_training_on_duplicate_inputs_is_refused(activation, x, y):
    network = bnn.fcn(1, 8, OUT, activation)
    flow = bnn.gradient_flow(network, np.concatenate([x, x]), np.concatenate([y, -y]))
    for t in (np.inf, 1e20):
        with pytest.raises(ValueError, match="smallest eigenvalue.*rounding.*duplicate inputs"):
            flow.predict(x, t)


def test_a_pair_of_kernels_serves_as_a_network(x, y, x_all):
    flow = bnn.gradient_flow(NETWORK, x, y)
    pair = tuple(jax.tree_util.Partial(kernel, NETWORK) for kernel in (bnn.nngp, bnn.ntk))
    estimates = tuple(
        bnn.monte_carlo_kernel(NETWORK, draws=8, kind=kind) for kind in ("nngp", "ntk")
    )
    for kernels, exact in ((pair, True), (estimates, False)):
        for own, other in zip(
            bnn.gradient_flow(kernels, x, y).predict(x_all, 0.4),
            flow.predict(x_all, 0.4),
            strict=True,
        ):
            assert own.shape == other.shape
            assert np.isfinite(own).all()
            assert np.allclose(own, other, rtol=1e-3, atol=1e-4) == exact


def test_bad_data_of_a_flow_are_refused(x, y):
    with pytest.raises(ValueError, match="network: got .*expected a Network"):
        bnn.gradient_flow(lambda x1, x2=None: x1, x, y)
    with pytest.raises(ValueError, match="x_test: got examples of shape"):
        bnn.gradient_flow(NETWORK, x, y).predict(np.ones((2, 5)), 1.0)
    with pytest.raises(ValueError, match="5 points in x and 4 in y"):
        bnn.gradient_flow(NETWORK, x, y[1:])
