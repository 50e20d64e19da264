"""Integrators: exact where they should be, reversible, of second order, and blackjax's drop-ins."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc.integrators import IntegratorState
from blackjax.mcmc.metrics import gaussian_euclidean

from bnnsample.sampling.integrators import INTEGRATORS, rotation
from tests.conftest import X64

DIM = 5


def quartic(position):
    return -0.5 * jnp.sum(position**2) - 0.25 * jnp.sum(position**4) + jnp.prod(position[:2])


def gaussian(position):
    return -0.5 * jnp.sum(position**2)


def start(logdensity, rng) -> IntegratorState:
    position, momentum = jnp.asarray(rng.standard_normal((2, DIM)))
    return IntegratorState(position, momentum, *jax.value_and_grad(logdensity)(position))


def integrate(name, logdensity, state, step_size, steps):
    kinetic_energy = gaussian_euclidean(jnp.ones(DIM)).kinetic_energy
    step = jax.jit(INTEGRATORS[name](logdensity, kinetic_energy))
    for _ in range(steps):
        state = step(state, jnp.asarray(step_size))
    return state


def energy(state) -> float:
    return float(-state.logdensity + 0.5 * jnp.sum(state.momentum**2))


@pytest.mark.parametrize("angle", [0.3, 1.1, 2.9])
def test_rotation_is_exact_for_a_standard_normal_at_any_angle(angle, rng):
    state = start(gaussian, rng)
    end = integrate("rotation", gaussian, state, angle, 3)
    expected = np.cos(3 * angle) * state.position + np.sin(3 * angle) * state.momentum
    np.testing.assert_allclose(end.position, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(energy(end), energy(state), rtol=1e-9 if X64 else 1e-4)


@pytest.mark.parametrize("name", sorted(INTEGRATORS))
def test_flipping_the_momentum_retraces_the_trajectory(name, rng):
    state = start(quartic, rng)
    end = integrate(name, quartic, state, 0.13, 7)
    back = integrate(name, quartic, end._replace(momentum=-end.momentum), 0.13, 7)
    np.testing.assert_allclose(back.position, state.position, rtol=1e-8 if X64 else 1e-2, atol=1e-4)


@pytest.mark.skipif(not X64, reason="energy errors of order step^2 drown in float32 rounding")
@pytest.mark.parametrize("name", sorted(INTEGRATORS))
def test_energy_error_is_of_second_order_in_the_step(name, rng):
    state = start(quartic, rng)
    errors = [
        abs(energy(integrate(name, quartic, state, 0.4 / k, 2 * k)) - energy(state))
        for k in (16, 32)
    ]
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_rotation_preserves_volume(rng):
    state = start(quartic, rng)
    step = rotation(quartic, lambda *_: jnp.zeros(()))

    def flow(vector):
        position, momentum = jnp.split(vector, 2)
        value, gradient = jax.value_and_grad(quartic)(position)
        end = step(IntegratorState(position, momentum, value, gradient), jnp.asarray(0.7))
        return jnp.concatenate([end.position, end.momentum])

    jacobian = jax.jacfwd(flow)(jnp.concatenate([state.position, state.momentum]))
    np.testing.assert_allclose(jnp.abs(jnp.linalg.det(jacobian)), 1.0, rtol=1e-8 if X64 else 1e-3)


def test_integrators_differ(rng):
    state = start(quartic, rng)
    ends = [integrate(name, quartic, state, 0.3, 2).position for name in sorted(INTEGRATORS)]
    assert jnp.max(jnp.abs(ends[0] - ends[1])) > 1e-3
