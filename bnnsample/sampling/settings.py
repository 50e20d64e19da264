"""What fixes a run, checked, and as JSON from which it can be made again."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float
from xarray import DataTree

from bnnsample.checks import BadInput, bad_input, check_count, located
from bnnsample.files import damaged
from bnnsample.models.posterior import Posterior
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.repriorisation.targets import TARGETS, repriorised
from bnnsample.sampling.folder import LOG_LIKELIHOOD, differences
from bnnsample.sampling.functionals import what_to_keep
from bnnsample.sampling.rebuild import NotRebuildable, rebuild, without_addresses
from bnnsample.sampling.samplers.base import AbstractSampler

SEGMENT_DRAWS = 25
"""Draws between two reports of progress, fewer where positions are large."""

SEGMENT_BYTES = 256 * 2**20
"""The positions of one segment take at most this much memory."""


@dataclass(frozen=True)
class Settings:
    """All that fixes a run's draws, but for versions and device; and how many there shall be."""

    target: AbstractTarget
    sampler: AbstractSampler
    chains: int
    warmup: int
    draws: int
    seed: int
    keep: tuple[str, ...]
    x_test: Float[Array, "m ..."] | None
    segment: int

    @property
    def columns(self) -> str:
        """What the columns of ``y`` are called: outputs, where there is one for each of them."""
        posterior = self.target.posterior
        outputs = posterior.network.readout_layer.width
        return "output" if posterior.y.shape[1] == outputs else "target"

    @functools.cached_property
    def record(self) -> dict[str, Any]:
        """The settings as JSON; data by their digest, as they are stored with the draws."""
        posterior = self.target.posterior
        data = (posterior.x, posterior.y, self.x_test)
        return {
            "target": self.target.name,
            "ridge": getattr(self.target, "ridge", None),
            "network": without_addresses(repr(posterior.network)),
            LOG_LIKELIHOOD: _fingerprint(self.target),
            "likelihood": without_addresses(repr(posterior.likelihood)),
            "sampler": repr(self.sampler),
            "dtype": str(posterior.x.dtype),
            "x64": _x64(),
            "data": hashlib.sha256(b"".join(map(_bytes, data))).hexdigest(),
            "chains": self.chains,
            "warmup": self.warmup,
            "seed": self.seed,
            "keep": list(self.keep),
            "draws": self.draws,
            "segment": self.segment,
        }

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings that never change: not the draws to be made, nor what rounding is in."""
        free = ("draws", "segment", LOG_LIKELIHOOD)
        return {name: value for name, value in self.record.items() if name not in free}


def segment_length(target: AbstractTarget, keep: tuple[str, ...], chains: int, longest: int) -> int:
    """Draws a segment, of a run whose warm-up and draws take at most ``longest``."""
    posterior = target.posterior
    size = posterior.num_parameters if "parameters" in keep else target.dim
    draw_bytes = chains * max(1, size) * posterior.x.dtype.itemsize
    return max(1, min(SEGMENT_DRAWS, longest, SEGMENT_BYTES // draw_bytes))


def settings_from(record: dict[str, Any], stored: DataTree, path: Path) -> Settings:
    """The settings of which ``record``, read from ``path``, is the record, with the stored data.

    Raises ``ValueError`` where they cannot be made again from text, or differ from what was run.
    """
    if record["x64"] != _x64():
        raise bad_input(
            "precision",
            got=f"jax_enable_x64 {_x64()}",
            expected=f"{record['x64']}, with which the run was made",
            probably=f"jax.config.update('jax_enable_x64', {record['x64']}) was left out",
        )
    try:
        with located(str(path)):
            settings = _made_again(record, stored)
    except BadInput:
        raise
    except Exception as error:  # what arguments that were never given lead to is not documented
        raise damaged(path, f"settings that cannot be made again ({error})") from error
    made = stored["sample_stats"].sizes if "sample_stats" in stored.children else {}
    fits = made.get("chain", settings.chains) == settings.chains and (
        made.get("draw", settings.draws) <= settings.draws
    )
    if not fits or differences(record, settings.record):
        raise bad_input(
            "run folder",
            got=f"data or settings that are not those it was begun with, in {path} or beside it",
            expected="the folder as sample() left it",
            probably="a file edited by hand, or a store copied in part",
        )
    return settings


def _made_again(record: dict[str, Any], stored: DataTree) -> Settings:
    try:
        network, likelihood, sampler = (
            rebuild(record[name]) for name in ("network", "likelihood", "sampler")
        )
    except NotRebuildable as error:
        raise bad_input(
            "run folder",
            got=f"settings that cannot be made again from text: {error}",
            expected="layers, likelihood and sampler of bnnsample with numbers as arguments",
            probably="a function or prior of your own; call sample(..., out=FOLDER) as before to "
            "continue",
        ) from error
    data = stored["constant_data"].dataset
    x = data["x"].values
    # labels and counts are stored as integers, which would make a float32 posterior a float64 one
    y = stored["observed_data"].dataset["y"].values.astype(x.dtype)
    posterior = Posterior(network, x, y, likelihood)
    name, ridge = record["target"], record["ridge"]
    if name not in TARGETS:
        raise bad_input(
            "target",
            got=repr(name),
            expected=f"one of {', '.join(TARGETS)}",
            probably="a file edited by hand",
        )
    target = repriorised(posterior, ridge) if name == "repriorised" else TARGETS[name](posterior)
    numbers = {name: record[name] for name in ("chains", "warmup", "draws", "seed")}
    check_arguments(target, sampler, on_progress=None, out=None, **numbers)
    check_count("segment", record["segment"])
    x_test = jax.numpy.asarray(data["x_test"].values) if "x_test" in data else None
    keep = tuple(map(str, record["keep"]))
    return Settings(
        target=target,
        sampler=sampler,
        # of a run without x_test the default names predictions all the same
        keep=what_to_keep(posterior.parameter_shapes, keep, predicts=True),
        x_test=x_test,
        segment=record["segment"],
        **numbers,
    )


def check_arguments(
    target: object,
    sampler: object,
    *,
    chains: int,
    warmup: int,
    draws: int,
    seed: int,
    on_progress: object,
    out: object,
) -> None:
    """Refuse what cannot be run, before anything is compiled."""
    if not isinstance(target, AbstractTarget | Posterior):
        raise bad_input(
            "target",
            got=type(target).__name__,
            expected="a posterior, or a target of it: bnn.marginal(posterior), "
            "bnn.repriorised(...) or bnn.standard(...)",
            probably="the network or the data were passed",
        )
    if sampler is not None and not isinstance(sampler, AbstractSampler):
        raise bad_input(
            "sampler",
            got=repr(sampler),
            expected="settings such as bnn.HMC() or bnn.NUTS()",
            probably="the class was passed without parentheses",
        )
    if on_progress is not None and not callable(on_progress):
        raise bad_input(
            "on_progress",
            got=repr(on_progress),
            expected="a function of a bnn.Progress",
            probably="a flag; on_progress=print shows all there is",
        )
    if out is not None and not isinstance(out, str | os.PathLike):
        raise bad_input(
            "out",
            got=repr(out),
            expected="the path of a folder",
            probably="an argument in the wrong place",
        )
    check_count("chains", chains)
    check_count("warmup", warmup)
    check_count("draws", draws)
    check_count("seed", seed, minimum=0)


def _fingerprint(target: AbstractTarget) -> float | None:
    """A value of the likelihood, where network or likelihood have parts that text does not tell.

    None where text says it all: the likelihood may be too large for the one device it is on here.
    """
    try:
        rebuild(repr(target.posterior.network))
        rebuild(repr(target.posterior.likelihood))
    except NotRebuildable:
        return float(_log_likelihood_at_start(target))
    return None


@jax.jit
def _log_likelihood_at_start(target: AbstractTarget) -> Float[Array, ""]:
    return target.log_likelihood(target.init(jax.random.key(0)))


def _x64() -> bool:
    return bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]


def _bytes(array: Array | None) -> bytes:
    return b"none" if array is None else repr(array.shape).encode() + np.asarray(array).tobytes()
