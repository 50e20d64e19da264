"""What infinite-width kernels cost: time per network, growth with n, and memory against its budget.

Compile time is apart: every size is computed once before the clock starts, and the median of a few
calls is shown. Beside it stand the figures that the reference library, neural-tangents, reached on
a two-core CPU; it cannot be imported beside a current JAX, so they are not of the same run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

import bnnsample as bnn

CASES = {
    "3 x relu, n = 2000, d = 784": (bnn.fcn(3, 512, 10, "relu"), (2000, 784), (0.38, 0.33)),
    "3 x gelu, n = 2000, d = 784": (bnn.fcn(3, 512, 10, "gelu"), (2000, 784), (0.31, 0.40)),
    "2 x conv, flatten, n = 128, 32x32x3": (
        bnn.convnet(2, 64, 10),
        (128, 32, 32, 3),
        (0.87, 1.24),
    ),
    "2 x conv, pooling, n = 8, 16x16x3": (
        bnn.convnet(2, 64, 10, pooling=True),
        (8, 16, 16, 3),
        (0.33, 0.49),
    ),
    "2 x conv, pooling, n = 4, 32x32x3": (
        bnn.convnet(2, 64, 10, pooling=True),
        (4, 32, 32, 3),
        (1.39, 2.09),
    ),
}
"""Network, inputs, and seconds of the reference library for the NNGP and the tangent kernel."""

SMOKE_CASES = {"1 x relu, n = 30, d = 5": (bnn.fcn(1, 8, 1, "relu"), (30, 5), (1.0, 1.0))}

GROWTH = {
    "3 x relu, d = 784": (bnn.fcn(3, 512, 10, "relu"), (784,), (500, 1000, 2000, 4000)),
    "2 x conv, flatten, 32x32x3": (bnn.convnet(2, 64, 10), (32, 32, 3), (32, 64, 128, 256)),
    "2 x conv, pooling, 16x16x3": (
        bnn.convnet(2, 64, 10, pooling=True),
        (16, 16, 3),
        (8, 16, 32, 64),
    ),
}
SMOKE_GROWTH = {"1 x relu, d = 5": (bnn.fcn(1, 8, 1, "relu"), (5,), (20, 40))}

MEGABYTE = 2**20
BUDGETS = {
    "3 x relu, n = 4000, d = 784": ("fcn", (4000, 784), 600 * MEGABYTE),
    "2 x conv, flatten, n = 128, 32x32x3": ("conv", (128, 32, 32, 3), 64 * MEGABYTE),
    "2 x conv, pooling, n = 4, 32x32x3": ("pooling", (4, 32, 32, 3), 160 * MEGABYTE),
}
SMOKE_BUDGETS = {"3 x relu, n = 300, d = 5": ("fcn", (300, 5), 64 * MEGABYTE)}
NETWORKS = {
    "fcn": bnn.fcn(3, 512, 10, "relu"),
    "conv": bnn.convnet(2, 64, 10),
    "pooling": bnn.convnet(2, 64, 10, pooling=True),
}


def inputs(shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal inputs, always the same."""
    return np.random.default_rng(0).standard_normal(shape)


def seconds(function: object, network: bnn.Network, x: np.ndarray, repeats: int) -> float:
    """Median time of a call after a first one that compiles."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(function(network, x))  # pyright: ignore[reportCallIssue]
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


def time_cases(cases: dict, repeats: int) -> None:
    """Seconds of each kernel, and how many times faster than the reference."""
    print(
        f"{'float64, x with itself':38} {'kernel':>6} {'seconds':>8} {'reference':>10} {'ratio':>6}"
    )
    for name, (network, shape, references) in cases.items():
        for kind, reference in zip((bnn.nngp, bnn.ntk), references, strict=True):
            took = seconds(kind, network, inputs(shape), repeats)
            print(
                f"{name:38} {kind.__name__:>6} {took:8.3f} {reference:10.2f} "
                f"{reference / took:6.1f}",
                flush=True,
            )


def time_growth(cases: dict, repeats: int) -> None:
    """Seconds at growing n, and the exponent of n that fits them."""
    print(f"\n{'NNGP':28} {'n: seconds':52} exponent of n")
    for name, (network, shape, sizes) in cases.items():
        times = [seconds(bnn.nngp, network, inputs((n, *shape)), repeats) for n in sizes]
        exponent = np.polyfit(np.log(sizes), np.log(times), 1)[0]
        rows = ", ".join(f"{n}: {t:.3f}" for n, t in zip(sizes, times, strict=True))
        print(f"{name:28} {rows:52} {exponent:.2f}", flush=True)


def measure_memory(budgets: dict) -> None:
    """Peak memory of a process of its own, above that of one that computes kernels of tiny inputs.

    Both hold the same inputs, which the budget leaves out. Linux only.
    """
    print(f"\n{'NNGP and NTK at once':38} {'budget':>9} {'peak above tiny inputs':>26}")
    for name, (network, shape, budget) in budgets.items():
        peaks = []
        for largest in (max(shape), 3):
            arguments = map(str, (network, budget, largest, *shape))
            command = [sys.executable, __file__, "--peak", *arguments]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks.append(int(done.stdout))
        above = (peaks[0] - peaks[1]) / MEGABYTE
        print(f"{name:38} {budget // MEGABYTE:6} MB {above:23.0f} MB", flush=True)


def print_peak(network: str, budget: int, largest: int, shape: tuple[int, ...]) -> None:
    """The peak resident memory of this process, in bytes, after kernels of such inputs.

    No more than ``largest`` of them and of their rows, columns and channels are used.
    """
    x = jax.numpy.asarray(inputs(shape))
    used = x[tuple(slice(0, largest) for _ in shape)]
    jax.block_until_ready(bnn.nngp_and_ntk(NETWORKS[network], used, memory=budget))
    # getrusage's peak includes that of the process this one was started from
    status = Path("/proc/self/status").read_text()
    print(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, for the tests")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each")
    parser.add_argument("--peak", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if options.peak:
        network, budget, largest, *shape = options.peak
        print_peak(network, int(budget), int(largest), tuple(map(int, shape)))
        return
    repeats = 1 if options.smoke else options.repeats
    print(f"infinite-width kernels on {jax.devices()[0].device_kind}, jax {jax.__version__}\n")
    time_cases(SMOKE_CASES if options.smoke else CASES, repeats)
    time_growth(SMOKE_GROWTH if options.smoke else GROWTH, repeats)
    measure_memory(SMOKE_BUDGETS if options.smoke else BUDGETS)


if __name__ == "__main__":
    main()
