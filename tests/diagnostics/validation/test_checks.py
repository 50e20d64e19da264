"""Checks by simulation pass what is right, and catch what is wrong.

Each runs at a false-alarm probability of 2e-3 with a fixed seed; over the three seeds of each, a
correct suite with free seeds would fail in about 3 of 100.
"""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats

import bnnsample as bnn
from bnnsample.checks import BadInput
from bnnsample.diagnostics.validation import replications, student_t
from bnnsample.diagnostics.validation.calibration import simulation_based_calibration
from bnnsample.diagnostics.validation.conjugate import conjugate_test, regression
from bnnsample.diagnostics.validation.geweke import joint_distribution_test
from bnnsample.diagnostics.validation.limit import limit_rate
from bnnsample.diagnostics.validation.rejection import (
    exact_draws,
    largest_log_likelihood,
    rejection_test,
)
from bnnsample.diagnostics.validation.replications import kept_draws
from bnnsample.diagnostics.validation.simulate import probe_of, simulate_all
from bnnsample.diagnostics.validation.student_t import student_t_test
from bnnsample.diagnostics.validation.suite import (
    checks_of,
    first_points,
    limit_problem,
    regression_problem,
    validate,
)
from tests.conftest import X64
from tests.diagnostics.validation.faults import FAULTS, X, Y, network, posteriors
from tests.zoo import LIKELIHOODS

pytestmark = pytest.mark.skipif(not X64, reason="checks the law, which precision does not change")
LEVEL = 2e-3
SEEDS = (1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3)))
POSTERIORS = posteriors()
GAUSSIAN = POSTERIORS["Gaussian"]
TINY = first_points(GAUSSIAN)


def joint(name: str, seed: int = 1) -> bnn.Verdict:
    fault = FAULTS[name]
    return joint_distribution_test(
        POSTERIORS[fault.kind], fault.target, fault.sampler,
        chains=256, transitions=200, seed=seed, level=LEVEL,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_joint_law_is_kept_by_what_is_right(seed):
    verdict = joint("none", seed)
    assert verdict.ok, verdict


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_the_joint_law_is_lost_with_every_fault(name):
    verdict = joint(name)
    assert verdict.ok is name.startswith("none"), verdict


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "sampler"),
    [
        (bnn.standard, bnn.HMC(6, integrator="leapfrog")),
        (bnn.repriorised, bnn.HMC()),
        (lambda posterior: bnn.repriorised(posterior, 0.5), bnn.AlternatingHMC()),
        (bnn.marginal, bnn.NUTS(max_doublings=4)),
        (bnn.marginal, bnn.Langevin()),
        (bnn.marginal, bnn.PCN()),
        (bnn.marginal, bnn.EllipticalSlice()),
        (bnn.marginal, bnn.MicrocanonicalLangevin()),
    ],
    ids=["standard", "repriorised", "ridge", "NUTS", "Langevin", "pCN", "slice", "MCHMC"],
)
def test_the_joint_law_is_kept_under_every_map_and_sampler(target, sampler):
    verdict = joint_distribution_test(GAUSSIAN, target, sampler, level=LEVEL)
    assert verdict.ok, verdict


@pytest.mark.slow
def test_the_joint_law_is_lost_by_a_biased_sampler():
    sampler = bnn.UnadjustedMicrocanonicalLangevin(energy_error=2.0)
    assert not joint_distribution_test(GAUSSIAN, bnn.marginal, sampler, level=LEVEL).ok


@pytest.mark.parametrize("seed", SEEDS)
def test_ranks_are_uniform_and_a_wrong_noise_is_caught_by_one_compilation(seed):
    right, wrong = (FAULTS[name] for name in ("none", "variance for standard deviation"))
    of = simulation_based_calibration(GAUSSIAN, right.target, right.sampler, seed=seed, level=LEVEL)
    assert of.verdict.ok, of.verdict
    assert all(ranks.shape == (128,) for ranks in of.ranks.values())
    compiled = replications._advance._cache_size()
    caught = simulation_based_calibration(
        GAUSSIAN, wrong.target, wrong.sampler, seed=seed, level=LEVEL
    )
    assert not caught.verdict.ok
    assert replications._advance._cache_size() == compiled


def test_what_is_validated_are_the_draws_of_a_run():
    posterior, sampler = GAUSSIAN, bnn.HMC(3)
    probe = probe_of(posterior)
    kept = kept_draws(
        [posterior], bnn.marginal, sampler, probe, seed=4, chains=2, warmup=10, draws=5, thinning=2
    )
    run = bnn.sample(bnn.marginal(posterior), sampler, chains=2, warmup=10, draws=10, seed=4)
    there = run["posterior"]["hidden_projection"].values[..., 0]
    np.testing.assert_allclose(kept["hidden projection"][:, 0], there[:, 1::2].T, rtol=1e-8)


