"""Regression by draws from the posterior of a Bayesian network."""

from __future__ import annotations

from typing import Any, Self

import jax
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from bnnsample.checks import check_count
from bnnsample.models.posterior import Posterior
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sklearn.preparation import (
    as_inputs,
    noise_of,
    seed_of,
    warn_not_converged,
    warn_of_copies,
)
from bnnsample.sklearn.sampling import Sampled, sampled
from bnnsample.sklearn.tables import OfNumbers
from bnnsample.tabular.blocks import mean_and_std
from bnnsample.tabular.scales import at_fitted_scales, network_with_priors


class BNNRegressor(Sampled, OfNumbers, BaseEstimator):
    """A fully connected Bayesian network with Gaussian noise, sampled by MCMC.

    Inputs and targets are standardised, weights are N(0, 1) times scales that maximise the evidence
    of the infinitely wide network, and predictions average over draws of the posterior.
    ``NNGPRegressor`` takes a fraction of the time.

    Parameters
    ----------
    depth, width, activation
        Hidden layers, their units, and the name of an activation of ``bnn.Activation``.
    noise_std
        Standard deviation of the noise in the units of the targets: a number, or one for each
        output; None samples it with the weights, under a vague prior.
    sampler
        Settings such as ``bnn.NUTS()``, by default what ``bnn.sample`` takes.
    chains, warmup, draws
        As of ``bnn.sample``. Where they were too few, ``fit`` warns and says what to do.
    random_state
        An int for draws that come again.

    Attributes
    ----------
    run_
        The draws, an ArviZ ``DataTree``, of the network for standardised inputs and targets.
    posterior_, network_, likelihood_
        What was sampled, of which the network is at the scales of highest evidence.
    verdict_
        The findings of ``bnn.diagnose`` at an R-hat of 1.05 and 25 effective draws for each chain,
        which do for predictions; ``bnn.diagnose(model.run_)`` asks more of the same draws.
    x_scaler_, y_scaler_
        The standardisation.
    """

    def __init__(
        self,
        depth: int = 1,
        width: int = 100,
        activation: str = "gelu",
        *,
        noise_std: ArrayLike | None = None,
        sampler: AbstractSampler | None = None,
        chains: int = 4,
        warmup: int = 100,
        draws: int = 100,
        random_state: Any = None,
    ) -> None:
        self.depth = depth
        self.width = width
        self.activation = activation
        self.noise_std = noise_std
        self.sampler = sampler
        self.chains = chains
        self.warmup = warmup
        self.draws = draws
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Sample the posterior given inputs ``X`` (n, d) and targets ``y`` (n,) or (n, o).

        ``sample_weight``: how often each row was seen, whole numbers. Draws are exact for all, so
        that an unknown noise goes to 0 where most rows are copies: ``fit`` warns of that. Raises
        ``ValueError`` for bad data and settings; warns ``ConvergenceWarning`` where the chains, or
        the search for scales, did not converge.
        """
        x, targets = self._standardised(X, y, sample_weight)
        if self.noise_std is None:
            warn_of_copies(x, targets)
        seed = seed_of(self.random_state)
        with jax.enable_x64(True):
            self.likelihood_ = noise_of(self.noise_std, self.y_scaler_)
            network = network_with_priors(self.depth, self.width, targets.shape[1], self.activation)
            self.network_, _ = at_fitted_scales(
                network, x, targets, self.likelihood_, seed, warn_not_converged
            )
            self.run_, self.verdict_ = sampled(
                Posterior(self.network_, x, targets, self.likelihood_), self.sampler,
                chains=self.chains, warmup=self.warmup, draws=self.draws, seed=seed,
            )  # fmt: skip
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The posterior mean at ``X`` (m, d), and with ``return_std`` the standard deviation.

        Of new targets, noise included, both of the shape of ``y``, in its units.
        """
        x, noise = as_inputs(self, X), self._noise_std()
        blocks = self._by_rows(x, lambda f: mean_and_std(f, noise))
        mean, std = map(np.concatenate, zip(*blocks, strict=True))
        if not return_std:
            return self._in_units(mean)
        return self._in_units(mean), self._std_in_units(std)

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """New targets at ``X``, (m, n_samples) or (m, o, n_samples), each through one network."""
        check_count("n_samples", n_samples)
        x, generator = as_inputs(self, X), np.random.default_rng(seed_of(random_state))
        sizes = self.run_.children["posterior"].sizes
        count = sizes["chain"] * sizes["draw"]
        chosen = generator.choice(count, n_samples, replace=n_samples > count)
        f = np.concatenate(self._by_rows(x, lambda f: f[chosen]), axis=1)
        noise_std = self._noise_std()
        noise_std = np.broadcast_to(noise_std, (count, noise_std.shape[1]))[chosen, None]
        y = f + noise_std * generator.standard_normal(f.shape)
        return np.stack([self._in_units(one) for one in y], axis=-1)

    def _noise_std(self) -> np.ndarray:
        """(draws, 1) or (1, 1 or o), of standardised targets."""
        sampled_values = self.run_.children["posterior"].dataset
        if "noise_std" in sampled_values:
            return sampled_values["noise_std"].values.reshape(-1, 1)
        known: Any = self.likelihood_
        return np.asarray(known.noise_std).reshape(1, -1)
