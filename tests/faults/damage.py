"""A run in a folder and in a file, and the ways in which their files are damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import bnnsample as bnn

CHAINS, WARMUP, DRAWS, STOP_AT = 2, 30, 60, 50

type Damage = Callable[[bytes], bytes | None]


class Stop(Exception):
    """Raised in the middle of a run."""


def _altered(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(content) // 3] ^= 0x10
    return bytes(changed)


DAMAGES: dict[str, Damage] = {
    "cut to half": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "random bytes": lambda content: np.random.default_rng(len(content)).bytes(len(content)),
    "one bit altered": _altered,
    "deleted": lambda content: None,
}


def make_run(folder: Path, *, stop: bool = False) -> None:
    """A small run in ``folder``, with ``stop`` killed after ``STOP_AT`` draws."""
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    posterior = bnn.Posterior(bnn.fcn(1, 5, 2), x, y, bnn.Gaussian(0.4))

    def progressed(progress: bnn.Progress) -> None:
        if stop and progress.phase == "sampling" and progress.done == STOP_AT:
            raise Stop

    with contextlib.suppress(Stop):
        bnn.sample(
            bnn.marginal(posterior),
            bnn.HMC(2),
            chains=CHAINS,
            warmup=WARMUP,
            draws=DRAWS,
            x_test=rng.standard_normal((4, 3)),
            keep=("predictions", "projections", "moments"),
            out=folder,
            checkpoint_every=1,
            on_progress=progressed,
        )


@contextlib.contextmanager
def damaged(path: Path, damage: Damage) -> Iterator[None]:
    """``path`` is damaged within the block, and as it was after it."""
    content = path.read_bytes()
    changed = damage(content)
    if changed is None:
        path.unlink()
    else:
        path.write_bytes(changed)
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
