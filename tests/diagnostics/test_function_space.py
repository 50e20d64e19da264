"""The distance to the limit has a known answer on draws of a known law."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from bnnsample.diagnostics.function_space import Distance, disagreement, distance_to_nngp
from tests.synthetic import OUTPUTS, POINTS, iid_draws, make_run

LIMIT_MEAN = np.random.default_rng(7).normal(size=(POINTS, OUTPUTS))
LIMIT_STD = np.array([0.3, 2.0, 0.7, 1.1, 0.05])[:, None] * np.array([1.0, 0.6])
SEEDS = range(5)


def predictions(
    seed: int, *, shift: float = 0.0, scale: float = 1.0, chains: int = 6, draws: int = 400
) -> np.ndarray:
    """Draws of f whose law is the limit's, shifted and scaled in units of its std."""
    noise = iid_draws(seed, chains=chains, draws=draws)["f"]
    return LIMIT_MEAN + LIMIT_STD * (shift + scale * noise)


def distance(f: np.ndarray, **more: np.ndarray) -> Distance:
    found = distance_to_nngp(make_run({"f": f, **more}, nngp_mean=LIMIT_MEAN, nngp_std=LIMIT_STD))
    assert found is not None
    return found


def collapsed(
    seed: int, *, shift: float, scale: float, inner: float = 0.8, **sizes: int
) -> dict[str, np.ndarray]:
    """The same law as ``predictions`` as conditional means and stds of a share ``inner``."""
    noise = iid_draws(seed, **sizes)["f"]
    outer = math.sqrt(1 - inner**2)
    mean = LIMIT_MEAN + LIMIT_STD * (shift + scale * outer * noise)
    std = np.broadcast_to(LIMIT_STD * scale * inner, mean.shape)
    return {"f_mean": mean, "f_std": np.array(std)}


def wasserstein_square(shift: float, scale: float) -> float:
    """The squared 2-Wasserstein distance of N(0, 1) and N(shift, scale^2)."""
    return shift**2 + (scale - 1) ** 2


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_from_the_limit_are_at_distance_zero_within_the_stated_error(seed: int) -> None:
    found = distance(predictions(seed))
    assert abs(found.squared) < 4 * found.squared_error
    # 2400 draws: the noise of a mean square over 10 components is below one hundredth of a std^2
    assert 0 < found.squared_error < 0.01


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("shift", "scale"), [(0.5, 1.0), (0.0, 1.4), (-0.3, 0.8)])
def test_a_known_shift_and_scale_give_the_known_distance(
    seed: int, shift: float, scale: float
) -> None:
    found = distance(predictions(seed, shift=shift, scale=scale, chains=12))
    known = wasserstein_square(shift, scale)
    assert abs(found.squared - known) < 4 * found.squared_error
    assert found.squared_error < known / 4
    assert found.value == pytest.approx(math.sqrt(found.squared))


