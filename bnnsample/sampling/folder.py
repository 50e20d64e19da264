"""The folder of one run: its settings, its draws as they come, and its checkpoints."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bnnsample.checks import bad_input
from bnnsample.files import check_free, damaged, take_lock, write_whole
from bnnsample.sampling.integrity import MANIFEST, check_links
from bnnsample.sampling.mesh import writes_to
from bnnsample.sampling.store import DRAWS

SETTINGS = "run.json"
LOCK = "lock"
LOG_LIKELIHOOD = "log_likelihood_at_a_start"
TYPES: dict[str, tuple[type, ...]] = {
    "target": (str,),
    "ridge": (float, int, type(None)),
    "network": (str,),
    LOG_LIKELIHOOD: (float, type(None)),
    "likelihood": (str,),
    "sampler": (str,),
    "dtype": (str,),
    "x64": (bool,),
    "data": (str,),
    "chains": (int,),
    "warmup": (int,),
    "seed": (int,),
    "keep": (list,),
    "draws": (int,),
    "segment": (int,),
}
"""What the settings are, as JSON."""

ROUNDING = 1e-3
"""Relative difference of that likelihood between devices, in float32."""


class CannotWrite(OSError):
    """A run folder can no longer be written to; what was written is whole."""


@contextlib.contextmanager
def claimed(folder: Path | None) -> Iterator[None]:
    """A run's folder, made if need be, for this process alone until the block or the process ends.

    Raises ``ValueError`` for one that holds other files, or that another process has.
    """
    if folder is None:
        yield
        return
    if not (folder / SETTINGS).exists():
        check_free(folder, (DRAWS, LOCK, MANIFEST), "run with the same settings")
    with guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_links(folder)
    if not writes_to(folder):
        yield
        return
    with guarded(folder):
        lock = (folder / LOCK).open("a")
    with lock:
        take_lock(
            lock,
            "run folder",
            f"{folder}, to which another process is writing",
            "the same run still goes on elsewhere; load_run(folder) can read it meanwhile",
        )
        yield


def find_begun(folder: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The record of the run that is ``wanted``, if the folder holds it with as many draws or fewer.

    None where there is no run yet: one that was killed before its settings were written is none,
    whatever it left. Raises ``ValueError`` for a run of other settings.
    """
    if not (folder / SETTINGS).exists():
        return None
    earlier = read_record(folder)
    _check_same(folder, earlier, wanted)
    return earlier


def read_record(folder: Path) -> dict[str, Any]:
    """The settings of a run folder as JSON, each of its type."""
    path = folder / SETTINGS
    if not path.exists():
        raise FileNotFoundError(f"no run in {folder}: it has no {SETTINGS}")
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise bad_input(
            "run folder",
            got=f"{path}, which cannot be read ({error})",
            expected="the settings that sample() wrote",
            probably="a file edited by hand or a truncated copy",
        ) from error
    for name, kinds in TYPES.items():
        if type(record.get(name)) not in kinds:
            raise damaged(path, f"{name} {record.get(name)!r}")
    return record


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write the settings; a folder is a run's from then on."""
    with guarded(folder):
        write_whole(folder / SETTINGS, json.dumps(record, indent=2) + "\n")


def differences(earlier: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Names of the settings that differ."""
    # a segment is as long as the other settings make it, which an extension leaves as it was
    return [
        name
        for name, value in wanted.items()
        if name != "segment" and not _same(name, earlier.get(name), value)
    ]


def _same(name: str, earlier: Any, wanted: Any) -> bool:
    if name == LOG_LIKELIHOOD and None not in (earlier, wanted):
        return bool(np.isclose(earlier, wanted, rtol=ROUNDING, atol=0, equal_nan=True))
    return bool(earlier == wanted)


@contextlib.contextmanager
def guarded(folder: Path | None) -> Iterator[None]:
    """Turns a full disk or a folder that may not be written to into one clear error."""
    try:
        yield
    except OSError as error:
        if folder is None:
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        begun = (folder / SETTINGS).exists()
        then = f"`bnnsample resume {folder}` goes on from there" if begun else "begin again"
        raise CannotWrite(
            f"{folder}: got '{reason}'; expected a folder that can be written to, with room for "
            "the draws; probably the disk is full or the folder is read-only. Draws up to the last "
            f"checkpoint are whole: free space, then {then}"
        ) from error


def _check_same(folder: Path, earlier: dict[str, Any], wanted: dict[str, Any]) -> None:
    changed = differences(earlier, wanted)
    if changed == ["draws"] and wanted["draws"] > earlier["draws"]:
        return
    if changed == ["draws"]:
        hint = "a run that was made longer since; bnn.resume(folder) goes on with it"
    else:
        hint = "a new run; choose another folder or remove this one"
    if changed:
        raise bad_input(
            "out",
            got=f"{folder}, made with other settings "
            f"({'; '.join(f'{name} {earlier.get(name)!r}' for name in changed)})",
            expected="; ".join(f"{name} {wanted[name]!r}" for name in changed),
            probably=hint,
        )
