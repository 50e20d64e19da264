"""What goes into a run beside its draws: data, limit, and how it was made."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from xarray import DataTree

from bnnsample.checks import NoKnownLimit, warn
from bnnsample.limits.gaussian_process import check_factorised
from bnnsample.limits.hyperposterior import Coordinates, hyperposterior
from bnnsample.limits.predictive import limit_marginals
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.posterior import Posterior
from bnnsample.provenance import environment
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.repriorisation.hierarchical import Hierarchical
from bnnsample.repriorisation.parameters import Standard
from bnnsample.sampling.loop import Cursor
from bnnsample.sampling.settings import Settings


def constant_data(settings: Settings) -> dict[str, dict[str, np.ndarray]]:
    """Data and, at the test inputs, the limit if it is known: arrays by group and name."""
    posterior, test = settings.target.posterior, settings.x_test
    constant = {"x": np.asarray(posterior.x)}
    if test is not None:
        constant["x_test"] = np.asarray(test)
        # a network without a known limit samples too
        with contextlib.suppress(NoKnownLimit):
            constant |= limit_at(posterior, test, _coordinates(settings.target))
    return {"observed_data": {"y": np.asarray(posterior.y)}, "constant_data": constant}


def _coordinates(target: AbstractTarget) -> Coordinates | None:
    """Those of the hyperparameters that the limit's evidence makes, found again if need be."""
    if not isinstance(target, Hierarchical):
        return None
    return hyperposterior(target.posterior) if target.name == Standard.name else target.coordinates


def limit_at(
    posterior: Posterior, x_test: Float[Array, "m ..."], coordinates: Coordinates | None = None
) -> dict[str, np.ndarray]:
    """The NNGP posterior at the test inputs, which every wide network's should be near.

    ``coordinates`` of its hyperparameters, if it has any. Its approximation by Laplace, with
    another name, where the likelihood is not Gaussian.
    """
    mean, std = limit_marginals(posterior, x_test, coordinates)
    noise = getattr(posterior.likelihood, "noise_std", "this likelihood")
    check_factorised(jnp.sum(mean), noise, posterior.x)
    name = "nngp" if isinstance(posterior.likelihood, Gaussian) else "laplace"
    return {f"{name}_mean": np.asarray(mean), f"{name}_std": np.asarray(std)}


def attributes(settings: Settings, cursor: Cursor) -> dict[str, Any]:
    """How a run was made: its settings, how long it took, on what."""
    posterior, sampler = settings.target.posterior, settings.sampler
    origin = environment()
    return {
        "target": settings.target.name,
        "network": repr(posterior.network),
        "likelihood": repr(posterior.likelihood),
        "hyperparameters": json.dumps(list(posterior.hyperpriors)),
        "sampler": type(sampler).__name__,
        "sampler_settings": json.dumps(dataclasses.asdict(sampler), default=float),  # pyright: ignore[reportArgumentType]
        "exact": int(sampler.exact),
        "num_parameters": posterior.num_parameters,
        "num_features": posterior.parameter_shapes.readout.shape[0],
        "dim": settings.target.dim,
        "dtype": str(posterior.x.dtype),
        "settings": json.dumps(settings.record),
        "chains": settings.chains,
        "draws": settings.draws,
        "seed": settings.seed,
        "warmup": cursor.warmup,
        "compile_seconds": cursor.compile_seconds,
        "warmup_seconds": cursor.warmup_seconds,
        "sampling_seconds": cursor.sampling_seconds,
        **origin,
        "versions": json.dumps(origin["versions"]),  # attributes are no mappings
    }


def stuck_chains(run: DataTree) -> list[int]:
    """Chains whose log density took fewer than three values in their last half.

    None of a target without a dimension, all of whose parameters are drawn exactly.
    """
    if run.attrs.get("dim") == 0:
        return []
    lp = run["sample_stats"].dataset["lp"].values
    half = lp[:, lp.shape[1] // 2 :]
    return [c for c, chain in enumerate(half) if len(chain) >= 10 and len(np.unique(chain)) < 3]


def warn_of_stuck_chains(run: DataTree) -> None:
    """Warn if a chain hardly moves."""
    stuck = stuck_chains(run)
    if stuck:
        warn(
            f"stuck chains ({', '.join(map(str, stuck))}): they did not move in the last half of "
            "the draws, and diagnose(run) will not pass them; warm up longer, or raise "
            "target_acceptance"
        )
