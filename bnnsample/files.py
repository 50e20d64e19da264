"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"
"""How the name of a file being written ends; only a killed process leaves one behind."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to that takes the place of ``path`` when the block ends without an error."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that no reader ever sees half of it."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
