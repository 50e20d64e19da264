"""Convergence figures are ArviZ's, rates divide right, and bad chains do not pass."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from arviz_stats.sampling_diagnostics import ess, mcse, rhat
from xarray import DataArray, DataTree

from bnnsample.diagnostics.convergence import QUANTITIES, convergence
from bnnsample.diagnostics.vectorised import TAIL_PROBABILITIES
from bnnsample.diagnostics.verdict import diagnose
from bnnsample.sampling.store import load_run, save_run
from tests.synthetic import (
    CHAINS,
    DRAWS,
    OUTPUTS,
    POINTS,
    SAMPLING_SECONDS,
    iid_draws,
    make_run,
)

VARIABLES = {name: variable for name, (_, variable) in QUANTITIES.items()}

WEIGHTS = ("hidden", "readout")
OF_THE_RUN = (
    "log density",
    "Monte-Carlo error of predictions",
    "chains in function space",
    "divergences",
    "stuck chains",
    "exactness",
)


def autocorrelated(seed: int, correlation: float = 0.6) -> dict[str, np.ndarray]:
    """Chains of stationary AR(1) draws, so that bulk, tail and draw counts all differ."""
    arrays = iid_draws(seed)
    for noise in arrays.values():
        for draw in range(1, noise.shape[1]):
            step = np.sqrt(1 - correlation**2) * noise[:, draw]
            noise[:, draw] = correlation * noise[:, draw - 1] + step
    return arrays


def components(array: np.ndarray) -> list[DataArray]:
    """Each scalar component's draws, (chain, draw)."""
    flat = array.reshape(*array.shape[:2], -1)
    return [DataArray(flat[:, :, k], dims=("chain", "draw")) for k in range(flat.shape[-1])]


def judged(arrays: dict[str, np.ndarray], **settings: int) -> dict[str, bool | None]:
    return {finding.name: finding.ok for finding in diagnose(make_run(arrays, **settings)).findings}


def not_passed(arrays: dict[str, np.ndarray]) -> dict[str, bool | None]:
    return {name: ok for name, ok in judged(arrays).items() if not ok}


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_figures_are_arviz_on_each_component(quantity: str) -> None:
    arrays = autocorrelated(1)
    figures = convergence(make_run(arrays))[quantity]
    each = components(arrays[VARIABLES[quantity]])
    bulk = [float(ess(c, method="bulk")) for c in each]
    tail = [float(ess(c, method="tail", prob=TAIL_PROBABILITIES)) for c in each]
    assert figures.ess_bulk == pytest.approx(np.median(bulk), rel=1e-12)
    assert figures.ess_bulk_min == pytest.approx(min(bulk), rel=1e-12)
    assert figures.ess_tail == pytest.approx(np.median(tail), rel=1e-12)
    assert figures.ess_tail_min == pytest.approx(min(tail), rel=1e-12)
    assert figures.rhat_max == pytest.approx(max(float(rhat(c)) for c in each), rel=1e-12)
    errors = [float(mcse(c)) / float(c.std()) for c in each]
    assert figures.mcse == pytest.approx(np.median(errors), rel=1e-12)


def test_rates_divide_the_median_bulk_ess_by_all_draws_gradients_and_seconds() -> None:
    for figures in convergence(make_run(autocorrelated(2), gradients_per_draw=11)).values():
        total = CHAINS * DRAWS
        assert figures.ess_per_draw == pytest.approx(figures.ess_bulk / total)
        assert figures.ess_per_gradient == pytest.approx(figures.ess_bulk / (11 * total))
        assert figures.ess_per_second == pytest.approx(figures.ess_bulk / SAMPLING_SECONDS)


def test_gradients_are_summed_where_trajectories_differ_in_length() -> None:
    lengths = np.random.default_rng(3).integers(1, 30, (CHAINS, DRAWS))
    figures = convergence(make_run(iid_draws(3), gradients_per_draw=lengths))["hidden"]
    assert figures.ess_per_gradient == pytest.approx(figures.ess_bulk / lengths.sum())


def test_quantities_that_were_not_kept_are_left_out() -> None:
    arrays = iid_draws(4)
    del arrays["hidden_projection"]
    assert list(convergence(make_run(arrays))) == ["readout", "predictions"]
    assert list(convergence(make_run({"readout_projection": arrays["readout_projection"]}))) == [
        "readout"
    ]


