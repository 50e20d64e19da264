"""ESS and R-hat of every weight, summed up for each array of parameters.

Chains that agree in their predictions can disagree in their weights, and a few stuck weights do not
show in random projections of all of them. So each array has its median weight, its worst 1% and its
worst. A run that kept only means and standard deviations of its parameters has R-hat from these.

A run folder's arrays are read a slab of parameters at a time. Its chunks hold all parameters of
some draws, so each slab reads the whole file: slabs are as large as memory bears.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from xarray import DataArray, DataTree

from bnnsample.diagnostics.convergence import check_finished
from bnnsample.diagnostics.vectorised import moves, summarise

SLAB_BYTES = 2**28
"""Draws read at a time, as they are stored. A choice: four chains of 1000 draws of 16 000 weights;
one index of the last axis is the least."""


@dataclass(frozen=True)
class LayerSummary:
    """Diagnostics of one array of parameters, over its entries.

    ``entries``: how many there are. ``rhat``, ``rhat_99`` and ``rhat_max``: the median R-hat, the
    one that 1% of the entries exceed, and the worst. ``ess``, ``ess_01`` and ``ess_min``: the same
    of the bulk effective sample size, which 1% fall short of; None where no draws were kept.
    Values are those of entries, not interpolated. An entry that is constant or not finite counts as
    worse than all others, and is NaN.

    From draws, R-hat is rank-normalised and split (Vehtari et al. 2021, 1903.08008). From moments
    it is neither (Gelman and Rubin 1992): it misses drifts that all chains share, differences in
    scale, and heavy tails.
    """

    entries: int
    rhat: float
    rhat_99: float
    rhat_max: float
    ess: float | None
    ess_01: float | None
    ess_min: float | None


def per_layer(run: DataTree) -> dict[str, LayerSummary]:
    """``LayerSummary`` of each array of parameters that the run kept, by its name.

    From the draws in ``posterior`` if there are any, else from the group ``moments``. Raises
    ``ValueError`` for a run that is not finished.
    """
    check_finished(run)
    draws = _parameters(run, "posterior")
    if draws:
        return {name: _from_draws(array) for name, array in draws.items()}
    return {
        name: _from_moments(array, run.children["sample_stats"].sizes["draw"])
        for name, array in _parameters(run, "moments").items()
    }


def _parameters(run: DataTree, group: str) -> dict[str, DataArray]:
    if group not in run.children:
        return {}
    leading = {"posterior": ("chain", "draw"), "moments": ("moment", "chain")}[group]
    return {
        str(name): array
        for name, array in run.children[group].dataset.data_vars.items()
        if (name == "readout" or str(name).startswith("layer_"))
        and name != "layer_norm"
        and array.dims[:2] == leading
        and array.size > 0
    }


def _slabs(array: DataArray) -> Iterator[np.ndarray]:
    """Values of ``array``, some indices of its last axis at a time, axes after two as one."""
    if array.ndim == 2:
        yield array.values[:, :, None]
        return
    last, size = array.dims[-1], array.shape[-1]
    step = max(1, SLAB_BYTES * size // array.nbytes)
    for start in range(0, size, step):
        slab = array.isel({last: slice(start, start + step)}).values
        yield slab.reshape(*slab.shape[:2], -1)


def _from_draws(array: DataArray) -> LayerSummary:
    ratios, sizes = [], []
    for slab in _slabs(array):
        summary = summarise(slab)
        moving = moves(slab)
        ratios.append(np.where(moving, summary.rhat, np.nan))
        sizes.append(np.where(moving, summary.ess_bulk, np.nan))
    return _summed_up(np.concatenate(ratios), np.concatenate(sizes))


def _from_moments(array: DataArray, n_draws: int) -> LayerSummary:
    return _summed_up(
        np.concatenate([_rhat(slab[0], slab[1], n_draws) for slab in _slabs(array)]), None
    )


def _rhat(means: np.ndarray, stds: np.ndarray, n_draws: int) -> np.ndarray:
    """R-hat, not split or ranked, from chains' (chains, entries): Gelman and Rubin 1992."""
    if len(means) < 2:
        return np.full(means.shape[1], np.nan)
    with np.errstate(all="ignore"):
        between = means.var(axis=0, ddof=1, dtype=float)
        within = np.square(stds, dtype=float).mean(axis=0)
        return np.sqrt((n_draws - 1) / n_draws + between / within)


def _summed_up(rhat: np.ndarray, ess: np.ndarray | None) -> LayerSummary:
    sizes = (None,) * 3 if ess is None else tuple(-value for value in _from_median_to_worst(-ess))
    return LayerSummary(rhat.size, *_from_median_to_worst(rhat), *sizes)


def _from_median_to_worst(badness: np.ndarray) -> tuple[float, float, float]:
    """The entry in the middle, the one at 99% and the last, from good to bad; NaN is worst."""
    ordered = np.sort(badness)
    middle, late, last = (
        float(ordered[int(np.ceil(p * (len(ordered) - 1)))]) for p in (0.5, 0.99, 1)
    )
    return middle, late, last
