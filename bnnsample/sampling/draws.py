"""Draws as an ArviZ DataTree that says how it was made."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from importlib import metadata
from typing import Any, NamedTuple

import arviz_base
import jax
import numpy as np
from jaxtyping import Array, Float
from xarray import DataTree

from bnnsample.limits.gaussian_process import nngp_posterior
from bnnsample.models.posterior import Posterior
from bnnsample.repriorisation.targets import AbstractTarget
from bnnsample.sampling.samplers import AbstractSampler

PREDICTION_DIMENSIONS = {
    "f": ["test_point", "output"],
    "y": ["test_point", "output"],
    "f_mean": ["test_point", "output"],
    "f_std": ["test_point"],
}
DIMENSIONS = {
    "hidden_projection": ["projection"],
    "readout_projection": ["projection"],
    "readout": ["feature", "output"],
    "x": ["point"],
    "y": ["point", "output"],
    "x_test": ["test_point"],
    "nngp_mean": ["test_point", "output"],
    "nngp_std": ["test_point"],
}
REPORTED_VERSIONS = ("bnnsample", "jax", "blackjax", "numpyro", "arviz", "numpy")


NOISE_STREAM = 1
"""Sets the noise's generators apart from others with the same seed."""


class Timings(NamedTuple):
    """Wall-clock seconds of a run's three parts."""

    compile_seconds: float
    warmup_seconds: float
    sampling_seconds: float


def assemble(
    target: AbstractTarget,
    sampler: AbstractSampler,
    kept: dict[str, np.ndarray],
    stats: dict[str, np.ndarray],
    x_test: Float[Array, "m ..."] | None,
    limit: dict[str, np.ndarray] | None,
    timings: Timings,
    warmup: int,
    seed: int,
) -> DataTree:
    """The run: draws (chain, draw, ...) with their data, limit and provenance."""
    posterior = target.posterior
    groups: dict[str, dict[str, Any]] = {
        "posterior": {
            name: value for name, value in kept.items() if name not in PREDICTION_DIMENSIONS
        },
        "sample_stats": stats | {"n_gradients": stats["n_steps"]},
        "observed_data": {"y": np.asarray(posterior.y)},
        "constant_data": {"x": np.asarray(posterior.x)},
    }
    predictions = {name: kept[name] for name in PREDICTION_DIMENSIONS if name in kept}
    if predictions:
        f = predictions["f"]
        noise = _noise(f.shape, seed) * posterior.likelihood.noise_std
        groups["predictions"] = predictions | {"y": (f + noise).astype(f.dtype)}
    if x_test is not None:
        groups["constant_data"] |= {"x_test": np.asarray(x_test)} | (limit or {})
    tree = arviz_base.from_dict(groups, dims=DIMENSIONS, pred_dims=PREDICTION_DIMENSIONS)
    chains, draws = stats["lp"].shape
    tree.attrs = {
        "target": target.name,
        "network": repr(posterior.network),
        "likelihood": repr(posterior.likelihood),
        "sampler": f"{type(sampler).__name__}",
        "sampler_settings": json.dumps(dataclasses.asdict(sampler)),  # pyright: ignore[reportArgumentType]
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(posterior.parameter_shapes)),
        "dim": target.dim,
        "dtype": str(posterior.x.dtype),
        "chains": chains,
        "draws": draws,
        "warmup": warmup,
        "seed": seed,
        **timings._asdict(),
        **environment(),
    }
    return tree


def _noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal noise (chains, draws, ...), each chain from a stream of its own."""
    chains = [np.random.default_rng((seed, chain, NOISE_STREAM)) for chain in range(shape[0])]
    return np.stack([generator.standard_normal(shape[1:]) for generator in chains])


def limit_at(posterior: Posterior, x_test: Float[Array, "m ..."]) -> dict[str, np.ndarray]:
    """The NNGP posterior at the test inputs, which every wide network's should be near."""
    limit = nngp_posterior(
        posterior.network, posterior.x, posterior.y, posterior.likelihood.noise_std
    )
    mean, variance = limit.marginals(x_test)
    return {"nngp_mean": np.asarray(mean), "nngp_std": np.sqrt(variance)}


def environment() -> dict[str, str]:
    """Versions, device and platform: what a result must say of where it came from."""
    device = jax.devices()[0]
    return {
        "versions": json.dumps({name: metadata.version(name) for name in REPORTED_VERSIONS}),
        "device": f"{device.platform}: {device.device_kind}, {os.cpu_count()} CPU cores",
        "python": platform.python_version(),
    }
