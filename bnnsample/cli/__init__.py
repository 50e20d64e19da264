"""The command line: parses, calls the library, prints. One file for each group of commands."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from bnnsample.checks import BadInput
from bnnsample.cli import completion, config, kernels, runs, tables, validation, widths
from bnnsample.cli.words import Parser, check_words
from bnnsample.provenance import version_of
from bnnsample.sampling.steadiness import NoUsableStepSize
from bnnsample.sweeps.sweep import PointsFailed
from bnnsample.terminal import compile_quickly_on_gpus, plain_console


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    The exit status is 0; 1 where a verdict was asked for and is not ok; 2 for bad input; 3 for an
    error of the library's own; 130 when interrupted.
    """
    compile_quickly_on_gpus()
    console = plain_console()
    options = argparse.Namespace(left="nothing was written")
    try:
        parser, commands = _parser()
        words = sys.argv[1:] if arguments is None else arguments
        check_words(words, commands)
        words = config.with_config(words, commands)
        options = parser.parse_args(words)
        return options.run(options, console)
    except (BadInput, NoUsableStepSize, PointsFailed, OSError) as error:
        plain_console(stderr=True).print(f"error: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print(f"interrupted; {options.left}", markup=False)
        return 130
    except Exception:  # 1, which Python would exit with, says that a verdict is not ok
        traceback.print_exc()
        return 3


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and those of the commands by name."""
    parser = Parser(
        prog="bnnsample",
        description="Exact posterior samples of wide Bayesian neural networks.",
        epilog="Exit status: 0; 1 where a verdict is not ok; 2 for bad input; 3 for an error of "
        "the library's own; 130 if interrupted.",
    )
    parser.add_argument("--version", action="version", version=version_of())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (tables, runs, kernels, widths, validation):
        group.add_to(commands)
    for command in commands.choices.values():
        config.add_to(command)
    completion.add_to(commands, parser)
    return parser, dict(commands.choices)


if __name__ == "__main__":
    sys.exit(main())
