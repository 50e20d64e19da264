"""What keeps the fast tests fast: cases left to the slow ones, and compilation without
optimisation, which takes half as long for a program that runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import jax
import pytest


def cases(named: Mapping[str, Any] | Iterable[str], *, slow: Container[str]) -> list[Any]:
    """A test's values by their names (or names alone); those in ``slow`` are for the slow tests."""
    pairs = named if isinstance(named, Mapping) else {name: name for name in named}
    return [
        pytest.param(value, id=name, marks=pytest.mark.slow if name in slow else ())
        for name, value in pairs.items()
    ]


def quickly[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """``function`` compiled without optimisation."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
