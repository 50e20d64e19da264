"""One run as one row: what the table, the figures and the verdict of a comparison are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xarray import DataTree

from bnnsample.diagnostics.convergence import Convergence, convergence
from bnnsample.diagnostics.findings import Verdict
from bnnsample.diagnostics.function_space import (
    Distance,
    disagreement,
    distance_to_nngp,
    has_limit,
)
from bnnsample.diagnostics.verdict import diagnose


@dataclass(frozen=True)
class Summary:
    """A run's figures.

    ``disagreement`` is with the reference run of the same width, if any; ``step_size`` is None for
    samplers that tune none.
    """

    width: int
    target: str
    sampler: str
    verdict: Verdict
    convergence: dict[str, Convergence]
    distance: Distance | None
    disagreement: float | None
    acceptance: float
    step_size: float | None
    gradients_per_draw: float
    divergences: int
    compile_seconds: float
    warmup_seconds: float
    sampling_seconds: float

    def as_row(self) -> dict[str, Any]:
        """The summary as flat names and values, for CSV and JSON."""
        row: dict[str, Any] = {
            "width": self.width,
            "target": self.target,
            "sampler": self.sampler,
            "converged": self.verdict.ok,
        }
        for quantity, figures in self.convergence.items():
            row |= {f"{quantity}_{name}": value for name, value in vars(figures).items()}
        if self.distance is not None:
            row |= {
                "distance_to_nngp": self.distance.value,
                "distance_to_nngp_low": self.distance.interval[0],
                "distance_to_nngp_high": self.distance.interval[1],
            }
        return row | {
            "disagreement_with_marginal": self.disagreement,
            "acceptance": self.acceptance,
            "step_size": self.step_size,
            "gradients_per_draw": self.gradients_per_draw,
            "divergences": self.divergences,
            "compile_seconds": self.compile_seconds,
            "warmup_seconds": self.warmup_seconds,
            "sampling_seconds": self.sampling_seconds,
        }


def summarise(run: DataTree, *, width: int, reference: DataTree | None = None) -> Summary:
    """The summary of one run, compared with ``reference``, another run of the same posterior."""
    stats = run.children["sample_stats"].dataset
    return Summary(
        width=width,
        target=run.attrs["target"],
        sampler=run.attrs["sampler"],
        verdict=diagnose(run),
        convergence=convergence(run),
        distance=distance_to_nngp(run) if has_limit(run) else None,
        disagreement=None if reference is None else disagreement(run, reference),
        acceptance=float(stats["acceptance_rate"].mean()),
        step_size=float(stats["step_size"].mean()) if "step_size" in stats else None,
        gradients_per_draw=float(stats["n_gradients"].mean()),
        divergences=int(stats["diverging"].sum()),
        compile_seconds=run.attrs["compile_seconds"],
        warmup_seconds=run.attrs["warmup_seconds"],
        sampling_seconds=run.attrs["sampling_seconds"],
    )
