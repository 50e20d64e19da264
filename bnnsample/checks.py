"""What is checked at the boundary: one clear error for bad input, before anything is compiled.

Every error reads ``got ...; expected ...; probably ...``. Values that JAX is tracing have no
number to look at and pass; static structure is always checked.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class BadInput(ValueError):
    """Bad input from outside, as opposed to an error of the library's own."""


class NoKnownLimit(NotImplementedError):
    """A layer, where it stands, has no closed infinite-width limit."""

    def __init__(self, reason: str) -> None:
        advice = "monte_carlo_kernel estimates the kernel of any network"
        super().__init__(
            reason if advice in reason else f"no known infinite-width limit: {reason}; {advice}."
        )


@contextlib.contextmanager
def located(place: str) -> Iterator[None]:
    """Put ``place`` before whatever error of ours the block raises."""
    try:
        yield
    except (BadInput, NoKnownLimit) as error:
        raise type(error)(f"{place}: {error}") from error


def bad_input(subject: str, *, got: object, expected: str, probably: str) -> BadInput:
    """The library's one kind of error for bad input; the caller raises it."""
    return BadInput(f"{subject}: got {got}; expected {expected}; probably {probably}.")


def warn(message: str) -> None:
    """Warn, as from the line of the user's own code that called the package."""
    package = str(Path(__file__).parent)
    warnings.warn(message, RuntimeWarning, skip_file_prefixes=(package,))


LARGEST_COUNT = 2**32 - 1
"""The largest seed that JAX takes, and more of anything than fits in memory."""


def check_count(name: str, value: Any, *, minimum: int = 1) -> None:
    """Raise unless ``value`` is a whole number of at least ``minimum``."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not minimum <= int(value) <= LARGEST_COUNT:
        raise bad_input(
            name,
            got=repr(value),
            expected=f"a whole number from {minimum} to {LARGEST_COUNT}",
            probably="a typing error or an argument in the wrong place",
        )


def check_scale(name: str, value: Any, *, zero_allowed: bool = False) -> None:
    """Raise unless ``value`` is a finite positive number (or zero, where that has a meaning)."""
    if isinstance(value, Tracer):
        return
    number = _as_number(value)
    enough = number is not None and (number > 0 or (zero_allowed and number == 0))
    if number is None or not math.isfinite(number) or not enough:
        raise bad_input(
            name,
            got=_text(value),
            expected=f"a finite number {'of at least 0' if zero_allowed else 'above 0'}",
            probably="a prior, which belongs in the layers and the likelihood of a Posterior"
            if hasattr(value, "log_prob")
            else "several scales, where there is one number for all outputs"
            if number is None and isinstance(value, np.ndarray | jax.Array | list | tuple)
            else "a missing value, a logarithm or a typing error",
        )


def _text(value: Any) -> str:
    """What is no number, in a line."""
    if isinstance(value, np.ndarray | jax.Array) and value.ndim:
        return f"an array of shape {value.shape}"
    return f"a {type(value).__name__} prior" if hasattr(value, "log_prob") else repr(value)


def as_scale(name: str, value: Any, *, zero_allowed: bool = False) -> Any:
    """``value`` checked; a NumPy number, which would drag float32 to float64, as a Python one."""
    check_scale(name, value, zero_allowed=zero_allowed)
    return float(value) if isinstance(value, numbers.Real) else value


def _as_number(value: Any) -> float | None:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, np.ndarray | jax.Array) and value.ndim == 0:
        return float(value)
    return None


def as_finite_array(name: str, value: Any, *, min_ndim: int = 2) -> jax.Array:
    """``value`` as a floating-point JAX array with at least one entry and no NaN or infinity.

    float32 and float64 are kept; other floating types, integers and booleans become the default
    floating type. The squares of all entries must have a finite sum in that type.
    """
    if isinstance(value, Tracer):
        _check_ndim(name, value.shape, min_ndim)
        return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(float)
    array = _as_numbers(name, value)
    _check_ndim(name, array.shape, min_ndim)
    _check_finite(name, array)
    _check_magnitude(name, array)
    return jnp.asarray(array)


def _as_numbers(name: str, value: Any) -> np.ndarray:
    """``value`` in a type that matrices are factorised in."""
    if np.ma.is_masked(value):
        raise bad_input(
            name,
            got=f"an array with {np.ma.count_masked(value)} masked values",
            expected="finite numbers",
            probably="missing values: fill them, or leave their rows out",
        )
    try:
        array = np.asarray(value)
        if array.dtype.kind in "mM":
            raise TypeError("dates and durations have no unit that could be guessed")
        numeric = array if np.issubdtype(array.dtype, np.number) else array.astype(float)
    except (TypeError, ValueError, OverflowError) as error:
        raise bad_input(
            name,
            got=f"{type(value).__name__} that is not an array of numbers",
            expected="an array of numbers",
            probably="a text or date column, a ragged list or a missing value",
        ) from error
    if np.iscomplexobj(numeric):
        raise bad_input(
            name,
            got=f"dtype {numeric.dtype}",
            expected="real numbers",
            probably="the output of a Fourier transform; take its real part or modulus",
        )
    return numeric if numeric.dtype in (np.float32, np.float64) else numeric.astype(float)


def _check_ndim(name: str, shape: tuple[int, ...], min_ndim: int) -> None:
    if len(shape) < min_ndim or 0 in shape:
        raise bad_input(
            name,
            got=f"shape {shape}",
            expected=f"at least {min_ndim} axes, none of them empty, points first",
            probably="a single column: reshape it with x[:, None]"
            if shape and 0 not in shape
            else "None, a number, or a selection that nothing is in",
        )


def _check_finite(name: str, array: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum(dtype=float)):
            return  # the quick way: one bad value spoils the sum
    finite = np.isfinite(array)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise bad_input(
            name,
            got=f"{int((~finite).sum())} values that are NaN or infinite, first at index {first}",
            expected="finite numbers",
            probably="missing values, or a constant column divided by its standard deviation",
        )


def _check_magnitude(name: str, array: np.ndarray) -> None:
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    largest = max(-float(array.min()), float(array.max()))
    if largest > math.sqrt(float(jnp.finfo(dtype).max) / array.size):
        raise bad_input(
            name,
            got=f"values as large as {largest:.3g}",
            expected=f"numbers whose squares can be added up in {dtype}",
            probably="data that are not standardised, or a number that stands for a missing one",
        )