def test_progress_ends_where_it_should():
    seen = []
    kept_draws(
        [TINY], bnn.marginal, bnn.HMC(3), probe_of(TINY), seed=4, chains=2, warmup=9, draws=3,
        thinning=2, on_progress=lambda *counts: seen.append(counts),
    )  # fmt: skip
    assert seen == [(done, 16) for done in range(2, 17, 2)]


def test_the_joint_law_that_is_simulated_is_that_of_prior_and_likelihood():
    """5000 draws: means within 4.5 standard errors of what integrals say."""
    posterior = POSTERIORS["unknown noise"]
    joints, found = simulate_all(
        posterior, probe_of(posterior), jax.random.split(jax.random.key(3), 5000)
    )
    noise = np.asarray(found["noise_std"])
    assert scipy.stats.kstest(np.log(noise), scipy.stats.norm(-0.7, 0.5).cdf).pvalue > 1e-5
    f = np.asarray(
        jax.vmap(lambda params: posterior.network.apply(params, posterior.x))(joints.params)
    )
    residuals = (np.asarray(joints.y) - f)[..., 0] / noise[:, None]
    assert scipy.stats.kstest(residuals.ravel(), "norm").pvalue > 1e-5
    hidden = np.asarray(found["hidden projection"])
    assert scipy.stats.kstest(hidden, "norm").pvalue > 1e-5


@pytest.mark.parametrize("seed", SEEDS)
def test_exact_draws_are_those_of_conjugate_regression(seed):
    problem = regression_problem()
    y = np.array([[0.3, -0.2], [0.1, 0.4]])
    posterior = bnn.Posterior(problem.network, problem.x[:2], y, problem.likelihood)
    draws = exact_draws(posterior, 3000, seed=seed)
    mean, covariance = regression(posterior)
    direction = probe_of(posterior).projections.readout[0]
    left, right = np.asarray(direction.left[0]), np.asarray(direction.right[0])
    law = scipy.stats.norm(
        left @ mean @ right, np.linalg.norm(right) * (left @ covariance @ left) ** 0.5
    )
    assert scipy.stats.kstest(draws["readout projection"], law.cdf).pvalue > 1e-4
    assert scipy.stats.kstest(draws["readout projection"], "norm").pvalue < 1e-4


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name != "heteroscedastic"])
def test_no_likelihood_is_larger_than_its_bound(name, rng):
    case = LIKELIHOODS[name]
    posterior = bnn.Posterior(network(2), X[:2], case.targets(rng, 2, 2), case.likelihood)
    outputs = jax.numpy.asarray(rng.normal(0, 3, (1000, 2, 2)))
    values = jax.vmap(lambda f: posterior.likelihood.log_density(f, posterior.y))(outputs)
    bound = float(largest_log_likelihood(posterior))
    assert np.max(values) <= bound
    assert np.max(values) > bound - 12


@pytest.mark.slow
def test_rejection_passes_what_is_right_and_catches_a_wrong_noise():
    right, wrong = (FAULTS[name] for name in ("none", "variance for standard deviation"))
    verdict = rejection_test(TINY, right.target, right.sampler, seed=1, level=LEVEL)
    assert verdict.ok, verdict
    assert verdict.findings[0].name == "exact rejection, energy distance"
    caught = rejection_test(TINY, wrong.target, wrong.sampler, seed=1, level=LEVEL)
    assert caught.findings[0] in caught.failed
    assert len(caught.failed) > 2


@pytest.mark.parametrize(
    ("posterior", "got"),
    [
        (POSTERIORS["unknown noise"], "got the likelihood Gaussian\\(noise_std=Hyperparameter"),
        (
            bnn.Posterior(network(2), X, Y, bnn.HeteroscedasticGaussian()),
            "got the likelihood HeteroscedasticGaussian",
        ),
        (
            bnn.Posterior(network(1), X, 9 * np.cos(9 * X[:, :1]), bnn.Gaussian(0.01)),
            "got 0 of 20000 prior draws accepted",
        ),
    ],
)
def test_rejection_refuses_what_has_no_bound_or_is_not_tiny(posterior, got):
    with pytest.raises(ValueError, match=got):
        exact_draws(posterior, 10)


