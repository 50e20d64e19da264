"""Classification by draws from the posterior of a Bayesian network."""

from __future__ import annotations

from typing import Any, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator

from bnnsample.models.likelihoods.discrete import Categorical
from bnnsample.models.posterior import Posterior
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sklearn.preparation import as_inputs, seed_of, warn_not_converged
from bnnsample.sklearn.sampling import Sampled, sampled
from bnnsample.sklearn.tables import OfLabels
from bnnsample.tabular.blocks import probabilities
from bnnsample.tabular.scales import at_fitted_scales, network_with_priors


class BNNClassifier(Sampled, OfLabels, BaseEstimator):
    """A fully connected Bayesian network with one logit for each class, sampled by MCMC.

    As ``BNNRegressor``, with a categorical likelihood in place of noise. Parameters are the same
    but for ``noise_std``, attributes but for ``y_scaler_``, in whose place are the labels,
    ``classes_``.
    """

    def __init__(
        self,
        depth: int = 1,
        width: int = 100,
        activation: str = "gelu",
        *,
        sampler: AbstractSampler | None = None,
        chains: int = 4,
        warmup: int = 100,
        draws: int = 100,
        random_state: Any = None,
    ) -> None:
        self.depth = depth
        self.width = width
        self.activation = activation
        self.sampler = sampler
        self.chains = chains
        self.warmup = warmup
        self.draws = draws
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Sample the posterior given inputs ``X`` (n, d) and labels ``y`` (n,) of any kind.

        ``sample_weight``: how often each row was seen, whole numbers. Raises ``ValueError`` for bad
        data and settings; warns ``ConvergenceWarning`` where the chains, or the search for scales,
        did not converge.
        """
        x, numbers = self._standardised(X, y, sample_weight)
        seed = seed_of(self.random_state)
        with jax.enable_x64(True):
            network = network_with_priors(
                self.depth, self.width, len(self.classes_), self.activation
            )
            self.network_, self.likelihood_ = at_fitted_scales(
                network, x, numbers, Categorical(), seed, warn_not_converged
            )
            self.run_, self.verdict_ = sampled(
                Posterior(self.network_, x, numbers, self.likelihood_), self.sampler,
                chains=self.chains, warmup=self.warmup, draws=self.draws, seed=seed,
            )  # fmt: skip
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Posterior probabilities (m, classes) at ``X`` (m, d), in the order of ``classes_``."""
        return np.concatenate(self._by_rows(as_inputs(self, X), probabilities))
