"""The verdict's good and bad news follow from the summaries."""

from __future__ import annotations

import math

import pytest

from bnnsample.reports.summary import Summary
from bnnsample.reports.verdict import (
    LARGEST_AGREEING_Z,
    WEAK_RHAT,
    Statement,
    by_target,
    verdict,
)
from tests.synthetic import make_summary

CONVERGED = "Did the {} target's chains converge?"
SPEED = "How much faster is the map?"
AGREES = "Do the {} and the marginal target agree?"
LIMIT = "How far is the NNGP limit?"


def answer(question: str, *summaries: Summary) -> Statement:
    (found,) = [s for s in verdict(summaries) if s.question == question]
    return found


def asked(*summaries: Summary) -> list[str]:
    return [statement.question for statement in verdict(summaries)]


def test_questions_come_in_the_order_a_reader_asks_them() -> None:
    summaries = [
        make_summary(width, target, disagreement=None if target == "marginal" else 1.0)
        for width in (3, 7)
        for target in ("standard", "marginal")
    ]
    assert asked(*summaries) == [
        CONVERGED.format("marginal"),
        CONVERGED.format("standard"),
        SPEED,
        AGREES.format("standard"),
        LIMIT,
    ]
    assert all(statement.text.endswith(".") for statement in verdict(summaries))


def test_convergence_is_good_only_if_predictions_pass_at_every_width() -> None:
    question = CONVERGED.format("marginal")
    passed, failed = make_summary(3, "marginal"), make_summary(7, "marginal", failed=("hidden",))
    both = answer(question, passed, failed)
    assert both.good is True
    figures = "(R-hat up to 1.003, ESS at least 500)"
    assert both.text.startswith(
        f"Predictions yes at width 3 {figures} and yes at width 7 {figures}. "
        f"Hidden weights yes at width 3 {figures} and nearly at width 7 {figures}."
    )
    nearly = make_summary(7, "marginal", failed=("predictions",), rhat=1.04)
    assert answer(question, passed, nearly).good is None
    bad = make_summary(7, "marginal", failed=("predictions",), rhat=1.06)
    one_bad = answer(question, passed, bad)
    assert one_bad.good is False
    assert "and no at width 7 (R-hat up to 1.060, ESS at least 500)." in one_bad.text
    assert answer(question, bad).good is False
    unknown = make_summary(7, "marginal", failed=("predictions",), rhat=math.nan)
    assert answer(question, passed, unknown).good is False


def test_each_target_is_judged_by_its_own_runs() -> None:
    summaries = (
        make_summary(3, "standard", failed=("predictions",), rhat=1.3),
        make_summary(3, "repriorised"),
    )
    assert answer(CONVERGED.format("standard"), *summaries).good is False
    assert answer(CONVERGED.format("repriorised"), *summaries).good is True


@pytest.mark.parametrize(("fast", "good"), [(0.6, True), (0.02, None), (0.01, None)])
def test_speed_is_the_ratio_of_rates_at_each_width_and_good_where_all_are_above_one(
    fast: float, good: bool | None
) -> None:
    found = answer(
        SPEED,
        make_summary(3, "standard", per_gradient=0.02, per_second=20.0),
        make_summary(3, "marginal", per_gradient=0.05, per_second=30.0),
        make_summary(7, "standard", per_gradient=0.02, per_second=20.0),
        make_summary(7, "marginal", per_gradient=fast, per_second=240.0),
    )
    assert found.good is good
    assert "2.5 (1.5) at width 3" in found.text
    assert f"{fast / 0.02:.3g} (12) at width 7" in found.text
    assert "did not pass" not in found.text


def test_speed_is_bad_news_where_no_ratio_is_above_one() -> None:
    found = answer(
        SPEED,
        make_summary(3, "standard", per_gradient=0.02, per_second=20.0),
        make_summary(3, "marginal", per_gradient=0.02, per_second=11.0),
    )
    assert found.good is False


def test_speed_warns_of_chains_that_did_not_converge() -> None:
    found = answer(
        SPEED,
        make_summary(3, "standard"),
        make_summary(3, "marginal", failed=("predictions",)),
        make_summary(7, "standard", failed=("predictions",)),
        make_summary(7, "marginal"),
    )
    assert found.text.endswith("rough figure: marginal at width 3 and standard at width 7.")


