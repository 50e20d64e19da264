"""A function sent to other processes, which import it from where it is written."""

from __future__ import annotations

import io
import pickle
import site
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from distributed.protocol.pickle import dumps

from bnnsample.checks import bad_input

MAIN = "__main__"


@dataclass(frozen=True)
class Shipped:
    """A function by its name, the script where ``__main__`` is one, and where modules are found."""

    content: bytes
    script: str | None
    folders: tuple[str, ...]

    def unpack(self) -> Any:
        """The function, in a process that sees the same files."""
        sys.path += [folder for folder in self.folders if folder not in sys.path]
        return _Unpickler(self.content, self.script).load()


def ship(function: Any) -> Shipped:
    """A function at the top level of a module or script; in a notebook, which has none, any.

    Raises ``ValueError`` for one that other processes cannot import.
    """
    script = _script()
    try:
        # by value a class of a script would lose what its decorators registered with JAX
        content = dumps(function) if script is None else pickle.dumps(function)
    except Exception as error:  # what cannot be pickled raises errors of many types
        raise bad_input(
            "measure",
            got=f"{function!r}, which cannot be sent to another process ({error})",
            expected="a function at the top level of a module or script, or a functools.partial "
            "of one",
            probably="a lambda or a function inside another; workers=0 measures in this process",
        ) from error
    return Shipped(content, script, own_folders(sys.path, installed_folders()))


def installed_folders() -> set[str]:
    """Where this Python has its standard library and what is installed, as other workers do."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = {sysconfig.get_path(kind) for kind in kinds}
    return paths | {*site.getsitepackages(), site.getusersitepackages()}


def own_folders(folders: Iterable[str], installed: Iterable[str]) -> tuple[str, ...]:
    """Those of ``folders`` that are there and not of the ``installed``, as absolute paths."""
    places = [Path(folder).absolute() for folder in folders]
    return tuple(
        str(place)
        for place in places
        if place.exists() and not any(place.is_relative_to(other) for other in installed)
    )


def _script() -> str | None:
    """The name by which the script that runs can be imported, None in a notebook."""
    main = sys.modules[MAIN]
    if main.__spec__ is not None:
        return main.__spec__.name
    path = getattr(main, "__file__", None)
    return None if path is None else Path(path).stem


class _Unpickler(pickle.Unpickler):
    """Finds what is in the script that runs there in the module that it is here."""

    def __init__(self, content: bytes, script: str | None) -> None:
        super().__init__(io.BytesIO(content))
        self._script = script

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name == MAIN and self._script is not None:
            module_name = import_module(self._script).__name__
        return super().find_class(module_name, global_name)
