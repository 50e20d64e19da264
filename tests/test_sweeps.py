"""Sweeps by ``dask.distributed``: the rows of one process, whatever happens to workers.

Rows are equal bit for bit, draws included, although a worker has one core and this process several.
So were draws at widths of 16 to 1024 on digits, n = 64, but XLA does not promise that sums are
split over threads in the same way whatever their number.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dask import config
from distributed import KilledWorker, LocalCluster

import bnnsample as bnn
from bnnsample.cli import main
from bnnsample.reports.settings import WidthsSettings
from bnnsample.reports.widths import compare_widths
from bnnsample.sweeps import cluster, shipped
from bnnsample.sweeps.points import folder_name, measured

POINTS = [{"width": 4, "draws": 50}, {"width": 8, "draws": 400}]
KILLED_AFTER = 200
OF_THE_ATTEMPT = ("attempts", "seconds", "cores", "device", "versions", "python", "affinity")


def sampled(point: dict[str, Any], folder: Path, killed: bool = False) -> dict[str, Any]:
    """Draws of a tiny network; where it is to be ``killed``, in the middle of the long point."""

    def follow(progress: bnn.Progress) -> None:
        with (folder / "progress").open("a") as file:
            file.write(f"{progress.phase} {progress.done}\n")
        first = not (folder / "killed").exists()
        if killed and first and progress.phase == "sampling" and progress.done > KILLED_AFTER:
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    rng = np.random.default_rng(12)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    posterior = bnn.Posterior(bnn.fcn(1, point["width"], 2), x, y, bnn.Gaussian(0.4))
    run = bnn.sample(
        bnn.marginal(posterior), bnn.HMC(1), chains=2, warmup=10, draws=point["draws"],
        keep=("projections",), on_progress=follow, out=folder / "run", checkpoint_every=1,
    )  # fmt: skip
    drawn = run["posterior"]["hidden_projection"].values
    return {"drawn": drawn.tolist(), "affinity": sorted(os.sched_getaffinity(0))}


def doubled(point: dict[str, Any], folder: Path, mistake: str = "") -> dict[str, Any]:
    """Of ``x``; the point may fail, kill its worker, or wait: for a file, or the first time."""
    with (folder / "begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if point.get("fails") == "error":
        raise ValueError(mistake)
    if point.get("fails") == "death":
        os.kill(os.getpid(), signal.SIGKILL)
    if "waits" in point and len((folder / "begun").read_text().splitlines()) == 1:
        time.sleep(point["waits"])
    while "after" in point and not Path(point["after"]).exists():
        time.sleep(0.05)
    return {"twice": 2 * point["x"], "dtype": str(jnp.zeros(1).dtype)}


def place(point: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Where a point is measured."""
    time.sleep(point["waits"])
    return {"process": os.getpid(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}


def begun(folder: Path) -> list[int]:
    """The process of each measurement that was begun."""
    texts = [path.read_text() for path in folder.rglob("begun")]
    return [int(line) for text in texts for line in text.splitlines()]


def of_the_point(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in OF_THE_ATTEMPT} for row in rows]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster of two workers."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0,
        silence_logs=50,
    ) as made:  # fmt: skip
        yield made.scheduler_address


@pytest.mark.slow
def test_a_point_whose_worker_is_killed_is_resumed_by_another(tmp_path: Path) -> None:
    serial = bnn.sweep(sampled, POINTS, tmp_path / "serial", workers=0)
    measure = functools.partial(sampled, killed=True)
    rows = bnn.sweep(measure, POINTS, tmp_path / "workers", workers=2)
    assert of_the_point(rows) == of_the_point(serial)
    assert np.unique(rows[1]["drawn"]).size > 100
    assert [row["attempts"] for row in rows] == [1, 2]
    assert [row["attempts"] for row in serial] == [1, 1]
    folder = tmp_path / "workers" / folder_name(POINTS[1])
    steps = (folder / "progress").read_text().splitlines()
    again = steps[steps.index("compiling 0", 1) + 1 :]
    # the last segment before the kill was not yet in a checkpoint
    assert again[0] == f"sampling {KILLED_AFTER + 25}"
    if (all_cores := len(os.sched_getaffinity(0))) > 1:
        used = [set(row["affinity"]) for row in rows]
        assert [row["cores"] for row in rows] == [len(cores) for cores in used]
        assert all(len(cores) < all_cores for cores in used)
        assert all(a == b or not a & b for a in used for b in used)


