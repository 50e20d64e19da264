"""Runs spread over devices and processes: the same draws, and truly spread.

Sums over devices are rounded in another order, and a chain amplifies rounding by orders of
magnitude in each ten transitions. The runs are short, 8 transitions of warm-up and 6 draws in
float64: deviations were at most 5e-12 of an array's largest entry, and another seed's are above 1.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import bnnsample as bnn
from bnnsample.sampling import mesh as meshes
from tests.conftest import X64
from tests.sampling import run_on_a_mesh as job

pytestmark = pytest.mark.skipif(not X64, reason="the runs of this file are in float64")

ROUNDING = 1e-6
DEVICES = 4
PRIMAL = {"target": "marginal", "points": 24, "width": 6}
DUAL = {"target": "marginal", "points": 8, "width": 16}
STANDARD = {"target": "standard", "points": 8, "width": 16}
ONE_OF_TWO = "jax.distributed.initialize(sys.argv[2], num_processes=2, process_id=int(sys.argv[3]))"
SCRIPT = "from tests.sampling.run_on_a_mesh import run; run(sys.argv[1])"


def start(script: str, devices: int, settings: dict[str, Any], *words: str) -> subprocess.Popen:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys, jax\n{script}\n{SCRIPT}",
            json.dumps(settings),
            *words,
        ],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def result(process: subprocess.Popen) -> dict[str, Any]:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def primal() -> dict[str, Any]:
    """The run with more points than features, on one device and spread both ways."""
    return result(start("", DEVICES, PRIMAL | {"meshes": [(2, 2)]}))


def assert_same_draws(found: dict[str, Any], shape: str) -> None:
    assert found[shape]["deviation"] < ROUNDING
    assert found["another seed"] > 0.1
    assert found[shape]["compilations"] == [1, 1, 1], "start, advance, observe"


def test_a_mesh_gives_the_draws_of_one_device_and_compiles_once(primal):
    assert_same_draws(primal, "2x2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"target": "marginal", "points": 8, "width": 16, "kind": "unknown noise"},
        {"target": "repriorised", "points": 12, "width": 6, "kind": "classes"},
    ],
    ids=["unknown noise", "classes"],
)
def test_hyperparameters_and_classes_are_spread_too(settings):
    found = result(start("", DEVICES, settings | {"meshes": [(2, 2)]}))
    assert_same_draws(found, "2x2")


def test_points_are_split_over_data_and_chains_over_chains(primal):
    found = primal["2x2"]
    assert found["points of a device"] == found["targets of a device"] == [PRIMAL["points"] // 2]
    assert found["chains of a device"] == found["step sizes of a device"] == [job.CHAINS // 2]


def test_the_primal_gradient_sums_over_devices_and_never_gathers_points(primal):
    found = primal["2x2"]
    assert found["features of a device"]
    assert found["all-reduce"] >= 1
    assert found["all-gather"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("settings", [PRIMAL, DUAL, STANDARD], ids=["primal", "dual", "standard"])
def test_every_mesh_gives_the_draws_of_one_device(settings):
    found = result(start("", DEVICES, settings | {"meshes": [(4, 1), (2, 2), (1, 4)]}))
    for shape in ("4x1", "2x2", "1x4"):
        assert_same_draws(found, shape)
        chains, data = map(int, shape.split("x"))
        assert found[shape]["points of a device"] == [settings["points"] // data]
        assert found[shape]["chains of a device"] == [job.CHAINS // chains]
    # over chains alone devices have nothing to tell each other
    assert found["4x1"]["all-reduce"] == found["4x1"]["all-gather"] == 0
    if settings is not DUAL:
        assert all(found[shape]["all-gather"] == 0 for shape in ("2x2", "1x4"))
        assert all(found[shape]["all-reduce"] >= 1 for shape in ("2x2", "1x4"))


@pytest.mark.slow
def test_the_primal_gradient_costs_a_device_its_share_of_points():
    """With many more points than features a quarter of the points is a quarter of the work."""
    many = PRIMAL | {"points": 512, "meshes": [(1, 4), (1, 1)]}
    found = result(start("", DEVICES, many))
    assert found["1x1"]["flops"] > 3 * found["1x4"]["flops"]
    assert found["1x1"]["temporary bytes"] > 3 * found["1x4"]["temporary bytes"]


def two_processes(tmp_path: Path, devices: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The draws that each of two processes returned, and what it found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    saved = [tmp_path / f"{index}.npz" for index in range(2)]
    processes = [
        start(ONE_OF_TWO, devices, settings | {"save": str(path)}, address, str(index))
        for index, path in enumerate(saved)
    ]
    try:
        found = [result(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [each["processes"] for each in found] == [2, 2]
    return [{**each, **np.load(path)} for each, path in zip(found, saved, strict=True)]


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job.settings, "SEGMENT_DRAWS", 4)


@pytest.mark.slow
@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize(
    ("devices", "settings", "shape"),
    [(1, PRIMAL, (1, 2)), (2, PRIMAL, (2, 2)), (1, DUAL, (2, 1))],
    ids=["data over processes", "two devices each", "chains over processes"],
)
def test_two_processes_give_the_draws_of_one(tmp_path, devices, settings, shape):
    alone = job.sample(job.Job(**settings), None)
    for found in two_processes(tmp_path, devices, settings | {"meshes": [shape]}):
        assert found["compilations"] == [1, 1, 1]
        for group, name in job.COMPARED:
            expected = alone[group][name].values
            np.testing.assert_allclose(
                found[name], expected, rtol=0, atol=ROUNDING * np.abs(expected).max()
            )


@pytest.mark.slow
@pytest.mark.usefixtures("short_segments")
def test_a_folder_of_two_processes_is_resumed_by_them_and_then_by_one(tmp_path):
    """Process 0 writes; checkpoints do not depend on the mesh, so one device goes on from them."""
    folder, draws = tmp_path / "run", 14
    here = {"meshes": [(2, 1)], "out": str(folder), "stop_after": 8, "draws": draws}
    alone = job.sample(job.Job(**PRIMAL, draws=draws), None)
    longer = job.sample(job.Job(**PRIMAL, draws=draws + 3), None)
    first, second = two_processes(tmp_path, 1, PRIMAL | here)
    assert first["saved"] == second["saved"] == ["12", "8"]
    stored = bnn.load_run(folder)
    for group, name in job.COMPARED:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_array_equal(first[name], stored[group][name].values)
        scale = np.abs(alone[group][name].values).max()
        np.testing.assert_allclose(
            first[name], alone[group][name].values, rtol=0, atol=ROUNDING * scale
        )
    seen: list[bnn.Progress] = []
    extended = bnn.resume(folder, extra_draws=3, on_progress=seen.append)
    assert [progress.phase for progress in seen[1:]] == ["sampling"] * len(seen[1:])
    assert job.deviation(extended, longer) < ROUNDING


def fake_mesh(shape: tuple[int, int], axes: tuple[str, str] = ("chains", "data")) -> Mesh:
    """A mesh of one device several times over."""
    return Mesh(np.array([jax.devices()[0]] * (shape[0] * shape[1])).reshape(shape), axes)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"chains": 2**20}, "device_mesh: got 1048576 x 1 devices; expected at most"),
        ({"data": 0}, "data: got 0; expected a whole number"),
        ({"chains": 1.5}, "chains: got 1.5; expected a whole number"),
    ],
)
def test_meshes_of_devices_that_there_are_not_are_refused(counts, expected):
    with pytest.raises(ValueError, match=expected):
        bnn.device_mesh(**counts)


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (fake_mesh((3, 1)), "mesh: got 3 devices for 4 chains; expected a divisor"),
        (fake_mesh((1, 5)), "mesh: got 5 devices for 24 points; expected a divisor"),
        (fake_mesh((1, 1), ("data", "chains")), "mesh: got axes .*device_mesh"),
        (3, "mesh: got 3; expected a mesh of devices; probably a count"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(mesh, expected):
    with pytest.raises(ValueError, match=expected):
        job.sample(job.Job(**PRIMAL), mesh)


def test_a_mesh_of_other_axes_is_refused_before_a_folder_is_made(tmp_path):
    mesh = Mesh(np.array(jax.devices()[:1]), ("devices",))
    with pytest.raises(ValueError, match="mesh: got axes .'devices',.*expected .'chains', 'data'"):
        job.sample(job.Job(**PRIMAL), mesh, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_the_processes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="mesh: got devices of 1 processes; expected of all 2"):
        meshes.check_mesh(bnn.device_mesh(), 4, 24, None)
    with pytest.raises(ValueError, match="out: got one folder for runs of 2 processes.*mesh="):
        meshes.check_mesh(None, 4, 24, tmp_path)
    meshes.check_mesh(None, 4, 24, None)
