"""The folder of one experiment: its record, its table, and whether it may be written to."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnnsample.checks import bad_input
from bnnsample.files import check_free, write_whole

RECORD = "record.json"


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """The run record as JSON; numbers that are not finite become null."""
    write_whole(folder / RECORD, json.dumps(_finite(record), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the same keys as a CSV file with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def check_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise unless ``folder`` is new, empty, or holds an experiment with the same settings."""
    record = folder / RECORD
    if not record.exists():
        check_free(folder, (), "experiment with the same settings")
        return
    earlier = _earlier_settings(record)
    wanted = _finite(settings)
    changed = [name for name in wanted if earlier.get(name) != wanted[name]]
    if changed:
        differences = "; ".join(f"{name} {earlier.get(name)!r}" for name in changed)
        raise bad_input(
            "out",
            got=f"{folder}, made with other settings ({differences})",
            expected="; ".join(f"{name} {wanted[name]!r}" for name in changed),
            probably="a new experiment; choose another folder or remove this one",
        )


def _earlier_settings(record: Path) -> dict[str, Any]:
    try:
        settings = json.loads(record.read_text(encoding="utf-8"))["settings"]
        return dict(settings.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise bad_input(
            "out",
            got=f"{record}, which cannot be read ({error})",
            expected="a run record written by bnnsample",
            probably="a file edited by hand; choose another folder",
        ) from error