def test_conjugate_regression_passes_what_is_right_and_catches_a_scale_off_by_5_percent():
    for name, ok in (("none", True), ("readout scale off by 5 %", False)):
        fault = FAULTS[name]
        verdict = conjugate_test(
            regression_problem(), fault.target, fault.sampler,
            chains=256, draws=60, seed=1, level=LEVEL,
        )  # fmt: skip
        assert verdict.ok is ok, verdict


def test_conjugate_regression_refuses_hidden_weights_and_other_noise():
    with pytest.raises(ValueError, match="got 13 parameters, some of them hidden"):
        conjugate_test(GAUSSIAN)
    problem = regression_problem()
    many = bnn.Posterior(problem.network, problem.x, problem.y, bnn.Gaussian(np.ones(2)))
    with pytest.raises(ValueError, match="expected Gaussian\\(\\) with one noise_std"):
        conjugate_test(many)


@pytest.mark.slow
def test_student_t_passes_what_is_right_and_catches_a_dropped_jacobian():
    for name, ok in (("none", True), ("hyperparameters' Jacobian dropped", False)):
        verdict = student_t_test(FAULTS[name].target, bnn.HMC(4), seed=1, level=LEVEL)
        assert verdict.ok is ok, verdict


def test_the_closed_form_of_student_t_is_that_of_quadrature(rng):
    x, y = rng.standard_normal((7, 3)), rng.standard_normal((7, 2))
    psi = np.maximum(x, 0) / 3**0.5
    covariance = psi @ psi.T + np.eye(7)
    prior = scipy.stats.invgamma(4.0, scale=3.0)

    def log_density(square: float) -> float:
        law = scipy.stats.multivariate_normal(np.zeros(7), square * covariance)
        return sum(law.logpdf(column) for column in y.T) + prior.logpdf(square)

    largest = max(map(log_density, np.linspace(0.1, 3, 50)))

    def density(square: float) -> float:
        return float(np.exp(log_density(square) - largest))

    def integral(function) -> float:
        return scipy.integrate.quad(lambda s: function(s) * density(s), 1e-3, 30, limit=200)[0]

    evidence = integral(lambda s: 1.0)
    mean = integral(lambda s: np.log(s) / 2) / evidence
    std = (integral(lambda s: (np.log(s) / 2) ** 2) / evidence - mean**2) ** 0.5
    found = student_t.exact(x, y)["log s"]
    assert (found.mean, found.std) == pytest.approx((mean, std), rel=1e-5)
    gram = psi @ psi.T
    f = gram @ np.linalg.solve(covariance, y)
    inner = np.diag(gram - gram @ np.linalg.solve(covariance, gram))
    std_f = (inner[0] * integral(lambda s: s) / evidence) ** 0.5
    output = student_t.exact(x, y)["f 1"]
    assert (output.mean, output.std) == pytest.approx((f[0, 1], std_f), rel=1e-5)


@pytest.mark.slow
def test_the_limit_is_approached_and_one_of_another_noise_is_not():
    for name, ok in (("none", True), ("variance for standard deviation", False)):
        fault = FAULTS[name]
        found = limit_rate(*limit_problem(), fault.target, fault.sampler, draws=200, seed=1)
        assert found.verdict.ok is ok, found.verdict
    for seed in range(5):  # chains that mix slowly tell little, which is no alarm
        slow = limit_rate(*limit_problem(), bnn.standard, bnn.MALA(), draws=200, seed=seed)
        assert slow.verdict.ok, slow.verdict


