"""``bnnsample validate``: hold a target and a sampler against what is known exactly."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console

import bnnsample as bnn
from bnnsample.checks import bad_input
from bnnsample.cli.help import WithDefaults
from bnnsample.provenance import version_of
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling.rebuild import NotRebuildable, rebuild
from bnnsample.sampling.samplers.base import AbstractSampler


def add_to(commands: Any) -> None:
    """The command and its options."""
    command = commands.add_parser(
        "validate",
        help="check a target and a sampler against exact posteriors; exit status 1 where one fails",
        description="Run bnn.validate on small problems: preflight, calibration by simulation, "
        "Geweke's joint distribution, exact rejection, linear regression, Student's t, the NNGP "
        "limit. A correct sampler fails with probability --level.",
        formatter_class=WithDefaults,
    )
    add = command.add_argument
    add("--target", choices=list(TARGETS), help="by default what bnn.sample would take")
    add("--sampler", metavar="SETTINGS", help="such as 'HMC(num_steps=4)' or 'NUTS()'")
    add("--size", type=int, default=1, help="multiplies replications, chains and draws")
    add("--seed", type=int, default=0, help="fixes all draws")
    add("--level", type=float, default=0.01, help="probability that a correct sampler fails")
    add("--json", action="store_true", help="print the findings as JSON")
    command.set_defaults(run=_run, left="nothing was written")


def _run(options: argparse.Namespace, console: Console) -> int:
    sampler = _sampler(options.sampler)
    import jax

    jax.config.update("jax_enable_x64", True)

    def on_progress(name: str, done: int, total: int) -> None:
        console.print(f"  {done + 1}/{total} {name}", markup=False)

    if not options.json:
        console.print(f"bnnsample {version_of()}: validating", markup=False)
    verdict = bnn.validate(
        target=None if options.target is None else TARGETS[options.target],
        sampler=sampler,
        seed=options.seed,
        size=options.size,
        level=options.level,
        on_progress=None if options.json else on_progress,
    )
    text = json.dumps(verdict.as_dict(), indent=2) if options.json else str(verdict)
    console.print(text, markup=False)
    return 0 if verdict.ok else 1


def _sampler(text: str | None) -> AbstractSampler | None:
    if text is None:
        return None
    try:
        sampler = rebuild(text)
    except NotRebuildable:
        sampler = None
    if not isinstance(sampler, AbstractSampler):
        raise bad_input(
            "--sampler",
            got=repr(text),
            expected="a sampler with its settings, such as 'HMC(num_steps=4)' or 'NUTS()'",
            probably="parentheses left out, or a typing error",
        )
    return sampler
