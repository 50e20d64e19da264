"""Runs without a sampler, whose draws are from a known law: what reads runs needs no chains."""

from __future__ import annotations

from collections.abc import Callable

import arviz_base
import jax
import numpy as np
from jax.typing import ArrayLike
from xarray import DataTree

import bnnsample as bnn
from bnnsample.models.network import named_parameters

DRAWS = 12


def drawn_run(
    posterior: bnn.Posterior,
    x_test: ArrayLike | None = None,
    *,
    chains: int = 2,
    draws: int = DRAWS,
    seed: int = 0,
    law: Callable[[jax.Array], bnn.Parameters] | None = None,
) -> DataTree:
    """A run that kept parameters and predictions: draws of ``law`` of a key, or of the prior."""
    keys = jax.random.split(jax.random.key(seed), (3, chains, draws))
    network, shape, dtype = posterior.network, posterior.input_shape, posterior.x.dtype
    law = law or (lambda key: network.init(key, shape, dtype))
    params = jax.vmap(jax.vmap(law))(keys[0])
    priors = posterior.hyperpriors.items()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        values = {
            n: prior.sample(keys[1, 0, 0], (chains, draws)).astype(dtype) for n, prior in priors
        }
    groups = {
        "posterior": named_parameters(params) | values,
        "observed_data": {"y": posterior.y},
        "constant_data": {"x": posterior.x},
        "sample_stats": {"n_gradients": np.ones((chains, draws), int)},
    }
    if x_test is not None:
        x_test = np.asarray(x_test, dtype)
        groups["constant_data"]["x_test"] = x_test

        def predictions(params: bnn.Parameters, values: dict, key: jax.Array) -> dict:
            known = posterior.given(values)
            f = known.network.apply(params, x_test)
            return {"f": f, "y": known.likelihood.draw(key, f)}

        groups["predictions"] = jax.jit(jax.vmap(jax.vmap(predictions)))(params, values, keys[2])
    outputs = posterior.network.readout_layer.width
    columns = "output" if posterior.y.shape[1] == outputs else "target"
    tree = arviz_base.from_dict(
        {group: {n: np.asarray(a) for n, a in arrays.items()} for group, arrays in groups.items()},
        dims={"y": ["point", columns], "x": ["point"]},
        pred_dims={"f": ["test_point", "output"], "y": ["test_point", columns]},
    )
    tree.attrs = {
        "network": repr(network),
        "likelihood": repr(posterior.likelihood),
        "dtype": str(dtype),
        "chains": chains,
        "draws": draws,
        "sampling_seconds": 1.0,
    }
    return tree
