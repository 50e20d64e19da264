"""The statistics that checks rest on, against SciPy, and at the level that they promise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from bnnsample.diagnostics.function_space import Distance
from bnnsample.diagnostics.validation.calibration import Calibration, ranks_of
from bnnsample.diagnostics.validation.energy import energy_test
from bnnsample.diagnostics.validation.limit import LimitRate, _slope
from bnnsample.diagnostics.validation.moments import Reference, judge_moments, standard_errors_off


def test_standard_errors_are_those_of_a_t_test(rng):
    draws = rng.normal(1.7, 0.6, (7, 11))
    first, second = standard_errors_off(draws, Reference(1.5, 0.5))
    z = (draws - 1.5) / 0.5
    assert first == pytest.approx(scipy.stats.ttest_1samp(z.mean(0), 0.0).statistic)
    assert second == pytest.approx(scipy.stats.ttest_1samp((z**2).mean(0), 1.0).statistic)


def test_errors_of_the_reference_count(rng):
    draws = rng.normal(size=(5, 40))
    exact, estimated = Reference(0.0, 1.0), Reference(0.0, 1.0, 3.0, 4.0)
    for own, other in zip(
        standard_errors_off(draws, exact), standard_errors_off(draws, estimated), strict=True
    ):
        assert abs(other) < 0.1 * abs(own)
    sample = rng.gamma(3.0, 2.0, 50_000)
    found = Reference.of(sample)
    assert found.mean == pytest.approx(6.0, abs=0.1)
    assert found.std == pytest.approx(12**0.5, abs=0.1)
    # of a gamma law with shape 3 the kurtosis is 3 + 6 / 3
    assert found.square_error == pytest.approx((4 / 50_000) ** 0.5, rel=0.1)


def test_moments_raise_as_many_false_alarms_as_they_promise(rng):
    """At most 0.2 of 400 trials, and 0.18 of independent quantities: 74 give or take 8."""
    alarms = 0
    for _ in range(400):
        of_chains = rng.normal(size=(2, 1, 64))  # draws of one chain hang together
        own = 0.3**0.5 * of_chains + 0.7**0.5 * rng.normal(size=(2, 20, 64))
        references = dict.fromkeys("ab", Reference(0.0, 1.0))
        draws = dict(zip("ab", own, strict=True))
        findings = judge_moments("x", draws, references, level=0.2, advice="")
        alarms += any(not finding.ok for finding in findings)
    assert 42 < alarms < 106


def test_a_moment_that_is_off_or_not_finite_is_caught(rng):
    draws = {"shifted": rng.normal(0.3, 1.0, (50, 64)), "spread": rng.normal(0, 1.2, (50, 64))}
    draws["lost"] = np.full((50, 64), np.nan)
    draws["right"] = rng.normal(size=(50, 64))
    references = dict.fromkeys(draws, Reference(0.0, 1.0))
    findings = judge_moments("x", draws, references, level=1e-4, advice="")
    assert [finding.ok for finding in findings] == [False, False, False, True]


def test_a_quantity_that_cannot_vary_is_right_only_where_it_is_equal():
    exact = Reference(1.5, 0.0)
    assert standard_errors_off(np.full((5, 8), 1.5), exact) == (0.0, 0.0)
    assert standard_errors_off(np.full((5, 8), 1.4), exact) == (-np.inf, np.inf)
    assert Reference.of(np.full(9, 2.0)) == Reference(2.0, 0.0, 1 / 3, 0.0)


def test_the_energy_distance_is_scipys_in_one_dimension(rng):
    first, second = rng.normal(size=(30, 1)), rng.normal(1.0, 2.0, (40, 1))
    distance, _ = energy_test(first, second, seed=1, level=0.5)
    scaled = scipy.stats.energy_distance(*(part[:, 0] / second.std() for part in (first, second)))
    assert distance == pytest.approx(scaled**2)


def test_p_values_of_the_energy_distance_are_uniform_for_equal_laws(rng):
    """100 p-values; a Kolmogorov-Smirnov test that fails in one of 1000 seeds."""
    ps = [
        energy_test(rng.normal(size=(25, 3)), rng.normal(size=(35, 3)), seed=seed, level=0.05)[1]
        for seed in range(100)
    ]
    assert scipy.stats.kstest(ps, "uniform").pvalue > 1e-3


def test_laws_that_differ_in_one_coordinate_or_in_correlation_are_caught(rng):
    reference = rng.normal(size=(400, 3))
    shifted = rng.normal(size=(400, 3)) + np.array([0.0, 0.4, 0.0])
    together = rng.normal(size=(400, 1)) * np.ones(3)
    for other in (shifted, together):
        assert energy_test(other, reference, seed=2, level=1e-3)[1] < 1e-3


def test_a_constant_counts_for_nothing_in_the_energy_distance_unless_it_is_another(rng):
    first, second = rng.normal(size=(30, 2)), rng.normal(size=(40, 2))
    plain = energy_test(first, second, seed=1, level=0.5)
    for constant in (0.0, 7.3):
        with_one = (np.insert(part, 1, constant, axis=1) for part in (first, second))
        assert energy_test(*with_one, seed=1, level=0.5) == pytest.approx(plain)
    other = (np.insert(first, 1, 1.0, axis=1), np.insert(second, 1, 0.0, axis=1))
    assert energy_test(*other, seed=1, level=1e-3)[1] < 1e-3


def test_the_energy_distance_of_what_is_not_a_number_is_none(rng):
    first, second = rng.normal(size=(30, 2)), rng.normal(size=(40, 2))
    first[3, 1] = np.nan
    assert np.isnan(energy_test(first, second, seed=1, level=0.5)).all()


def calibration(ranks: np.ndarray, level: float) -> Calibration:
    return Calibration({"x": ranks}, 63, level)


def test_uniform_ranks_raise_as_many_false_alarms_as_promised(rng):
    """Two tests at 0.05 in 400 trials: at most 0.1 of them, and 0.06 where they go together."""
    alarms = sum(not calibration(rng.integers(0, 64, 128), 0.05).verdict.ok for _ in range(400))
    assert 10 < alarms < 62


def ranks(truth: np.ndarray, draws: np.ndarray, seed: int = 0) -> np.ndarray:
    return ranks_of(truth, draws, np.random.default_rng(seed))


def test_ranks_without_ties_are_counts_and_ties_spread_over_what_they_leave(rng):
    draws, truth = rng.normal(size=(63, 50)), rng.normal(size=50)
    np.testing.assert_array_equal(ranks(truth, draws), np.sum(draws < truth, axis=0))
    draws[:9] = truth
    below = np.sum(draws < truth, axis=0)
    many = np.stack([ranks(truth, draws, seed) for seed in range(300)])
    np.testing.assert_array_equal(many.min(axis=0), below)
    np.testing.assert_array_equal(many.max(axis=0), below + 9)


@pytest.mark.parametrize("atom", [0.0, 0.3, 0.9, 1.0])
def test_quantities_with_an_atom_pass_and_with_another_they_do_not(atom, rng):
    """Draws of truth's own law; a false alarm in one of 1000 seeds."""

    def law(shape: tuple[int, ...], atom: float) -> np.ndarray:
        return np.where(rng.random(shape) < atom, 0.0, np.abs(rng.normal(size=shape)))

    truth = law((400,), atom)
    assert calibration(ranks(truth, law((63, 400), atom)), 5e-4).verdict.ok
    assert not calibration(ranks(truth, law((63, 400), abs(atom - 0.3))), 5e-4).verdict.ok


