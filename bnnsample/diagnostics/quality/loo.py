"""Leave-one-out cross-validation from one run."""

from __future__ import annotations

from typing import Any

import numpy as np
from arviz_stats.loo import loo as psis_loo
from arviz_stats.sampling_diagnostics import ess
from xarray import DataTree

from bnnsample.diagnostics.convergence import check_finished
from bnnsample.models.posterior import Posterior
from bnnsample.sampling.predict import log_likelihood


def loo(run: DataTree, *, posterior: Posterior | None = None) -> Any:
    """ArviZ's ``ELPDData`` of the training points, each predicted from all the others.

    By Pareto-smoothed importance sampling (Vehtari, Gelman and Gabry 2017, 1507.04544), pointwise,
    with the log likelihoods of the run, computed where it does not have them yet. Importance
    weights are as autocorrelated as the likelihoods are, whose effective draws are counted here;
    ArviZ's own default counts those of every weight of the network.

    Points with a Pareto k above ``good_k``, of which ArviZ warns, are not estimated reliably: with
    little noise a network fits each point by its own targets, and leaving one out changes all.
    Arguments and errors as ``log_likelihood``.
    """
    check_finished(run)
    if "log_likelihood" not in run.children:
        run = log_likelihood(run, posterior=posterior)
    logs = run.children["log_likelihood"].dataset["y"]
    likelihoods = np.exp(logs - logs.max(("chain", "draw")))
    effective = np.asarray(ess(likelihoods, method="mean"))
    efficiency = float(np.mean(effective)) / (logs.sizes["chain"] * logs.sizes["draw"])
    return psis_loo(run, pointwise=True, var_name="y", reff=efficiency)