@pytest.mark.parametrize("seed", range(3))
def test_independent_draws_pass(seed: int) -> None:
    diagnosis = diagnose(make_run(iid_draws(seed)))
    assert diagnosis.ok, str(diagnosis)
    assert [f.name for f in diagnosis.findings] == [*QUANTITIES, *OF_THE_RUN]
    assert str(diagnosis).startswith("passed all 9 checks\n")
    # 1600 independent draws: their ESS is near their number
    figures = convergence(make_run(iid_draws(seed)))["hidden"]
    assert figures.ess_per_draw == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_one_component_with_a_shifted_chain_is_found_and_weights_are_not_judged(
    quantity: str,
) -> None:
    arrays = iid_draws(5)
    arrays[VARIABLES[quantity]][1, ..., 1] += 3.0
    found = not_passed(arrays)
    if quantity in WEIGHTS:
        assert found == {quantity: None}
        assert diagnose(make_run(arrays)).ok
    else:
        assert found == {
            "predictions": False,
            "Monte-Carlo error of predictions": False,
            "chains in function space": False,
        }


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_one_chain_stuck_at_a_point_fails(quantity: str) -> None:
    arrays = iid_draws(6)
    draws = arrays[VARIABLES[quantity]]
    draws[2] = draws[2, :1]
    assert not judged(arrays)[quantity]


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_chains_of_different_scale_fail_although_their_means_agree(quantity: str) -> None:
    arrays = iid_draws(7)
    draws = arrays[VARIABLES[quantity]]
    draws[0] = 8.0 * (draws[0] - draws[0].mean(axis=0))
    assert not judged(arrays)[quantity]


def found_alone(quantity: str, arrays: dict[str, np.ndarray]) -> bool:
    """Whether nothing but this quantity, and what is made of it, does not pass."""
    found = not_passed(arrays)
    alone = {quantity, *(OF_THE_RUN[1:3] if quantity == "predictions" else ())}
    return quantity in found and set(found) <= alone


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_value_that_is_not_finite_fails(quantity: str, value: float) -> None:
    arrays = iid_draws(8)
    arrays[VARIABLES[quantity]][3, 17, ..., 0] = value
    assert found_alone(quantity, arrays)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_component_that_is_one_number_in_all_draws_is_told_and_left_out(
    quantity: str, value: float
) -> None:
    # 0.1 has no exact binary form: a mean that rounds must not count as movement
    arrays = iid_draws(9)
    varying = convergence(
        make_run({k: v[..., [0, *range(2, v.shape[-1])]] for k, v in arrays.items()})
    )
    arrays[VARIABLES[quantity]][..., 1] = value
    run = make_run(arrays)
    verdict = diagnose(run)
    assert verdict.ok, str(verdict)
    (finding,) = (f for f in verdict.findings if f.name == quantity)
    assert "constant ones left out" in finding.figure
    figures = convergence(run)[quantity]
    assert figures.constant == arrays[VARIABLES[quantity]][0, 0, ..., 1].size
    assert figures.ess_bulk_min == varying[quantity].ess_bulk_min


def test_a_quantity_that_never_varies_is_told_and_not_judged() -> None:
    arrays = iid_draws(9)
    arrays["f"][:] = 0.3
    assert judged(arrays)["predictions"] is None


def test_chains_that_are_each_constant_at_different_values_fail() -> None:
    arrays = iid_draws(10)
    arrays["f"][:] = np.arange(CHAINS)[:, None, None, None]
    assert not judged(arrays)["predictions"]


def test_too_few_effective_draws_fail_and_the_advice_says_how_many_more() -> None:
    run = make_run(iid_draws(11))
    assert diagnose(run).ok
    strict = diagnose(run, ess_per_chain=4.0 * DRAWS)
    assert not strict.ok
    found = {finding.name: finding for finding in strict.findings}["predictions"]
    needed = 4 * DRAWS * CHAINS
    figures = convergence(run)["predictions"]
    smallest = min(figures.ess_bulk_min, figures.ess_tail_min)
    assert found.advice == f"Draw about {int(np.ceil(needed / smallest))} times as many"
    assert found.more_draws == pytest.approx(needed / smallest)
    assert "FAIL predictions: R-hat" in str(strict)
    assert str(strict).startswith("failed 2 of 7 checks: predictions, log density\n")


