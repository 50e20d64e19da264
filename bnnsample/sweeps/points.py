"""A point of a sweep: its settings, its folder, and the row that is measured there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from bnnsample.checks import bad_input
from bnnsample.files import damaged, write_whole
from bnnsample.provenance import environment

type Row = dict[str, Any]
type Measure = Callable[[Row, Path], Row]
"""Of a point's settings and its folder: what is measured, as JSON."""

type Outcome = Row | str
"""The row of a point, or in a line why there is none."""

OF_THE_POINT = ("attempts", "seconds", "cores", "device", "versions", "python")
"""What a row says of the measurement itself."""

POINT, ROW, FAILURE = "point.json", "row.json", "error.txt"


def checked(point: Any) -> Row:
    """The settings of a point, if JSON keeps them as they are."""
    try:
        kept = isinstance(point, dict) and json.loads(json.dumps(point, allow_nan=False)) == point
    except (TypeError, ValueError, RecursionError):
        kept = False
    if not kept:
        raise bad_input(
            "point of a sweep",
            got=repr(point),
            expected="a dict from names to settings that JSON keeps: finite numbers, texts, "
            "booleans, None, lists, dicts",
            probably="an array, a tuple or an object: give what it is made from, and make it in "
            "the function that measures",
        )
    return point


def folder_name(point: Row) -> str:
    """A name that can be read, of this point alone, in whatever order its settings come."""
    text = json.dumps(point, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    settings = "_".join(f"{name}-{value}" for name, value in json.loads(text).items())
    return f"{re.sub(r'[^\w.+-]+', '-', settings)[:60]}-{digest}"


def finished(folder: Path) -> Row | None:
    """The row of a point that was measured, None before."""
    return _read(folder / ROW)


def attempts(folder: Path) -> int:
    """How often the measurement of a point was begun."""
    return (_read(folder / POINT) or {"attempts": 0})["attempts"]


def measured(measure: Measure, point: Row, folder: Path, *, x64: bool) -> Outcome:
    """Measure a point, unless its folder has a row, and store the row there.

    The row is the settings, what was measured, and the ``attempts`` it took; of the last of them
    the ``seconds``, the ``device``, and the ``cores`` the process might use.
    """
    known = finished(folder)
    if known is not None:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILURE).unlink(missing_ok=True)
    about: Row = {"attempts": attempts(folder) + 1}
    write_whole(folder / POINT, json.dumps({"point": point} | about, indent=1) + "\n")
    began = time.perf_counter()
    try:
        with jax.enable_x64(x64):
            found: Any = measure(point, folder)
        if not isinstance(found, dict):
            raise bad_input(
                "measure",
                got=f"a function that returned {found!r}",
                expected="a dict from names to what was measured",
                probably="a missing return, or a bare number",
            )
        taken = sorted(found.keys() & {*point, *OF_THE_POINT})
        if taken:
            raise bad_input(
                "measure",
                got=f"a row with {', '.join(taken)}, which it has already",
                expected="names other than those of the settings and of the measurement itself",
                probably="settings that were returned with what was measured; the row has them",
            )
        about["seconds"] = time.perf_counter() - began
        about |= {**environment(), "cores": len(os.sched_getaffinity(0))}
        text = json.dumps(point | found | about)
    except (Exception, SystemExit) as error:  # whatever a point raises, the others go on
        write_whole(folder / FAILURE, traceback.format_exc())
        return f"{type(error).__name__}: {error}"
    write_whole(folder / ROW, text + "\n")
    return json.loads(text)


def _read(path: Path) -> Row | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise damaged(path, f"no JSON ({error})") from error
