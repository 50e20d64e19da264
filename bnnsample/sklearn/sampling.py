"""Draws of a posterior for an estimator, and a warning where they are not to be relied on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from xarray import DataTree

from bnnsample.diagnostics.findings import Verdict
from bnnsample.diagnostics.verdict import diagnose
from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.models.network import Network
from bnnsample.models.posterior import Posterior
from bnnsample.sampling.run import sample
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sklearn.preparation import warn_not_converged
from bnnsample.tabular.blocks import ROWS, outputs
from bnnsample.tabular.scales import judged_rows

RHAT, ESS_PER_CHAIN = 1.05, 25
"""What is asked of an estimator's draws: a mean and an interval to a tenth of a posterior standard
deviation, not a gold standard, for which see ``bnn.diagnose(estimator.run_)``."""


class Sampled:
    """What estimators have that hold a run: ``run_``, ``network_`` and ``likelihood_``."""

    run_: DataTree
    network_: Network
    likelihood_: AbstractLikelihood

    @property
    def posterior_(self) -> Posterior:
        """What was sampled, of standardised data; made anew, so that pickles hold NumPy arrays."""
        groups = self.run_.children
        x, y = groups["constant_data"].dataset["x"], groups["observed_data"].dataset["y"]
        with jax.enable_x64(True):
            return Posterior(self.network_, x.values, y.values, self.likelihood_)

    def _by_rows(self, x: np.ndarray, of: Callable[[np.ndarray], Any]) -> list[Any]:
        """``of`` the outputs (k, m, o) of all draws at standardised ``x``, some rows at a time."""
        with jax.enable_x64(True):
            return [of(f) for f in outputs(self.run_, x, self.posterior_, ROWS)]


def sampled(
    posterior: Posterior,
    sampler: AbstractSampler | None,
    *,
    chains: int,
    warmup: int,
    draws: int,
    seed: int,
) -> tuple[DataTree, Verdict]:
    """A run that keeps its parameters, and the verdict on it; warns where that is not ok."""
    run = sample(
        posterior, sampler, chains=chains, warmup=warmup, draws=draws, seed=seed,
        x_test=judged_rows(np.asarray(posterior.x)), keep=("predictions", "parameters"),
    )  # fmt: skip
    verdict = diagnose(run, rhat=RHAT, ess_per_chain=ESS_PER_CHAIN)
    if not verdict.ok:
        first = verdict.failed[0]
        warn_not_converged(
            f"the chains did not converge: {first.name}, {first.figure}. {first.advice}, by "
            "draws= or warmup=; .verdict_ has all findings"
        )
    return run, verdict