def test_a_rate_that_is_nan_is_no_good_news() -> None:
    found = answer(
        SPEED,
        make_summary(3, "standard", per_gradient=math.nan),
        make_summary(3, "marginal"),
    )
    assert found.good is None


def test_speed_is_left_out_where_there_is_nothing_to_compare() -> None:
    assert SPEED not in asked(make_summary(3, "marginal"), make_summary(7, "standard"))


@pytest.mark.parametrize(
    ("scores", "good"),
    [
        ((0.9, 1.1), True),
        ((0.9, LARGEST_AGREEING_Z), False),
        ((5.0, 1.0), False),
        ((1.0, math.nan), False),
    ],
)
def test_targets_agree_only_if_every_width_does(scores: tuple[float, float], good: bool) -> None:
    found = answer(
        AGREES.format("repriorised"),
        make_summary(3, "repriorised", disagreement=scores[0]),
        make_summary(7, "repriorised", disagreement=scores[1]),
    )
    assert found.good is good
    assert f"{scores[0]:.2f} at width 3 and {scores[1]:.2f} at width 7" in found.text
    assert "mixed too badly" not in found.text


@pytest.mark.parametrize("score", [1.0, 50.0])
@pytest.mark.parametrize("rhat", [WEAK_RHAT, 3.0, math.nan])
def test_chains_that_hardly_mixed_say_nothing_about_agreement(rhat: float, score: float) -> None:
    found = answer(
        AGREES.format("standard"),
        make_summary(3, "standard", disagreement=1.0),
        make_summary(7, "standard", disagreement=score, rhat=rhat),
    )
    assert found.good is None
    assert "mixed too badly" in found.text


def test_agreement_is_not_asked_without_a_reference() -> None:
    assert AGREES.format("standard") not in asked(make_summary(3, "standard"))


@pytest.mark.parametrize(
    ("squares", "good", "words"),
    [
        ((0.25, 0.04, 0.01), True, "0.200 (0.173 to 0.224) at width 7 and 0.100"),
        ((0.25, 0.01, 0.04), False, "0.100 (0.000 to 0.141) at width 7 and 0.200"),
        ((0.01, 0.04, 0.25), False, "does not fall"),
        ((0.25, 0.25, 0.01), None, "cannot be told"),
        ((0.25, math.nan, 0.01), None, "cannot be told"),
    ],
)
def test_the_limit_is_good_news_if_the_distance_falls_at_every_step(
    squares: tuple[float, ...], good: bool | None, words: str
) -> None:
    summaries = [
        make_summary(width, "marginal", squared_distance=square)
        for width, square in zip((3, 7, 12), squares, strict=True)
    ]
    for order in (summaries, summaries[::-1]):
        found = answer(LIMIT, *order)
        assert found.good is good
        assert words in found.text
        assert ("It falls with width" in found.text) is (good is True)


def test_one_width_says_how_far_without_a_trend() -> None:
    found = answer(LIMIT, make_summary(3, "marginal"))
    assert found.good is None
    assert "0.500 (0.490 to 0.510) at width 3." in found.text
    assert "fall" not in found.text


def test_the_limit_is_judged_by_the_marginal_target_where_there_is_one() -> None:
    rising = [
        make_summary(width, "standard", squared_distance=square)
        for width, square in ((3, 0.01), (7, 0.25))
    ]
    falling = [
        make_summary(width, "marginal", squared_distance=square)
        for width, square in ((3, 0.25), (7, 0.01))
    ]
    assert answer(LIMIT, *rising, *falling).good is True
    assert "(marginal target)" in answer(LIMIT, *rising, *falling).text
    assert answer(LIMIT, *rising).good is False
    assert "(standard target)" in answer(LIMIT, *rising).text


def test_the_limit_is_not_asked_without_a_distance() -> None:
    assert LIMIT not in asked(make_summary(3, "marginal", squared_distance=None))


def test_groups_keep_the_targets_order_and_sort_by_width() -> None:
    groups = by_target([make_summary(w, t) for w, t in [(7, "b"), (12, "a"), (3, "b")]])
    assert {t: [s.width for s in group] for t, group in groups.items()} == {"b": [3, 7], "a": [12]}
    assert list(groups) == ["b", "a"]
