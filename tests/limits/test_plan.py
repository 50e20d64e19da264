"""Plans: every entry once, within memory as compiled, and a refusal that names the layer."""

from __future__ import annotations

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bnnsample as bnn
from bnnsample.limits.plan import ALLOCATED, ARRAYS_PER_TILE, Plan, entries_per_pair, plan_tiles
from bnnsample.limits.tiles import stacked_tiles, with_tiles_in_place
from tests.zoo import LIMITS

ITEMSIZE = jnp.zeros(()).dtype.itemsize
CONV = bnn.convnet(1, 4, 2, pooling=True)

WATCHED = {
    "fcn": (bnn.fcn(2, 4, 1, "erf"), (3,), 700),
    "convnet": (bnn.convnet(2, 4, 1), (6, 6, 1), 120),
    "convnet, pooled": (bnn.convnet(1, 4, 1, pooling=True), (5, 5, 1), 30),
    "deep": (bnn.convnet(6, 4, 1, "gelu", pooling=True), (6, 6, 1), 20),
    "pooled between": (LIMITS["overlapping pools with padding"].network(4), (12, 1), 60),
    "attention": (LIMITS["attention"].network(4), (12, 2), 60),
}
"""Networks, inputs, and so many examples that several tiles are planned."""


def plan_for(network, input_shape, shape, memory, *, symmetric, kinds=1) -> Plan:
    return plan_tiles(
        network,
        input_shape,
        shape,
        ITEMSIZE,
        symmetric=symmetric,
        memory=memory,
        held_bytes=0,
        kinds=kinds,
    )


def memory_for(pairs: int, kinds: int) -> int:
    """Bytes for tiles of so many pairs of flat examples: covariances, and what a call returns."""
    return math.ceil(ITEMSIZE * kinds * (ARRAYS_PER_TILE + 2) * pairs / ALLOCATED)


def put_together(plan: Plan, matrix: np.ndarray) -> np.ndarray:
    """``matrix`` from its tiles, which carry errors of their own where it is symmetric."""
    rng = np.random.default_rng(1)

    def tile(start):
        row, column = (
            min(first, count - size)
            for first, count, size in zip(start, plan.shape, (plan.rows, plan.columns), strict=True)
        )
        own = matrix[row : row + plan.rows, column : column + plan.columns]
        wrong = plan.symmetric and row != column
        return own + 1e-3 * rng.uniform(-1, 1, own.shape) * wrong

    results = (jnp.full(plan.shape, jnp.nan),)
    for starts in plan.bundles:
        stack = jnp.asarray(np.stack([tile(start) for start in starts]), results[0].dtype)
        results = with_tiles_in_place(results, (stack,), starts, plan.symmetric)
    return np.asarray(results[0])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    n1=st.integers(1, 40),
    n2=st.integers(1, 40),
    pairs=st.integers(1, 2000),
    kinds=st.integers(1, 2),
    symmetric=st.booleans(),
)
def test_tiles_of_any_size_make_the_matrix(n1, n2, pairs, kinds, symmetric):
    memory = memory_for(pairs, kinds)
    shape = (n1, n1 if symmetric else n2)
    plan = plan_for(WATCHED["fcn"][0], (3,), shape, memory, symmetric=symmetric, kinds=kinds)
    matrix = np.random.default_rng(n1 + n2).uniform(1, 2, shape)
    matrix = matrix + matrix.T if symmetric else matrix
    found = put_together(plan, matrix)
    np.testing.assert_allclose(found, matrix, atol=2e-3 if symmetric else 1e-6)
    if symmetric:
        np.testing.assert_array_equal(found, found.T)
    assert plan.rows * plan.columns <= pairs
    assert 1 <= plan.rows <= n1
    assert 1 <= plan.columns <= shape[1]
    assert 1 <= plan.bundle <= len(plan.starts)
    assert plan.rows == plan.columns or not symmetric


def test_tiles_are_as_large_as_memory_allows():
    for pairs in (1, 10, 100, 2000):
        memory = memory_for(pairs, kinds=1)
        plan = plan_for(WATCHED["fcn"][0], (3,), (500, 300), memory, symmetric=False)
        assert plan.rows * plan.columns > pairs / 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dense", (1, "layer 0 (Dense)")),
        ("conv 1-d", (5, "layer 0 (Conv)")),
        ("convnet, pooled", (16, "layer 0 (Conv)")),
        ("pooled between", (144, "layer 0 (Conv)")),
        ("attention", (16, "layer 0 (SelfAttention)")),
        ("attention, smooth positions", (36, "layer 0 (Conv)")),
    ],
)
def test_entries_are_positions_or_pairs_of_them_as_needed(name, expected):
    limit = LIMITS[name]
    entries, place = entries_per_pair(limit.network(4), limit.input_shape)
    assert (entries, place.split(",")[0]) == expected


def test_what_layers_without_parameters_bring_down_is_not_counted():
    network = bnn.Network([bnn.AvgPool((4, 4)), *CONV.layers])
    entries, place = entries_per_pair(network, (16, 16, 3))
    assert (entries, place.split(",")[0]) == (4**4, "layer 1 (Conv)")


def peak_bytes(network, input_shape, plan, kinds, *, symmetric) -> int:
    n1, n2 = (
        -(-n // size) * size for n, size in zip(plan.shape, (plan.rows, plan.columns), strict=True)
    )
    x1, x2 = (jax.ShapeDtypeStruct((n, *input_shape), jnp.zeros(()).dtype) for n in (n1, n2))
    starts = jax.ShapeDtypeStruct((plan.bundle, 2), jnp.int32)
    tile = (plan.rows, plan.columns)
    compiled = stacked_tiles.lower(
        network, x1, None if symmetric else x2, starts, tile, kinds
    ).compile()
    analysis = compiled.memory_analysis()
    # what a call returned is handed over while the next call runs
    return analysis.temp_size_in_bytes + 2 * analysis.output_size_in_bytes


@pytest.mark.parametrize("kinds", [("nngp",), ("nngp", "ntk")], ids=len)
@pytest.mark.parametrize("name", WATCHED)
def test_compiled_tiles_fit_into_memory(name, kinds):
    network, input_shape, n = WATCHED[name]
    memory = 4_000_000
    plan = plan_for(network, input_shape, (n, n), memory, symmetric=True, kinds=len(kinds))
    assert plan.rows < n
    assert peak_bytes(network, input_shape, plan, kinds, symmetric=True) <= memory


def test_too_little_memory_is_refused_by_layer():
    expected = "memory: got 999 bytes, 0 of them.*81 entries before layer 0 .Conv.*shape .3, 3, 1."
    with pytest.raises(ValueError, match=expected) as raised:
        plan_for(CONV, (3, 3, 1), (2, 2), 999, symmetric=True)
    (found,) = re.findall(r"at least (\d+)", str(raised.value))
    needed = int(found)
    with pytest.raises(ValueError, match=f"at least {needed}"):
        plan_for(CONV, (3, 3, 1), (2, 2), needed - 1, symmetric=True)
    plan = plan_for(CONV, (3, 3, 1), (2, 2), needed, symmetric=True)
    assert (plan.rows, plan.columns, plan.bundle) == (1, 1, 1)


def test_memory_for_less_than_the_result_is_refused():
    x = np.ones((100, 2))
    held = (100**2 + 2 * x.size) * ITEMSIZE
    with pytest.raises(ValueError, match=f"got {held} bytes, {held} of them for the result"):
        bnn.nngp(bnn.fcn(1, 2, 1), x, memory=held)
