"""What value and gradient of each target cost, as ratios to the standard target's, in one run.

Times alternate between the targets, so that a drift of the machine falls on all of them; the
ratio is the median over rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

import bnnsample as bnn
from bnnsample.repriorisation.targets import TARGETS

SIZES = ((64, 64, 1024), (256, 3072, 1024), (256, 3072, 4096))
SMOKE_SIZES = ((16, 8, 32),)


def gradients(n: int, d: int, width: int, dtype: str) -> dict[str, Callable[[], object]]:
    """A compiled value-and-gradient call per target, on random data of the given size."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d)).astype(dtype)
    y = (np.eye(10)[rng.integers(10, size=n)] - 0.1).astype(dtype)
    posterior = bnn.Posterior(bnn.fcn(1, width, 10), x, y, bnn.Gaussian(0.1))
    calls = {}
    for name, build in TARGETS.items():
        target = build(posterior)
        position = target.init(jax.random.key(1))
        compiled = jax.jit(lambda target, position: jax.value_and_grad(target.logdensity)(position))
        calls[name] = lambda f=compiled, t=target, q=position: jax.block_until_ready(f(t, q))
        calls[name]()
    return calls


def measure(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, np.ndarray]:
    """Seconds per call of each, a row per round, rounds until the time is up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["standard"]) < 3:
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: np.array(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny size, for the tests")
    parser.add_argument("--seconds", type=float, default=12.0, help="per size and precision")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    sizes, seconds = (SMOKE_SIZES, 0.2) if options.smoke else (SIZES, options.seconds)
    print(f"value and gradient of one position, on {jax.devices()[0].device_kind}, ", end="")
    print(f"jax {jax.__version__}; medians over alternating rounds")
    print(f"{'n':>4} {'d':>5} {'width':>5} {'dtype':>8}  {'standard':>9}", end="")
    print(f"  {'repriorised / standard':>23}  {'marginal / standard':>20}")
    with threadpool_limits(1, user_api="blas"):
        for dtype in ("float32", "float64"):
            for n, d, width in sizes:
                times = measure(gradients(n, d, width, dtype), seconds)
                ratio = {name: np.median(t / times["standard"]) for name, t in times.items()}
                print(
                    f"{n:4} {d:5} {width:5} {jnp.dtype(dtype).name:>8}"
                    f"  {1e3 * np.median(times['standard']):6.1f} ms"
                    f"  {ratio['repriorised']:23.2f}  {ratio['marginal']:20.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
