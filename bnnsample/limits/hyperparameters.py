"""Scales and noise that maximise the evidence of the infinitely wide network."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from scipy.optimize import Bounds, minimize

from bnnsample.checks import as_scale, bad_input, check_count
from bnnsample.limits.gaussian_process import check_factorised, nngp_posterior
from bnnsample.limits.kernels import check_network
from bnnsample.models.network import Network
from bnnsample.models.posterior import as_training_data

LARGEST_FACTOR = 1e4
"""How far from its start a scale is searched for, in either direction; arbitrary."""

PENALTY = 1.0
"""Above the start, the loss reported where the evidence is NaN, so that the search turns back.

In nats per target, like all losses: the line search interpolates, and a huge number would round
its next step to 0.
"""


@dataclass(frozen=True)
class Fit:
    """What ``fit_hyperparameters`` found: the best scales it met, and whether they are a maximum.

    ``converged``: the evidence is level there in all logarithms of scales, and none of them left
    the range of the search, as the scale of a useless bias does. ``message`` says how the search
    ended and what is amiss. ``evaluations`` counts the log evidences, each with its gradient.
    """

    network: Network
    noise_std: float
    log_evidence: float
    converged: bool
    message: str
    evaluations: int


class Scales(NamedTuple):
    """All that can be fitted, as one pytree."""

    network: Network
    noise_std: Any


def fit_hyperparameters(
    network: Network,
    x: ArrayLike,
    y: ArrayLike,
    noise_std: float,
    *,
    tied: bool = True,
    fixed: Collection[str] = ("factor",),
    max_evaluations: int = 200,
) -> Fit:
    """Maximise the NNGP log evidence of ``y`` (n, o) at ``x`` (n, ...) over the scales and noise.

    The search is scipy's L-BFGS-B in the logarithms of the scales, from those of ``network`` and
    from ``noise_std``. With ``tied``, the scales of one name are multiplied by one common factor:
    ``w_std`` and ``b_std`` of all hidden layers, and ``w_std_out`` and ``b_std_out`` of the
    readout; otherwise each layer's scales have their own. Biases that are None stay away.

    ``fixed`` names what is not fitted, in these names, ``"noise_std"`` among them. By default the
    factors of ``Scale`` layers are fixed, which are part of an architecture.

    ``max_evaluations`` is looked at between line searches, which take a few evaluations each.

    Raises ``ValueError`` for bad data, unknown names and a start without a finite evidence.
    """
    check_network(network)
    check_count("max_evaluations", max_evaluations)
    inputs, targets = as_training_data(network, x, y)
    start = Scales(network, as_scale("noise_std", noise_std))
    names, membership = grouped(start, tied=tied, fixed=fixed)
    search = _Search(start, membership, inputs, targets)
    bound = math.log(LARGEST_FACTOR)
    epsilon = float(jnp.finfo(inputs.dtype).eps)
    result = minimize(
        search,
        np.zeros(len(names)),
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(-bound, bound),
        options={"maxfun": max_evaluations, "ftol": epsilon, "gtol": epsilon**0.5},
    )
    complaints = [
        f"{name} reached the edge of the search, {LARGEST_FACTOR ** np.sign(log):g} times its start"
        for name, log in zip(names, search.best, strict=True)
        if abs(log) >= bound
    ]
    if search.slope > epsilon ** (1 / 3):
        complaints.append(f"the log evidence per target still has slope {search.slope:.2g}")
    network, noise_std = scaled(start, membership @ search.best)
    return Fit(
        network=network,
        noise_std=noise_std,
        log_evidence=-search.loss * targets.size,
        converged=not complaints,
        message="; ".join([str(result.message), *complaints]),
        evaluations=search.evaluations,
    )


@dataclass
class _Search:
    """The loss and its gradient as scipy wants them, and the best logarithms met."""

    start: Scales
    membership: np.ndarray
    x: Float[Array, "n ..."]
    y: Float[Array, "n o"]
    best: np.ndarray = field(init=False)
    slope: float = math.inf  # the steepest, at the best
    loss: float = math.inf
    first_loss: float = math.inf
    evaluations: int = 0

    def __call__(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        self.evaluations += 1
        scales = scaled(self.start, self.membership @ logs)
        loss, slopes = (
            np.asarray(part, float) for part in _loss_and_slopes(scales, self.x, self.y)
        )
        gradient = self.membership.T @ slopes
        finite = np.isfinite(loss) and np.isfinite(gradient).all()
        if self.evaluations == 1:
            check_factorised(loss if finite else np.nan, self.start.noise_std, self.x)
            self.first_loss = float(loss)
        if not finite:
            return self.first_loss + PENALTY, np.zeros_like(gradient)
        if loss < self.loss:
            self.loss, self.best, self.slope = float(loss), logs.copy(), np.abs(gradient).max()
        return float(loss), gradient


def grouped(
    scales: Scales, *, tied: bool, fixed: Collection[str]
) -> tuple[tuple[str, ...], Float[np.ndarray, "leaves k"]]:
    """The names of what is searched over, and which leaf of ``scales`` belongs to which: 1 or 0.

    The logarithms of the leaves' factors are that matrix times those of the search.
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(scales)]
    kinds = [_kind(path, len(scales.network.layers)) for path in paths]
    unknown = {*fixed} - {*kinds, "factor"}
    if unknown or {*kinds} <= {*fixed}:
        raise bad_input(
            "fixed",
            got=repr(fixed),
            expected=f"some, not all, of {sorted({*kinds})}",
            probably="a typing error, or 'w_std' where the readout's 'w_std_out' was meant",
        )
    owners = np.array(kinds if tied else [jax.tree_util.keystr(path) for path in paths])
    free = [kind not in fixed for kind in kinds]
    names = tuple(dict.fromkeys(map(str, owners[free])))
    membership = (owners[:, None] == np.array(names)) & np.array(free)[:, None]
    return names, membership.astype(float)


def _kind(path: tuple[Any, ...], layers: int) -> str:
    """The name of a leaf: its field's, with ``_out`` for the readout as in the builders."""
    is_readout = path[:3][-1] == jax.tree_util.SequenceKey(layers - 1)
    return path[-1].name + ("_out" if is_readout else "")


def scaled(start: Scales, logs: Float[np.ndarray, " leaves"]) -> Scales:
    """The ``start``, each leaf times the exponential of its logarithm, numbers as plain ones."""
    leaves, structure = jax.tree.flatten(start)
    numbers = [
        (leaf if jnp.ndim(leaf) else float(leaf)) * math.exp(log)
        for leaf, log in zip(leaves, logs, strict=True)
    ]
    return jax.tree.unflatten(structure, numbers)


@jax.jit
def _loss_and_slopes(
    scales: Scales, x: Float[Array, "n ..."], y: Float[Array, "n o"]
) -> tuple[Float[Array, ""], Float[Array, " leaves"]]:
    """Minus the log evidence per target, and its slope in the logarithm of each leaf.

    Per target, so that one tolerance serves all sizes of data.
    """

    def loss(scales: Scales) -> Float[Array, ""]:
        return -nngp_posterior(scales.network, x, y, scales.noise_std).log_evidence / y.size

    value, gradient = jax.value_and_grad(loss)(scales)
    slopes = jax.tree.map(
        lambda scale, slope: jnp.sum(scale * slope).astype(value.dtype), scales, gradient
    )
    return value, jnp.stack(jax.tree.leaves(slopes))
