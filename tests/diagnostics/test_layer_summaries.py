"""A stuck weight shows as its layer's worst, from draws and from moments; sound layers pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from bnnsample.diagnostics import layers
from bnnsample.diagnostics.layers import LayerSummary, per_layer
from bnnsample.diagnostics.vectorised import Summary, ess_bulk, rhat

SHAPES = {"layer_0_weight": (5, 40), "layer_1_bias": (7,), "layer_2_scale": (), "readout": (30, 2)}


def draws_of(rng: np.random.Generator, chains: int = 4, draws: int = 200) -> dict[str, np.ndarray]:
    return {
        name: rng.standard_normal((chains, draws, *shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def run_of(draws: dict[str, np.ndarray]) -> xr.DataTree:
    """A run that kept ``draws`` and, beside them, what is no parameter."""
    first = draws["readout"]
    others = dict.fromkeys(("hidden_projection", "readout_projection", "layer_norm"), first[..., 0])
    return _finished({"posterior": _dataset({**draws, **others}, ("chain", "draw"))}, draws)


def moments_of(draws: dict[str, np.ndarray]) -> xr.DataTree:
    moments = {
        name: np.stack((array.mean(axis=1), array.std(axis=1, ddof=1)))
        for name, array in {**draws, "f": draws["readout"]}.items()
    }
    return _finished({"moments": _dataset(moments, ("moment", "chain"))}, draws)


def _finished(groups: dict[str, xr.Dataset], draws: dict[str, np.ndarray]) -> xr.DataTree:
    statistics = xr.Dataset({"energy": (("chain", "draw"), draws["readout"][..., 0, 0])})
    run = xr.DataTree.from_dict({**groups, "sample_stats": statistics})
    run.attrs = {"sampling_seconds": 1.0}
    return run


def _dataset(arrays: dict[str, np.ndarray], leading: tuple[str, str]) -> xr.Dataset:
    return xr.Dataset(
        {
            name: ((*leading, *(f"{name}_{i}" for i in range(array.ndim - 2))), array)
            for name, array in arrays.items()
        }
    )


def test_sound_layers_pass_from_draws_and_from_moments(rng: np.random.Generator) -> None:
    draws = draws_of(rng)
    for run in (run_of(draws), moments_of(draws)):
        summaries = per_layer(run)
        assert set(summaries) == set(SHAPES)
        for name, summary in summaries.items():
            assert summary.entries == np.prod(SHAPES[name])
            assert summary.rhat <= summary.rhat_99 <= summary.rhat_max < 1.06


def test_values_are_those_of_entries(rng: np.random.Generator) -> None:
    draws = draws_of(rng)
    for name, summary in per_layer(run_of(draws)).items():
        ratios, sizes = np.sort(rhat(draws[name]), axis=None), np.sort(ess_bulk(draws[name]), None)
        assert summary.rhat_max == ratios[-1]
        assert summary.ess_min == sizes[0]
        late = int(np.ceil(0.99 * (len(sizes) - 1)))
        assert (summary.rhat_99, summary.ess_01) == (ratios[late], sizes[::-1][late])
        assert summary.rhat == ratios[len(ratios) // 2]


@pytest.mark.parametrize("slab_bytes", [1, 100_000, 2**28])
def test_a_stuck_weight_is_the_worst(
    slab_bytes: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "SLAB_BYTES", slab_bytes)
    draws = draws_of(rng)
    before, moments_before = per_layer(run_of(draws)), per_layer(moments_of(draws))
    draws["layer_0_weight"][1, :, 3, 33] += 6
    summaries, by_moments = per_layer(run_of(draws)), per_layer(moments_of(draws))
    stuck, from_moments = summaries.pop("layer_0_weight"), by_moments.pop("layer_0_weight")
    assert stuck.rhat_max > 1.5
    assert stuck.ess_min is not None
    assert stuck.ess_min < 20
    assert from_moments.rhat_max > 1.5
    assert from_moments.ess is from_moments.ess_01 is from_moments.ess_min is None
    sound, sound_moments = before.pop("layer_0_weight"), moments_before.pop("layer_0_weight")
    assert stuck.rhat == pytest.approx(sound.rhat, abs=1e-3)
    assert stuck.rhat_99 < 1.06 > sound.rhat_max > 1.0
    assert from_moments.rhat == pytest.approx(sound_moments.rhat, abs=1e-3)
    assert (summaries, by_moments) == (before, moments_before)


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan])
def test_a_constant_or_infinite_weight_passes_no_threshold(
    value: float, rng: np.random.Generator
) -> None:
    draws = draws_of(rng)
    where = slice(None) if value == 0 else 5
    draws["readout"][:, where, 4, 1] = value
    summary = per_layer(run_of(draws))["readout"]
    with np.errstate(invalid="ignore"):
        moments = moments_of(draws)
    assert np.isnan([summary.rhat_max, summary.ess_min]).all()
    assert summary.ess is not None
    assert np.isfinite([summary.rhat, summary.ess]).all()
    assert np.isnan(per_layer(moments)["readout"].rhat_max)


def test_moments_give_gelman_and_rubins(rng: np.random.Generator) -> None:
    draws = draws_of(rng)
    draws["layer_2_scale"] += np.arange(4, dtype=np.float32)[:, None]
    chains = draws["layer_2_scale"].astype(float)
    within = chains.var(axis=1, ddof=1).mean()
    total = within * 199 / 200 + chains.mean(axis=1).var(ddof=1)
    summary = per_layer(moments_of(draws))["layer_2_scale"]
    assert summary.rhat == pytest.approx(np.sqrt(total / within), rel=1e-5)


def test_one_chain_has_ess_but_no_rhat(rng: np.random.Generator) -> None:
    draws = draws_of(rng, chains=1)
    for run in (run_of(draws), moments_of(draws)):
        assert np.isnan(per_layer(run)["readout"].rhat)
    summary = per_layer(run_of(draws))["readout"]
    assert summary.ess is not None
    assert summary.ess > 50


def test_a_run_without_parameters_has_no_layers(rng: np.random.Generator) -> None:
    assert per_layer(_finished({}, draws_of(rng))) == {}


def test_a_store_is_read_by_slabs(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(draws_of(rng))
    run.to_zarr(tmp_path / "run.zarr", consolidated=False)
    whole: dict[str, LayerSummary] = per_layer(run)
    monkeypatch.setattr(layers, "SLAB_BYTES", 4 * 200 * 4 * 5 * 3)
    seen: list[int] = []

    def spy(draws: np.ndarray) -> Summary:
        seen.append(draws.nbytes)
        return summarise(draws)

    summarise = layers.summarise
    monkeypatch.setattr(layers, "summarise", spy)
    with xr.open_datatree(
        tmp_path / "run.zarr", engine="zarr", chunks=None, consolidated=False
    ) as stored:
        assert per_layer(stored) == whole
    assert len(seen) > 10
    assert max(seen) <= 4 * 200 * 4 * 30
