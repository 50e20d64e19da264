"""The vectorised diagnostics are ArviZ's, on good chains and bad; nested R-hat is the paper's."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arviz_stats.base.array import array_stats

from bnnsample.checks import BadInput
from bnnsample.diagnostics import rank_statistics, vectorised
from bnnsample.diagnostics.vectorised import (
    ess_bulk,
    ess_mean,
    ess_tail,
    mcse_mean,
    nested_rhat,
    rhat,
    summarise,
)

ARVIZ: dict[str, Callable[[np.ndarray], object]] = {
    "ess_bulk": lambda draws: array_stats.ess(draws, method="bulk"),
    "ess_tail": lambda draws: array_stats.ess(draws, method="tail", prob=(0.05, 0.95)),
    "ess_mean": lambda draws: array_stats.ess(draws, method="mean"),
    "mcse_mean": lambda draws: array_stats.mcse(draws, method="mean"),
    "rhat": lambda draws: array_stats.rhat(draws, method="rank"),
}
CORRELATIONS = (0.0, 0.5, 0.95, 0.999, -0.5, -0.95)


def arviz(name: str, draws: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(ARVIZ[name](np.moveaxis(draws.astype(float), (0, 1), (-2, -1))))


def autocorrelated(
    rng: np.random.Generator, chains: int, draws: int, correlation: np.ndarray
) -> np.ndarray:
    """Stationary AR(1) chains (chains, draws, parameters)."""
    noise = rng.standard_normal((chains, draws, len(correlation)))
    for t in range(1, draws):
        step = np.sqrt(1 - correlation**2) * noise[:, t]
        noise[:, t] = correlation * noise[:, t - 1] + step
    return noise


def pathological(rng: np.random.Generator, chains: int = 4, draws: int = 100) -> np.ndarray:
    """One bad chain or value each (chains, draws, cases)."""
    cases = [rng.standard_normal((chains, draws)) for _ in range(19)]
    cases[0][:] = 1.0
    cases[1][0] = 3.0  # stuck
    cases[2][:] = np.arange(chains)[:, None] - 2.0  # each chain stuck
    cases[3][:] = np.where(np.arange(draws) % 2, 1, -1) * np.abs(cases[3])  # antithetic
    cases[4][-1, 7] = np.nan
    cases[5][:] = np.nan
    cases[6][-1, 3] = np.inf
    cases[7][-1, 3:] = -np.inf
    cases[8][:2] = np.inf  # half of the draws, so that the median is infinite
    cases[9][:3] = np.inf
    cases[10][:2], cases[10][2:] = np.inf, -np.inf
    cases[11] = np.round(cases[11])  # ties
    cases[12] = (cases[12] > 1.8).astype(float)
    cases[13] = np.where(cases[13] > 0, 0.0, -0.0)
    cases[14] *= 1e-17
    cases[15] *= 1e200
    cases[16] += 1e9
    cases[18] = 1e13 + 3 * cases[18]  # equal in their leading bits
    cases[17] = np.cumsum(cases[17], axis=1)
    return np.stack(cases, axis=-1)


@pytest.mark.parametrize("name", ARVIZ)
@pytest.mark.parametrize("shape", [(4, 200), (3, 101), (1, 50), (2, 7), (2, 8), (16, 12)])
def test_random_chains_give_arviz(
    name: str, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    draws = autocorrelated(rng, *shape, np.repeat(CORRELATIONS, 20))
    ours = getattr(vectorised, name)(draws)
    np.testing.assert_allclose(ours, arviz(name, draws), rtol=1e-6)


@pytest.mark.parametrize("name", ARVIZ)
@pytest.mark.parametrize("shape", [(4, 100), (3, 41), (1, 30)])
def test_pathological_chains_give_arviz(
    name: str, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    draws = pathological(rng, *shape)
    ours = getattr(vectorised, name)(draws)
    np.testing.assert_allclose(ours, arviz(name, draws), rtol=1e-6, atol=1e-300)


@pytest.mark.parametrize("name", ["ess_bulk", "ess_tail", "rhat"])
@pytest.mark.parametrize("first_lags", [2, 5, 128])
def test_rejections_and_the_lags_tried_first_do_not_matter(
    name: str, first_lags: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_statistics, "FIRST_LAGS", first_lags)
    long = autocorrelated(rng, 2, 600, np.repeat(CORRELATIONS, 5))
    rejecting = np.repeat(long[:, ::3], 3, axis=1)
    for draws in (long, rejecting, pathological(rng), pathological(rng, 3, 41)):
        ours = getattr(vectorised, name)(draws)
        np.testing.assert_allclose(ours, arviz(name, draws), rtol=1e-6, atol=1e-300)


@pytest.mark.parametrize("shape", [(4, 100), (3, 41), (1, 30), (2, 3)])
def test_the_three_together_are_those_one_by_one(
    shape: tuple[int, int], rng: np.random.Generator
) -> None:
    draws = pathological(rng, *shape) if shape[1] > 7 else rng.standard_normal((*shape, 2))
    summary = summarise(draws)
    for name in ("rhat", "ess_bulk", "ess_tail"):
        np.testing.assert_array_equal(getattr(summary, name), getattr(vectorised, name)(draws))


@pytest.mark.parametrize("name", ARVIZ)
@pytest.mark.parametrize("n_draws", range(1, 12))
def test_few_draws_give_arviz(name: str, n_draws: int, rng: np.random.Generator) -> None:
    draws = rng.standard_normal((2, n_draws, 10))
    draws[:, :, 5:] = np.round(draws[:, :, 5:])
    ours = getattr(vectorised, name)(draws)
    assert np.isnan(ours).all() == (n_draws < 4)
    np.testing.assert_allclose(ours, arviz(name, draws), rtol=1e-6)


@pytest.mark.parametrize("name", ARVIZ)
def test_dtypes_arrays_and_trailing_shapes_do_not_matter(
    name: str, rng: np.random.Generator
) -> None:
    diagnostic = getattr(vectorised, name)
    draws = np.round(rng.standard_normal((4, 60, 3, 2)) * 5).astype(np.float32)
    expected = arviz(name, draws)
    assert expected.shape == (3, 2)
    for same in (draws, draws.astype(int), jnp.asarray(draws), np.asfortranarray(draws)):
        result = diagnostic(same)
        assert result.dtype == np.float64
        np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert diagnostic(draws[..., 0, 0]).shape == ()
    assert diagnostic(draws[..., :0]).shape == (3, 0)


@pytest.mark.parametrize("name", [*ARVIZ, "nested_rhat"])
def test_blocks_do_not_matter(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = pathological(rng)
    arguments = (np.repeat([0, 1], 2),) if name == "nested_rhat" else ()
    whole = getattr(vectorised, name)(draws, *arguments)
    for n_bytes in (1, 5 * 8 * 400):
        monkeypatch.setattr(vectorised, "BLOCK_BYTES", n_bytes)
        np.testing.assert_array_equal(getattr(vectorised, name)(draws, *arguments), whole)


def test_the_input_and_the_precision_of_jax_are_left_alone(rng: np.random.Generator) -> None:
    x64 = jax.config.read("jax_enable_x64")
    draws = pathological(rng)
    before = draws.copy()
    for name in ARVIZ:
        getattr(vectorised, name)(draws)
    np.testing.assert_array_equal(draws, before)
    assert jax.config.read("jax_enable_x64") == x64


def test_bad_chains_are_told_from_good_ones(rng: np.random.Generator) -> None:
    good = rng.standard_normal((4, 200))
    stuck, scaled, shifted = good.copy(), good.copy(), good.copy()
    stuck[0] = stuck[0, 0]
    scaled[0] *= 5
    shifted[0] += 2
    draws = np.stack((good, stuck, scaled - scaled.mean(1, keepdims=True), shifted), axis=-1)
    bulk, tail, ratios = ess_bulk(draws), ess_tail(draws), rhat(draws)
    assert bulk[0] > 400
    assert bulk[1] < 0.2 * bulk[0]
    assert tail[2] < 0.3 * tail[0]
    assert ratios[0] < 1.02
    assert (ratios[1:] > 1.1).all()


def test_autocorrelation_lowers_the_ess_and_raises_the_error(rng: np.random.Generator) -> None:
    draws = autocorrelated(rng, 4, 200, np.repeat([-0.5, 0.0, 0.5, 0.9], 50))
    by_correlation = ess_mean(draws).reshape(4, 50).mean(axis=1)
    assert (np.diff(by_correlation) < 0).all()
    assert (np.diff(mcse_mean(draws).reshape(4, 50).mean(axis=1)) > 0).all()
    assert by_correlation[2] == pytest.approx(800 / 3, rel=0.15)


def paper(draws: np.ndarray, superchains: np.ndarray) -> float:
    """Margossian et al. 2024, eqs. 4 to 8, of one parameter (chains, draws)."""
    groups = [draws[superchains == k] for k in np.unique(superchains)]
    within = []
    for group in groups:
        chains, n = group.shape
        means = group.mean(axis=1)
        between = sum((means - means.mean()) ** 2) / (chains - 1) if chains > 1 else 0.0
        own = ((group - means[:, None]) ** 2).sum() / (n - 1) / chains if n > 1 else 0.0
        within.append(between + own)
    centres = np.array([group.mean() for group in groups])
    spread = ((centres - centres.mean()) ** 2).sum() / (len(groups) - 1)
    return float(np.sqrt(1 + spread / np.mean(within)))


@pytest.mark.parametrize(("n_each", "n_draws"), [(16, 1), (16, 5), (1, 50), (3, 10)])
def test_nested_rhat_is_the_papers(n_each: int, n_draws: int, rng: np.random.Generator) -> None:
    superchains = rng.permutation(np.repeat([7, 2, 5], n_each))
    draws = rng.standard_normal((3 * n_each, n_draws, 2, 3))
    draws[superchains == 7] += 1
    expected = [[paper(draws[:, :, i, j], superchains) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(nested_rhat(draws, superchains), expected, rtol=1e-12)
    if n_draws >= 4:
        numbered = np.unique(superchains, return_inverse=True)[1]
        theirs = array_stats.rhat_nested(
            np.moveaxis(draws, (0, 1), (-2, -1)), superchain_ids=numbered, method="identity"
        )
        np.testing.assert_allclose(nested_rhat(draws, superchains), theirs, rtol=1e-12)


def test_nested_rhat_flags_superchains_that_remember_their_start(
    rng: np.random.Generator,
) -> None:
    superchains = np.repeat(np.arange(4), 32)
    mixed = rng.standard_normal((128, 1))
    remembering = mixed + superchains[:, None]
    draws = np.stack((mixed, remembering), axis=-1)
    good, bad = nested_rhat(draws, superchains)
    assert good < 1.1 < 1.4 < bad
    draws[3, 0, 0] = np.nan
    assert np.isnan(nested_rhat(draws, superchains)).tolist() == [True, False]


@pytest.mark.parametrize(
    "draws",
    [np.zeros(5), np.zeros((0, 5)), np.zeros((2, 0, 3)), np.zeros((2, 5), complex), [["a", "b"]]],
    ids=str,
)
def test_what_is_not_chains_of_draws_is_refused(draws: object) -> None:
    for name in ARVIZ:
        with pytest.raises(BadInput, match="draws: got"):
            getattr(vectorised, name)(draws)


@pytest.mark.parametrize(
    ("superchains", "n_draws"),
    [(2, 5), ([0, 0, 1], 5), ([0, 0, 0, 1], 5), ([0, 0, 0, 0], 5), ([0, 1, 2, 3], 1)],
)
def test_superchains_that_do_not_fit_are_refused(superchains: object, n_draws: int) -> None:
    with pytest.raises(BadInput, match="superchains: got"):
        nested_rhat(np.zeros((4, n_draws)), superchains)
