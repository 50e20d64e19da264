"""Files that are written whole or not at all, and read only as they were written."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import IO, Any

import google_crc32c
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from bnnsample.checks import BadInput, bad_input

PARTIAL = ".partial"
"""How the name of a file being written ends; only a killed process leaves one behind."""

METADATA = "zarr.json"
CHECKSUM = Crc32cCodec()
"""The compressor of the arrays of a ``CheckedStore``: every chunk ends in its checksum."""
CHECKSUM_BYTES = 4


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


def take_lock(file: IO[str], subject: str, got: str, probably: str) -> None:
    """Lock an open file for this process, where the file system has locks.

    Raises ``ValueError``, told by ``subject``, ``got`` and ``probably``, where another has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise bad_input(
            subject, got=got, expected="one process at a time", probably=probably
        ) from error
    except OSError:
        pass  # a file system without locks


def check_no_file(subject: str, folder: Path, probably: str) -> Path:
    """The nearest folder there is of ``folder`` and those above it; an error if it is a file."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise bad_input(
            subject,
            got=f"{folder}, where {nearest} is a file",
            expected="a folder, or a name that is free",
            probably=probably,
        )
    return nearest


def check_free(folder: Path, own: Container[str], earlier: str) -> None:
    """Raise ``ValueError`` for a file, and for a folder with more in it than names of ``own``.

    What a killed process left half written does not count. ``earlier``: of what the folder might
    be, as the error says it.
    """
    if check_no_file("out", folder, "the name of a file was given") != folder:
        return
    if not all(path.name in own or path.name.endswith(PARTIAL) for path in folder.iterdir()):
        raise bad_input(
            "out",
            got=f"{folder}, which holds something else",
            expected=f"a new or empty folder, or one of an earlier {earlier}",
            probably="a folder of something else; choose another name",
        )


def check_file(subject: str, path: Path) -> None:
    """Raise ``ValueError`` for what no file can be written to."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not above.is_dir():
        raise bad_input(
            subject,
            got=f"{path}, a folder" if path.is_dir() else f"{path}, and {above} is a file",
            expected="a file to write, in a folder that is there or may be made",
            probably="the name of the file was left out" if path.is_dir() else "a typing error",
        )


class CheckedStore(LocalStore):
    """A zarr store on disk whose chunks are held against their checksum as they are read."""

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Buffer | None:
        return self._checked(key, await super().get(key, *args, **kwargs))

    def get_sync(self, key: str, **kwargs: Any) -> Buffer | None:
        return self._checked(key, super().get_sync(key, **kwargs))

    def _checked(self, key: str, found: Buffer | None) -> Buffer | None:
        if found is None or key.endswith(METADATA):
            return found
        content = found.to_bytes()
        value, stored = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if google_crc32c.value(value) != int.from_bytes(stored, "little"):
            raise damaged(self.root / key, "bytes that do not match their checksum")
        return found


def damaged(path: Path, got: str) -> BadInput:
    """The error for a stored file that is not as it was written."""
    return bad_input(
        "stored results",
        got=f"{path}: {got}",
        expected="the folder as it was written",
        probably="a truncated copy, a damaged disk, or a file edited by hand",
    )
