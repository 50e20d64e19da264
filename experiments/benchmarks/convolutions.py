"""What a convolution costs in a compiled loop, as samplers are: matrix products beside XLA's own.

Value and gradient by inputs and weights of one layer of 3 x 3 filters, in turns, so that a drift of
the machine falls on both; the ratio is the median over rounds of the ratio within a round. On a GPU
the layer is XLA's own convolution, and the ratio 1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import bnnsample as bnn

SIZES = ((32, 8, 16), (32, 8, 64), (64, 32, 16))
"""Images, their pixels on a side, channels in and out."""
SMOKE_SIZES = ((2, 4, 3),)
STEPS = 5

type Images = Float[Array, "n h w c"]
type Convolution = Callable[[Images, Array], Images]


def ours(x: Images, weight: Array) -> Images:
    """The layer of this package."""
    layer = bnn.Conv(weight.shape[-1], (3, 3))
    return layer.apply({"weight": weight}, x)


def of_xla(x: Images, weight: Array) -> Images:
    """The same by XLA's convolution."""
    out = jax.lax.conv_general_dilated(
        x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out / (9 * x.shape[-1]) ** 0.5


def gradients(convolution: Convolution, n: int, side: int, channels: int) -> Callable[[], object]:
    """Some steps of gradient descent on the sum of squares, compiled."""

    def energy(x: Images, weight: Array) -> Float[Array, ""]:
        return jnp.sum(convolution(x, weight) ** 2)

    def step(_: int, at: tuple[Images, Array]) -> tuple[Images, Array]:
        slopes = jax.grad(energy, (0, 1))(*at)
        return jax.tree.map(lambda value, slope: value - 1e-9 * slope, at, slopes)

    rng = np.random.default_rng(0)
    shapes = (n, side, side, channels), (3, 3, channels, channels)
    start = tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)
    compiled = jax.jit(lambda at: jax.lax.fori_loop(0, STEPS, step, at))
    jax.block_until_ready(compiled(start))
    return lambda: jax.block_until_ready(compiled(start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny size, for the tests")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(f"gradients of one layer in a loop, on {jax.devices()[0].device_kind}, float32")
    print(f"{'n':>4} {'pixels':>8} {'channels':>8}  {'ours':>9}  {'XLA / ours':>10}")
    for n, side, channels in SMOKE_SIZES if options.smoke else SIZES:
        calls = [gradients(one, n, side, channels) for one in (ours, of_xla)]
        seconds = np.empty((2 if options.smoke else options.rounds, 2))
        for row in seconds:
            for column, call in enumerate(calls):
                began = time.perf_counter()
                call()
                row[column] = (time.perf_counter() - began) / STEPS
        ratio = np.median(seconds[:, 1] / seconds[:, 0])
        mine = 1e3 * np.median(seconds[:, 0])
        print(
            f"{n:4} {f'{side} x {side}':>8} {channels:8}  {mine:6.2f} ms  {ratio:10.1f}", flush=True
        )


if __name__ == "__main__":
    main()
