"""``--config run.toml``: options from a file, put before those of the command line.

They become words of the command line, so that they are checked as if they had been typed.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bnnsample.checks import BadInput, bad_input
from bnnsample.tabular.reading import nearest

CONFIG = "--config"


def add_to(command: argparse.ArgumentParser) -> None:
    """The option, for a command that has others."""
    command.add_argument(
        CONFIG, type=Path, metavar="FILE", default=argparse.SUPPRESS,
        help="TOML with options by name, or with a table of them for each command; those of the "
        "command line win",
    )  # fmt: skip


def with_config(words: Sequence[str], commands: Mapping[str, argparse.ArgumentParser]) -> list[str]:
    """The words of a command line, with the options of the file that it names put in.

    Options that are on the command line are left out of the file's. Raises ``ValueError`` for a
    file that cannot be read and for what is no option.
    """
    words = list(words)
    if not words or words[0] not in commands:
        return words
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument(CONFIG, type=Path)
    try:
        found, _ = finder.parse_known_args(words[1:])
    except argparse.ArgumentError:  # no file: the parser of the command says so
        return words
    if found.config is None:
        return words
    typed = {word.partition("=")[0] for word in words}
    options = _options(found.config, words[0], commands)
    tokens = [
        token
        for name, value in options.items()
        if f"--{name}" not in typed
        for token in _tokens(name, value, commands[words[0]])
    ]
    # last an option of one value, so that what follows is not taken for a value of a longer one
    return [words[0], *tokens, f"{CONFIG}={found.config}", *words[1:]]


def _options(
    path: Path, command: str, commands: Mapping[str, argparse.ArgumentParser]
) -> dict[str, Any]:
    """Options of ``command`` by name: those outside tables, then those of its own table."""
    content = _read(path)
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    for name in tables:
        if name not in commands:
            raise _unknown(path, f"a table [{name}]", name, commands, "a command")
    own = {name: value for name, value in content.items() if name not in tables}
    own |= tables.get(command, {})
    known = [name.removeprefix("--") for name in _actions(commands[command])]
    options = {}
    places = _positionals(commands[command])
    for name, value in own.items():
        dashed = name.replace("_", "-")
        if name.lower() in places:
            word = places[name.lower()]
            raise bad_input(
                CONFIG,
                got=f"{name} in {path}",
                expected=f"an option of {command}",
                probably=f"{word}, which is typed: bnnsample {command} {word} {CONFIG} {path}",
            )
        if dashed not in known or dashed in ("help", "config"):
            raise _unknown(path, name, dashed, known, f"an option of {command}")
        options[dashed] = value
    return options


def _tokens(name: str, value: Any, command: argparse.ArgumentParser) -> Iterator[str]:
    action, option = _actions(command)[f"--{name}"], f"--{name}"
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise _bad_value(name, value, "true or false")
        yield from [option] if value else []
    elif isinstance(value, list) and action.nargs == "+":
        if not value or not all(map(_is_plain, value)):
            raise _bad_value(name, value, "numbers and texts")
        if isinstance(action, argparse._ExtendAction):  # names of columns may begin with a dash
            yield from (f"{option}={one}" for one in value)
        else:
            yield from (option, *map(str, value))
    elif _is_plain(value):
        yield f"{option}={value}"
    else:
        raise _bad_value(name, value, "a number or a text")


def _actions(command: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Options of a command by their long names."""
    return {
        option: action
        for action in command._actions
        for option in action.option_strings
        if option.startswith("--")
    }


def _positionals(command: argparse.ArgumentParser) -> dict[str, str]:
    """How the help calls what has no option, by all its names."""
    return {
        name.lower(): str(action.metavar)
        for action in command._actions
        if not action.option_strings
        for name in (action.dest, str(action.metavar))
    }


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of TOML, and of UTF-8
        raise bad_input(
            CONFIG,
            got=f"{path}, which cannot be read ({error})",
            expected="TOML: a line such as `width = 200` for each option",
            probably="a text without quotes, or another kind of file",
        ) from error


def _unknown(path: Path, got: str, name: str, known: Iterable[str], expected: str) -> BadInput:
    return bad_input(
        CONFIG,
        got=f"{got} in {path}",
        expected=expected,
        probably=nearest(name, known, otherwise="an option of another command: put it in the "
        "table of that"),
    )  # fmt: skip


def _bad_value(name: str, value: object, expected: str) -> BadInput:
    return bad_input(
        f"{CONFIG}, {name}",
        got=repr(value),
        expected=expected,
        probably="quotes that are wanting, or that are too many",
    )
