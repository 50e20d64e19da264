"""Leave-one-out cross-validation from one run."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.loo import loo as psis_loo
from arviz_stats.sampling_diagnostics import ess
from xarray import DataTree

from bnnsample.checks import bad_input
from bnnsample.diagnostics.convergence import check_finished
from bnnsample.models.posterior import Posterior
from bnnsample.sampling.predict import log_likelihood

LEAST_DRAWS = 25
"""Of all chains: ArviZ smooths no tail of fewer."""


def loo(run: DataTree, *, posterior: Posterior | None = None) -> Any:
    """ArviZ's ``ELPDData`` of the training points, each predicted from all the others.

    By Pareto-smoothed importance sampling (Vehtari, Gelman and Gabry 2017, 1507.04544), pointwise,
    with the log likelihoods of the run, computed where it does not have them yet. Importance
    weights are as autocorrelated as the likelihoods are, whose effective draws are counted here;
    ArviZ's own default counts those of every weight of the network.

    Points with a Pareto k above ``good_k``, of which ArviZ warns, are not estimated reliably: with
    little noise a network fits each point by its own targets, and leaving one out changes all. It
    is minus infinity for points of which all draws say the same, as where the output is always 0.

    Arguments and errors as ``log_likelihood``; raises ``ValueError`` also for fewer draws, or fewer
    that differ, than tails can be smoothed of.
    """
    check_finished(run)
    if "log_likelihood" not in run.children:
        run = log_likelihood(run, posterior=posterior)
    logs = run.children["log_likelihood"].dataset["y"].transpose("chain", "draw", ...)
    draws = logs.sizes["chain"] * logs.sizes["draw"]
    if draws < LEAST_DRAWS:
        raise bad_input(
            "run",
            got=f"{draws} draws",
            expected=f"at least {LEAST_DRAWS}, of which tails can be smoothed",
            probably="a short run; bnn.resume makes one in a folder longer",
        )
    spread = np.ptp(logs.values, axis=(0, 1))
    varies = spread > np.finfo(logs.dtype).eps ** 0.5  # else all weights are the same to rounding
    log_weights = xr.full_like(logs, -np.log(draws))
    pareto_k = xr.full_like(logs.isel(chain=0, draw=0, drop=True), -np.inf)
    efficiency = 1.0
    if varies.any():
        varying = logs.isel(point=varies)
        likelihoods = np.exp(varying - varying.max(("chain", "draw")))
        efficiency = float(np.mean(np.asarray(ess(likelihoods, method="mean")))) / draws
        log_weights[..., varies], pareto_k[varies] = _smoothed(varying, efficiency)
    return psis_loo(
        run,
        pointwise=True,
        var_name="y",
        reff=efficiency,
        log_weights=log_weights,
        pareto_k=pareto_k,
    )


def _smoothed(logs: xr.DataArray, efficiency: float) -> tuple[xr.DataArray, xr.DataArray]:
    """Logarithms of the smoothed weights, and Pareto k, of log likelihoods that vary."""
    try:
        return logs.azstats.psislw(r_eff=efficiency, dim=["chain", "draw"])
    except ValueError as error:  # ArviZ's, of tails that it cannot smooth
        raise bad_input(
            "run",
            got=f"log likelihoods of {logs.sizes['chain'] * logs.sizes['draw']} draws, of which "
            f"ArviZ says: {error}",
            expected="draws most of which are different",
            probably="chains that do not move",
        ) from error
