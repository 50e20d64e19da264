"""The infinitely wide network as an estimator: no sampling, the cube of the rows in time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import softmax
from scipy.stats.qmc import MultivariateNormalQMC
from sklearn.base import BaseEstimator

from bnnsample.checks import check_count
from bnnsample.limits.conditioned import Conditioned, conditioned
from bnnsample.limits.kernels import nngp
from bnnsample.models.likelihoods.discrete import Categorical
from bnnsample.models.posterior import Posterior
from bnnsample.numerics import symmetric_root
from bnnsample.sklearn.preparation import (
    as_inputs,
    distinct_rows,
    noise_of,
    seed_of,
    warn_not_converged,
)
from bnnsample.sklearn.tables import OfLabels, OfNumbers
from bnnsample.tabular.blocks import ROWS
from bnnsample.tabular.scales import at_fitted_scales, network_with_priors

ANY_WIDTH = 1
"""The limit's kernel does not depend on it."""

PROBABILITY_POINTS = 1024
"""Of quasi-random logits, at least, whose class probabilities are averaged. Of 2 to 100 classes
with logits of standard deviations up to 8, the error is 0.002 root mean square, 0.02 at most."""

FEWEST = 16
"""Sobol' points, of which each stands for as many as there are classes."""


def given(posterior: Posterior) -> Conditioned:
    """The limit given the data, in NumPy's arrays: a pickle keeps their precision."""
    process = conditioned(posterior, Partial(nngp, posterior.network))
    return jax.tree.map(np.asarray, process)


def marginals(
    process: Conditioned, x: Float[np.ndarray, "m d"]
) -> Iterator[tuple[Float[np.ndarray, "rows o"], Float[np.ndarray, "rows o"]]]:
    """Mean and variance of each output at each of ``x``, some rows at a time."""
    for start in range(0, len(x), ROWS):
        with jax.enable_x64(True):
            mean, variance = process.marginals(jnp.asarray(x[start : start + ROWS]))
        yield np.asarray(mean), np.asarray(variance)


def class_probabilities(
    mean: Float[np.ndarray, "m c"], variance: Float[np.ndarray, "m c"]
) -> Float[np.ndarray, "m c"]:
    """Of each class, averaged over independent normal logits by Sobol' points.

    Each point is taken in all its turns round the classes, so that classes of one law are equally
    probable, and points are the same for every row, which predicts alone as it does with others.
    """
    classes, std = mean.shape[1], np.sqrt(variance)
    count = 2 ** math.ceil(math.log2(max(PROBABILITY_POINTS / classes, FEWEST)))
    points = MultivariateNormalQMC(np.zeros(classes), rng=0).random(count)
    turns = (np.arange(classes) + np.arange(classes)[:, None]) % classes
    found = np.zeros_like(mean)
    for point in points:
        found += softmax(mean + std * point[turns][:, None], axis=-1).mean(axis=0) / count
    return found


class NNGPRegressor(OfNumbers, BaseEstimator):
    """Gaussian-process regression with the kernel of an infinitely wide Bayesian network.

    Inputs and targets are standardised; the network's scales, and the noise where it is not given,
    are those of highest evidence. ``depth``, ``activation`` and ``noise_std`` as of
    ``BNNRegressor``; ``random_state`` chooses the rows that scales are fitted to, of more than 500.
    ``given_`` is the process of standardised data, ``network_`` and ``likelihood_`` what was
    fitted, the noise in standard deviations of the targets.
    """

    def __init__(
        self,
        depth: int = 1,
        activation: str = "gelu",
        *,
        noise_std: ArrayLike | None = None,
        random_state: Any = None,
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.noise_std = noise_std
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Condition on inputs ``X`` (n, d) and targets ``y`` (n,) or (n, o).

        ``sample_weight``: how often each row was seen, whole numbers. Scales and noise are fitted
        to the distinct rows, and the process given all is exact at these. Raises ``ValueError`` for
        bad data and settings; warns ``ConvergenceWarning`` where the search for scales did not
        converge.
        """
        x, targets = self._standardised(X, y, sample_weight)
        with jax.enable_x64(True):
            network = network_with_priors(self.depth, ANY_WIDTH, targets.shape[1], self.activation)
            noise, seed = noise_of(self.noise_std, self.y_scaler_), seed_of(self.random_state)
            # of copies the evidence grows without bound as the noise goes to 0
            rows, _ = distinct_rows(x, targets)
            self.network_, self.likelihood_ = at_fitted_scales(
                network, x[rows], targets[rows], noise, seed, warn_not_converged
            )
            self.given_ = given(Posterior(self.network_, x, targets, self.likelihood_))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Mean of new targets at ``X`` (m, d), with ``return_std`` their standard deviation too."""
        x = as_inputs(self, X)
        blocks = zip(*marginals(self.given_, x), strict=True)
        mean, variance = (np.concatenate(arrays) for arrays in blocks)
        if not return_std:
            return self._in_units(mean)
        std = np.sqrt(variance + self._noise_std() ** 2)
        return self._in_units(mean), self._std_in_units(std)

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """New targets at ``X``, (m, n_samples) or (m, o, n_samples), each of one function.

        Takes memory of the square of the rows, as these are drawn together.
        """
        check_count("n_samples", n_samples)
        x, generator = as_inputs(self, X), np.random.default_rng(seed_of(random_state))
        with jax.enable_x64(True):
            mean = np.asarray(self.given_.marginals(jnp.asarray(x))[0])
            covariances = self.given_.covariances(jnp.asarray(x))
            roots = np.asarray([symmetric_root(own)[0] for own in covariances])
        roots = np.broadcast_to(roots, (mean.shape[1], *roots.shape[1:]))
        noise, more = generator.standard_normal((2, n_samples, *mean.shape))
        f = mean + np.einsum("oij,sjo->sio", roots, noise)
        y = f + self._noise_std() * more
        return np.stack([self._in_units(one) for one in y], axis=-1)

    def _noise_std(self) -> np.ndarray:
        known: Any = self.likelihood_
        return np.asarray(known.noise_std)


class NNGPClassifier(OfLabels, BaseEstimator):
    """Gaussian-process classification with the kernel of an infinitely wide Bayesian network.

    By Laplace's approximation of the posterior of one logit for each class. Otherwise as
    ``NNGPRegressor``; ``given_`` is the approximate process of standardised inputs,
    ``likelihood_`` that of labels.
    """

    def __init__(
        self, depth: int = 1, activation: str = "gelu", *, random_state: Any = None
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Condition on inputs ``X`` (n, d) and labels ``y`` (n,) of any kind.

        ``sample_weight``: how often each row was seen, whole numbers. Raises ``ValueError`` for bad
        data and settings; warns ``ConvergenceWarning`` where the approximation, or the search for
        scales, did not converge.
        """
        x, numbers = self._standardised(X, y, sample_weight)
        seed = seed_of(self.random_state)
        with jax.enable_x64(True):
            network = network_with_priors(
                self.depth, ANY_WIDTH, len(self.classes_), self.activation
            )
            self.network_, self.likelihood_ = at_fitted_scales(
                network, x, numbers, Categorical(), seed, warn_not_converged
            )
            self.given_ = given(Posterior(self.network_, x, numbers, self.likelihood_))
        if not self.given_.converged:
            warn_not_converged(
                "Laplace's approximation found no mode of the logits: probabilities may be far "
                "off; BNNClassifier does without it"
            )
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (m, classes) at ``X`` (m, d), averaged over the logits' posterior."""
        x = as_inputs(self, X)
        return np.concatenate([class_probabilities(*own) for own in marginals(self.given_, x)])
