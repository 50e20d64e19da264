"""Normal numbers are JAX's own, bit for bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnsample.randomness import normal
from tests.conftest import X64


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (1001,)])
@pytest.mark.parametrize("dtype", ["float32", "float64"] if X64 else ["float32"])
def test_numbers_are_those_of_jax(shape, dtype):
    key = jax.random.key(7)
    ours, theirs = (draw(key, shape, jnp.dtype(dtype)) for draw in (normal, jax.random.normal))
    assert ours.dtype == dtype
    np.testing.assert_array_equal(ours, theirs)


def test_each_key_of_a_batch_has_its_own_numbers():
    keys = jax.random.split(jax.random.key(1), 3)
    batch = jax.vmap(lambda key: normal(key, (40,), jnp.dtype("float32")))(keys)
    single = jnp.stack([jax.random.normal(key, (40,), jnp.float32) for key in keys])
    np.testing.assert_array_equal(batch, single)
    assert not np.any(batch[0] == batch[1])
