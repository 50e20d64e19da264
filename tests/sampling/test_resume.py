"""A run on disk: killed, resumed, extended, with nothing lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.sampling import checkpoints, run, store
from bnnsample.sampling.folder import CannotWrite
from tests.conftest import X64
from tests.sampling.conftest import DRAWS, EVERY, Stop
from tests.sampling.run_to_be_killed import main

pytestmark = pytest.mark.skipif(not X64, reason="the runs of this file are in float64")
GROUPS = ("posterior", "predictions", "sample_stats", "moments")


def assert_same_draws(run, reference, groups=GROUPS):
    for group in groups:
        assert run[group].dataset.load().equals(reference[group].dataset), group


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The run that is never interrupted, and its folder."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    main(str(folder), DRAWS, EVERY)
    return bnn.load_run(folder).load(), folder


def test_an_interrupted_run_goes_on_bit_for_bit(unbroken, stopped):
    assert_same_draws(bnn.resume(stopped), unbroken[0])


def test_the_same_call_goes_on_too(unbroken, stopped):
    main(str(stopped), DRAWS, EVERY)
    assert_same_draws(bnn.load_run(stopped), unbroken[0])


@pytest.mark.parametrize(
    "damage",
    ["truncated", *(pytest.param(d, marks=pytest.mark.slow) for d in ("altered", "emptied"))],
)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(unbroken, stopped, damage):
    newest = max((stopped / checkpoints.CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    files = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size > 100]
    assert files
    for path in files:
        content = bytearray(path.read_bytes())
        if damage == "altered":
            content[-40:-20] = bytes(20)
            path.write_bytes(content)
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.warns(RuntimeWarning, match=f"checkpoint {newest.name} is damaged.*falling back"):
        resumed = bnn.resume(stopped)
    assert_same_draws(resumed, unbroken[0])


def test_where_no_checkpoint_can_be_read_nothing_is_lost(stopped):
    """Neither to begin again, which would overwrite the draws, nor to remove a checkpoint."""
    kept = [path for path in (stopped / checkpoints.CHECKPOINTS).rglob("*") if path.is_file()]
    before = bnn.load_run(stopped).load()
    for path in kept:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="no checkpoint can be read.*load_run"):
        bnn.resume(stopped)
    assert all(path.exists() for path in kept)
    assert bnn.load_run(stopped)["predictions"].dataset.load().equals(before["predictions"].dataset)


def test_without_any_checkpoint_it_begins_again(unbroken, stopped):
    shutil.rmtree(stopped / checkpoints.CHECKPOINTS)
    assert_same_draws(bnn.resume(stopped), unbroken[0])


def test_a_finished_run_can_be_made_longer(unbroken, tmp_path):
    shutil.copytree(unbroken[1], tmp_path / "run")
    longer = bnn.resume(tmp_path / "run", extra_draws=30)
    assert longer.attrs["draws"] == DRAWS + 30
    first = longer["predictions"]["f"].isel(draw=slice(0, DRAWS)).values
    np.testing.assert_array_equal(first, unbroken[0]["predictions"]["f"].values)
    assert np.isfinite(longer["posterior"]["readout"].values).all()
    longest = bnn.resume(tmp_path / "run", extra_draws=25)
    assert longest["sample_stats"].sizes["draw"] == DRAWS + 55
    assert np.isfinite(longest["sample_stats"]["lp"].values).all()


def test_the_same_call_with_more_draws_makes_a_run_longer(unbroken, stopped):
    main(str(stopped), DRAWS + 30, EVERY)
    longer = bnn.load_run(stopped)
    assert longer.attrs["draws"] == longer["predictions"].sizes["draw"] == DRAWS + 30
    assert_same_draws(longer.isel(draw=slice(0, DRAWS)), unbroken[0], ("posterior", "sample_stats"))
    assert np.isfinite(longer["sample_stats"]["lp"].values).all()


def test_a_run_stopped_while_it_was_made_longer_is_unfinished_and_goes_on(unbroken, tmp_path):
    folder = shutil.copytree(unbroken[1], tmp_path / "run")

    def stop(progress):
        if progress.phase == "sampling":
            raise Stop

    with pytest.raises(Stop):
        bnn.resume(folder, extra_draws=60, on_progress=stop)
    with pytest.raises(ValueError, match="not finished"):
        bnn.diagnose(bnn.load_run(folder))
    assert bnn.resume(folder).attrs["draws"] == DRAWS + 60


def test_a_run_that_cannot_go_on_is_not_made_longer(stopped):
    record = (stopped / "run.json").read_text()
    for path in (stopped / checkpoints.CHECKPOINTS).rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint can be read"):
        bnn.resume(stopped, extra_draws=30)
    assert (stopped / "run.json").read_text() == record
    assert bnn.load_run(stopped)["predictions"].sizes["draw"] == DRAWS


def test_a_finished_run_is_not_made_again(unbroken):
    seen = []
    finished = bnn.resume(unbroken[1], on_progress=seen.append)
    assert [progress.phase for progress in seen] == ["compiling"]
    assert_same_draws(finished, unbroken[0])


def test_an_unfinished_run_can_be_read(stopped, unbroken):
    f = bnn.load_run(stopped)["predictions"]["f"].values
    assert np.isnan(f[:, 225:]).all()
    np.testing.assert_array_equal(f[:, :225], unbroken[0]["predictions"]["f"].values[:, :225])


def kill_and_resume(folder: Path, after: float) -> bool:
    """Start the run, SIGKILL it ``after`` seconds of its first report; whether it was killed."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [
        sys.executable,
        "-m",
        "tests.sampling.run_to_be_killed",
        str(folder),
        str(DRAWS),
        str(EVERY),
    ]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("warm-up"):
            break
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_run_killed_at_a_random_moment_loses_nothing(unbroken, tmp_path, seed):
    folder = tmp_path / "run"
    generator = random.Random(seed)
    killed = [kill_and_resume(folder, generator.uniform(0, 1.0)) for _ in range(2)]
    assert killed[0], "the run ended before it could be killed; make it longer"
    assert_same_draws(bnn.resume(folder), unbroken[0])


