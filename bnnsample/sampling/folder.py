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
from bnnsample.files import PARTIAL, write_whole
from bnnsample.sampling.store import DRAWS

SETTINGS = "run.json"
LOG_LIKELIHOOD = "log_likelihood_at_a_start"
ROUNDING = 1e-3
"""Relative difference of that likelihood between devices, in float32."""


class CannotWrite(OSError):
    """A run folder can no longer be written to; what was written is whole."""


def create_or_check(folder: Path, record: dict[str, Any]) -> bool:
    """Make a folder for a run, or find that of the same run: whether it was there already.

    One that was killed before its settings were written is not there yet, whatever it left.
    Raises ``ValueError`` for a folder of other settings or other files.
    """
    if (folder / SETTINGS).exists():
        _check_same(folder, read_record(folder), record)
        return True
    if folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
        raise bad_input(
            "out",
            got=f"{folder}, which holds something else",
            expected="a new or empty folder, or one of an earlier run with the same settings",
            probably="a folder of something else; choose another name",
        )
    with guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return False


def read_record(folder: Path) -> dict[str, Any]:
    """The settings of a run folder as JSON."""
    path = folder / SETTINGS
    if not path.exists():
        raise FileNotFoundError(f"no run in {folder}: it has no {SETTINGS}")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise bad_input(
            "run folder",
            got=f"{path}, which cannot be read ({error})",
            expected="the settings that sample() wrote",
            probably="a file edited by hand or a truncated copy",
        ) from error


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


def _is_foreign(path: Path) -> bool:
    return path.name != DRAWS and not path.name.endswith(PARTIAL)


def _check_same(folder: Path, earlier: dict[str, Any], wanted: dict[str, Any]) -> None:
    changed = differences(earlier, wanted)
    if changed == ["draws"] and wanted["draws"] > earlier["draws"]:
        hint = "a longer run; bnn.resume(folder, extra_draws=...) adds draws to it"
    elif changed == ["draws"]:
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