@pytest.mark.parametrize(("shift", "scale"), [(0.02, 1.03), (0.4, 0.44), (-1.5, 2.0)])
def test_it_is_the_wasserstein_distance_of_sorted_draws(shift: float, scale: float) -> None:
    ordered = scipy.stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    transported = np.mean((shift + scale * ordered - ordered) ** 2)
    rows = collapsed(0, shift=shift, scale=scale, inner=1.0, chains=4, draws=9)
    assert distance(rows["f_mean"], **rows).squared == pytest.approx(transported, rel=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_conditional_moments_have_the_same_answer_with_a_smaller_error(seed: int) -> None:
    shift, scale = 0.4, 1.2
    f = predictions(seed, shift=shift, scale=scale, chains=12)
    rows = collapsed(100 + seed, shift=shift, scale=scale, chains=12, inner=0.95)
    known = wasserstein_square(shift, scale)
    plain, rao_blackwellised = distance(f), distance(f, **rows)
    assert abs(rao_blackwellised.squared - known) < 4 * rao_blackwellised.squared_error
    assert rao_blackwellised.squared_error < plain.squared_error


def test_conditional_moments_that_do_not_vary_give_the_distance_exactly() -> None:
    rows = collapsed(0, shift=0.25, scale=0.6, inner=1.0, chains=3, draws=5)
    found = distance(predictions(1, chains=3, draws=5), **rows)
    assert found.squared == pytest.approx(wasserstein_square(0.25, 0.6), rel=1e-12)
    assert found.squared_error == pytest.approx(0, abs=1e-12)


def plug_in(f: np.ndarray) -> float:
    """What the square of the pooled differences would be, Monte-Carlo noise and all."""
    deviation = (f - LIMIT_MEAN) / LIMIT_STD
    means, stds = deviation.mean((0, 1)), deviation.std((0, 1)) - 1
    return float(np.mean(means**2 + stds**2))


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_the_squared_distance_is_unbiased_where_the_plug_in_square_is_not(shift: float) -> None:
    chains, draws, replicates = 4, 25, 100
    runs = [
        predictions(seed, shift=shift, chains=chains, draws=draws) for seed in range(replicates)
    ]
    known = wasserstein_square(shift, 1.0)

    def z_score(values: list[float]) -> float:
        return (np.mean(values) - known) / (np.std(values, ddof=1) / math.sqrt(replicates))

    assert abs(z_score([distance(f).squared for f in runs])) < 4
    # 100 draws in all: too large by 1/100 for the means and 1/200 for the stds
    assert z_score([plug_in(f) for f in runs]) > 5


def test_the_stated_error_is_the_spread_over_replicates() -> None:
    shift, chains, replicates = 0.3, 8, 100
    found = [
        distance(predictions(seed, shift=shift, chains=chains, draws=25))
        for seed in range(replicates)
    ]
    spread = np.std([d.squared for d in found], ddof=1)
    stated = math.sqrt(np.mean([d.squared_error**2 for d in found]))
    # the spread of 100 replicates is known to 7 %; the jackknife's variance errs upward
    assert 0.75 * spread < stated < 1.5 * spread


def test_each_point_counts_in_units_of_its_own_std() -> None:
    f = np.broadcast_to(LIMIT_MEAN, (3, 4, POINTS, OUTPUTS)).copy()
    f[:, :, 4, 1] += 0.03
    # where the std is 0.03 the mean is off, in one output of ten; every std is 0
    known = np.ones((POINTS, OUTPUTS))
    known[4, 1] += 1.0
    assert distance(f).squared == pytest.approx(known.mean())


@pytest.mark.parametrize(("chains", "squared_known"), [(1, False), (2, True)])
def test_fewer_than_three_chains_have_no_error(chains: int, squared_known: bool) -> None:
    found = distance(predictions(0, chains=chains))
    assert math.isnan(found.squared_error)
    assert math.isfinite(found.squared) == squared_known
    assert all(math.isnan(end) for end in found.interval)


def test_a_run_without_limit_or_predictions_is_refused() -> None:
    arrays = iid_draws(0)
    with pytest.raises(ValueError, match="got no limit"):
        distance_to_nngp(make_run(arrays))
    del arrays["f"]
    with pytest.raises(ValueError, match="got no predictions"):
        distance_to_nngp(make_run(arrays, nngp_mean=LIMIT_MEAN, nngp_std=LIMIT_STD))


def test_negative_squares_count_as_zero_distance() -> None:
    below = Distance(squared=-0.01, squared_error=0.05)
    assert below.value == 0
    assert below.interval == pytest.approx((0, 0.2))
    above = Distance(squared=0.25, squared_error=0.09)
    assert (above.value, *above.interval) == pytest.approx((0.5, 0.4, math.sqrt(0.34)))


def test_independent_runs_of_one_law_disagree_by_about_one_standard_error() -> None:
    replicates = 20
    scores = [
        disagreement(
            make_run({"f": predictions(seed, scale=2.0, draws=100)}),
            make_run({"f": predictions(1000 + seed, draws=100)}),
        )
        for seed in range(replicates)
    ]
    # squares of 10 components each: the mean square has a relative error of sqrt(2 / 200) = 0.1;
    # ArviZ's own estimate of each error scatters by some percent on top
    assert np.mean(np.square(scores)) == pytest.approx(1, abs=0.4)


def test_runs_that_differ_in_mean_disagree_by_the_known_z_score() -> None:
    chains, draws, shift = 6, 400, 0.5
    ours = make_run({"f": predictions(1, shift=shift)})
    theirs = make_run({"f": predictions(2)})
    z = shift / math.sqrt(2 / (chains * draws))
    assert disagreement(ours, theirs) == pytest.approx(z, rel=0.15)
    assert disagreement(theirs, ours) == pytest.approx(disagreement(ours, theirs))


def test_a_run_agrees_with_itself() -> None:
    run = make_run({"f": predictions(3)})
    assert disagreement(run, run) == 0


def test_outputs_that_are_one_number_in_both_runs_agree() -> None:
    ours, theirs = predictions(3), predictions(4)
    varying = disagreement(make_run({"f": ours[:, :, 1:]}), make_run({"f": theirs[:, :, 1:]}))
    points = ours.shape[2]
    ours[:, :, 0] = theirs[:, :, 0] = 0.0
    found = disagreement(make_run({"f": ours}), make_run({"f": theirs}))
    assert found == pytest.approx(varying * math.sqrt((points - 1) / points))
    theirs[:, :, 0] = 1.0
    assert disagreement(make_run({"f": ours}), make_run({"f": theirs})) == math.inf
