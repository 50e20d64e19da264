"""Precision of the test session, strict JAX, and tolerances."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import jax
import numpy as np
import pytest

X64 = os.environ.get("BNNSAMPLE_TEST_PRECISION", "float64") == "float64"

jax.config.update("jax_enable_x64", X64)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# collections in between take a fifteenth of the time, as tracing a program makes many objects
gc.set_threshold(200_000, 20, 100)

FORGET_AT = 20_000
"""Pieces of memory; no module of the fast tests has taken 15 000 of its own."""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Forget compiled programs before there are too many, after a module or a slow test.

    A process may map 65 530 pieces of memory, and XLA takes some for each program and crashes at
    the end of them. Where a system does not tell how many there are, each module forgets its own.
    """
    ends = nextitem is None or nextitem.path != item.path
    if not (ends or item.get_closest_marker("slow")):
        return
    mapped = Path("/proc/self/maps")
    if mapped.read_bytes().count(b"\n") > FORGET_AT if mapped.exists() else ends:
        jax.clear_caches()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_221_122)


@pytest.fixture
def tolerance() -> float:
    """Relative error that rounding may leave in a well-conditioned formula."""
    return 1e-9 if X64 else 2e-3
