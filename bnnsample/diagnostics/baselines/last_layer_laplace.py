"""One network's features with a readout that is uncertain."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from bnnsample.diagnostics.baselines.evidence_mode import at_evidence_mode
from bnnsample.diagnostics.baselines.map import find_modes
from bnnsample.diagnostics.baselines.nngp import of_kernel
from bnnsample.diagnostics.quality.predictive import Predictive
from bnnsample.models.network import Network
from bnnsample.models.posterior import Posterior


def last_layer_laplace(posterior: Posterior, x_test: ArrayLike, *, seed: int = 0) -> Predictive:
    """The law of the readout given the features of ``map_baseline``'s network.

    Exact for Gaussian noise; else by Laplace's approximation (Daxberger et al. 2021, 2106.14806;
    Kristiadi et al. 2020, 2002.10118). With N(0, 1) weights it is that of a Gaussian process whose
    kernel is ``Psi Psi'``, and computed so. Raises ``ValueError`` where the fit finds no mode.
    """
    posterior = at_evidence_mode(posterior)
    modes_key, key = jax.random.split(jax.random.key(seed))
    modes = find_modes(posterior, modes_key[None])
    hidden = jax.tree.map(lambda leaf: leaf[0], modes.hidden)
    kernel = Partial(_feature_kernel, posterior.network, hidden)
    return of_kernel(posterior, kernel, x_test, key)


def _feature_kernel(
    network: Network,
    hidden: tuple[Any, ...],
    x1: Float[Array, "n1 ..."],
    x2: Float[Array, "n2 ..."] | None = None,
    *,
    diagonal: bool = False,
) -> Float[Array, "n1 n2"] | Float[Array, " n1"]:
    features = network.features(hidden, x1)
    if diagonal:
        return jnp.sum(features**2, axis=1)
    return features @ (features if x2 is None else network.features(hidden, x2)).T
