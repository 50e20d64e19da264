"""The activations known by name, each with its dual: closed forms first, expansions after."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bnnsample.checks import bad_input, check_count, check_scale
from bnnsample.models.duals.arc_cosine import abs_dual, leaky_relu_dual, relu_dual
from bnnsample.models.duals.dual import Dual
from bnnsample.models.duals.elementwise import Elementwise, Function, check_elementwise
from bnnsample.models.duals.exponentials import cos_dual, exp_dual, rbf_dual, sin_dual
from bnnsample.models.duals.gaussian_integrals import (
    SIGMOID_SCALE,
    erf_dual,
    gaussian_dual,
    gelu_dual,
    sigmoid_like_dual,
)
from bnnsample.models.duals.hermite import HermiteDual
from bnnsample.models.duals.polynomials import identity_dual, monomial_dual

LARGEST_MONOMIAL = 16


@functools.lru_cache
def _bind(function: Callable[..., Array], **parameters: float | int) -> Function:
    """``function`` with these parameters: the same object each time, so that layers are equal."""
    return functools.partial(function, **parameters)


def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


def _rbf(x: Array) -> Array:
    return math.sqrt(2) * jnp.sin(math.sqrt(2) * x + math.pi / 4)


def _gaussian(x: Array) -> Array:
    return jnp.exp(-(x**2))


def _sigmoid_like(x: Array) -> Array:
    return (1 + jax.lax.erf(x / SIGMOID_SCALE)) / 2


def _power(x: Array, degree: int) -> Array:
    return x**degree


def _leaky_relu(negative_slope: float = 0.01) -> Elementwise:
    slope = _finite("leaky_relu negative_slope", negative_slope)
    return Elementwise(_bind(jax.nn.leaky_relu, negative_slope=slope), leaky_relu_dual(slope))


def _monomial(degree: int = 2) -> Elementwise:
    check_count("monomial degree", degree)
    if degree > LARGEST_MONOMIAL:
        raise bad_input(
            "monomial degree",
            got=repr(degree),
            expected=f"at most {LARGEST_MONOMIAL}",
            probably="a width in the wrong place; higher moments overflow",
        )
    return Elementwise(_bind(_power, degree=int(degree)), monomial_dual(int(degree)))


def _closed(function: Function, dual: Dual) -> Callable[[], Elementwise]:
    return lambda: Elementwise(function, dual)


def _expanded(function: Function, degree: int | None = None) -> Elementwise:
    if degree is not None:
        check_count("Activation degree", degree)
    return Elementwise(function, HermiteDual(function, degree))


def _elu(alpha: float = 1.0, degree: int | None = None) -> Elementwise:
    check_scale("elu alpha", alpha)
    return _expanded(_bind(jax.nn.elu, alpha=float(alpha)), degree)


def _celu(alpha: float = 1.0, degree: int | None = None) -> Elementwise:
    check_scale("celu alpha", alpha)
    return _expanded(_bind(jax.nn.celu, alpha=float(alpha)), degree)


def _squareplus(b: float = 4.0, degree: int | None = None) -> Elementwise:
    check_scale("squareplus b", b)
    return _expanded(_bind(jax.nn.squareplus, b=float(b)), degree)


KNOWN_ACTIVATIONS: dict[str, Callable[..., Elementwise]] = {
    "identity": _closed(jax.nn.identity, identity_dual),
    "relu": _closed(jax.nn.relu, relu_dual),
    "leaky_relu": _leaky_relu,
    "abs": _closed(jnp.abs, abs_dual),
    "erf": _closed(jax.lax.erf, erf_dual),
    "gelu": _closed(_gelu, gelu_dual),
    "sin": _closed(jnp.sin, sin_dual),
    "cos": _closed(jnp.cos, cos_dual),
    "rbf": _closed(_rbf, rbf_dual),
    "gaussian": _closed(_gaussian, gaussian_dual),
    "exp": _closed(jnp.exp, exp_dual),
    "sigmoid_like": _closed(_sigmoid_like, sigmoid_like_dual),
    "monomial": _monomial,
    "tanh": functools.partial(_expanded, jnp.tanh),
    "sigmoid": functools.partial(_expanded, jax.nn.sigmoid),
    "silu": functools.partial(_expanded, jax.nn.silu),
    "mish": functools.partial(_expanded, jax.nn.mish),
    "softplus": functools.partial(_expanded, jax.nn.softplus),
    "log_sigmoid": functools.partial(_expanded, jax.nn.log_sigmoid),
    "soft_sign": functools.partial(_expanded, jax.nn.soft_sign),
    "squareplus": _squareplus,
    "elu": _elu,
    "celu": _celu,
    "selu": functools.partial(_expanded, jax.nn.selu),
}
"""Builders whose keywords are the activation's parameters, named as in ``jax.nn``.