def test_an_rhat_a_little_above_the_threshold_asks_for_as_many_times_as_many_draws() -> None:
    run = make_run(iid_draws(11))
    above = convergence(run)["predictions"].rhat_99 - 1
    found = {finding.name: finding for finding in diagnose(run, rhat=1 + above / 5).findings}
    assert found["predictions"].advice == "Draw about 5 times as many"
    assert found["predictions"].more_draws == pytest.approx(5)
    error = found["Monte-Carlo error of predictions"]
    (failed,) = (f for f in diagnose(run, mcse=error.value / 3).failed if f.name == error.name)
    assert failed.more_draws == pytest.approx(9)


@pytest.mark.parametrize(("chains", "draws"), [(1, 1), (2, 3)])
def test_draws_too_few_to_tell_are_not_believed(chains, draws) -> None:
    verdict = diagnose(make_run(iid_draws(3, chains=chains, draws=draws)))
    assert {"predictions", "log density"} <= {finding.name for finding in verdict.failed}


@pytest.mark.parametrize("value", ["1.01", None, math.nan])
def test_a_threshold_that_is_no_number_is_refused(value) -> None:
    with pytest.raises(ValueError, match="threshold: got .*; expected a number"):
        diagnose(make_run(iid_draws(1)), rhat=value)


def remote(chains: int, draws: int = DRAWS, **made_with: str) -> str:
    """What is advised of chains that are far from each other."""
    arrays = iid_draws(4, chains=chains, draws=draws)
    arrays["f"] += 9.0 * np.arange(chains)[:, None, None, None]
    (advice,) = {f.advice for f in diagnose(make_run(arrays, **made_with)).findings
                 if f.name == "predictions"}  # fmt: skip
    return advice


def test_advice_leaves_out_what_the_run_has_or_cannot_have() -> None:
    assert "use the marginal target or a longer warm-up" in remote(4, target="standard")
    counts = remote(4, target="repriorised", likelihood="Poisson()")
    assert "use a wider network or a longer warm-up" in counts
    assert "use a wider network or a longer warm-up" in remote(4)
    assert remote(1) == "R-hat compares chains: sample two or more"
    assert "4 draws of a chain at least" in remote(2, draws=3)


def test_one_of_many_components_may_exceed_the_threshold_a_little() -> None:
    """One in three sets of 1000 independent components has one above 1.01 (4 chains, 300 draws)."""
    worst = []
    for seed in range(6):
        run = make_run(iid_draws(seed, draws=300, points=500))
        verdict = diagnose(run)
        assert verdict.ok, str(verdict)
        worst.append(convergence(run)["predictions"].rhat_max)
    assert max(worst) > 1.01
    arrays = iid_draws(1, draws=300, points=500)
    arrays["f"][1, :, 7, 1] += 1.0
    assert judged(arrays)["predictions"] is False


def test_a_stricter_rhat_threshold_is_used() -> None:
    run = make_run(iid_draws(12))
    assert not diagnose(run, rhat=0.9).ok


def with_settings(**changes: object) -> DataTree:
    run = make_run(
        iid_draws(14),
        nngp_mean=np.full((POINTS, OUTPUTS), 0.1),
        nngp_std=np.ones((POINTS, OUTPUTS)),
    )
    run.attrs |= {"sampler_settings": '{"target_acceptance": 0.8}', "num_features": 12, **changes}
    stats = run["sample_stats"].dataset
    energy = np.random.default_rng(1).standard_normal((CHAINS, DRAWS))
    run["sample_stats"] = DataTree(stats.assign(energy=(("chain", "draw"), energy)))
    return run


def test_all_checks_are_made_where_a_run_has_what_they_need() -> None:
    verdict = diagnose(with_settings())
    assert verdict.ok, str(verdict)
    found = {finding.name: finding for finding in verdict.findings}
    assert found["acceptance"].value == pytest.approx(0.75)
    assert found["energy (BFMI)"].value == pytest.approx(2, abs=0.3)
    assert found["distance to the NNGP"].ok is None
    assert found["distance to the NNGP"].value == pytest.approx(0.1, abs=0.05)
    assert found["regime of the map"].value == pytest.approx(3 / 12)
    assert found["regime of the map"].ok


