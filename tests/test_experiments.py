"""Every experiment and benchmark runs, with tiny sizes, by the command that its README names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
LONG = ("classes.py",)
FILES = [
    pytest.param(
        str(path.relative_to(EXPERIMENTS)),
        marks=pytest.mark.slow if path.parent.name == "benchmarks" or path.name in LONG else (),
    )
    for path in sorted(EXPERIMENTS.rglob("*.py"))
    if path.name not in ("cifar10_nngp.py", "uci.py")  # run by tests of their own
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in (("train", 30), ("test", 20)):
        arrays[f"x_{part}"] = rng.integers(256, size=(size, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = rng.integers(10, size=size, dtype=np.uint8)
    np.savez(tmp_path / "cifar10_subset.npz", **arrays)
    (tmp_path / "uci").mkdir()
    for name in ("bostonHousing", "yacht"):
        x = rng.standard_normal((40, 3))
        y = np.sin(x[:, :1]) + 0.3 * rng.standard_normal((40, 1))
        np.savez(tmp_path / "uci" / f"{name}.npz", x=x, y=y)
    return tmp_path


ARGUMENTS = {
    "cifar10_nngp.py": ["--train", "30", "--test", "20", "--out", "results"],
    "uci.py": ["--splits", "2", "--sets", "boston", "yacht"],
}


def run(name: str, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXPERIMENTS / name, "--smoke", *ARGUMENTS.get(name, [])],
        capture_output=True,
        text=True,
        cwd=data,
        env={**os.environ, "BNNSAMPLE_DATA": str(data)},
        check=False,
    )


@pytest.mark.parametrize("name", FILES)
def test_it_runs(name: str, data: Path) -> None:
    done = run(name, data)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_cifar10_goes_on_from_the_kernels_it_stored(data: Path) -> None:
    first = run("cifar10_nngp.py", data)
    stores = sorted((data / "results").glob("*/*.zarr"))
    assert len(stores) == 4
    written = {path: path.stat().st_mtime_ns for path in (data / "results").rglob("c/*/*")}
    assert written
    again = run("cifar10_nngp.py", data)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    accuracy = [line.split("|")[2] for line in first.stdout.splitlines() if "onv" in line]
    assert accuracy == [line.split("|")[2] for line in again.stdout.splitlines() if "onv" in line]


def test_uci_goes_on_where_it_stopped_and_names_missing_data(data: Path) -> None:
    first, again = (run("uci.py", data) for _ in range(2))
    rows = [line for line in first.stdout.splitlines() if ", R-hat" in line and "|" not in line]
    assert len(rows) == 4
    assert again.stdout.splitlines() == [r for r in first.stdout.splitlines() if r not in rows]
    (data / "uci" / "yacht.npz").unlink()
    missing = run("uci.py", data)
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: UCI folder: got")


def test_cifar10_without_its_data_is_refused_in_one_line(tmp_path: Path) -> None:
    done = run("cifar10_nngp.py", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: CIFAR-10 folder: got")
    assert len(done.stderr.splitlines()) == 1
