"""The joint law of a posterior: parameters, hyperparameters and targets from their prior.

Every statistical check rests on it, and on the same few numbers of a draw.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior
from bnnsample.models.scales import promoting_as_numpyro
from bnnsample.repriorisation.targets import standard
from bnnsample.sampling.projections import Projections, project, random_projections

type Quantities = dict[str, Float[Array, ""]]

PREDICTIONS = 2
"""Entries of the outputs that are followed."""


class Joint(NamedTuple):
    """A draw of parameters, values of hyperparameters by name, and targets ``y`` (n, columns)."""

    params: Parameters
    values: dict[str, Array]
    y: Array


class Probe(NamedTuple):
    """Where draws are looked at: inputs ``x_test`` (m, ...) and directions among the weights."""

    x_test: Float[Array, "m ..."]
    projections: Projections


def simulate(posterior: Posterior, key: Key[Array, ""]) -> Joint:
    """Parameters from their prior and targets given them; the posterior's own are not looked at."""
    params_key, targets_key, values_key = jax.random.split(key, 3)
    params = posterior.network.init(params_key, posterior.input_shape, posterior.x.dtype)
    values = _values(posterior, values_key)
    known = posterior.given(values)
    y = known.likelihood.draw(targets_key, known.network.apply(params, posterior.x))
    return Joint(params, values, y.astype(posterior.y.dtype))


def _values(posterior: Posterior, key: Key[Array, ""]) -> dict[str, Array]:
    priors = posterior.hyperpriors
    keys = jax.random.split(key, max(1, len(priors)))
    with promoting_as_numpyro():
        return {
            name: jnp.asarray(prior.sample(own), posterior.x.dtype)
            for own, (name, prior) in zip(keys, priors.items(), strict=False)
        }


def with_targets[T](tree: T, y: Array) -> T:
    """``tree`` with the targets ``y`` in place of those of every posterior in it.

    A map fitted to other targets stays what it was: it is exact whatever it was fitted to.
    """

    def replaced(node: Any) -> Any:
        if not isinstance(node, Posterior):
            return node
        changed = copy.copy(node)
        object.__setattr__(changed, "y", y)  # no check: values may be traced
        return changed

    return jax.tree.map(replaced, tree, is_leaf=lambda node: isinstance(node, Posterior))


def given_targets(posterior: Posterior, y: ArrayLike) -> Posterior:
    """The posterior given other targets, which are checked, in its own precision."""
    targets = np.asarray(y).astype(posterior.x.dtype)  # labels too, whose integers are wider
    return Posterior(posterior.network, posterior.x, targets, posterior.likelihood)


def probe_of(posterior: Posterior) -> Probe:
    """A look at the training inputs, and at the network's weights."""
    return Probe(posterior.x, random_projections(standard(posterior)))


def quantities(
    posterior: Posterior,
    probe: Probe,
    params: Parameters,
    values: dict[str, Array],
    f: Float[Array, "m o"],
) -> Quantities:
    """What is compared of a draw, by name.

    Those with the targets in them, log likelihood and log density, tell a posterior from a prior
    (Modrak et al. 2023, 2211.02383); mean squares of weights tell their scales.
    """
    found = {
        "log likelihood": posterior.log_likelihood(params, values),
        "log density": posterior.log_density(params, values),
        "readout square": jnp.mean(params.readout**2),
        "readout projection": project(probe.projections.readout, params.readout)[0],
    }
    if hidden := jax.tree.leaves(params.hidden):
        found["hidden square"] = jnp.mean(jnp.concatenate([leaf.ravel() for leaf in hidden]) ** 2)
        found["hidden projection"] = project(probe.projections.hidden, params.hidden)[0]
    found |= {f"f {entry}": value for entry, value in enumerate(f.ravel()[:PREDICTIONS])}
    for name, value in values.items():
        entries = jnp.ravel(value)
        found |= {
            name if len(entries) == 1 else f"{name} {entry}": entries[entry]
            for entry in range(len(entries))
        }
    return found


def true_quantities(posterior: Posterior, probe: Probe, joint: Joint) -> Quantities:
    """The quantities of a draw of the joint law, given its own targets."""
    params, values, y = joint
    f = posterior.given(values).network.apply(params, probe.x_test)
    return quantities(with_targets(posterior, y), probe, params, values, f)


@jax.jit
def simulate_all(
    posterior: Posterior, probe: Probe, keys: Key[Array, " draws"]
) -> tuple[Joint, Quantities]:
    """Independent draws of the joint law and their quantities, draw axis first."""

    def one(key: Key[Array, ""]) -> tuple[Joint, Quantities]:
        joint = simulate(posterior, key)
        return joint, true_quantities(posterior, probe, joint)

    return jax.vmap(one)(keys)
