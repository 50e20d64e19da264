"""JAX's own normal numbers, faster: Threefry with its rounds written out.

On CPU, XLA runs JAX's Threefry as a loop over arrays in memory, so that three million float32
normals take 86 ms, twice the gradient that they are drawn for; with the 20 rounds written out
they are one pass and take 15 ms. The bits are the same, so are the numbers.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.extend import random as extension
from jaxtyping import Array, Float, Key, UInt32

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
"""Constants of Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers")."""


def normal(key: Key[Array, ""], shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, ...]:
    """What ``jax.random.normal`` returns, in one pass over memory."""
    fused = jax.random.wrap_key_data(jax.random.key_data(key), impl=_WRITTEN_OUT)
    return jax.random.normal(fused, shape, dtype)


def _bits(key_data: UInt32[Array, 2], bit_width: int, shape: tuple[int, ...]) -> Array:
    size = math.prod(shape)
    index = jax.lax.iota(jnp.uint32, size)
    high, low = _threefry(key_data[0], key_data[1], jnp.zeros_like(index), index)
    if bit_width == 64:
        wide = (high.astype(jnp.uint64) << jnp.uint64(32)) | low.astype(jnp.uint64)
        return wide.reshape(shape)
    return (high ^ low).reshape(shape)


def _threefry(key0: Array, key1: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    keys = (key0, key1, key0 ^ key1 ^ jnp.uint32(PARITY))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for group in range(5):
        for distance in ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << jnp.uint32(distance)) | (x1 >> jnp.uint32(32 - distance)))
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1


_THREEFRY = extension.threefry_prng_impl
_WRITTEN_OUT = extension.define_prng_impl(
    key_shape=_THREEFRY.key_shape,
    seed=_THREEFRY.seed,
    split=_THREEFRY.split,
    random_bits=_bits,
    fold_in=_THREEFRY.fold_in,
    name="threefry, rounds written out",
    tag="threefry-fused",
)
