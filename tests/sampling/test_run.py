"""The run: what comes back, what fixes it, what it refuses, and how often it compiles."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.repriorisation.parameters import Standard
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling import chains, functionals
from bnnsample.sampling.progress import Progress
from bnnsample.sampling.settings import SEGMENT_DRAWS
from tests.conftest import X64
from tests.quick import cases
from tests.zoo import SAMPLERS, goes_with

D, OUT, M = 3, 2, 4
CHAINS, WARMUP, DRAWS = 3, 11, 2 * SEGMENT_DRAWS + 3


@pytest.fixture(scope="module")
def posterior() -> bnn.Posterior:
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((6, D)), rng.standard_normal((6, OUT))
    return bnn.Posterior(bnn.fcn(1, 7, OUT), x, y, bnn.Gaussian(0.3))


@pytest.fixture(scope="module")
def x_test() -> np.ndarray:
    return np.random.default_rng(9).standard_normal((M, D))


def sample(posterior, x_test, name="marginal", sampler=None, **changes):
    settings = {"chains": CHAINS, "warmup": WARMUP, "draws": DRAWS, "seed": 5, "x_test": x_test}
    return bnn.sample(TARGETS[name](posterior), sampler, **(settings | changes))


@pytest.fixture(scope="module")
def run(posterior, x_test):
    return sample(posterior, x_test)


def test_groups_names_and_shapes_are_arviz_conventions(run):
    assert set(run.children) == {
        "posterior", "sample_stats", "predictions", "moments", "observed_data", "constant_data",
    }  # fmt: skip
    assert set(run["sample_stats"].data_vars) == {
        "acceptance_rate", "diverging", "energy", "lp", "n_steps", "step_size", "n_gradients",
    }  # fmt: skip
    predictions = run["predictions"]
    assert predictions["f"].dims == ("chain", "draw", "test_point", "output")
    assert predictions["f"].shape == predictions["f_mean"].shape == (CHAINS, DRAWS, M, OUT)
    assert predictions["f_std"].shape == (CHAINS, DRAWS, M, OUT)
    assert run["posterior"]["layer_0_weight"].shape == (CHAINS, DRAWS, D, 7)
    assert run["posterior"]["readout"].shape == (CHAINS, DRAWS, 8, OUT)
    assert run["constant_data"]["nngp_mean"].shape == (M, OUT)


def test_attributes_say_how_it_was_made(run):
    expected = {"target": "marginal", "chains": CHAINS, "draws": DRAWS, "warmup": WARMUP, "seed": 5}
    assert {name: run.attrs[name] for name in expected} == expected
    assert "jax" in run.attrs["versions"]
    assert run.attrs["dtype"] == ("float64" if X64 else "float32")


def test_draws_are_consistent_with_each_other(posterior, run, x_test):
    """Predictions come from the kept parameters, projections from their fixed directions."""
    draw = run["posterior"].dataset.isel(chain=1, draw=-1)
    hidden = {name: jnp.asarray(draw[f"layer_0_{name}"].values) for name in ("weight", "bias")}
    params = bnn.Parameters((hidden, ()), jnp.asarray(draw["readout"].values))
    f = posterior.network.apply(params, jnp.asarray(x_test))
    kept = run["predictions"]["f"].isel(chain=1, draw=-1)
    np.testing.assert_allclose(f, kept, rtol=1e-8 if X64 else 1e-3, atol=1e-5)
    density = bnn.marginal(posterior).logdensity(
        jnp.concatenate([hidden["bias"], hidden["weight"].ravel()])
    )
    lp = run["sample_stats"]["lp"].isel(chain=1, draw=-1)
    np.testing.assert_allclose(density, lp, rtol=1e-8 if X64 else 1e-3)


def test_noisy_predictions_add_the_noise(run):
    noise = (run["predictions"]["y"] - run["predictions"]["f"]).values / 0.3
    # 1272 values: the standard deviation of their standard deviation is 0.02
    assert abs(noise.std() - 1) < 0.12
    assert abs(noise.mean()) < 0.17


@pytest.mark.slow
def test_targets_with_one_seed_draw_independently(posterior, x_test):
    hidden = [
        sample(posterior, None, name, warmup=3, draws=5)["posterior"]["hidden_projection"].values
        for name in ("marginal", "repriorised")
    ]
    assert not np.any(hidden[0] == hidden[1])


@pytest.mark.parametrize("name", cases(sorted(TARGETS), slow={"repriorised", "standard"}))
def test_one_seed_fixes_everything_and_another_changes_it(posterior, x_test, name):
    first, again, other = (
        sample(posterior, x_test, name, seed=seed, warmup=3, draws=5) for seed in (1, 1, 2)
    )
    for group in ("posterior", "sample_stats", "predictions"):
        assert first[group].dataset.equals(again[group].dataset)
    assert not np.any(first["predictions"]["f"].values == other["predictions"]["f"].values)


def test_a_chain_does_not_depend_on_how_many_there_are(posterior, x_test):
    few, many = (sample(posterior, x_test, chains=c, warmup=5, draws=6) for c in (1, 3))
    np.testing.assert_allclose(
        few["predictions"]["f"].isel(chain=0), many["predictions"]["f"].isel(chain=0),
        rtol=1e-6 if X64 else 1e-2, atol=1e-6 if X64 else 1e-2,
    )  # fmt: skip
    values = many["predictions"]["f"].values
    assert not np.any(values[0] == values[1])


QUICK = {
    "marginal HMC rotation",
    "marginal Langevin rotation",
    "repriorised alternating",
}
EVERY_PAIR = [
    pytest.param(
        target, sampler, id=f"{target} {sampler}",
        marks=() if f"{target} {sampler}" in QUICK else pytest.mark.slow,
    )
    for target in sorted(TARGETS)
    for sampler in SAMPLERS
    if goes_with(sampler, target)
]  # fmt: skip


@pytest.mark.parametrize(("name", "sampler"), EVERY_PAIR)
def test_every_sampler_runs_on_every_target(posterior, x_test, name, sampler):
    sampler = SAMPLERS[sampler]
    run = sample(posterior, x_test, name, sampler, chains=2, warmup=8, draws=4)
    stats = run["sample_stats"].dataset
    assert np.isfinite(run["predictions"]["f"]).all()
    assert np.all((stats["acceptance_rate"] >= 0) & (stats["acceptance_rate"] <= 1 + 1e-6))
    assert np.all(stats["n_steps"] >= 1)
    assert np.all((stats["n_gradients"] == stats["n_steps"]) == sampler.uses_gradients)
    assert all(np.isfinite(values).all() for values in stats.values())
    if sampler.tunes_step_size:
        assert np.all(stats["step_size"] <= sampler.max_step_size * (1 + 1e-6))


def test_a_readout_that_is_integrated_out_is_refused(posterior, x_test):
    with pytest.raises(ValueError, match=r"got the marginal one; expected .* readout.*HMC"):
        sample(posterior, x_test, "marginal", bnn.AlternatingHMC())


def test_the_log_density_is_traced_a_fixed_number_of_times(posterior):
    """A run compiles ``start``, ``advance`` and ``observe`` once each, and none of the others."""
    compiled = (chains.start, chains.advance, functionals.observe)
    traces = []

    def counted(x):
        traces.append(1)
        return jnp.tanh(x)

    def compilations():
        return [function._cache_size() for function in compiled]

    counted_posterior = bnn.Posterior(
        bnn.fcn(1, 6, OUT, counted), posterior.x, posterior.y, bnn.Gaussian(0.3)
    )
    settings = {"chains": 2, "draws": SEGMENT_DRAWS, "seed": 1, "keep": ("projections", "moments")}

    def run(sampler=None, **changes):
        sampler = bnn.MALA() if sampler is None else sampler
        return bnn.sample(counted_posterior, sampler, **(settings | changes))

    before = compilations()
    run(warmup=SEGMENT_DRAWS)
    after = compilations()
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1]
    first = len(traces)
    run(warmup=2 * SEGMENT_DRAWS, draws=90, seed=6)
    shape_checks = len(traces) - first
    assert compilations() == after, "a longer run, another seed"
    assert shape_checks <= 12, "only shapes may be traced again"
    run(bnn.MALA(target_acceptance=0.6), warmup=2)
    assert compilations()[1] == after[1] + 1, "another sampler would be seen"


def test_resuming_and_lengthening_compile_nothing_again(posterior, tmp_path):
    """But for the first resumption: arrays from a checkpoint are committed to their device."""
    folder, compiled = tmp_path / "run", (chains.start, chains.advance, functionals.observe)
    target, keep = bnn.standard(posterior), ("projections",)
    bnn.sample(
        target,
        bnn.EllipticalSlice(),
        chains=2,
        warmup=4,
        draws=SEGMENT_DRAWS,
        keep=keep,
        out=folder,
    )
    bnn.resume(folder)
    before = [function._cache_size() for function in compiled]
    bnn.resume(folder, extra_draws=SEGMENT_DRAWS + 3)
    assert [function._cache_size() for function in compiled] == before


def test_progress_is_reported_after_every_segment(posterior):
    seen: list[Progress] = []
    sample(posterior, None, draws=60, warmup=30, on_progress=seen.append)
    assert [p.phase for p in seen] == ["compiling"] + ["warm-up"] * 2 + ["sampling"] * 3
    assert [p.done for p in seen[1:]] == [25, 30, 25, 50, 60]
    assert all(p.acceptance.shape == p.divergences.shape == (CHAINS,) for p in seen[1:])
    assert all(np.all((p.acceptance >= 0) & (p.acceptance <= 1)) for p in seen[1:])
    assert all(p.seconds_left >= 0 for p in seen[1:])


def test_keep_chooses_what_is_stored(posterior, x_test):
    run = sample(posterior, x_test, keep=("projections",), warmup=3, draws=4)
    assert set(run["posterior"].data_vars) == {"hidden_projection", "readout_projection"}
    assert "predictions" not in run.children


def test_an_interruption_reaches_the_caller(posterior):
    def interrupt(progress):
        if progress.phase == "sampling":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(posterior, None, on_progress=interrupt)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"chains": 0}, "chains: got 0"),
        ({"draws": 2.5}, "draws: got 2.5"),
        ({"warmup": -1}, "warmup: got -1"),
        ({"seed": -3}, "seed: got -3"),
        ({"sampler": bnn.HMC}, "sampler.*without parentheses"),
        ({"keep": "parameters"}, "keep: got 'parameters'.*one name without its tuple"),
        ({"keep": 5}, "keep: got 5; expected a tuple"),
        ({"keep": ()}, r"keep: got \(\); expected a tuple of some of"),
        ({"keep": ("weights",)}, r"keep: got \('weights',\).*probably a typing error"),
        ({"on_progress": 5}, "on_progress: got 5; expected a function"),
        ({"out": 5}, "out: got 5; expected the path of a folder"),
        ({"keep": ("predictions",), "x_test": None}, "keep: got 'predictions' without x_test"),
        ({"x_test": np.full((M, D), np.nan)}, "x_test: got 12 values that are NaN"),
        ({"x_test": np.ones((M, D + 1))}, r"x_test: got examples of shape \(4,\)"),
    ],
)
def test_bad_arguments_are_refused_before_compilation(posterior, x_test, changes, expected):
    with pytest.raises(ValueError, match=expected):
        sample(posterior, **({"x_test": x_test} | changes))


@pytest.mark.slow
def test_numbers_of_numpy_are_numbers(posterior, x_test, tmp_path):
    sampler = bnn.HMC(np.int64(2), target_acceptance=np.float64(0.7))
    numbers = {"chains": np.int32(2), "warmup": np.int64(3), "draws": np.uint8(4)}
    target = bnn.marginal(posterior)
    bnn.sample(target, sampler, seed=np.int64(6), out=tmp_path / "run", **numbers)
    run = bnn.resume(tmp_path / "run", extra_draws=np.int64(1))
    assert run.attrs["draws"] == 5
    assert json.loads(run.attrs["sampler_settings"])["num_steps"] == 2


def test_a_network_without_a_known_limit_predicts_too(posterior, x_test):
    layers = [bnn.Dense(4), bnn.Activation("relu"), bnn.Activation("erf"), bnn.Dense(OUT)]
    unknown = bnn.Posterior(bnn.Network(layers), posterior.x, posterior.y, posterior.likelihood)
    run = sample(unknown, x_test, warmup=3, draws=4)
    assert np.isfinite(run["predictions"]["f"].values).all()
    assert set(run["constant_data"].data_vars) == {"x", "x_test"}


@pytest.mark.parametrize(
    "sampler", [bnn.MicrocanonicalLangevin(), bnn.UnadjustedMicrocanonicalLangevin()]
)
def test_directions_need_more_than_one_dimension(sampler, x_test):
    network = bnn.Network([bnn.Activation("relu"), bnn.Dense(1, 1.4, None)])
    x = np.linspace(-1, 1, 6)[:, None]
    one = bnn.standard(bnn.Posterior(network, x, x, bnn.Gaussian(0.5)))
    with pytest.raises(ValueError, match="sampler: got .* of dimension 1; expected more than one"):
        bnn.sample(one, sampler, chains=1, warmup=2, draws=2)


def test_a_network_in_place_of_a_target_is_refused(posterior):
    with pytest.raises(ValueError, match="target: got Network.*bnn.marginal"):
        bnn.sample(posterior.network)


def test_a_posterior_alone_is_sampled_by_what_was_fastest(posterior, x_test, run):
    alone = bnn.sample(posterior, chains=CHAINS, warmup=WARMUP, draws=DRAWS, seed=5, x_test=x_test)
    assert alone.attrs["target"] == "marginal"
    assert alone.attrs["sampler"] == "HMC"
    assert alone["predictions"].dataset.equals(run["predictions"].dataset)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: bnn.HMC(0), "num_steps: got 0"),
        (lambda: bnn.HMC(integrator="verlet"), "integrator: got 'verlet'"),
        (lambda: bnn.HMC(target_acceptance=80), "target_acceptance: got 80.*percentage"),
        (lambda: bnn.HMC(jitter=1.5), "jitter: got 1.5"),
        (lambda: bnn.HMC(jitter="0.2"), "jitter: got '0.2'"),
        (lambda: bnn.HMC(target_acceptance="0.8"), "target_acceptance: got '0.8'"),
        (lambda: bnn.NUTS(max_doublings=0), "max_doublings: got 0"),
    ],
)
def test_bad_sampler_settings_are_refused(build, expected):
    with pytest.raises(ValueError, match=expected):
        build()


def test_non_finite_proposals_are_rejected_and_counted(posterior):
    """A likelihood that is NaN in half of the space never enters the chain."""

    class HalfSpace(Standard):
        def log_likelihood(self, position):
            return jnp.where(position[0] > 0, jnp.nan, super().log_likelihood(position))

        def init(self, key):
            return -jnp.abs(super().init(key))

    jax.tree_util.register_pytree_node(
        HalfSpace, lambda t: ((t.posterior,), None), lambda _, leaves: HalfSpace(leaves[0])
    )
    run = bnn.sample(HalfSpace(posterior), bnn.HMC(4), chains=2, warmup=20, draws=400)
    assert np.isfinite(run["sample_stats"]["lp"]).all()
    assert int(run["sample_stats"]["diverging"].sum()) > 0
