"""A run in a folder, for the test that kills it: FOLDER DRAWS CHECKPOINT_EVERY."""

from __future__ import annotations

import sys

import jax
import numpy as np

import bnnsample as bnn


def main(folder: str, draws: int, checkpoint_every: int) -> None:
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(12)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    posterior = bnn.Posterior(bnn.fcn(1, 5, 2), x, y, bnn.Gaussian(0.4))
    bnn.sample(
        bnn.marginal(posterior),
        bnn.HMC(2),
        chains=2,
        warmup=60,
        draws=draws,
        seed=3,
        x_test=rng.standard_normal((4, 3)),
        out=folder,
        checkpoint_every=checkpoint_every,
        on_progress=lambda progress: print(progress.phase, progress.done, flush=True),
    )
    print("finished", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