def test_rows_are_in_the_order_of_the_points_and_measured_once(
    scheduler: str, tmp_path: Path
) -> None:
    other = tmp_path / folder_name({"x": 2}) / "row.json"
    points = [{"x": 1, "after": str(other)}, {"x": 2}, {"x": 3}, {"x": 2}]
    seen: list[int] = []
    first = bnn.sweep(
        doubled, points, tmp_path, scheduler=scheduler, on_row=lambda row: seen.append(row["x"])
    )
    assert [row["twice"] for row in first] == [2, 4, 6, 4]
    assert sorted(seen) == [1, 2, 3]
    assert seen[0] != 1
    assert os.getpid() not in begun(tmp_path)
    again = bnn.sweep(
        doubled, points[1:], tmp_path, workers=0, on_row=lambda row: seen.append(row["x"])
    )
    assert again == first[1:]
    assert seen[3:] == [2, 3]
    assert len(begun(tmp_path)) == 3


@contextlib.contextmanager
def failing(match: str | None = None) -> Iterator[pytest.ExceptionInfo[bnn.PointsFailed]]:
    """A sweep that ends with failures, of which it told as they came."""
    with (
        pytest.warns(RuntimeWarning, match=r"\{.*\} failed, other points go on: "),
        pytest.raises(bnn.PointsFailed, match=match) as failure,
    ):
        yield failure


@pytest.mark.parametrize("here", [True, False])
def test_a_point_that_fails_is_named_and_all_others_are_measured(
    here: bool, scheduler: str, tmp_path: Path
) -> None:
    measure = functools.partial(doubled, mistake="no such thing")
    points = [{"x": 1, "fails": "error"}, {"x": 2}, {"x": 3}]
    where: Any = {"workers": 0} if here else {"scheduler": scheduler}
    with failing() as failure:
        bnn.sweep(measure, points, tmp_path, **where)
    told = str(failure.value)
    assert "1 of 3 points failed" in told
    assert '{"x": 1, "fails": "error"}: ValueError: no such thing' in told
    trace = (tmp_path / folder_name(points[0]) / "error.txt").read_text()
    assert "in doubled" in trace
    rows = bnn.sweep(measure, points[1:], tmp_path, **where)
    assert [row["twice"] for row in rows] == [4, 6]
    assert len(begun(tmp_path)) == 3


def test_the_trace_of_an_attempt_is_gone_as_the_next_begins(tmp_path: Path) -> None:
    def fails(point: dict[str, Any], folder: Path) -> dict[str, Any]:
        raise ArithmeticError

    def looks(point: dict[str, Any], folder: Path) -> dict[str, Any]:
        return {"trace": (folder / "error.txt").exists()}

    assert measured(fails, {"x": 1}, tmp_path, x64=True) == "ArithmeticError: "
    assert (tmp_path / "error.txt").exists()
    row = measured(looks, {"x": 1}, tmp_path, x64=True)
    assert isinstance(row, dict)
    assert (row["trace"], row["attempts"]) == (False, 2)


def nothing(point: dict[str, Any], folder: Path) -> Any:
    """A measure without its return."""


def test_a_measure_that_returns_no_dict_is_told_so(tmp_path: Path) -> None:
    with failing(r"measure: got .* returned None; expected a dict"):
        bnn.sweep(nothing, [{"x": 1}], tmp_path, workers=0)


def renamed(point: dict[str, Any], folder: Path) -> Any:
    return {"x": 3, "cores": 1, "found": 2}


def test_a_measure_that_returns_a_name_of_its_row_is_told_so(tmp_path: Path) -> None:
    with failing("measure: got a row with cores, x, which it has"):
        bnn.sweep(renamed, [{"x": 1}], tmp_path, workers=0)


def test_a_plugin_for_gpus_that_does_not_start_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)  # as if it were installed
    monkeypatch.setenv("JAX_PLATFORMS", "nonsense")
    with pytest.raises(bnn.BadInput, match="GPUs: got a JAX that does not start: .*nonsense"):
        bnn.sweep(doubled, [{"x": 1}], tmp_path)


