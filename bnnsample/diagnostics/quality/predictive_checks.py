"""Whether data drawn from the posterior look like the data (Gelman, Meng and Stern 1996)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key
from xarray import DataTree

from bnnsample.checks import check_count
from bnnsample.diagnostics.convergence import check_finished
from bnnsample.diagnostics.findings import Finding, Verdict
from bnnsample.diagnostics.quality.predictive import predictive_of
from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.models.likelihoods.discrete import Bernoulli, Categorical
from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior
from bnnsample.sampling.predict import of_draws, posterior_of

LEAST_P = 0.005
"""Posterior predictive p-value below which a check of the training targets fails. It is no p-value
under the model, where it keeps to the middle and hardly ever is as small; a choice."""

HELD_OUT_LEVEL = 0.01
"""Probability of a right model failing any check of held-out targets: their p-values are uniform,
so that this is shared out among the statistics; a choice."""

OUTLIERS = (
    "The model does not make such data: StudentT() has such outliers among numbers and "
    "NegativeBinomial() among counts, or targets on another scale do, as logarithms of those that "
    "are skewed"
)
BOUNDS = (
    "The model goes beyond the data: are the targets bounded or cut off there? On another scale "
    "they may not be, as logarithms of positive numbers and log odds of shares"
)
SHARES = (
    "The functions do not reach these shares: are the targets of another kind than those trained "
    "on, or b_std_out or w_std_out of the readout too small?"
)
ADVICE = {
    "mean": "The functions do not reach this mean, whatever the noise: are the targets not "
    "centred, or of another kind than those trained on, or b_std_out or w_std_out of the readout "
    "too small?",
    "standard deviation": "Noise or functions are of another size than the data: give the noise, "
    "or w_std_out of the readout, a prior",
    "share of zeros": "The model makes another number of zeros: NegativeBinomial() makes more than "
    "Poisson() of the same mean",
    "share of ones": SHARES,
    "share of class": SHARES,
}


def posterior_predictive_check(
    run: DataTree, y: ArrayLike | None = None, *, posterior: Posterior | None = None, seed: int = 0
) -> Verdict:
    """Statistics of targets drawn from a run beside those of the data, one finding each.

    Of each column of numbers and counts the mean, standard deviation, smallest and largest, of
    counts the share of zeros too, of classes the share of each. Replicated data are those of each
    draw: at the training inputs from its kept parameters or, where test targets ``y`` (m, columns)
    are given, the run's own predictions.

    A finding's ``value`` is the two-sided posterior predictive p-value, twice the smaller share of
    replications as far out. It is told and not judged, ``ok`` None, unless it is below the
    ``threshold``: then the data are none that the model makes, and ``ok`` is False. That is
    ``LEAST_P`` at the training inputs, which takes 400 draws, and ``HELD_OUT_LEVEL`` over the
    number of statistics for ``y``, which takes 200 for each of them; a figure says where there are
    too few. ``posterior`` and errors as in ``predict``.
    """
    check_finished(run)
    check_count("seed", seed, minimum=0)
    if y is None:
        posterior = posterior_of(run, posterior)
        likelihood, outputs = posterior.likelihood, posterior.network.readout_layer.width
        observed = _statistics(likelihood, posterior.y, outputs)
        replicated = of_draws(_replicated, run, posterior, seed=seed)
    else:
        predictive = predictive_of(run, posterior)
        likelihood, outputs = predictive.likelihood, predictive.f.shape[2]
        observed = _statistics(likelihood, predictive.as_targets(y), outputs)
        drawn = jnp.asarray(run.children["predictions"].dataset["y"].values)
        of_draw = jax.vmap(jax.vmap(lambda y: _statistics(likelihood, y, outputs)))
        replicated = {name: np.asarray(part) for name, part in of_draw(drawn).items()}
    count = sum(len(values) for values in observed.values())
    threshold = LEAST_P if y is None else HELD_OUT_LEVEL / count
    return Verdict.of(
        _finding(name, f" {place}" if len(values) > 1 else "", float(value), draws, threshold)
        for name, values in observed.items()
        for place, (value, draws) in enumerate(
            zip(values, replicated[name].reshape(-1, len(values)).T, strict=True)
        )
    )


def _replicated(
    posterior: Posterior, params: Parameters, key: Key[Array, ""]
) -> dict[str, Float[Array, " parts"]]:
    f = posterior.network.apply(params, posterior.x)
    return _statistics(posterior.likelihood, posterior.likelihood.draw(key, f), f.shape[1])


def _statistics(
    likelihood: AbstractLikelihood, y: Array, outputs: int
) -> dict[str, Float[Array, " parts"]]:
    """Statistics of targets (n, columns) by name, of each column or class."""
    if isinstance(likelihood, Categorical):
        return {"share of class": jnp.mean(y == jnp.arange(outputs)[None, :], axis=0)}
    if isinstance(likelihood, Bernoulli):
        return {"share of ones": jnp.mean(y, axis=0)}
    found = {
        "mean": jnp.mean(y, axis=0),
        "standard deviation": jnp.std(y, axis=0),
        "smallest": jnp.min(y, axis=0),
        "largest": jnp.max(y, axis=0),
    }
    if jnp.issubdtype(y.dtype, jnp.integer):
        found["share of zeros"] = jnp.mean(y == 0, axis=0)
    return found


def _finding(
    name: str,
    place: str,
    observed: float,
    replicated: Float[np.ndarray, " draws"],
    threshold: float,
) -> Finding:
    above, below = np.sum(replicated >= observed), np.sum(replicated <= observed)
    farther = min(above, below)
    # the data count as one more replication, so that no p-value is 0
    least = 2 / (1 + len(replicated))
    p = min(1.0, least * (1 + int(farther)))
    failed = p < threshold
    if name in ("smallest", "largest"):
        advice = OUTLIERS if (above > below) == (name == "smallest") else BOUNDS
    else:
        advice = ADVICE[name]
    return Finding(
        f"{name}{place}",
        False if failed else None,
        f"observed {observed:.4g}, replicated {replicated.mean():.4g} ± {replicated.std():.2g}, "
        f"p = {p:.2g}{', too few draws to judge' if least >= threshold else ''}",
        advice if failed else "",
        value=p,
        threshold=threshold,
    )
