"""A network with fixed features: its posterior is linear regression, known in closed form."""

from __future__ import annotations

import jax
import numpy as np

from bnnsample.checks import bad_input
from bnnsample.diagnostics.findings import Verdict
from bnnsample.diagnostics.validation.calibration import check_level
from bnnsample.diagnostics.validation.moments import Reference, judge_moments
from bnnsample.diagnostics.validation.replications import TargetOf, kept_draws
from bnnsample.diagnostics.validation.simulate import PREDICTIONS, probe_of
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.posterior import Posterior
from bnnsample.numerics import full_precision
from bnnsample.repriorisation.base import check_posterior
from bnnsample.sampling.samplers.base import AbstractSampler


@full_precision
def conjugate_test(
    posterior: Posterior,
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
    """Hold draws of a network without hidden parameters against Bayesian linear regression.

    Of the outputs at training inputs and of the readout along a direction, means and second moments
    are compared with the closed form, by NumPy. ``level`` is the probability of a false alarm.
    Raises ``ValueError`` for networks with hidden parameters, and for other noise than Gaussian of
    one known size.
    """
    check_posterior(posterior)
    check_level(level)
    mean, covariance = regression(posterior)
    probe = probe_of(posterior)
    found = kept_draws(
        [posterior], target, sampler, probe,
        seed=seed, chains=chains, warmup=warmup, draws=draws, thinning=thinning,
    )  # fmt: skip
    psi = features(posterior)
    direction = probe.projections.readout[0]
    left, right = np.asarray(direction.left[0]), np.asarray(direction.right[0])
    f = psi @ mean
    std = np.repeat(np.sqrt(np.diag(psi @ covariance @ psi.T)), f.shape[1])
    along = np.linalg.norm(right) * np.sqrt(left @ covariance @ left)
    references = {
        f"f {entry}": Reference(float(f.ravel()[entry]), float(std[entry]))
        for entry in range(min(PREDICTIONS, f.size))
    } | {"readout projection": Reference(float(left @ mean @ right), float(along))}
    return Verdict.of(
        judge_moments(
            "conjugate regression",
            {name: found[name][:, 0] for name in references},
            references,
            level=level,
            advice="Draws are not of this posterior, or chains too short",
        )
    )


def features(posterior: Posterior) -> np.ndarray:
    """The readout features (n, p) of a network without hidden parameters."""
    hidden = posterior.parameter_shapes.hidden
    if jax.tree.leaves(hidden) or posterior.hyperpriors:
        raise bad_input(
            "posterior",
            got=f"{posterior.num_parameters} parameters, some of them hidden, or unknown scales",
            expected="a readout alone: no layer before it has parameters, no scale a prior",
            probably="another network; Network([Activation('relu'), Dense(2)]) is such a one",
        )
    return np.asarray(posterior.network.features(hidden, posterior.x), float)


def regression(posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p, o) of the readout, and covariance (p, p) of each of its columns."""
    psi, likelihood = features(posterior), posterior.likelihood
    if not isinstance(likelihood, Gaussian) or np.ndim(likelihood.noise_std):
        raise bad_input(
            "posterior",
            got=f"the likelihood {likelihood!r}",
            expected="Gaussian() with one noise_std",
            probably="a posterior that was meant for another check",
        )
    variance = float(likelihood.noise_std) ** 2
    covariance = np.linalg.inv(np.eye(psi.shape[1]) + psi.T @ psi / variance)
    return covariance @ psi.T @ np.asarray(posterior.y, float) / variance, covariance
