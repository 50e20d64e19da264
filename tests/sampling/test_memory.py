"""Memory of a run in a folder does not grow with its draws; of one in memory it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import X64

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not X64, reason="the runs of this file are in float64"),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are Linux's VmHWM"),
]

GROWTH = 0.05
KEEP = "predictions,projections,layer_norms,moments"
DRAW_KB = 2 * 8 * (20 * 300 + 300 + 301) / 1000
"""Of two chains' parameters in float64: 106 kB; 1000 draws are more than a tenth of the peak."""


def peaks(folder: Path, *words: str) -> list[int]:
    """Peak memory in kB after few and many draws to ``folder``, and many in memory."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sampling.run_of_a_size", *words, str(folder)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


@pytest.mark.parametrize(("few", "many"), [(60, 600), (300, 3000)])
def test_ten_times_the_draws_in_a_folder_take_the_same_memory(tmp_path, few, many):
    after_few, after_many, in_memory = peaks(tmp_path, str(few), str(many), f"{KEEP},parameters")
    assert after_many < (1 + GROWTH) * after_few
    # that held draws would be seen: one copy at least of all of them, beyond what was freed before
    assert in_memory - after_many > 0.7 * (many - few) * DRAW_KB
    stored = sum(f.stat().st_size for f in (tmp_path / "many").rglob("*") if f.is_file())
    assert stored / 1000 > many * DRAW_KB, "the draws were stored"


def test_without_parameters_memory_does_not_grow_either(tmp_path):
    after_few, after_many, _ = peaks(tmp_path, "300", "3000", KEEP)
    assert after_many < (1 + GROWTH) * after_few
