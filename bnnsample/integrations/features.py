"""Functions of other libraries as feature maps: parameters N(0, 1) times given scales."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.checks import BadInput, as_scale, bad_input
from bnnsample.models.kernel import Shape
from bnnsample.models.layers.custom import Custom
from bnnsample.models.layers.dense import Dense
from bnnsample.models.network import Network

type Stds = Callable[[str, Shape], float | None]
"""The standard deviation of a parameter by its path, such as ``layers.0.weight``, and its shape."""


def installed(module: str, package: str) -> Any:
    """The module of another package; raises an error that says how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{module} is not installed: pip install {package}") from error


def not_a_function(got: str, *, dropout: bool) -> BadInput:
    """The error for modules whose features depend on more than parameters and one example."""
    return bad_input(
        "module",
        got=got,
        expected="parameters and nothing else",
        probably="dropout, whose noise is not part of a posterior"
        if dropout
        else "batch normalisation, which makes one example's features depend on the others, or a "
        "constant array, which must not be stored as state",
    )


def not_floating(got: str) -> BadInput:
    """The error for arrays of a module that cannot have a Gaussian prior."""
    return bad_input(
        "module",
        got=got,
        expected="arrays of floating-point numbers, which become parameters",
        probably="a counter or an index, which has no prior",
    )


def feature_network(
    shapes: Mapping[str, Shape],
    apply: Callable[[dict[str, Array], Float[Array, "n ..."]], Float[Array, "n p"]],
    stds: Stds | None,
    readout: Dense,
    *,
    fan_in: Callable[[Shape], int],
    w_std: float,
    b_std: float,
    gains: Collection[str] = (),
) -> Network:
    """The network of ``apply``, whose parameters have these ``shapes``, and a ``readout``.

    Where ``stds`` does not say, biases have ``b_std`` and arrays of two axes and more, other than
    ``gains``, ``w_std / sqrt(fan_in)``.
    """

    def rule(path: str, shape: Shape) -> float | None:
        if path.split(".")[-1] == "bias":
            return b_std
        return w_std / fan_in(shape) ** 0.5 if len(shape) >= 2 and path not in gains else None

    if stds is not None and not callable(stds):
        raise bad_input(
            "module stds",
            got=f"a {type(stds).__name__}",
            expected="a function of a parameter's path and shape",
            probably="a dictionary: its .get, as in stds=lambda path, shape: own.get(path)",
        )
    w_std, b_std = as_scale("module w_std", w_std), as_scale("module b_std", b_std)
    scales = {path: _scale(path, shape, rule, stds) for path, shape in shapes.items()}

    def init(key: Key[Array, ""], input_shape: Shape) -> dict[str, Array]:
        return {
            path: jax.random.normal(jax.random.fold_in(key, index), shape)
            for index, (path, shape) in enumerate(shapes.items())
        }

    def features(params: dict[str, Array], x: Float[Array, "n ..."]) -> Float[Array, "n p"]:
        scaled = {path: scales[path] * value for path, value in params.items()}
        try:
            found = apply(scaled, x)
        except (TypeError, ValueError) as error:
            raise bad_input(
                "module",
                got=f"examples of shape {x.shape[1:]}, at which it fails: {error}",
                expected="examples of the shape that it is made for",
                probably="an input size that is not the number of columns of x",
            ) from error
        if not isinstance(found, jax.Array) or found.ndim != 2:
            raise bad_input(
                "module output",
                got=f"features of shape {found.shape}"
                if isinstance(found, jax.Array)
                else f"a {type(found).__name__}",
                expected="(n, p): a vector for each of n examples",
                probably="images or sequences that are to be flattened or pooled first, or no "
                "array alone is returned",
            )
        return jnp.asarray(found, x.dtype)

    return Network([Custom(init, features), readout])


def _scale(path: str, shape: Shape, rule: Stds, stds: Stds | None) -> float:
    scale = None if stds is None else stds(path, shape)
    scale = rule(path, shape) if scale is None else scale
    if scale is None:
        raise bad_input(
            "module",
            got=f"a parameter {path} of shape {shape}",
            expected="weights of two axes or more, and biases; of others their std by `stds`",
            probably="the gain of a normalisation, which N(0, 1) would switch off: leave it out, "
            "or give its std: stds=lambda path, shape: 1.0 if path == ... else None",
        )
    return as_scale(f"std of {path}", scale)
