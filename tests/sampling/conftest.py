"""Runs that stop in the middle, for the tests of what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

import bnnsample as bnn
from tests.sampling.run_to_be_killed import main

DRAWS, EVERY = 700, 3


class Stop(Exception):
    """Raised by a test in the middle of a run."""


@pytest.fixture
def stopped(tmp_path) -> Path:
    """A folder whose run stopped after 225 draws, between two checkpoints."""
    return stop_after(tmp_path / "run", 225)


def stop_after(folder: Path, draws: int) -> Path:
    original = bnn.sample

    def interrupted(*args, on_progress, **settings):
        def stop(progress):
            if progress.phase == "sampling" and progress.done >= draws:
                raise Stop

        return original(*args, on_progress=stop, **settings)

    bnn.sample = interrupted
    try:
        with pytest.raises(Stop):
            main(str(folder), DRAWS, EVERY)
    finally:
        bnn.sample = original
    return folder
