"""What is kept of a draw: predictions, projections, norms, moments, parameters."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from bnnsample.checks import bad_input
from bnnsample.models.network import Parameters, named_parameters
from bnnsample.repriorisation.base import AbstractTarget, Draw
from bnnsample.sampling.chains import every_chain
from bnnsample.sampling.moments import Moments, add_draw, no_moments
from bnnsample.sampling.projections import Projections, project

type Kept = Literal["predictions", "projections", "layer_norms", "moments", "parameters"]
KEPT: tuple[str, ...] = get_args(Kept.__value__)

LARGE_NETWORK = 100_000
"""Parameters above which draws of all of them are kept only on request."""


class Functionals(NamedTuple):
    """What a segment leaves: the moments so far, and arrays with draw and chain axes first."""

    moments: Moments | None
    kept: dict[str, Array]


def what_to_keep(
    shapes: Parameters, keep: tuple[str, ...] | None, *, predicts: bool
) -> tuple[str, ...]:
    """``keep`` checked, or the default for a network with parameters of these shapes."""
    if keep is None:
        size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
        return KEPT[:-1] if size > LARGE_NETWORK else KEPT
    named = not isinstance(keep, str) and isinstance(keep, Iterable)
    if not named or not keep or not set(keep) <= set(KEPT):
        raise bad_input(
            "keep",
            got=repr(keep),
            expected=f"a tuple of some of {', '.join(map(repr, KEPT))}",
            probably="a typing error" if named else "one name without its tuple: ('predictions',)",
        )
    if "predictions" in keep and not predicts:
        raise bad_input(
            "keep",
            got="'predictions' without x_test",
            expected="the inputs x_test to predict at, or other things to keep",
            probably="x_test was left out",
        )
    return tuple(name for name in KEPT if name in keep)


def first_moments(
    target: AbstractTarget, chains: int, x_test: Float[Array, "m ..."] | None, keep: tuple[str, ...]
) -> Moments | None:
    """The moments of no draws, chain axis first, or None if they are not kept."""
    if "moments" not in keep:
        return None
    position = jax.ShapeDtypeStruct((target.dim,), target.posterior.x.dtype)

    def one(position: Array, key: Array) -> Moments:
        return no_moments(_of_moments(target.drawer(x_test)(position, key)))

    shapes = jax.eval_shape(one, position, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.zeros((chains, *leaf.shape), leaf.dtype), shapes)


@partial(jax.jit, static_argnames=("keep", "in_turn"), donate_argnames="moments")
def observe(
    target: AbstractTarget,
    positions: Float[Array, "draws chains dim"],
    count: Int[Array, ""],
    keys: Key[Array, "draws chains"],
    projections: Projections,
    x_test: Float[Array, "m ..."] | None,
    moments: Moments | None,
    *,
    keep: tuple[str, ...],
    in_turn: bool = False,
) -> Functionals:
    """The kept functionals of the first ``count`` draws of a segment; entries after it are zero."""
    draw_one = target.drawer(
        x_test if {"predictions", "moments"} & set(keep) else None,
        whole=bool({"layer_norms", "moments", "parameters"} & set(keep)),
    )

    def one(position: Array, key: Array, moments: Moments | None) -> Functionals:
        draw_key, noise_key = jax.random.split(key)
        draw = draw_one(position, draw_key)
        seen = None if moments is None else add_draw(moments, _of_moments(draw))
        return Functionals(seen, _kept(target, draw, noise_key, projections, keep))

    of_all = every_chain(one, in_turn)

    def body(index: Array, carry: Functionals) -> Functionals:
        new = of_all(positions[index], keys[index], carry.moments)
        kept = {name: carry.kept[name].at[index].set(row) for name, row in new.kept.items()}
        return Functionals(new.moments, kept)

    shapes = jax.eval_shape(of_all, positions[0], keys[0], moments).kept
    empty = {
        name: jnp.zeros((positions.shape[0], *leaf.shape), leaf.dtype)
        for name, leaf in shapes.items()
    }
    return jax.lax.fori_loop(0, count, body, Functionals(moments, empty))


def _of_moments(draw: Draw) -> dict[str, Array]:
    return named_parameters(draw.params) | draw.predictions


def _kept(
    target: AbstractTarget,
    draw: Draw,
    key: Key[Array, ""],
    projections: Projections,
    keep: tuple[str, ...],
) -> dict[str, Array]:
    kept = dict(draw.hyperparameters)
    if "parameters" in keep:
        kept |= named_parameters(draw.params)
    if "projections" in keep:
        if projections.hidden:
            kept["hidden_projection"] = project(projections.hidden, draw.sampled)
        kept["readout_projection"] = project(projections.readout, draw.readout)
    if "layer_norms" in keep:
        squares = [jnp.mean(leaf**2) for leaf in named_parameters(draw.params).values()]
        kept["layer_norm"] = jnp.sqrt(jnp.stack(squares))
    if "predictions" in keep and draw.predictions:
        kept |= draw.predictions
        likelihood = target.posterior.given(draw.hyperparameters).likelihood
        if not likelihood.varies_by_point:
            kept["y"] = likelihood.draw(key, draw.predictions["f"])
    return kept