def test_a_limit_that_cannot_be_held_against_anything_is_refused():
    with pytest.raises(ValueError, match="widths: got \\(8, 4\\)"):
        limit_rate(*limit_problem(), widths=(8, 4))
    with pytest.raises(ValueError, match="chains: got 2"):
        limit_rate(*limit_problem(), chains=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_validate_catches_every_fault(name):
    fault = FAULTS[name]
    posterior = POSTERIORS[fault.kind]
    if fault.kind == "Gaussian":
        seen = []
        verdict = validate(
            posterior, fault.target, fault.sampler, on_progress=lambda *step: seen.append(step)
        )
        assert [number for _, number, of in seen if of == 7] == list(range(7))
    else:
        checks = checks_of(posterior, fault.target, fault.sampler, seed=0, size=1, level=0.01)
        verdict = checks["joint distribution"]()
    assert verdict.ok is name.startswith("none"), verdict


def test_validate_refuses_what_cannot_be_validated():
    with pytest.raises(ValueError, match="posterior: got a Network"):
        validate(network(1))
    with pytest.raises(ValueError, match="level: got 5"):
        validate(level=5)
    with pytest.raises(BadInput, match="here the readout is integrated out"):
        validate(sampler=bnn.AlternatingHMC())
    with pytest.raises(BadInput, match="under which the readout can be integrated out exactly"):
        validate(POSTERIORS["Bernoulli"], bnn.marginal)


@pytest.mark.parametrize(
    ("target", "got"),
    [(bnn.marginal(GAUSSIAN), "a Marginal"), ("marginal", "'marginal'"), (GAUSSIAN, "a Posterior")],
)
def test_what_is_no_function_of_a_posterior_is_refused_as_target(target, got):
    for check in (validate, partial(conjugate_test, regression_problem()), student_t_test):
        with pytest.raises(BadInput, match=f"target: got {got}; .* the function bnn.marginal"):
            check(target=target)


def test_the_first_points_keep_their_own_noise():
    for noise, first in (
        (np.linspace(0.2, 0.7, 6)[:, None], [[0.2], [0.3]]),
        (np.outer(np.linspace(0.2, 0.7, 6), [1.0, 2.0]), [[0.2, 0.4], [0.3, 0.6]]),
        (np.array([0.2, 0.5]), [0.2, 0.5]),
        (0.3, 0.3),
    ):
        outputs = np.shape(noise)[-1] if np.ndim(noise) else 1
        posterior = bnn.Posterior(network(outputs), X, X[:, :outputs], bnn.Gaussian(noise))
        found = first_points(posterior)
        assert len(found.x) == len(found.y) == 2
        np.testing.assert_allclose(np.asarray(found.likelihood.noise_std), first, rtol=1e-12)


@pytest.mark.slow
def test_networks_whose_outputs_are_constant_or_have_atoms_pass(rng):
    """Inputs at 0 without a bias, and relu units that are off: a rejection and two calibrations."""
    x, y = np.array([[0.0], [1.0], [0.5]]), np.array([[0.1], [0.3], [0.0]])
    flat = bnn.fcn(1, 3, 1, "tanh", b_std=None, b_std_out=None)
    constant = bnn.Posterior(flat, x, y, bnn.Gaussian(0.4))
    off = bnn.fcn(1, 2, 1, "relu", b_std=None, b_std_out=None)
    atoms = bnn.Posterior(off, rng.normal(size=(3, 2)), rng.normal(size=(3, 1)), bnn.Gaussian(0.4))
    for posterior, count in ((constant, 128), (atoms, 400)):
        found = simulation_based_calibration(posterior, replications=count, level=LEVEL)
        assert found.verdict.ok, found.verdict
    verdict = rejection_test(first_points(constant), exact=2000, chains=100, level=LEVEL)
    assert verdict.ok, verdict


def test_checks_refuse_bad_counts():
    for wrong, message in (
        ({"replications": 4}, "replications: got 4"),
        ({"thinning": 0}, "thinning: got 0"),
        ({"level": 0.0}, "level: got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            simulation_based_calibration(GAUSSIAN, **wrong)
    with pytest.raises(ValueError, match="chains: got 1"):
        joint_distribution_test(GAUSSIAN, chains=1)
    with pytest.raises(ValueError, match="expected one that bnn.standard"):
        joint_distribution_test(GAUSSIAN, Own)


class Own(bnn.AbstractTarget):
    def __init__(self, posterior):
        self.exact, self.posterior, self.name = bnn.standard(posterior), posterior, "own"

    def log_likelihood(self, position):
        return self.exact.log_likelihood(position)

    def constrain(self, position, key):
        return self.exact.constrain(position, key)

    def fitted(self, position):
        return self.exact.fitted(position)

    def init(self, key):
        return self.exact.init(key)


def test_unknown_scales_of_vectors_are_followed_entry_by_entry():
    scales = bnn.Scale(dist.LogNormal(np.zeros(2), 1.0))
    posterior = bnn.Posterior(bnn.Network([scales, *network(1).layers]), X, Y, bnn.Gaussian(0.4))
    _, found = simulate_all(posterior, probe_of(posterior), jax.random.split(jax.random.key(1), 3))
    assert {"factor 0", "factor 1"} < set(found)


@pytest.mark.slow
def test_precision_is_that_of_the_posterior():
    """Data in float32 stay so where x64 is enabled, labels or not."""
    posterior = bnn.Posterior(
        network(2), X.astype(np.float32), (X > 0).astype(np.float32), bnn.Bernoulli()
    )
    verdict = joint_distribution_test(posterior, sampler=bnn.HMC(2), chains=64, level=LEVEL)
    assert verdict.ok, verdict
