"""One unknown scale of weights and noise together: posterior and predictions are Student's t.

Features without hidden parameters, readout and noise of one scale ``s``, and ``s^2`` inverse gamma:
given the data ``s^2`` is inverse gamma again. What it holds to account is the change of volume of
hyperparameters.
"""

from __future__ import annotations

import numpy as np
import numpyro.distributions as dist
import scipy.stats

from bnnsample.diagnostics.findings import Verdict
from bnnsample.diagnostics.validation.calibration import check_level
from bnnsample.diagnostics.validation.conjugate import features
from bnnsample.diagnostics.validation.moments import Reference, judge_moments
from bnnsample.diagnostics.validation.replications import TargetOf, kept_draws
from bnnsample.diagnostics.validation.simulate import PREDICTIONS, probe_of
from bnnsample.models.layers.activation import Activation
from bnnsample.models.layers.dense import Dense
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.network import Network
from bnnsample.models.posterior import Posterior
from bnnsample.models.scales import promoting_as_numpyro
from bnnsample.numerics import full_precision
from bnnsample.sampling.samplers.base import AbstractSampler

CONCENTRATION, RATE = 4.0, 3.0
"""Of the inverse gamma prior of ``s^2``."""

POINTS, INPUTS, OUTPUTS = 7, 3, 2
DATA_SEED = 1
"""Of the one set of data that all seeds sample."""


@full_precision
def student_t_test(
    target: TargetOf | None = None,
    sampler: AbstractSampler | None = None,
    *,
    chains: int = 64,
    draws: int = 40,
    warmup: int = 200,
    thinning: int = 5,
    seed: int = 0,
    level: float = 0.001,
) -> Verdict:
    """Hold draws of a posterior with an unknown scale against its closed form.

    ``log s`` and the outputs at training inputs, by means and second moments. ``level`` is the
    probability of a false alarm.
    """
    check_level(level)
    generator = np.random.default_rng(DATA_SEED)
    x = generator.standard_normal((POINTS, INPUTS))
    y = generator.standard_normal((POINTS, OUTPUTS))
    with promoting_as_numpyro():
        scale = dist.TransformedDistribution(
            dist.InverseGamma(CONCENTRATION, RATE), dist.transforms.PowerTransform(0.5)
        )
    posterior = Posterior(network(scale), x, y, Gaussian(scale))
    found = kept_draws(
        [posterior], target, sampler, probe_of(posterior),
        seed=seed, chains=chains, warmup=warmup, draws=draws, thinning=thinning,
    )  # fmt: skip
    (name,) = posterior.hyperpriors
    own = {"log s": np.log(found[name][:, 0])}
    own |= {f"f {entry}": found[f"f {entry}"][:, 0] for entry in range(PREDICTIONS)}
    return Verdict.of(
        judge_moments(
            "Student's t",
            own,
            exact(x, y),
            level=level,
            advice="Hyperparameters are not drawn from their posterior, or chains too short",
        )
    )


def network(scale: float | dist.Distribution) -> Network:
    """Fixed features, and a readout of this scale without a bias."""
    return Network([Activation("relu"), Dense(OUTPUTS, scale)])


def exact(x: np.ndarray, y: np.ndarray) -> dict[str, Reference]:
    """Moments of ``log s`` and of the first outputs, in closed form."""
    psi = features(Posterior(network(1.0), x, y, Gaussian(1.0)))
    covariance = psi @ psi.T + np.eye(POINTS)
    weights = np.linalg.solve(covariance, y)
    law = scipy.stats.loggamma(CONCENTRATION + POINTS * OUTPUTS / 2)
    rate = RATE + 0.5 * np.sum(y * weights)
    # log s = (log rate - log G) / 2 with G from Gamma(shape)
    log_s = Reference(0.5 * (np.log(rate) - law.mean()), 0.5 * law.std())
    gram = psi @ psi.T
    mean = (gram @ weights).ravel()
    inner = np.diag(gram - gram @ np.linalg.solve(covariance, gram))
    variances = np.repeat(inner, OUTPUTS) * rate / (CONCENTRATION + POINTS * OUTPUTS / 2 - 1)
    outputs = {
        f"f {entry}": Reference(mean[entry], variances[entry] ** 0.5)
        for entry in range(PREDICTIONS)
    }
    return {"log s": log_s} | outputs