@pytest.mark.parametrize(
    ("threshold", "name"),
    [
        ({"rhat": 0.9}, "predictions"),
        ({"ess_per_chain": 2 * DRAWS}, "predictions"),
        ({"mcse": 0.01}, "Monte-Carlo error of predictions"),
        ({"chains_apart": 0.01}, "chains in function space"),
        ({"divergences": -0.1}, "divergences"),
        ({"acceptance": 0.01}, "acceptance"),
        ({"bfmi": 3.0}, "energy (BFMI)"),
        ({"distance": 0.05}, "distance to the NNGP"),
    ],
)
def test_every_threshold_is_an_argument_and_is_told(threshold: dict, name: str) -> None:
    verdict = diagnose(with_settings(), **threshold)
    assert not verdict.ok
    (finding,) = (f for f in verdict.failed if f.name == name)
    assert finding.advice
    assert math.isfinite(finding.value)
    assert math.isfinite(finding.threshold)


def test_slow_energies_and_a_step_size_from_elsewhere_are_found() -> None:
    run = with_settings()
    stats = run["sample_stats"].dataset
    slow = np.cumsum(np.random.default_rng(2).standard_normal((CHAINS, DRAWS)), axis=1)
    stats = stats.assign(energy=(("chain", "draw"), slow))
    stats["acceptance_rate"][2] = 0.4
    run["sample_stats"] = DataTree(stats)
    assert {"acceptance", "energy (BFMI)"} <= {finding.name for finding in diagnose(run).failed}


@pytest.mark.parametrize(
    ("changes", "ok", "words"),
    [
        ({"num_features": 4}, None, "wider network"),
        ({"target": "standard"}, None, "marginal target"),
        ({"target": "standard", "likelihood": "Bernoulli()"}, None, "repriorised target"),
        ({"likelihood": "Bernoulli()", "num_features": 1}, True, ""),
        ({"likelihood": "Bernoulli()", "num_features": 0.5}, None, "standard target was faster"),
    ],
)
def test_a_run_outside_the_regime_of_the_map_is_told_so(changes, ok, words) -> None:
    verdict = diagnose(with_settings(**changes))
    assert verdict.ok
    (finding,) = (f for f in verdict.findings if f.name == "regime of the map")
    assert finding.ok is ok
    assert words in finding.advice


def test_where_the_map_pays_is_not_known_of_log_variances() -> None:
    verdict = diagnose(with_settings(likelihood="HeteroscedasticGaussian()"))
    assert "regime of the map" not in {finding.name for finding in verdict.findings}


def test_a_verdict_is_a_pair_and_json() -> None:
    ok, findings = diagnose(make_run(iid_draws(1)))
    assert ok
    assert len(findings) == 9
    assert diagnose(make_run(iid_draws(1)))
    assert not diagnose(make_run(iid_draws(1)), mcse=1e-9)
    text = json.dumps(diagnose(make_run(iid_draws(1))).as_dict(), allow_nan=False)
    assert json.loads(text)["findings"][0]["name"] == "hidden"


def test_a_run_from_a_file_is_judged_alike(tmp_path) -> None:
    run = with_settings()
    again = load_run(save_run(run, tmp_path / "run.nc"))
    assert again.attrs == run.attrs
    assert json.dumps(diagnose(again).as_dict()) == json.dumps(diagnose(run).as_dict())


def test_a_stuck_chain_is_found() -> None:
    lp = np.random.default_rng(3).standard_normal((CHAINS, DRAWS))
    lp[2, DRAWS // 3 :] = lp[2, DRAWS // 3]
    found = {f.name: f.figure for f in diagnose(make_run(iid_draws(1), lp=lp)).failed}
    assert found["stuck chains"] == "chain 2"
    assert set(found) == {"stuck chains", "log density"}


def test_a_biased_sampler_does_not_pass() -> None:
    run = make_run(iid_draws(1))
    run.attrs["exact"] = 0
    (finding,) = (f for f in diagnose(run).findings if not f.ok)
    assert finding.name == "exactness"


def test_divergences_fail_above_one_in_a_thousand() -> None:
    assert judged(iid_draws(13), divergences=1)["divergences"]
    assert not judged(iid_draws(13), divergences=2)["divergences"]
    diagnosis = diagnose(make_run(iid_draws(13), divergences=2))
    assert not diagnosis.ok
    assert f"2 of {CHAINS * DRAWS} draws" in str(diagnosis)
