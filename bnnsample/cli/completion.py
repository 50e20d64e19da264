"""``bnnsample completion``: a script that lets the shell complete commands, options and paths."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import shtab
from rich.console import Console

SHELLS = ("bash", "zsh", "tcsh")
"""Those of which the scripts are tested."""


def add_to(commands: Any, parser: argparse.ArgumentParser) -> None:
    """The command, for all others of ``parser``."""
    command = commands.add_parser(
        "completion",
        help="print a script that completes commands, options and paths in a shell",
        description='Print a completion script; in ~/.bashrc: eval "$(bnnsample completion bash)".',
    )
    command.add_argument("shell", choices=SHELLS)
    command.set_defaults(run=partial(_run, parser), left="nothing was written")


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace, _: Console) -> int:
    for command in _commands(parser):
        for action in command._actions:
            if action.type is Path:
                complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
                action.complete = complete  # pyright: ignore[reportAttributeAccessIssue]
    sys.stdout.write(shtab.complete(parser, shell=options.shell) + "\n")
    return 0


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of the commands."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return list(commands.choices.values())
