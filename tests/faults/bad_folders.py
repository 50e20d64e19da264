"""Faults of run folders and files, and of what is judged, a row each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import numpy as np

import bnnsample as bnn
from bnnsample.sampling.checkpoints import CHECKPOINTS
from bnnsample.sampling.folder import SETTINGS, claimed
from bnnsample.sampling.store import DRAWS, DrawStore
from tests.faults.damage import DAMAGES, damaged, make_run

CHUNK = f"{DRAWS}/predictions/f/c/0/0/0/0"


def after(name: str, damage: str) -> Callable[[Path], Any]:
    """Reads all of a run whose file ``name`` is damaged."""

    def act(folder: Path) -> Any:
        with damaged(folder / name, DAMAGES[damage]):
            return bnn.load_run(folder).load() and None

    return act


def with_settings(**changes: Any) -> Callable[[Path], Any]:
    """Resumes a run whose settings were edited."""

    def act(folder: Path) -> Any:
        record = json.loads((folder / SETTINGS).read_text())
        (folder / SETTINGS).write_text(json.dumps(record | changes))
        bnn.resume(folder)

    return act


def newest_checkpoints(folder: Path) -> Iterator[Path]:
    """A file of each checkpoint without which it cannot be read, the newest first."""
    for path in sorted((folder / CHECKPOINTS).iterdir(), key=lambda path: -int(path.name)):
        yield path / "record" / "metadata"


def no_newest_checkpoint(folder: Path) -> None:
    next(newest_checkpoints(folder)).write_bytes(b"")
    bnn.resume(folder)


def no_checkpoint(folder: Path) -> None:
    for path in newest_checkpoints(folder):
        path.write_bytes(b"")
    bnn.resume(folder)


def linked(folder: Path) -> None:
    shutil.move(folder / DRAWS, folder.parent / "elsewhere")
    (folder / DRAWS).symlink_to(folder.parent / "elsewhere")
    bnn.resume(folder)


def written_by_another(folder: Path) -> None:
    with claimed(folder):
        bnn.resume(folder)


def full_disk(folder: Path) -> None:
    shutil.rmtree(folder)
    with patch.object(DrawStore, "write", side_effect=OSError(28, "No space left on device")):
        make_run(folder)


def read_only(folder: Path) -> None:
    shutil.rmtree(folder)
    with patch.object(Path, "mkdir", side_effect=PermissionError(13, "Permission denied")):
        make_run(folder)


def of_something_else(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    make_run(folder)


def other_precision(folder: Path) -> None:
    jax.config.update("jax_enable_x64", False)
    try:
        bnn.resume(folder)
    finally:
        jax.config.update("jax_enable_x64", True)


def truncated_file(folder: Path) -> None:
    path = bnn.save_run(bnn.load_run(folder), folder / "run.nc")
    path.write_bytes(path.read_bytes()[:2000])
    bnn.load_run(path)


def altered_file(folder: Path) -> None:
    run = bnn.load_run(folder).load()
    path = bnn.save_run(run, folder / "run.nc")
    content, mean = path.read_bytes(), run["predictions"]["f"].values.tobytes()[:32]
    path.write_bytes(content.replace(mean, bytes(32)))
    bnn.load_run(path)


def unfinished(folder: Path) -> None:
    shutil.rmtree(folder)
    make_run(folder, stop=True)
    bnn.diagnose(bnn.load_run(folder))


def without_limit(folder: Path) -> None:
    run = bnn.load_run(folder).load()
    run["constant_data"] = run["constant_data"].dataset.drop_vars(["nngp_mean", "nngp_std"])
    bnn.distance_to_nngp(run)


FOLDERS: dict[str, Callable[[Path], Any]] = {
    "a file that is not there": lambda folder: bnn.load_run(folder / "absent.nc"),
    "a saved run, truncated": truncated_file,
    "a saved run, some bytes altered": altered_file,
    "a chunk of draws, cut to half": after(CHUNK, "cut to half"),
    "a chunk of draws, deleted": after(CHUNK, "deleted"),
    "a chunk of draws, one bit altered": after(CHUNK, "one bit altered"),
    "an array's metadata, cut to half": after(f"{DRAWS}/predictions/f/zarr.json", "cut to half"),
    "the list of arrays, deleted": after("draws.json", "deleted"),
    "a link out of the folder": linked,
    "the newest checkpoint cannot be read": no_newest_checkpoint,
    "no checkpoint can be read": no_checkpoint,
    "settings of another type": with_settings(draws="many"),
    "settings edited by hand": with_settings(likelihood="Gaussian(noise_std=0.5)"),
    "code in the settings": with_settings(network="__import__('os').system('touch pwned')"),
    "resuming with another precision": other_precision,
    "resuming where there is no run": lambda folder: bnn.resume(folder.parent),
    "resuming what another process writes to": written_by_another,
    "a new run in a folder of something else": of_something_else,
    "the disk is full": full_disk,
    "the folder may not be written to": read_only,
}

JUDGING: dict[str, Callable[[Path], Any]] = {
    "a run that is not finished": unfinished,
    "one group of a run": lambda folder: bnn.diagnose(bnn.load_run(folder)["posterior"]),
    "a run without its limit": without_limit,
    "draws without an axis of chains": lambda _: bnn.summarise(np.ones(9)),
    "draws of text": lambda _: bnn.summarise([["a", "b"]]),
}

TABLE = {"Run folders and files": FOLDERS, "Judging": JUDGING}
