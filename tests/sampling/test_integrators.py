"""Integrators: exact where they should be, reversible, of second order, careful of energies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc.integrators import IntegratorState

from bnnsample.sampling.integrators import integrator, unit_metric, value_and_slope
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
    return IntegratorState(position, momentum, *value_and_slope(log_likelihood, position))


def integrate(name, log_likelihood, state, step_size, steps, scale=1.0):
    build = integrator(name, jnp.asarray(scale))
    step = jax.jit(build(log_likelihood, unit_metric(DIM, state.position.dtype).kinetic_energy))
    for _ in range(steps):
        state = step(state, jnp.asarray(step_size))
    return state


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
    tracked = float(state.logdensity - end.logdensity)
    np.testing.assert_allclose(tracked, expected, rtol=1e-9 if X64 else 1e-3, atol=1e-5)
    likelihood = end.logdensity + end.logdensity_grad.gained
    np.testing.assert_allclose(likelihood, quartic(end.position), rtol=1e-9 if X64 else 1e-4)


def test_energy_differences_survive_float32_in_a_million_dimensions(rng):
    """Subtracting two energies of half a million loses what tracking the gain keeps."""
    dim = 1_000_000
    start_at, momentum = rng.standard_normal((2, dim))

    def bump(position):
        return -0.5 * position[0] ** 2

    def difference(dtype):
        position, p = (jnp.asarray(array, dtype) for array in (start_at, momentum))
        state = IntegratorState(position, p, *value_and_slope(bump, position))
        build = integrator("rotation", jnp.ones((), dtype))
        step = jax.jit(build(bump, unit_metric(dim, jnp.dtype(dtype)).kinetic_energy))
        for _ in range(3):
            state = step(state, jnp.asarray(0.5, dtype))
        squares = sum(jnp.sum(part**2) for part in (state.position, state.momentum))
        before = sum(jnp.sum(part**2) for part in (position, p))
        naive = 0.5 * squares - bump(state.position) - (0.5 * before - bump(position))
        return float(bump(position) - state.logdensity), float(naive)

    q, p = start_at[0], momentum[0]
    begin = 0.5 * (2 * q**2 + p**2)
    for _ in range(3):
        p -= 0.25 * q
        q, p = np.cos(0.5) * q + np.sin(0.5) * p, np.cos(0.5) * p - np.sin(0.5) * q
        p -= 0.25 * q
    exact = 0.5 * (2 * q**2 + p**2) - begin
    tracked, naive = difference("float32")
    assert abs(tracked - exact) < 1e-5
    assert abs(naive - exact) > 1e-3


@pytest.mark.skipif(not X64, reason="energy errors of order step^2 drown in float32 rounding")
@pytest.mark.parametrize("name", NAMES)
def test_energy_error_is_of_second_order_in_the_step(name, rng):
    state = start(quartic, rng)
    errors = [
        abs(float(integrate(name, quartic, state, 0.4 / k, 2 * k).logdensity - state.logdensity))
        for k in (16, 32)
    ]
    assert 3.5 < errors[0] / errors[1] < 4.5


@pytest.mark.parametrize("name", NAMES)
def test_volume_is_preserved(name, rng):
    state = start(quartic, rng)
    step = integrator(name, SCALE)(quartic, lambda *_: jnp.zeros(()))

    def flow(vector):
        position, momentum = jnp.split(vector, 2)
        begin = IntegratorState(position, momentum, *value_and_slope(quartic, position))
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
