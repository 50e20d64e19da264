"""Runs made of known random numbers, laid out as ``sample`` lays them out, and their summaries."""

from __future__ import annotations

import arviz_base
import numpy as np
from xarray import DataTree

from bnnsample.diagnostics.convergence import Convergence
from bnnsample.diagnostics.findings import Finding, Verdict
from bnnsample.diagnostics.function_space import Distance
from bnnsample.reports.summary import Summary

CHAINS, DRAWS, PROJECTIONS, POINTS, OUTPUTS = 4, 400, 3, 5, 2
GRADIENTS_PER_DRAW = 7
SAMPLING_SECONDS = 2.5

DIMENSIONS = {
    "hidden_projection": ["projection"],
    "readout_projection": ["projection"],
    "nngp_mean": ["test_point", "output"],
    "nngp_std": ["test_point", "output"],
}
PREDICTION_DIMENSIONS = {
    "f": ["test_point", "output"],
    "f_mean": ["test_point", "output"],
    "f_std": ["test_point", "output"],
}


def iid_draws(
    seed: int, *, chains: int = CHAINS, draws: int = DRAWS, points: int = POINTS
) -> dict[str, np.ndarray]:
    """Independent standard normal draws of every quantity of a run."""
    rng = np.random.default_rng(seed)
    return {
        "hidden_projection": rng.standard_normal((chains, draws, PROJECTIONS)),
        "readout_projection": rng.standard_normal((chains, draws, PROJECTIONS)),
        "f": rng.standard_normal((chains, draws, points, OUTPUTS)),
    }


def make_run(
    arrays: dict[str, np.ndarray],
    *,
    nngp_mean: np.ndarray | None = None,
    nngp_std: np.ndarray | None = None,
    divergences: int = 0,
    target: str = "marginal",
    likelihood: str = "Gaussian(noise_std=0.1)",
    gradients_per_draw: int | np.ndarray = GRADIENTS_PER_DRAW,
    lp: np.ndarray | None = None,
) -> DataTree:
    """A run with ``arrays`` in it: predictions by their names, all others in the posterior."""
    chains, draws = next(iter(arrays.values())).shape[:2]
    diverging = np.zeros(chains * draws, bool)
    diverging[:divergences] = True
    steps = np.broadcast_to(gradients_per_draw, (chains, draws)).copy()
    groups: dict[str, dict[str, np.ndarray]] = {
        "posterior": {k: v for k, v in arrays.items() if k not in PREDICTION_DIMENSIONS},
        "predictions": {k: v for k, v in arrays.items() if k in PREDICTION_DIMENSIONS},
        "sample_stats": {
            "n_gradients": steps,
            "n_steps": steps,
            "diverging": diverging.reshape(chains, draws),
            "acceptance_rate": np.full((chains, draws), 0.75),
            "step_size": np.full((chains, draws), 0.125),
            "lp": np.random.default_rng(6).standard_normal((chains, draws)) if lp is None else lp,
        },
        "observed_data": {"y": np.zeros(3)},
        "constant_data": {"x": np.zeros((3, 2))},
    }
    if nngp_mean is not None and nngp_std is not None:
        groups["constant_data"] |= {"nngp_mean": nngp_mean, "nngp_std": nngp_std}
    tree = arviz_base.from_dict(
        {name: group for name, group in groups.items() if group},
        dims=DIMENSIONS,
        pred_dims=PREDICTION_DIMENSIONS,
    )
    tree.attrs = {
        "target": target,
        "likelihood": likelihood,
        "sampler": "HMC",
        "chains": chains,
        "dim": PROJECTIONS,
        "draws": draws,
        "compile_seconds": 1.5,
        "warmup_seconds": 0.5,
        "sampling_seconds": SAMPLING_SECONDS,
    }
    return tree


def make_summary(
    width: int,
    target: str,
    *,
    per_gradient: float = 0.02,
    per_second: float = 30.0,
    failed: tuple[str, ...] = (),
    squared_distance: float | None = 0.25,
    disagreement: float | None = None,
    rhat: float = 1.003,
) -> Summary:
    """A summary whose predictions have the given rates and whose ``failed`` findings are bad."""
    convergence = {
        quantity: Convergence(
            rhat_max=rhat,
            rhat_99=rhat,
            ess_bulk=800.0,
            ess_bulk_min=700.0,
            ess_tail=600.0,
            ess_tail_min=500.0,
            mcse=0.03,
            mcse_max=0.06,
            ess_per_draw=0.5,
            ess_per_gradient=per_gradient * factor,
            ess_per_second=per_second * factor,
        )
        for quantity, factor in {"hidden": 0.1, "readout": 0.3, "predictions": 1.0}.items()
    }
    findings = tuple(
        Finding(name, name not in failed, "a figure", "an advice")
        for name in (*convergence, "divergences")
    )
    return Summary(
        width=width,
        target=target,
        sampler="HMC",
        verdict=Verdict(not failed, findings),
        convergence=convergence,
        distance=None if squared_distance is None else Distance(squared_distance, 0.01),
        disagreement=disagreement,
        acceptance=0.81,
        step_size=0.125,
        gradients_per_draw=7.5,
        divergences=0,
        compile_seconds=1.5,
        warmup_seconds=0.5,
        sampling_seconds=12.34,
    )