def killed_at(name: str, module, monkeypatch, folder: Path) -> None:
    """Stop a new run as it calls ``name`` of ``module``."""

    def stop(*args, **kwargs):
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(module, name, stop)
        with pytest.raises(Stop):
            main(str(folder), DRAWS, EVERY)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("put", store.DrawStore),
        pytest.param("write_record", run, marks=pytest.mark.slow),
        pytest.param("replace", os, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_before_it_has_settings_begins_again(
    unbroken, tmp_path, monkeypatch, name, module
):
    folder = tmp_path / "run"
    killed_at(name, module, monkeypatch, folder)
    main(str(folder), DRAWS, EVERY)
    assert_same_draws(bnn.load_run(folder), unbroken[0])


def test_a_run_killed_before_its_first_draw_can_be_resumed(unbroken, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    killed_at("create", store.DrawStore, monkeypatch, folder)
    assert_same_draws(bnn.resume(folder), unbroken[0])


def test_a_run_killed_as_it_is_made_longer_can_be_resumed(unbroken, tmp_path, monkeypatch):
    folder = shutil.copytree(unbroken[1], tmp_path / "run")

    def stop(*args):
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(store.DrawStore, "lengthen", stop)
        with pytest.raises(Stop):
            bnn.resume(folder, extra_draws=30)
    assert bnn.resume(folder).attrs["draws"] == DRAWS + 30


def test_resuming_never_writes_the_data_again(unbroken, stopped, monkeypatch):
    put, groups = store.DrawStore.put, []
    monkeypatch.setattr(
        store.DrawStore,
        "put",
        lambda self, group, arrays: groups.append(group) or put(self, group, arrays),
    )
    assert_same_draws(bnn.resume(stopped), unbroken[0])
    assert groups == ["moments"]


def test_a_full_disk_is_one_clear_error_and_loses_nothing(unbroken, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    write, calls = store.DrawStore.write, []

    def full(self, first, arrays):
        calls.append(first)
        if len(calls) == 9:
            raise OSError(28, "No space left on device")
        return write(self, first, arrays)

    monkeypatch.setattr(store.DrawStore, "write", full)
    with pytest.raises(CannotWrite, match="No space left.*bnnsample resume"):
        main(str(folder), DRAWS, EVERY)
    monkeypatch.undo()
    assert_same_draws(bnn.resume(folder), unbroken[0])


def test_the_first_call_is_refused_after_an_extension(unbroken, tmp_path):
    shutil.copytree(unbroken[1], tmp_path / "run")
    bnn.resume(tmp_path / "run", extra_draws=5)
    with pytest.raises(ValueError, match="draws 705.*expected draws 700.*made longer since"):
        main(str(tmp_path / "run"), DRAWS, EVERY)


def with_function(
    folder: Path,
    scale: float,
    draws: int = 30,
    stop_at: int | None = None,
    checkpoint_every: int | None = 1,
):
    """A run of a network with a function of one's own, made anew as another process would."""
    elementwise = bnn.Custom(lambda key, shape: (), lambda params, x: jnp.sin(scale * x))
    network = bnn.Network((bnn.Dense(4), elementwise, bnn.Dense(1)))
    x = np.linspace(-1.3, 1.1, 5)[:, None]
    posterior = bnn.Posterior(network, x, np.cos(x), bnn.Gaussian(0.3))

    def stop(progress):
        if progress.phase == "sampling" and progress.done == stop_at:
            raise Stop

    return bnn.sample(
        posterior, bnn.HMC(2), chains=1, warmup=20, draws=draws, out=folder,
        checkpoint_every=checkpoint_every, on_progress=stop,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "share", "saved"),
    [(0.0, 1e9, ["20", "45"]), (1e9, 1e9, ["20"]), (0.0, 1e-9, ["20"])],
    ids=["late", "soon", "costly"],
)
def test_a_state_is_saved_when_it_is_late_and_saving_worth_its_time(
    tmp_path, monkeypatch, seconds, share, saved
):
    monkeypatch.setattr(checkpoints, "SECONDS", seconds)
    monkeypatch.setattr(checkpoints, "SHARE", share)
    folder = tmp_path / "stopped"
    with pytest.raises(Stop):
        with_function(folder, 1.4, draws=60, stop_at=50, checkpoint_every=None)
    # the end of warm-up is always one, and the segment that was stopped never
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == saved


@pytest.mark.slow
def test_a_run_with_a_function_of_ones_own_goes_on_by_the_same_call(tmp_path):
    with pytest.raises(Stop):
        with_function(tmp_path / "stopped", 1.4, stop_at=25)
    assert_same_draws(
        with_function(tmp_path / "stopped", 1.4),
        with_function(tmp_path / "unbroken", 1.4),
        ("posterior", "sample_stats"),
    )


@pytest.mark.slow
def test_a_run_with_a_function_of_ones_own_is_made_longer_by_the_same_call(tmp_path):
    with_function(tmp_path / "short", 1.4, draws=10)
    assert_same_draws(
        with_function(tmp_path / "short", 1.4, draws=40),
        with_function(tmp_path / "unbroken", 1.4, draws=40),
        ("posterior", "sample_stats"),
    )


def test_another_function_of_the_same_name_is_refused(tmp_path):
    with_function(tmp_path / "run", 1.4)
    with pytest.raises(ValueError, match="other settings .log_likelihood"):
        with_function(tmp_path / "run", 1.5)
