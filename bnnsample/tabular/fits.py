"""The folder of a fit: what was learned of the table, beside the run.

``table.json`` has what predictions at new rows need, ``run`` is a run folder as ``bnn.sample``
writes it, ``report.html`` its page.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jax.typing import ArrayLike
from jaxtyping import Float
from xarray import DataTree

from bnnsample.checks import bad_input
from bnnsample.files import check_free, damaged, take_lock, write_whole
from bnnsample.sampling.folder import LOCK, SETTINGS
from bnnsample.tabular import targets
from bnnsample.tabular.encoding import Encoding
from bnnsample.tabular.kinds import as_floats, as_text
from bnnsample.tabular.problem import Problem, Settings
from bnnsample.tabular.targets import LabelTarget, Target

TABLE, RUN = "table.json", "run"


@dataclass(frozen=True)
class Fit:
    """What was asked, of which file (``data``, its SHA-256), and what was learned of it.

    ``rows``: SHA-256 of the inputs and targets that the run was given, by which the two are known
    to belong together. ``held_out``: the targets of the rows that were held out, as they came.
    """

    settings: Settings
    data: str
    rows: str
    encoding: Encoding
    target: Target
    held_out: tuple[float | str, ...]

    @property
    def y_test(self) -> Float[np.ndarray, "m 1"] | None:
        """Targets at the test inputs of the run, as it knows them; None where none are held out."""
        return self.target.encoded(pd.Series([*self.held_out])) if self.held_out else None


def fit_of(problem: Problem, data: str) -> Fit:
    """What is written down of a problem, posed of a file with this digest."""
    plain = as_text if isinstance(problem.target, LabelTarget) else as_floats
    held_out = tuple(plain(problem.held_out).tolist())
    rows = _digest_of_rows(problem.x, problem.y, problem.x_test)
    return Fit(problem.settings, data, rows, problem.encoding, problem.target, held_out)


def is_fit(path: Path) -> bool:
    """Whether there is the folder of a fit."""
    return (path / TABLE).is_file()


def run_at(path: Path) -> Path:
    """The run of a fit's folder, and any other path as it is."""
    return path / RUN if is_fit(path) else path


def has_begun(folder: Path) -> bool:
    """Whether the run of a fit's folder has been begun."""
    return (folder / RUN / SETTINGS).is_file()


def check_free_for(folder: Path, fit: Fit) -> None:
    """Raise ``ValueError`` unless ``folder`` is new, empty, or of a fit of the same table and
    settings.
    """
    if is_fit(folder):
        _check_same(folder, fit)
    else:
        check_free(folder, (LOCK,), "fit with the same settings")


def check_belongs(folder: Path, fit: Fit, run: DataTree) -> None:
    """Raise ``ValueError`` where the run in a fit's folder is not of the rows of ``fit``."""
    given = run.children["constant_data"].dataset
    y = run.children["observed_data"].dataset["y"].values
    if _digest_of_rows(given["x"].values, y, given["x_test"].values) != fit.rows:
        raise bad_input(
            str(folder),
            got=f"{TABLE} of one fit and {RUN} of another",
            expected="those that were written together",
            probably="two fits that were copied into one folder; fit again, to another one",
        )


@contextlib.contextmanager
def claimed_for(folder: Path, fit: Fit) -> Iterator[None]:
    """The folder of ``fit``, made and written down, for this process alone until the block ends.

    Raises ``ValueError`` for one of something else, and for one that another process is fitting to.
    """
    check_free_for(folder, fit)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as lock:
        got = f"{folder}, to which another process is fitting"
        take_lock(lock, "out", got, "the same fit still goes on elsewhere")
        check_free_for(folder, fit)  # another process may have had it since
        if not is_fit(folder):
            write_fit(folder, fit)
        yield


def write_fit(folder: Path, fit: Fit) -> None:
    """Write down what was learned; a folder is a fit's from then on."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "settings": asdict(fit.settings),
        "data": fit.data,
        "rows": fit.rows,
        "encoding": fit.encoding.as_dict(),
        "target": targets.as_dict(fit.target),
        "held_out": list(fit.held_out),
    }
    text = json.dumps({"sha256": _digest(content), "content": content}, indent=1) + "\n"
    write_whole(folder / TABLE, text)


def read_fit(folder: Path) -> Fit:
    """What ``write_fit`` wrote.

    Raises ``FileNotFoundError`` where no fit is, ``ValueError`` for one that is not as it was
    written.
    """
    path = folder / TABLE
    if not path.is_file():
        raise FileNotFoundError(f"no fit in {folder}: it has no {TABLE}")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        content = stored["content"]
        if stored["sha256"] != _digest(content):
            raise damaged(path, "contents that do not match their checksum")
        settings = content["settings"]
        return Fit(
            settings=Settings(**settings | {"drop": tuple(settings["drop"])}),
            data=content["data"],
            rows=content["rows"],
            encoding=Encoding.of_dict(content["encoding"]),
            target=targets.of_dict(content["target"]),
            held_out=tuple(content["held_out"]),
        )
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path, f"what is no JSON of a fit ({error})") from error


def _digest_of_rows(*arrays: ArrayLike) -> str:
    found = hashlib.sha256()
    for array in arrays:
        numbers = np.asarray(array, np.float64)
        found.update(repr(numbers.shape).encode() + numbers.tobytes())
    return found.hexdigest()


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_same(folder: Path, wanted: Fit) -> None:
    earlier, settings = asdict(read_fit(folder).settings), asdict(wanted.settings)
    changed = [name for name, value in settings.items() if earlier[name] != value]
    before = [f"{name} {earlier[name]!r}" for name in changed]
    now = [f"{name} {settings[name]!r}" for name in changed]
    if read_fit(folder).data != wanted.data:
        before.append("other data")
        now.append("the file that it was made of")
    if before:
        raise bad_input(
            "out",
            got=f"{folder}, a fit with {'; '.join(before)}",
            expected="; ".join(now),
            probably="a new fit; choose another folder or remove this one",
        )
