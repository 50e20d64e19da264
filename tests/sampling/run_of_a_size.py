"""Runs of few and of many draws in one process, for the test of memory: FEW MANY KEEP FOLDER.

Prints the peak of resident memory in kB after few draws to a folder, many to a folder, and many
that stay in memory.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jax
import numpy as np

import bnnsample as bnn


def main(few: int, many: int, keep: tuple[str, ...], folder: Path) -> None:
    jax.config.update("jax_enable_x64", True)
    for draws, out in ((few, folder / "few"), (many, folder / "many"), (many, None)):
        run(draws, keep, out)
        print(peak())


def run(draws: int, keep: tuple[str, ...], out: Path | None) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 20)), rng.standard_normal((4, 1))
    posterior = bnn.Posterior(bnn.fcn(1, 300, 1), x, y, bnn.Gaussian(0.3))
    bnn.sample(
        bnn.standard(posterior),
        bnn.PCN(),
        chains=2,
        warmup=2,
        draws=draws,
        x_test=rng.standard_normal((50, 20)),
        keep=keep,
        out=out,
    )


def peak() -> int:
    """The largest resident memory of this process so far, in kB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), tuple(sys.argv[3].split(",")), Path(sys.argv[4]))
