"""Which check of ``bnn.validate`` catches which mistake, and how often?

The mistakes are those of the tests: an accept step that always accepts, log-determinants that are
dropped, a variance taken for a standard deviation, a readout scale off by 5 %, hyperparameters
without their Jacobian. Each check runs at the size and false-alarm level of ``bnn.validate``; rows
without a mistake count false alarms. Rows are stored as they come: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import bnnsample as bnn
from bnnsample.checks import BadInput
from bnnsample.diagnostics.validation.suite import checks_of
from bnnsample.files import write_whole
from bnnsample.provenance import environment

sys.path.append(str(Path(__file__).parents[1]))
from tests.diagnostics.validation.faults import FAULTS, posteriors

LEVEL = 0.01
"""The false-alarm probability of a whole ``bnn.validate``."""


def measure(check: Callable[[], bnn.Verdict]) -> dict[str, Any]:
    """Whether a check failed, of what, and its time; None where it does not apply."""
    began = time.perf_counter()
    try:
        failed = [finding.name for finding in check().failed]
    except BadInput:
        return {"failed": None}
    return {"failed": failed, "seconds": time.perf_counter() - began}


def table(rows: list[dict[str, Any]]) -> str:
    """The share of seeds in which each check failed, a line for each mistake."""
    names = list(dict.fromkeys(row["check"] for row in rows))
    lines = [f"| mistake | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for fault in FAULTS:
        cells = []
        for name in names:
            own = [row["failed"] for row in rows if (row["fault"], row["check"]) == (fault, name)]
            judged = [bool(failed) for failed in own if failed is not None]
            cells.append(f"{sum(judged)} of {len(judged)}" if judged else "-")
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--size", type=int, default=1, help="as of bnn.validate")
    parser.add_argument("--smoke", action="store_true", help="a tiny size, for the tests")
    parser.add_argument("--out", type=Path, default=Path("results/power"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if options.smoke:
        options.seeds, options.faults = 1, ["none"]
    options.out.mkdir(parents=True, exist_ok=True)
    record = options.out / "record.json"
    rows: list[dict[str, Any]] = json.loads(record.read_text())["rows"] if record.exists() else []
    own = {"size": options.size, "level": LEVEL}
    known = {
        (row["fault"], row["check"], row["seed"]) for row in rows if own.items() <= row.items()
    }
    given = posteriors()
    for seed in range(options.seeds):
        for name in options.faults:
            fault = FAULTS[name]
            checks = checks_of(
                given[fault.kind], fault.target, fault.sampler,
                seed=seed, size=options.size, level=LEVEL,
            )  # fmt: skip
            if options.smoke:
                checks = {check: checks[check] for check in ("preflight", "joint distribution")}
            for check, run in checks.items():
                if (name, check, seed) in known:
                    continue
                rows.append({"fault": name, "check": check, "seed": seed} | measure(run) | own)
            text = json.dumps({"rows": rows, **environment()}, indent=1)
            write_whole(record, text + "\n")
            seconds = sum(row.get("seconds", 0.0) for row in rows[-len(checks) :])
            print(f"{name}, seed {seed}: {seconds:.0f} s", flush=True)
    rows = [row for row in rows if own.items() <= row.items()]
    print(table(rows))
    times = {check: [] for check in dict.fromkeys(row["check"] for row in rows)}
    for row in rows:
        times[row["check"]].append(row.get("seconds", np.nan))
    print(", ".join(f"{check} {np.nanmedian(lap):.1f} s" for check, lap in times.items()))


if __name__ == "__main__":
    main()
