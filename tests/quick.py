"""Compilation for tests that run many programs once: without optimisation it takes half as long."""

from __future__ import annotations

from collections.abc import Callable

import jax


def quickly[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """``function`` compiled without optimisation."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
