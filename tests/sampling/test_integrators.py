"""Integrators: exact where they should be, reversible, of second order, careful of energies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc.integrators import IntegratorState

from bnnsample.sampling.integrators import integrator, metric_from, value_and_gradient
from tests.conftest import X64

DIM = 5
NAMES = ("rotation", "crank-nicolson", "leapfrog")
SCALE = jnp.linspace(0.5, 1.5, DIM)


def quartic(position):
    return -0.25 * jnp.sum(position**4) + jnp.prod(position[:2])


def flat(position):
    return 0.0 * jnp.sum(position)


def start(log_likelihood, rng) -> IntegratorState:
    position, momentum = jnp.asarray(rng.standard_normal((2, DIM)))
    return IntegratorState(position, momentum, *value_and_gradient(log_likelihood, position))


def integrate(name, log_likelihood, state, step_size, steps, scale=1.0):
    build = integrator(name, jnp.asarray(scale))
    step = jax.jit(build(log_likelihood, no_energy))
    for _ in range(steps):
        state = step(state, jnp.asarray(step_size))
    return state


def no_energy(*_) -> None:
    """Of a momentum: integrators have no use for it."""


def gained(begin: IntegratorState, end: IntegratorState) -> float:
    """The energy that a trajectory gained, as samplers have it."""
    metric = metric_from(begin.position, begin.momentum)
    return float(
        metric.kinetic_energy(end.momentum, end.position) - (end.logdensity - begin.logdensity)
    )


def energy(log_likelihood, state) -> float:
    squares = sum(jnp.sum(part**2) for part in (state.position, state.momentum))
    return float(0.5 * squares - log_likelihood(state.position))


@pytest.mark.parametrize("name", ["rotation", "crank-nicolson"])
@pytest.mark.parametrize("angle", [0.3, 1.1, 2.9])
def test_rotation_is_exact_for_a_standard_normal_at_any_angle(name, angle, rng):
    state = start(flat, rng)
    end = integrate(name, flat, state, angle, 3)
    expected = np.cos(3 * angle) * state.position + np.sin(3 * angle) * state.momentum
    np.testing.assert_allclose(end.position, expected, rtol=1e-4, atol=1e-5)
    assert end.logdensity == 0.0


@pytest.mark.parametrize("scale", [1.0, SCALE])
@pytest.mark.parametrize("name", NAMES)
def test_flipping_the_momentum_retraces_the_trajectory(name, scale, rng):
    state = start(quartic, rng)
    end = integrate(name, quartic, state, 0.13, 7, scale)
    back = integrate(name, quartic, end._replace(momentum=-end.momentum), 0.13, 7, scale)
    np.testing.assert_allclose(back.position, state.position, rtol=1e-8 if X64 else 1e-2, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, SCALE])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_gained_is_the_difference_of_the_quadratic_energies(name, scale, rng):
    state = start(quartic, rng)
    end = integrate(name, quartic, state, 0.4, 5, scale)
    expected = energy(quartic, end) - energy(quartic, state)
    np.testing.assert_allclose(gained(state, end), expected, rtol=1e-9 if X64 else 1e-3, atol=1e-5)
    np.testing.assert_allclose(end.logdensity, quartic(end.position), rtol=1e-9 if X64 else 1e-4)
    metric = metric_from(state.position, state.momentum)
    assert metric.kinetic_energy(state.momentum) == 0.0  # as blackjax's NUTS asks at the start


@pytest.mark.parametrize("name", ["rotation", "leapfrog"])
def test_energy_differences_survive_float32_in_a_million_dimensions(name, rng):
    """Subtracting two energies of a million loses what differences by coordinate keep."""
    angle, steps, stiffness = 0.05, 9, 100.0

    def narrow(position):
        return -0.5 * stiffness * position[0] ** 2

    def errors():
        """Of the energy gained, and of the difference of two energies, in float32."""
        drawn = rng.standard_normal((2, 1_000_000))
        q, p = drawn
        curvature = stiffness * np.eye(1, q.size)[0] + (name == "leapfrog")
        for _ in range(steps):
            p = p - 0.5 * angle * curvature * q
            q, p = (q + angle * p, p) if name == "leapfrog" else rotated(q, p, angle)
            p = p - 0.5 * angle * curvature * q
        squares = np.sum(np.array([q, p]) ** 2 - drawn**2) + stiffness * (
            q[0] ** 2 - drawn[0, 0] ** 2
        )

        position, momentum = jnp.asarray(drawn, "float32")
        begin = IntegratorState(position, momentum, *value_and_gradient(narrow, position))
        end = integrate(name, narrow, begin, jnp.float32(angle), steps, jnp.float32(1.0))
        naive = energy(narrow, end) - energy(narrow, begin)
        return gained(begin, end) - 0.5 * squares, naive - 0.5 * squares

    found, naive = np.abs([errors() for _ in range(4)]).T
    assert found.max() < 3e-3
    assert naive.max() > 1e-2


def rotated(position, momentum, angle):
    """By products with a cosine and a sine."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * position + sin * momentum, cos * momentum - sin * position


