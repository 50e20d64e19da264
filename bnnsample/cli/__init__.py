"""The command line: parses, calls the library, prints. One file for each group of commands."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata

from rich.console import Console

from bnnsample.checks import BadInput
from bnnsample.cli import runs, validation, widths
from bnnsample.sampling.steadiness import NoUsableStepSize


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    The exit status is 0; 1 where a verdict was asked for and is not ok; 2 for bad input; 3 for an
    error of the library's own; 130 when interrupted.
    """
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        return options.run(options, console)
    except (BadInput, NoUsableStepSize, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print(f"interrupted; {options.left}", markup=False)
        return 130
    except Exception:  # 1, which Python would exit with, says that a verdict is not ok
        traceback.print_exc()
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bnnsample",
        description="Exact posterior samples of wide Bayesian neural networks.",
    )
    parser.add_argument("--version", action="version", version=metadata.version("bnnsample"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (widths, runs, validation):
        group.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
