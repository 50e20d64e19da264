"""Names and cells of a CSV file; what is not as it should be is refused by its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from bnnsample.checks import BadInput, bad_input

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""What cells are probably separated by where it is not by commas."""


def names_and_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """The first line's names, and the cells of the others, as many in each as there are names.

    Raises ``ValueError`` naming the line that is wrong, ``OSError`` for a file that cannot be
    opened.
    """
    content = _decoded(path)
    _check_separator(path, content)
    reader = _reader(content, ",")
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cells) or len(cells) > 1]
    except csv.Error as error:
        raise unreadable(
            path, f"a cell up to line {reader.line_num} whose quotes do not end where it does",
            "a truncated copy, or quotes inside a text",
        ) from error  # fmt: skip
    if not lines:
        raise unreadable(path, "nothing", "an empty or truncated file")
    names = [name.strip() for name in lines[0][1]]
    for line, cells in lines[1:]:
        if len(cells) != len(names):
            raise unreadable(
                path, f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'} in line {line} under "
                f"{len(names)} {'name' if len(names) == 1 else 'names'}",
                "a truncated copy, cells with commas but no quotes, or another file",
            )  # fmt: skip
    return names, [cells for _, cells in lines[1:]]


def unreadable(path: Path, got: str, probably: str) -> BadInput:
    """The error for a file that is no table; the caller raises it."""
    return bad_input(
        str(path),
        got=got,
        expected="a CSV file (commas, UTF-8, the columns' names in the first line) or a Parquet "
        "file",
        probably=probably,
    )


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(
            path, "bytes that are not UTF-8", "another encoding, or another kind of file"
        ) from error
    if "\0" in content:
        line = content.count("\n", 0, content.index("\0")) + 1
        raise unreadable(path, f"a NUL byte in line {line}", "a damaged file, or another kind")
    return content


def _check_separator(path: Path, content: str) -> None:
    """Raise where another mark than the comma divides every line into as many cells, two or more,
    and where it is in a first line without a comma.
    """
    first = content.partition("\n")[0]
    for mark, meant in SEPARATORS.items():
        if mark in first and ("," not in first or _divides(content, mark)):
            raise unreadable(
                path,
                f"a first line with {meant} between names",
                f"{meant} between cells in place of commas",
            )


def _divides(content: str, mark: str) -> bool:
    try:
        counts = {len(cells) for cells in _reader(content, mark) if cells}
    except csv.Error:
        return False
    return len(counts) == 1 and counts != {1}


def _reader(content: str, separator: str) -> Any:
    lines = io.StringIO(content, newline="")
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
