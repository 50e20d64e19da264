"""What the sampler says of a run: divergences, acceptance, energy, and whether it is exact."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
from arviz_stats.sampling_diagnostics import bfmi
from xarray import DataTree

from bnnsample.diagnostics.findings import Finding
from bnnsample.diagnostics.vectorised import MIN_DRAWS
from bnnsample.sampling.choice import CROWDED
from bnnsample.sampling.draws import stuck_chains

FRESH_MOMENTA = ("HMC", "NUTS", "MALA", "AlternatingHMC", "MicrocanonicalLangevin")
"""Samplers that draw all momenta anew, as the energy diagnostic supposes."""


def divergences(run: DataTree, share: float) -> Finding:
    """Draws whose trajectories diverged, as a share of all."""
    diverging = run.children["sample_stats"].dataset["diverging"]
    count, total = int(diverging.sum()), int(diverging.size)
    return Finding(
        name="divergences",
        ok=count <= share * total,
        figure=f"{count} of {total} draws (at most {share:g} of them)",
        advice="Raise target_acceptance",
        value=count / total,
        threshold=share,
    )


def stuck(run: DataTree) -> Finding:
    """Chains that do not move."""
    chains = stuck_chains(run)
    return Finding(
        name="stuck chains",
        ok=not chains,
        figure=", ".join(f"chain {chain}" for chain in chains) or "none",
        advice="Their last half has fewer than three positions: warm up longer, or raise "
        "target_acceptance",
        value=len(chains),
        threshold=0,
    )


def acceptance(run: DataTree, short: float) -> Iterator[Finding]:
    """The lowest of a chain, where warm-up tunes the step size to one."""
    aim = json.loads(run.attrs.get("sampler_settings", "{}")).get("target_acceptance")
    stats = run.children["sample_stats"].dataset
    if aim is None or "step_size" not in stats:
        return
    worst = float(stats["acceptance_rate"].mean("draw").min())
    yield Finding(
        name="acceptance",
        ok=worst >= aim - short,
        figure=f"{worst:.2f} in the worst chain (at least {aim - short:.2f}; warm-up aimed at "
        f"{aim:g})",
        advice="The step size was tuned elsewhere: warm up longer",
        value=worst,
        threshold=aim - short,
    )


def energy(run: DataTree, least: float) -> Iterator[Finding]:
    """The energy diagnostic, where all momenta are drawn anew."""
    stats = run.children["sample_stats"].dataset
    if "energy" not in stats or run.attrs["sampler"] not in FRESH_MOMENTA or run.attrs["dim"] == 0:
        return
    if stats.sizes["draw"] < MIN_DRAWS:
        return
    worst = float(np.min(bfmi(stats)["energy"].values))
    yield Finding(
        name="energy (BFMI)",
        ok=worst >= least,
        figure=f"{worst:.2f} in the worst chain (at least {least:g})",
        advice="Momenta explore the energies slowly: draw more, or take longer trajectories",
        value=worst,
        threshold=least,
    )


def exact(run: DataTree) -> Finding:
    """Whether the sampler leaves the posterior as it is."""
    unbiased = bool(run.attrs.get("exact", True))
    return Finding(
        name="exactness",
        ok=unbiased,
        figure="draws of the posterior" if unbiased else f"{run.attrs['sampler']} is biased",
        advice="Take a sampler with an accept step",
    )


def has_gaussian_noise(run: DataTree) -> bool:
    """Whether the likelihood is ``Gaussian``, whose readout can be integrated out."""
    return run.attrs["likelihood"].startswith("Gaussian(")


def regime(run: DataTree, most: float) -> Iterator[Finding]:
    """Whether the map of the readout pays at this width and number of points, where it is known."""
    features = run.attrs.get("num_features")
    if features is None or run.attrs["likelihood"].startswith("HeteroscedasticGaussian("):
        return
    gaussian = has_gaussian_noise(run)
    most = most if gaussian else CROWDED
    ratio = len(run.children["constant_data"].dataset["x"]) / features
    mapped = run.attrs["target"] != "standard"
    if not mapped and ratio <= most:
        advice = f"The {'marginal' if gaussian else 'repriorised'} target would take it"
    elif gaussian:
        advice = "Draws are exact all the same; a wider network would take fewer gradients a draw"
    else:
        advice = "Draws are exact all the same; the standard target was faster there"
    yield Finding(
        name="regime of the map",
        ok=True if mapped and ratio <= most else None,
        figure=f"{ratio:.2g} training points a readout feature (the map is known to pay up to "
        f"{most:g})" + ("" if mapped else "; the standard target takes no map"),
        advice=advice,
        value=ratio,
        threshold=most,
    )
