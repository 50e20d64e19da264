"""Exact draws from tiny data: the prior's, accepted by their likelihood (2006.10541)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from bnnsample.checks import bad_input, check_count
from bnnsample.diagnostics.findings import Finding, Verdict
from bnnsample.diagnostics.validation.calibration import check_level
from bnnsample.diagnostics.validation.energy import energy_test
from bnnsample.diagnostics.validation.moments import Reference, judge_moments
from bnnsample.diagnostics.validation.replications import TargetOf, kept_draws
from bnnsample.diagnostics.validation.simulate import (
    Joint,
    Probe,
    Quantities,
    probe_of,
    simulate,
    true_quantities,
)
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.likelihoods.student_t import StudentT
from bnnsample.models.posterior import Posterior
from bnnsample.models.scales import hyperparameters
from bnnsample.numerics import full_precision
from bnnsample.repriorisation.base import check_posterior
from bnnsample.sampling.samplers.base import AbstractSampler

BATCH = 20_000
"""Prior draws at a time."""

MOST_BATCHES = 200
"""After which too few are accepted for rejection to be of use."""

COMPARED = 400
"""Draws of each kind that the energy distance takes: all distances between them."""


def exact_draws(
    posterior: Posterior, draws: int, *, seed: int = 0, probe: Probe | None = None
) -> dict[str, np.ndarray]:
    """Independent exact draws of the posterior's quantities, at least ``draws``, by name.

    Parameters from the prior are accepted with probability ``p(y | f) / max_f p(y | f)``: what
    remains is the posterior (as Hron et al. 2020, 2006.10541, checked theirs). Raises
    ``ValueError`` for likelihoods without a largest value, which are those of unknown scale and of
    noise that the network predicts, and where fewer than one in ten thousand are accepted.
    """
    check_posterior(posterior)
    check_count("draws", draws)
    bound = largest_log_likelihood(posterior)
    probe = probe_of(posterior) if probe is None else probe
    found: list[dict[str, np.ndarray]] = []
    accepted = 0
    root = jax.random.fold_in(jax.random.key(seed), 3)
    for batch in range(MOST_BATCHES):
        keys = jax.random.split(jax.random.fold_in(root, batch), BATCH)
        kept, seen = _propose(posterior, probe, bound, keys)
        kept = np.asarray(kept)
        found.append({name: np.asarray(values)[kept] for name, values in seen.items()})
        accepted += int(kept.sum())
        if accepted >= draws:
            return {name: np.concatenate([row[name] for row in found]) for name in found[0]}
        if accepted * 10_000 < len(found) * BATCH:
            break
    raise bad_input(
        "posterior",
        got=f"{accepted} of {len(found) * BATCH} prior draws accepted",
        expected="data that the prior meets now and then: two or three points, with noise",
        probably="too many points, or noise too small",
    )


def largest_log_likelihood(posterior: Posterior) -> Float[Array, ""]:
    """The log likelihood at outputs that fit the targets best; 0 bounds that of discrete ones."""
    likelihood, y = posterior.likelihood, posterior.y
    unknown = hyperparameters(likelihood)
    if not unknown and isinstance(likelihood, Gaussian | StudentT):
        return likelihood.log_density(y, y)
    outputs = posterior.network.readout_layer.width
    if not unknown and likelihood.distribution(jnp.zeros((len(y), outputs))).is_discrete:
        return jnp.zeros((), posterior.x.dtype)
    raise bad_input(
        "posterior",
        got=f"the likelihood {likelihood!r}",
        expected="one with a largest value: of known scale",
        probably="an unknown noise, for which simulation_based_calibration and "
        "joint_distribution_test do",
    )


@jax.jit
def _propose(
    posterior: Posterior, probe: Probe, bound: Float[Array, ""], keys: Key[Array, " draws"]
) -> tuple[Bool[Array, " draws"], Quantities]:
    def one(key: Key[Array, ""]) -> tuple[Array, Quantities]:
        prior_key, accept_key = jax.random.split(key)
        params, values, _ = simulate(posterior, prior_key)
        seen = true_quantities(posterior, probe, Joint(params, values, posterior.y))
        uniform = jax.random.uniform(accept_key, (), posterior.x.dtype)
        return jnp.log(uniform) < seen["log likelihood"] - bound, seen

    return jax.vmap(one)(keys)


@full_precision
def rejection_test(
    posterior: Posterior,
    target: TargetOf | None = None,
    sampler: AbstractSampler | None = None,
    *,
    exact: int = 4000,
    chains: int = 400,
    draws: int = 10,
    warmup: int = 200,
    thinning: int = 5,
    seed: int = 0,
    level: float = 0.001,
) -> Verdict:
    """Hold a sampler's draws against exact ones, by moments and by energy distance.

    The last draw of each chain, which is independent of those of other chains, goes into the energy
    distance; moments take all draws. ``level`` is the probability of a false alarm, half of it for
    either. Raises ``ValueError`` as ``exact_draws`` does.
    """
    check_level(level)
    check_count("chains", chains, minimum=2)
    probe = probe_of(posterior)
    reference = exact_draws(posterior, exact, seed=seed, probe=probe)
    found = kept_draws(
        [posterior], target, sampler, probe,
        seed=seed, chains=chains, warmup=warmup, draws=draws, thinning=thinning,
    )  # fmt: skip
    own = {name: values[:, 0] for name, values in found.items()}
    findings = judge_moments(
        "exact rejection",
        own,
        {name: Reference.of(values) for name, values in reference.items()},
        level=level / 2,
        advice="Draws are not of this posterior, or chains too short",
    )
    return Verdict.of([_judge_energy(own, reference, seed, level / 2), *findings])


def _judge_energy(
    own: dict[str, np.ndarray], reference: dict[str, np.ndarray], seed: int, level: float
) -> Finding:
    ours = np.stack([values[-1, :COMPARED] for values in own.values()], axis=1)
    exact = np.stack([reference[name][:COMPARED] for name in own], axis=1)
    distance, p = energy_test(ours, exact, seed=seed, level=level)
    return Finding(
        name="exact rejection, energy distance",
        ok=p >= level,  # NaN fails
        figure=f"{distance:.3g} between {len(ours)} draws and {len(exact)} exact ones, p = {p:.2g} "
        f"by permutation (at least {level:.2g})",
        advice="Draws are not of this posterior, or chains too short",
        value=p,
        threshold=level,
    )
