"""Convergence and efficiency of a run, for each kind of quantity separately."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from xarray import DataArray, DataTree

from bnnsample.checks import bad_input
from bnnsample.diagnostics.vectorised import mcse_mean, moves, summarise

QUANTITIES = {
    "hidden": ("posterior", "hidden_projection"),
    "readout": ("posterior", "readout_projection"),
    "predictions": ("predictions", "f"),
}
"""Random projections of the hidden weights and of the readout, and the network's outputs."""


@dataclass(frozen=True)
class Convergence:
    """Diagnostics of one kind of quantity, over all of its components.

    ``rhat_max``: the worst rank-normalised split R-hat (Vehtari et al. 2021, 1903.08008), and
    ``rhat_99`` the one that 1 % of the components exceed, the worst of fewer than 100.
    ``ess_bulk`` and ``ess_tail``: medians; ``ess_bulk_min``, ``ess_tail_min``: the worst.
    ``mcse`` and ``mcse_max``: median and worst Monte-Carlo standard error of the mean, in posterior
    standard deviations.
    The rates divide the median bulk ESS of all chains together by all of their draws, by all of
    their gradients (NaN for samplers that take none), and by the seconds from the first draw to
    the last. ``constant`` of the ``components`` have one value in all draws of all chains, as an
    output without biases has where the input is 0; they are left out of everything else.
    """

    rhat_max: float
    rhat_99: float
    ess_bulk: float
    ess_bulk_min: float
    ess_tail: float
    ess_tail_min: float
    mcse: float
    mcse_max: float
    ess_per_draw: float
    ess_per_gradient: float
    ess_per_second: float
    constant: int = 0
    components: int = 1


def convergence(run: DataTree) -> dict[str, Convergence]:
    """``Convergence`` by name for each of ``QUANTITIES`` that the run kept, and hyperparameters.

    A component that is not finite, or constant in each chain and not the same in all, has no ESS
    and no R-hat: NaN, and the worst value of its kind becomes NaN too, so that it cannot pass a
    threshold. Raises ``ValueError`` for what is not a run, or one that is not finished.
    """
    check_finished(run)
    found = {
        name: _convergence(run, [run.children[group].dataset[variable]])
        for name, (group, variable) in QUANTITIES.items()
        if group in run.children and variable in run.children[group].data_vars
    }
    hyperparameters = json.loads(run.attrs.get("hyperparameters", "[]"))
    if hyperparameters:
        draws = [run.children["posterior"].dataset[name] for name in hyperparameters]
        found["hyperparameters"] = _convergence(run, draws)
    return found


def of_log_density(run: DataTree) -> Convergence:
    """``Convergence`` of the log density of the draws, which no numbering of units changes."""
    return _convergence(run, [run.children["sample_stats"].dataset["lp"]])


def check_finished(run: object) -> None:
    """Raise unless ``run`` is a whole run with all of its draws."""
    if not isinstance(run, DataTree) or "sample_stats" not in run.children:
        raise bad_input(
            "run",
            got=f"a {type(run).__name__} without the group sample_stats",
            expected="the DataTree that sample() returned or load_run() read",
            probably="one group of a run, or an array of draws",
        )
    if "sampling_seconds" not in run.attrs:
        raise bad_input(
            "run",
            got="a run that is not finished",
            expected="one that has made all of its draws",
            probably="a run folder that `bnnsample resume FOLDER` would go on with",
        )


def _convergence(run: DataTree, variables: list[DataArray]) -> Convergence:
    arrays = [draws.transpose("chain", "draw", ...).values for draws in variables]
    chains, draws = arrays[0].shape[:2]
    values = np.concatenate([array.reshape(chains, draws, -1) for array in arrays], axis=2)
    components, same = values.shape[2], values.min(axis=(0, 1)) == values.max(axis=(0, 1))
    values = values if same.all() else values[:, :, ~same]
    found = summarise(values)
    moving = moves(values)
    bulk, tail, rhats = (
        np.where(moving, each, np.nan) for each in (found.ess_bulk, found.ess_tail, found.rhat)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        relative_error = mcse_mean(values) / values.std(axis=(0, 1))
    median = float(np.median(bulk))
    gradients = float(run.children["sample_stats"].dataset["n_gradients"].sum())
    return Convergence(
        rhat_max=float(np.max(rhats)),
        rhat_99=float(np.sort(rhats)[int(np.ceil(0.99 * (len(rhats) - 1)))]),
        ess_bulk=median,
        ess_bulk_min=float(np.min(bulk)),
        ess_tail=float(np.median(tail)),
        ess_tail_min=float(np.min(tail)),
        mcse=float(np.median(relative_error)),
        mcse_max=float(np.max(relative_error)),
        ess_per_draw=median / (chains * draws),
        ess_per_gradient=median / gradients if gradients else float("nan"),
        ess_per_second=median / float(run.attrs["sampling_seconds"]),
        constant=int(same.sum()),
        components=components,
    )
