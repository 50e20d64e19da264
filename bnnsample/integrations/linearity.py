"""Whether a NumPyro model's readout is what repriorisation takes it for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, Float
from numpyro import handlers

from bnnsample.checks import as_finite_array, bad_input

MULTIPLES = 1.0, 10.0, 100.0
"""Of the standard deviation of the readout's prior, at which the model is tried: a function may be
linear near the prior's mean and bend where the posterior is."""


def gaussian_parameters(site: dict[str, Any]) -> tuple[Array, Array]:
    """Mean and standard deviation of a site's Normal; raises for any other law."""
    law = site["fn"]
    while isinstance(law, dist.Independent | dist.ExpandedDistribution):
        law = law.base_dist
    if not isinstance(law, dist.Normal):
        raise bad_input(
            f"site {site['name']}",
            got=f"a {type(law).__name__}",
            expected="a Normal: the readout's conditional law is Gaussian under Normals only",
            probably="another prior or likelihood, for which there is no exact map",
        )
    if site.get("scale") is not None:
        raise bad_input(
            f"site {site['name']}",
            got="a scaled or subsampled log density",
            expected="all of the data, each point counted once",
            probably="a plate with subsample_size, or handlers.scale",
        )
    return jnp.asarray(law.loc), jnp.asarray(law.scale)


def shared_scale(scale: Array, shape: tuple[int, ...]) -> Float[Array, "#p 1"]:
    """The prior scale of each row of a readout of this ``shape``, the same for all outputs."""
    if len(shape) == 1 or scale.size == 1:
        return scale.reshape(-1, 1)
    first = scale[..., :1]
    varies = isinstance(scale, Tracer) or not bool(jnp.all(scale == first))
    if scale.shape[-1] > 1 and varies:
        raise bad_input(
            "readout",
            got=f"a prior with scales of shape {scale.shape} for a readout {shape}",
            expected="one scale, or one a row, (p, 1): outputs share the features",
            probably="a scale for each output, by which to multiply the outputs instead, or a "
            "sampled one written out for all of them: give it as a number or (p, 1)",
        )
    return first.reshape(-1, 1)


def check_linear(
    model: Callable[..., Any], sites: dict[str, str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raise unless the readout enters the model by ``features @ readout`` and nowhere else.

    Targets that are not finite are refused too. The model is run at the mean of the readout's prior
    and at draws from it and from wider ones, all else alike. Nothing is checked where its arguments
    are traced.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, kwargs))):
        return
    with jax.ensure_compile_time_eval():
        first = _run(model, sites["readout"], 0.0, args, kwargs)
        as_finite_array(
            f"site {sites['likelihood']}", first[sites["likelihood"]]["value"], min_ndim=1
        )
        for multiple in MULTIPLES:
            second = _run(model, sites["readout"], multiple, args, kwargs)
            _check_runs(sites, first, second)


def _check_runs(sites: dict[str, str], first: Any, second: Any) -> None:
    readouts, features, likelihoods = (
        [run[sites[role]] for run in (first, second)]
        for role in ("readout", "features", "likelihood")
    )
    change = np.asarray(readouts[1]["value"]) - np.asarray(readouts[0]["value"])
    psi, again = (np.asarray(site["value"]) for site in features)
    locs, stds = (
        [np.asarray(gaussian_parameters(site)[part]) for site in likelihoods] for part in (0, 1)
    )
    for name, site in first.items():
        if site["type"] == "sample" and name not in sites.values():
            laws = site["fn"], second[name]["fn"]
            own, other = (np.asarray(jnp.sum(law.log_prob(site["value"]))) for law in laws)
            _require(_close(own, other, least=1.0), name, "the density", sites["readout"])
    _require(_close(psi, again), sites["features"], "the features", sites["readout"])
    _require(_close(stds[0], stds[1]), sites["likelihood"], "the noise", sites["readout"])
    moved = (psi @ change).reshape(locs[0].shape)
    # an offset may be so large that its rounding shows in the difference
    offset = 10 * _tolerance(moved) * float(np.max(np.abs(locs[0])))
    if not _close(locs[1] - locs[0], moved, least=offset):
        raise bad_input(
            f"site {sites['likelihood']}",
            got="a mean that is not features @ readout plus what does not depend on the readout",
            expected="a linear readout",
            probably="a link function after the readout, or features before their last step",
        )


def _run(
    model: Callable[..., Any],
    readout: str,
    multiple: float,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """A trace of the model at so many standard deviations of its readout, the rest as ever."""

    def own_readout(site: dict[str, Any]) -> Array | None:
        if site["name"] != readout:
            return None
        loc, scale = (part.astype(float) for part in gaussian_parameters(site))
        standard = jax.random.normal(jax.random.key(0), site["fn"].shape())
        return loc + multiple * scale * standard

    seeded = handlers.seed(handlers.substitute(model, substitute_fn=own_readout), 0)
    with handlers.block():
        return handlers.trace(seeded).get_trace(*args, **kwargs)


def _close(a: np.ndarray, b: np.ndarray, least: float = 0.0) -> bool:
    """Whether they are the same but for rounding, relative to the largest or to ``least``."""
    largest = max(float(np.max(np.abs(b))), least)
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= _tolerance(a) * largest))


def _tolerance(a: np.ndarray) -> float:
    return float(np.finfo(np.result_type(a, np.float32)).eps) ** 0.5


def _require(holds: bool, name: str, what: str, readout: str) -> None:
    if not holds:
        raise bad_input(
            f"site {name}",
            got=f"{what} change with {readout}",
            expected=f"a model that uses {readout} by features @ {readout} alone",
            probably="a readout that enters twice, or a prior that depends on it",
        )