def test_a_point_whose_workers_die_before_they_begin_it_is_given_up(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each had died: none has begun the point more often than once."""
    ended: list[object] = []
    monkeypatch.setattr(cluster, "SUBMISSIONS", 7)
    monkeypatch.setattr(
        cluster, "_outcome", lambda future: ended.append(future) or KilledWorker("point", None, 0)
    )
    with failing("its worker died, 7 times"):
        bnn.sweep(doubled, [{"x": 1}], tmp_path, scheduler=scheduler)
    assert len(ended) == 7


def test_settings_in_any_order_are_one_point(tmp_path: Path) -> None:
    points = [{"x": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "x": 1}]
    assert folder_name(points[0]) == folder_name(points[1])
    assert folder_name(points[0]) != folder_name(points[0] | {"x": 2})
    first, again = bnn.sweep(doubled, points, tmp_path, workers=0)
    assert first == again
    assert len(begun(tmp_path)) == 1


def test_own_folders_are_sent_though_they_are_where_python_is(tmp_path: Path) -> None:
    """As in an image of a container, where both are in /usr."""
    installed, beside, own = (
        tmp_path / "usr" / name for name in ("lib/python3", "lib/python3-mine", "src/app")
    )
    for folder in (installed / "lib-dynload", beside, own):
        folder.mkdir(parents=True)
    found = [installed, installed / "lib-dynload", beside, own, tmp_path / "usr" / "python3.zip"]
    kept = shipped.own_folders(map(str, found), [str(installed)])
    assert kept == (str(beside), str(own))
    libraries = [str(Path(np.__file__).parents[1]), str(Path(os.__file__).parent)]
    assert shipped.own_folders(libraries, shipped.installed_folders()) == ()


@pytest.mark.parametrize("inside", ["", "new/sweep"])
def test_an_out_that_is_a_file_is_refused(inside: str, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(bnn.BadInput, match=r"out: got .*, where .*rows\.json is a file"):
        bnn.sweep(doubled, [{"x": 1}], tmp_path / "rows.json" / inside, workers=0)


@pytest.mark.parametrize("x64", [True, False])
def test_workers_take_over_the_precision(x64: bool, scheduler: str, tmp_path: Path) -> None:
    with jax.enable_x64(x64):
        (row,) = bnn.sweep(doubled, [{"x": 1}], tmp_path, scheduler=scheduler)
    assert row["dtype"] == ("float64" if x64 else "float32")


def test_a_sweep_that_is_stopped_leaves_nothing_running_and_goes_on(
    scheduler: str, tmp_path: Path
) -> None:
    points = [{"x": 1, "waits": 300}, {"x": 2}]
    waiting: list[int] = []

    def stop(row: dict[str, Any]) -> None:
        while not waiting:
            time.sleep(0.1)
            waiting.extend(begun(tmp_path / folder_name(points[0])))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bnn.sweep(doubled, points, tmp_path, scheduler=scheduler, on_row=stop)
    time.sleep(1)  # a task that was not forgotten would begin again in the worker's successor
    assert not any(Path(f"/proc/{process}").exists() for process in waiting)
    assert len(begun(tmp_path)) == 2
    rows = bnn.sweep(doubled, points, tmp_path, scheduler=scheduler)
    assert [row["attempts"] for row in rows] == [2, 1]


@pytest.mark.slow
def test_workers_of_this_machine_have_devices_of_their_own_and_leave_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_gpus", lambda: ("5", "7"))  # as if there were two
    monkeypatch.chdir(tmp_path)
    before = settings()
    rows = bnn.sweep(place, [{"x": x, "waits": 1} for x in range(4)], "out")
    assert {row["gpu"] for row in rows} == {"5", "7"}
    assert len({row["process"] for row in rows}) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert settings() == before


def settings() -> tuple[object, ...]:
    """Of this process, that Dask might change."""
    level = logging.getLogger("distributed").level
    return dict(os.environ), [config.get(name) for name in cluster.SETTINGS], level


@pytest.mark.slow
def test_a_job_over_widths_by_workers_is_the_serial_one(scheduler: str, tmp_path: Path) -> None:
    job = WidthsSettings(
        data="diabetes", widths=(3,), targets=("marginal",), train=12, test=5, chains=3, warmup=5,
        draws=10,
    )  # fmt: skip
    compare_widths(job, tmp_path / "serial")
    compare_widths(job, tmp_path / "workers", scheduler=scheduler)
    serial, workers = (
        bnn.load_run(tmp_path / folder / "draws" / "width-3-marginal.nc")
        for folder in ("serial", "workers")
    )
    assert serial["predictions"].dataset.equals(workers["predictions"].dataset)
    assert (tmp_path / "workers" / "report.html").exists()
    with pytest.raises(bnn.BadInput, match="workers: got 2, beside scheduler"):
        compare_widths(job, tmp_path / "both", scheduler=scheduler, workers=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measure": functools.partial(doubled, mistake=threading.Lock())}, "measure: got .*lock"),
        ({"points": [{"x": np.arange(3)}]}, "point of a sweep: got .*array"),
        ({"points": [{"x": (1, 2)}]}, "point of a sweep: got .*a tuple"),
        ({"points": [{"x": float("nan")}]}, "point of a sweep: got .*nan"),
        ({"points": [3]}, "point of a sweep: got 3; expected a dict"),
        ({"workers": -1}, "workers: got -1"),
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "workers: got 2, beside scheduler"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_starts(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = {"measure": doubled, "points": [{"x": 1}], "workers": 1} | arguments
    threads = threading.active_count()
    with pytest.raises(bnn.BadInput, match=message):
        bnn.sweep(out=tmp_path / "new", **given)
    assert not (tmp_path / "new").exists()
    assert threading.active_count() == threads


def test_a_lambda_is_refused_in_a_script_and_sent_from_a_notebook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shipped, "_script", lambda: None)
    assert shipped.ship(lambda point, folder: point).unpack()(3, 4) == 3
    monkeypatch.setattr(shipped, "_script", lambda: "my_script")
    with pytest.raises(bnn.BadInput, match="measure: got .*lambda.*, which cannot be sent"):
        shipped.ship(lambda point, folder: point)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_a_scheduler_that_does_not_answer_is_one_clear_error(address: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(bnn.BadInput, match=f"scheduler: got '{address}', where none answered"):
        bnn.sweep(doubled, [{"x": 1}], tmp_path, scheduler=address)
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_point_that_kills_its_workers_is_named_and_all_others_are_measured(
    tmp_path: Path,
) -> None:
    points = [{"x": 1, "fails": "death"}, {"x": 2}, {"x": 3}, {"x": 4}]
    with failing('1 of 4 .*\n.*"death"}: its worker died, 4 times'):
        bnn.sweep(doubled, points, tmp_path, workers=1)
    rows = bnn.sweep(doubled, points[1:], tmp_path, workers=0)
    assert len(begun(tmp_path)) == 4 + 3
    assert [row["twice"] for row in rows] == [4, 6, 8]


SCRIPT = """
import sys
import bnnsample as bnn
from tests.test_sweeps import doubled

def measure(point, folder):
    return doubled(point, folder)

if __name__ == "__main__":
    bnn.sweep(measure, [{"x": 1, "waits": 300}, {"x": 2}], sys.argv[1], workers=1, on_row=print)
    print("finished")
"""


@pytest.mark.slow
def test_a_script_that_workers_cannot_import_is_one_clear_error(tmp_path: Path) -> None:
    """They would begin the sweep again; Python says why, and the last line is ours."""
    script = SCRIPT.replace('if __name__ == "__main__"', "if True")
    (tmp_path / "my_script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "my_script.py", "out"], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "BadInput: sweep: got workers that ended as they" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_ctrl_c_ends_a_script_and_its_workers(tmp_path: Path) -> None:
    (tmp_path / "my_script.py").write_text(SCRIPT)
    command = [sys.executable, "my_script.py", "out"]
    where: Any = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(Path.cwd())}}
    with subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, text=True, **where
    ) as process:
        while not begun(tmp_path / "out"):
            assert process.poll() is None
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert errors.count("Traceback") == 1
    assert errors.strip().endswith("KeyboardInterrupt")
    (waiting,) = begun(tmp_path / "out")
    assert not Path(f"/proc/{waiting}").exists()
    again = subprocess.run(command, check=True, capture_output=True, text=True, **where)
    assert again.stdout.strip().endswith("finished")
    assert again.stderr == ""


def test_the_package_may_be_used_without_being_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = metadata.version

    def version(name: str) -> str:
        if name == "bnnsample":
            raise metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(metadata, "version", version)
    (row,) = bnn.sweep(doubled, [{"x": 2}], tmp_path, workers=0)
    assert row["twice"] == 4
    assert row["versions"]["bnnsample"] == "not installed"
    assert row["versions"]["jax"] == jax.__version__
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == "not installed\n"