def test_shears_keep_the_squares_of_a_million_dimensions_in_float32(rng):
    """Products, whose rounded cosine and sine have no squares that add up to 1, do not."""
    position, momentum = jnp.asarray(rng.standard_normal((2, 1_000_000)), "float32")
    begin = IntegratorState(position, momentum, *value_and_gradient(flat, position))
    angle = jnp.float32(0.02)
    end = integrate("rotation", flat, begin, angle, 64, jnp.float32(1.0))
    assert abs(gained(begin, end)) < 3e-3

    q, p = np.asarray(position), np.asarray(momentum)
    for _ in range(64):
        q, p = rotated(q, p, np.float32(angle))
    assert q.dtype == "float32"
    end = begin._replace(position=jnp.asarray(q), momentum=jnp.asarray(p))
    assert abs(gained(begin, end)) > 0.3


@pytest.mark.skipif(not X64, reason="energy errors of order step^2 drown in float32 rounding")
@pytest.mark.parametrize("name", NAMES)
def test_energy_error_is_of_second_order_in_the_step(name, rng):
    state = start(quartic, rng)
    errors = [abs(gained(state, integrate(name, quartic, state, 0.4 / k, 2 * k))) for k in (16, 32)]
    assert 3.5 < errors[0] / errors[1] < 4.5


@pytest.mark.parametrize("name", NAMES)
def test_volume_is_preserved(name, rng):
    state = start(quartic, rng)
    step = integrator(name, SCALE)(quartic, lambda *_: jnp.zeros(()))

    def flow(vector):
        position, momentum = jnp.split(vector, 2)
        begin = IntegratorState(position, momentum, *value_and_gradient(quartic, position))
        end = step(begin, jnp.asarray(0.7))
        return jnp.concatenate([end.position, end.momentum])

    jacobian = jax.jacfwd(flow)(jnp.concatenate([state.position, state.momentum]))
    np.testing.assert_allclose(jnp.abs(jnp.linalg.det(jacobian)), 1.0, rtol=1e-8 if X64 else 1e-3)


def test_one_crank_nicolson_step_is_pcnl(rng):
    """Cotter et al. 2013: ``(2 + d) v = (2 - d) u + 2 d grad + sqrt(8 d) xi``.

    The step ``d`` is that of the angle with ``tan(e / 2) = sqrt(d / 2)``.
    """
    state, angle = start(quartic, rng), 0.7
    d = 2 * np.tan(angle / 2) ** 2
    gradient = jax.grad(quartic)(state.position)
    noise = np.sqrt(8 * d) * state.momentum
    expected = ((2 - d) * state.position + 2 * d * gradient + noise) / (2 + d)
    end = integrate("crank-nicolson", quartic, state, angle, 1)
    np.testing.assert_allclose(end.position, expected, rtol=1e-9 if X64 else 1e-4)


def test_integrators_differ(rng):
    state = start(quartic, rng)
    ends = [integrate(name, quartic, state, 0.3, 2).position for name in NAMES]
    assert jnp.max(jnp.abs(ends[0] - ends[1])) > 1e-3
    assert jnp.max(jnp.abs(ends[0] - ends[2])) > 1e-3
