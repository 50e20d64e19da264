"""Words of a command line that are not understood: refused in one line, with the nearest."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import NoReturn

from bnnsample.checks import BadInput, bad_input
from bnnsample.tabular.reading import listed, nearest

OPTION = re.compile(r"--?[A-Za-z][^\s=]*")


class Parser(argparse.ArgumentParser):
    """One that takes no abbreviations, and raises ``ValueError`` for what it does not parse."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**{"allow_abbrev": False} | settings)  # pyright: ignore[reportArgumentType]

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (`{self.prog} --help` tells more)")


def check_words(words: Sequence[str], commands: Mapping[str, argparse.ArgumentParser]) -> None:
    """Raise ``ValueError`` for commands and options that there are not, before any is missed."""
    if not words or words[0].startswith("-"):
        return
    if words[0] not in commands:
        raise bad_input(
            "COMMAND",
            got=repr(words[0]),
            expected=f"one of {listed(commands)}",
            probably=nearest(words[0], commands, otherwise="an option put before the command"),
        )
    known = [name for one in commands[words[0]]._actions for name in one.option_strings]
    for word in takewhile(lambda word: word != "--", words[1:]):
        name = word.partition("=")[0]
        if OPTION.fullmatch(name) and name not in known:
            raise bad_input(
                f"bnnsample {words[0]}",
                got=f"the option {name}",
                expected=f"one of {', '.join(name for name in known if name.startswith('--'))}",
                probably=nearest(name, known, otherwise="an option of another command"),
            )
