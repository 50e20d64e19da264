"""Which check of ``bnn.validate`` catches which mistake, and how often?

The mistakes are those of the tests: an accept step that always accepts, log-determinants that are
dropped, a variance taken for a standard deviation, a readout scale off by 5 %, hyperparameters
without their Jacobian. Each check runs at the size and false-alarm level of ``bnn.validate``; rows
without a mistake count false alarms. Rows are stored as they come: a run that was stopped goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import harness
import jax
from harness import Record, Row, Settings

import bnnsample as bnn
from bnnsample.checks import BadInput
from bnnsample.diagnostics.validation.suite import checks_of

sys.path.append(str(Path(__file__).parents[1]))
from tests.diagnostics.validation.faults import FAULTS, posteriors

LEVEL = 0.01
"""The false-alarm probability of a whole ``bnn.validate``."""

SCALES: dict[str, Settings] = {
    "smoke": {"faults": ("none",), "seeds": 1, "size": 1},
    "two cores": {"faults": tuple(FAULTS), "seeds": 20, "size": 1},
    "paper": {"faults": tuple(FAULTS), "seeds": 100, "size": 4},
}
"""``size``: as of ``bnn.validate``."""


def measure(check: Callable[[], bnn.Verdict]) -> Row:
    """Whether a check failed, of what, and its time; None where it does not apply."""
    began = time.perf_counter()
    try:
        failed = [finding.name for finding in check().failed]
    except BadInput:
        return {"failed": None}
    return {"failed": failed, "seconds": time.perf_counter() - began}


def table(rows: list[Row]) -> str:
    """The share of seeds in which each check failed, a line for each mistake."""
    names = list(dict.fromkeys(row["fault"] for row in rows))

    def share(name: str, check: str) -> str:
        own = [row["checks"][check]["failed"] for row in rows if row["fault"] == name]
        judged = [bool(failed) for failed in own if failed is not None]
        return f"{sum(judged)} of {len(judged)}" if judged else "-"

    columns: dict[str, Callable[[str], str]] = {"mistake": lambda name: name}
    columns |= {check: partial(share, check=check) for check in rows[0]["checks"]}
    return harness.table(names, columns)


def measure_all(about: Row, folder: Path, *, smoke: bool) -> Row:
    """Every check of one mistake with one seed; two cheap ones for ``smoke``."""
    del folder  # nothing is kept but the row
    fault = FAULTS[about["fault"]]
    checks = checks_of(
        posteriors()[fault.kind], fault.target, fault.sampler,
        seed=about["seed"], size=about["size"], level=about["level"],
    )  # fmt: skip
    names = ("preflight", "joint distribution") if smoke else checks
    return {"checks": {name: measure(checks[name]) for name in names}}


def main() -> None:
    options, scale = harness.begin(__doc__ or "", "power", SCALES)
    jax.config.update("jax_enable_x64", True)
    points = [
        {"fault": name, "seed": seed, "size": scale["size"], "level": LEVEL}
        for seed in range(scale["seeds"])
        for name in scale["faults"]
    ]
    record = Record(options.out)
    print(table(record.swept(partial(measure_all, smoke=options.smoke), points, options)))


if __name__ == "__main__":
    main()
