"""What is kept of a draw: projections of the weights, predictions, all parameters on request."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input
from bnnsample.models.network import Parameters
from bnnsample.repriorisation.predictions import conditional_prediction
from bnnsample.repriorisation.targets import AbstractTarget, Marginal, flatten

type Kept = Literal["parameters", "projections", "predictions"]
KEPT: tuple[str, ...] = get_args(Kept.__value__)

NUM_PROJECTIONS = 20
PROJECTION_SEED = 2206_07673
"""Fixed, so that all runs of one architecture are compared on the same projections."""

LARGE_NETWORK = 100_000
"""Parameters above which draws of all of them are kept only on request."""


class Projections(NamedTuple):
    """Unit directions in the space of hidden weights and of the readout, one a row."""

    hidden: Float[Array, "projections hidden_dim"]
    readout: Float[Array, "projections readout_dim"]


def what_to_keep(shapes: Parameters, keep: tuple[str, ...] | None) -> tuple[str, ...]:
    """``keep`` checked, or the default for a network with parameters of these shapes."""
    if keep is None:
        size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
        return KEPT[1:] if size > LARGE_NETWORK else KEPT
    unknown = [name for name in keep if name not in KEPT]
    if unknown:
        raise bad_input(
            "keep",
            got=", ".join(map(repr, unknown)),
            expected=f"some of {', '.join(map(repr, KEPT))}",
            probably="a string instead of a tuple, or a typing error",
        )
    if not keep:
        raise bad_input(
            "keep",
            got="nothing",
            expected=f"some of {', '.join(map(repr, KEPT))}",
            probably="None was meant, for the default",
        )
    return tuple(keep)


def random_projections(shapes: Parameters) -> Projections:
    """``NUM_PROJECTIONS`` random directions for the hidden weights and for the readout."""
    hidden_dim = sum(leaf.size for leaf in jax.tree.leaves(shapes.hidden))
    generator = np.random.default_rng(PROJECTION_SEED)
    return Projections(
        _unit_rows(generator, hidden_dim, shapes.readout.dtype),
        _unit_rows(generator, shapes.readout.size, shapes.readout.dtype),
    )


def _unit_rows(
    generator: np.random.Generator, dim: int, dtype: jnp.dtype
) -> Float[Array, "projections dim"]:
    rows = generator.standard_normal((NUM_PROJECTIONS if dim else 0, dim))
    return jnp.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype)


@partial(jax.jit, static_argnames="keep")
def observe(
    target: AbstractTarget,
    positions: Float[Array, "draws chains dim"],
    keys: Key[Array, "draws chains"],
    projections: Projections,
    x_test: Float[Array, "m ..."] | None,
    *,
    keep: tuple[str, ...],
) -> dict[str, Array]:
    """The kept functionals of every draw, as arrays with draw and chain axes first."""

    def observe_one(position: Array, key: Array) -> dict[str, Array]:
        return _functionals(target, position, key, projections, x_test, keep)

    return jax.lax.map(lambda pair: jax.vmap(observe_one)(*pair), (positions, keys))


def _functionals(
    target: AbstractTarget,
    position: Float[Array, " dim"],
    key: Key[Array, ""],
    projections: Projections,
    x_test: Float[Array, "m ..."] | None,
    keep: tuple[str, ...],
) -> dict[str, Array]:
    params = target.constrain(position, key)
    kept: dict[str, Array] = {}
    if "parameters" in keep:
        kept |= named_parameters(params)
    if "projections" in keep:
        if projections.hidden.size:
            kept["hidden_projection"] = projections.hidden @ flatten(params.hidden)
        kept["readout_projection"] = projections.readout @ flatten(params.readout)
    if "predictions" in keep and x_test is not None:
        kept |= _predictions(target, params, x_test)
    return kept


def _predictions(
    target: AbstractTarget, params: Parameters, x_test: Float[Array, "m ..."]
) -> dict[str, Array]:
    posterior = target.posterior
    test_features = posterior.network.features(params.hidden, x_test)
    predictions = {"f": test_features @ params.readout}
    if isinstance(target, Marginal):
        features = posterior.network.features(params.hidden, posterior.x)
        noise_std = posterior.likelihood.noise_std
        mean, std = conditional_prediction(features, posterior.y, noise_std, test_features)
        predictions |= {"f_mean": mean, "f_std": std}
    return predictions


def named_parameters(params: Parameters) -> dict[str, Array]:
    """Parameters by the names they have in a run: ``layer_0_weight``, ..., ``readout``."""
    named = {"readout": params.readout}
    for index, layer in enumerate(params.hidden):
        for path, leaf in jax.tree.leaves_with_path(layer):
            name = jax.tree_util.keystr(path, simple=True, separator="_")
            named[f"layer_{index}_{name}"] = leaf
    return named