Those that expand also take ``degree``, the last term of their expansion.
"""

CLOSED_FORMS: tuple[tuple[Function, str], ...] = (
    (jax.nn.identity, "identity"),
    (jax.nn.relu, "relu"),
    (jax.nn.leaky_relu, "leaky_relu"),
    (jnp.abs, "abs"),
    (jax.lax.abs, "abs"),
    (jax.lax.erf, "erf"),
    (jax.scipy.special.erf, "erf"),
    (jnp.sin, "sin"),
    (jnp.cos, "cos"),
    (jnp.exp, "exp"),
    (jnp.square, "monomial"),
)
"""Functions that, given as such, are taken for the activation of that name."""


def activation(name: str, **parameters: Any) -> Elementwise:
    """The activation of that ``name``, with the parameters that ``jax.nn`` gives it."""
    if name not in KNOWN_ACTIVATIONS:
        near = difflib.get_close_matches(name.lower(), KNOWN_ACTIVATIONS, n=1)
        raise bad_input(
            "Activation",
            got=repr(name),
            expected=f"one of {', '.join(KNOWN_ACTIVATIONS)} or an elementwise function",
            probably=f"{near[0]!r} was meant" if near else "its function can be passed instead",
        )
    builder = KNOWN_ACTIVATIONS[name]
    accepted = inspect.signature(builder).parameters
    if unknown := [key for key in parameters if key not in accepted]:
        near = difflib.get_close_matches(unknown[0], accepted, n=1)
        raise bad_input(
            f"Activation {name!r}",
            got=f"the parameter {unknown[0]!r}",
            expected=f"one of {', '.join(accepted)}" if accepted else "no parameter",
            probably=f"{near[0]!r} was meant" if near else "a parameter of another activation",
        )
    return builder(**parameters)


def as_elementwise(
    function: str | Function, degree: int | None = None, **parameters: Any
) -> Elementwise:
    """A known name with its parameters, or any elementwise function.

    ``degree`` is the last term of the expansion, where there is one, or else the degree of the
    monomial. A function with a closed form is recognised; ``jax.nn.gelu`` has none, being an
    approximation of gelu.
    """
    if degree is not None:
        parameters["degree"] = degree
    if isinstance(function, str):
        return activation(function, **parameters)
    if not callable(function):
        raise bad_input(
            "Activation",
            got=repr(function),
            expected="a name or an elementwise function",
            probably="the function was called instead of passed",
        )
    if extra := [key for key in parameters if key != "degree"]:
        raise bad_input(
            "Activation",
            got=f"the parameter {extra[0]!r} beside a function",
            expected="parameters beside a name only",
            probably="a function to be bound to them: lambda x: function(x, ...)",
        )
    check_elementwise(function)
    names = [name for known, name in CLOSED_FORMS if known is function]
    return activation(names[0]) if names and degree is None else _expanded(function, degree)


def _finite(name: str, value: Any) -> float:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise bad_input(
            name,
            got=repr(value),
            expected="a finite number",
            probably="a missing value or a typing error",
        )
    return float(value)
