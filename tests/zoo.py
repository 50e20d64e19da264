"""Registries: an entry added here is covered by every property test that runs over its table."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import bnnsample as bnn
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling.samplers import AbstractSampler


def softsign(x: jax.Array) -> jax.Array:
    return x / (1 + jnp.abs(x))


NETWORKS = {
    "shallow gelu": bnn.fcn(1, 5, 3, "gelu"),
    "deep relu without biases": bnn.fcn(3, 6, 1, "relu", b_std=0.0, b_std_out=0.0),
    "erf": bnn.fcn(2, 4, 2, "erf", w_std=1.7, b_std=0.6, w_std_out=0.8, b_std_out=0.3),
    "tanh": bnn.fcn(1, 4, 3, "tanh", w_std=1.2, b_std=0.4),
    "own function": bnn.fcn(1, 7, 2, softsign),
    "linear": bnn.Network([bnn.Dense(6, 1.3, 0.2), bnn.Dense(4, 0.7, 0.5)]),
    "no hidden parameters": bnn.Network([bnn.Activation("relu"), bnn.Dense(2, 1.4, 0.3)]),
}

SAMPLERS: dict[str, AbstractSampler] = {
    "HMC rotation": bnn.HMC(),
    "HMC leapfrog": bnn.HMC(6, integrator="leapfrog"),
    "NUTS rotation": bnn.NUTS(max_doublings=5),
    "NUTS leapfrog": bnn.NUTS(integrator="leapfrog", max_doublings=6),
}

MAPPED_TARGETS = {name: target for name, target in TARGETS.items() if name != "standard"}

SHAPES = {"n < p": (5, 8), "n = p": (6, 6), "n > p": (9, 4)}
"""Points and readout features (n, p) on both sides of where the cheaper form changes."""