def test_ranks_of_what_is_not_a_number_are_told(rng):
    draws, truth = rng.normal(size=(63, 40)), rng.normal(size=40)
    draws[5, 2] = truth[7] = np.nan
    found = ranks(truth, draws)
    assert set(np.flatnonzero(found < 0)) == {2, 7}
    (finding,) = calibration(found, 1e-9).verdict.failed
    assert finding.figure == "not a number in 2 of 40 replications"


@pytest.mark.parametrize("shape", [(1.6, 1.0), (1.0, 1.6), (2.0, 2.0), (0.5, 0.5)])
def test_ranks_that_lean_or_heap_are_caught(rng, shape):
    ranks = (64 * rng.beta(*shape, 256)).astype(int)
    assert not calibration(ranks, 1e-3).verdict.ok


def outside(ranks: np.ndarray) -> bool:
    _, curve, lower, upper = calibration(ranks, 0.1).bands("x", 0.9)
    return bool(np.any((curve < lower - 1e-12) | (curve > upper + 1e-12)))


def test_bands_hold_the_curve_as_often_as_they_say(rng):
    """The band of 0.9 misses 3 of 30 curves; more than 9 in one of 1000 seeds."""
    assert sum(outside(rng.integers(0, 64, 96)) for _ in range(30)) <= 9
    assert outside((64 * rng.beta(1.6, 1.0, 96)).astype(int))


def distances(*squared: float, error: float = 1e-4) -> tuple[Distance, ...]:
    return tuple(Distance(each, error) for each in squared)


def test_the_slope_is_that_of_the_power_law_by_weighted_least_squares(rng):
    widths = (4, 16, 64, 256)
    exact = distances(*(0.3 * width**-1.4 for width in widths))
    assert _slope(widths, exact)[0] == pytest.approx(-0.7)
    noisy = distances(*(0.3 * width**-1.4 * (1 + 0.05 * rng.normal()) for width in widths))
    slope, error = _slope(widths, noisy)
    sigma = np.array([each.squared_error / (2 * each.squared) for each in noisy])
    x, y = np.log(widths), np.log([each.squared for each in noisy]) / 2
    kept = sigma < 0.5
    expected, covariance = scipy.optimize.curve_fit(
        lambda x, a, b: a + b * x, x[kept], y[kept], sigma=sigma[kept], absolute_sigma=True
    )
    assert slope == pytest.approx(expected[1], rel=1e-5)
    assert error == pytest.approx(covariance[1, 1] ** 0.5, rel=1e-5)


def test_a_distance_that_levels_off_or_does_not_fall_is_caught():
    widths = (4, 16, 64)
    for found, ok in (
        (distances(0.04, 0.006, 0.001), True),
        (distances(0.04, 0.00001, 0.00002), True),  # all but one are below their error
        (distances(0.14, 0.11, 0.10), False),
        (distances(0.04, 0.04, 0.04), False),
        (distances(0.04, 0.02, 0.01, error=0.05), None),
        (distances(0.04, 0.02, 0.011), False),  # as width to the -0.23
        (distances(0.04, 0.02, 0.0104), None),
        (distances(0.04, 0.02, 0.009), True),  # as width to the -0.27
        (distances(0.04, 0.02, np.nan), False),
    ):
        rate = LimitRate(widths, found, *_slope(widths, found), chains=8, level=0.001)
        assert rate.verdict.findings[0].ok is ok, rate.verdict
    assert rate.verdict.findings[0].threshold == pytest.approx(4.785, abs=1e-3)  # a table's
