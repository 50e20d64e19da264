"""Each check before a run passes what is right, and fails what is wrong in its own way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import bnnsample as bnn
from bnnsample.diagnostics.validation import costs, timing
from bnnsample.diagnostics.validation.positions import density_gap, position_of
from bnnsample.diagnostics.validation.preflight import preflight
from bnnsample.pytrees import as_pytree
from bnnsample.repriorisation.bijections import Dual, Primal
from bnnsample.repriorisation.parameters import Standard
from bnnsample.repriorisation.targets import TARGETS
from tests.conftest import X64
from tests.diagnostics.validation.faults import FAULTS, X, network, posteriors
from tests.quick import cases

pytestmark = pytest.mark.skipif(not X64, reason="tolerances are those of float64")
POSTERIORS = posteriors() | {
    "more inputs than points": bnn.Posterior(
        bnn.fcn(2, 3, 2), np.ones((2, 5)) + np.eye(2, 5), np.ones((2, 2)), bnn.Gaussian(0.3)
    ),
    "noise by output": bnn.Posterior(network(2), X, np.cos(X), bnn.Gaussian(np.array([0.3, 0.5]))),
    "two unknown scales": bnn.Posterior(
        bnn.fcn(1, 3, 2, w_std=dist.Gamma(4.0, 3.0)), X, X, bnn.Gaussian(dist.HalfNormal(1.0))
    ),
}
QUICK = {
    ("Gaussian", "repriorised"),
    ("unknown noise", "marginal"),
}
CASES = [
    pytest.param(kind, target, marks=() if (kind, target) in QUICK else pytest.mark.slow)
    for kind in POSTERIORS
    for target in TARGETS
    if (kind, target) != ("Bernoulli", "marginal")
]


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Time to within nothing: what is told of it is tested by itself."""
    monkeypatch.setattr(timing, "PATIENCE", 1e-9)


def failed(verdict: bnn.Verdict) -> set[str]:
    return {finding.name for finding in verdict.failed}


@pytest.mark.parametrize(("kind", "target"), CASES)
def test_what_is_right_passes_every_check(kind, target):
    verdict = preflight(TARGETS[target](POSTERIORS[kind]))
    assert verdict.ok, verdict
    names = [finding.name for finding in verdict.findings]
    assert names[:4] == ["shapes", "log likelihood", "gradient", "gradient against differences"]
    assert {"round trip", "float32", "traces", "memory", "time"} < set(names)
    assert json.loads(json.dumps(verdict.as_dict()))["ok"]


DENSITY = "log density against the parameters'"
LONG_FAULTS = {
    "no log-determinant, pseudo-observations",
    "no log-determinant, ridge",
    "variance for standard deviation",
}


@pytest.mark.parametrize(
    "name",
    cases(
        (name for name, fault in FAULTS.items() if fault.target not in TARGETS.values()),
        slow=LONG_FAULTS,
    ),
)
def test_a_density_that_is_another_is_caught(name):
    fault = FAULTS[name]
    posterior = POSTERIORS[fault.kind]
    assert DENSITY in failed(preflight(fault.target(posterior), posterior=posterior))


def test_a_log_determinant_that_is_wrong_in_map_and_density_alike_is_caught(monkeypatch):
    for form in (Dual, Primal):
        right = form.logdet
        monkeypatch.setattr(
            form, "logdet", lambda self, factor, right=right: 1.1 * right(self, factor)
        )
    posterior = POSTERIORS["Gaussian"]
    # another ridge than elsewhere, and no compilation of the right one is found
    target = bnn.repriorised(bnn.Posterior(network(1), X[:5], X[:5, :1], bnn.Gaussian(0.4)), 0.3)
    assert posterior.x.shape != target.posterior.x.shape
    assert failed(preflight(target)) == {"log-determinant against autodiff"}


def test_the_way_back_inverts_the_way_out_and_sees_a_moved_target():
    target = bnn.repriorised(POSTERIORS["Gaussian"], 0.3)
    position = target.init(jax.random.key(1))
    params = target.constrain(position, jax.random.key(2))
    np.testing.assert_allclose(position_of(target, params, {}), position, rtol=1e-12)
    moved = bnn.repriorised(bnn.Posterior(network(1), X, np.cos(X[:, :1]), bnn.Gaussian(0.4)), 0.3)
    there = position_of(moved, params, {})
    again = moved.constrain(there, jax.random.key(3))
    np.testing.assert_allclose(again.readout, params.readout, rtol=1e-10)
    assert np.max(np.abs(there - position)) > 0.1
    assert abs(density_gap(moved, moved.posterior, there, jax.random.key(4))) < 1e-12
    assert abs(density_gap(moved, target.posterior, there, jax.random.key(4))) > 0.01


def posterior_with(activation, noise_std=0.4) -> bnn.Posterior:
    return bnn.Posterior(bnn.fcn(1, 3, 1, activation), X, X[:, :1], bnn.Gaussian(noise_std))


@jax.custom_jvp
def mistaken(x):
    return jnp.tanh(x)


mistaken.defjvp(lambda primals, tangents: (jnp.tanh(primals[0]), 0.9 * tangents[0]))


def kinked(x):
    return jnp.sqrt(jnp.maximum(x, 0.0))


def test_a_wrong_derivative_is_caught():
    found = failed(preflight(bnn.standard(posterior_with(mistaken))))
    assert found == {"gradient against differences"}


@pytest.mark.parametrize(
    ("activation", "width", "depth", "noise_std"),
    [
        ("relu", 512, 1, 0.1),
        pytest.param("gelu", 512, 1, 0.1, marks=pytest.mark.slow),
        pytest.param("relu", 512, 2, 0.01, marks=pytest.mark.slow),
        pytest.param("gelu", 1024, 1, 0.03, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "target",
    [
        "repriorised",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("standard", "marginal")),
    ],
)
def test_wide_networks_pass_in_float32(activation, width, depth, noise_std, target, rng):
    x = rng.normal(size=(200, 10)).astype(np.float32)
    posterior = bnn.Posterior(
        bnn.fcn(depth, width, 1, activation), x, np.sin(x[:, :1]), bnn.Gaussian(noise_std)
    )
    verdict = preflight(TARGETS[target](posterior))
    assert verdict.ok, verdict


@pytest.mark.parametrize("width", [3, pytest.param(512, marks=pytest.mark.slow)])
def test_a_wrong_derivative_is_caught_in_float32(width, rng):
    x = rng.normal(size=(50, 4)).astype(np.float32)
    posterior = bnn.Posterior(
        bnn.fcn(1, width, 1, mistaken), x, np.sin(x[:, :1]), bnn.Gaussian(0.1)
    )
    assert failed(preflight(bnn.marginal(posterior))) == {"gradient against differences"}


@pytest.mark.filterwarnings("ignore:the Hermite:RuntimeWarning")
def test_a_gradient_that_is_not_finite_is_caught():
    assert "gradient" in failed(preflight(bnn.standard(posterior_with(kinked))))


def test_a_density_that_is_not_finite_is_caught():
    found = failed(preflight(bnn.standard(posterior_with(lambda x: jnp.log(x)))))
    assert {"log likelihood", "gradient"} <= found


@jax.tree_util.register_pytree_node_class
class Retraced:
    """A target whose pytree has something new in its structure each time."""

    def __init__(self, exact):
        self.exact, self.log_likelihood = exact, exact.log_likelihood

    def tree_flatten(self):
        return (self.exact,), object()

    @classmethod
    def tree_unflatten(cls, structure, leaves):
        return cls(*leaves)


def test_compiling_anew_is_caught():
    target = bnn.standard(posterior_with("tanh"))
    positions = jnp.zeros((2, target.dim))
    assert costs.traces(target, positions).ok
    finding = costs.traces(Retraced(target), positions)
    assert not finding.ok
    assert finding.value == 2


def test_memory_that_is_not_there_is_caught(monkeypatch):
    none_free = lambda: SimpleNamespace(available=1000)  # noqa: E731
    monkeypatch.setattr(costs.psutil, "virtual_memory", none_free)
    assert failed(preflight(posterior_with("tanh"))) == {"memory"}


@pytest.mark.slow
def test_memory_is_that_of_what_a_run_keeps():
    target = bnn.marginal(POSTERIORS["Gaussian"])
    finding = costs.memory(target, 3, 1000, X)
    run = bnn.sample(target, bnn.HMC(2), chains=3, warmup=5, draws=1000, x_test=X)
    groups = ("posterior", "predictions")
    kept = sum(
        run[group].to_dataset().data_vars[name].nbytes
        for group in groups
        for name in run[group].to_dataset().data_vars
    )
    assert abs(finding.value - kept) < 0.1 * kept


def test_noise_that_float32_cannot_resolve_is_told_and_not_judged():
    finding = {each.name: each for each in preflight(posterior_with("tanh", 1e-4)).findings}[
        "float32"
    ]
    assert finding.ok is None
    assert finding.value > 0.1
    assert "float64" in str(finding)


def test_what_cannot_be_run_is_refused():
    with pytest.raises(ValueError, match="HMC\\(\\) was meant: here the readout is integrated out"):
        preflight(posterior_with("tanh"), bnn.AlternatingHMC())
    with pytest.raises(ValueError, match="target: got Network"):
        preflight(network(1))


def test_a_target_of_ones_own_is_told_to_have_no_way_back():
    posterior = posterior_with("tanh")
    own = SimpleTarget(posterior)
    verdict = preflight(own, bnn.HMC(2))
    assert verdict.ok
    assert "no way back is known of a SimpleTarget" in str(verdict)


@as_pytree("posterior")
@dataclass(frozen=True)
class SimpleTarget(bnn.AbstractTarget):
    posterior: bnn.Posterior
    name = "simple"

    def log_likelihood(self, position):
        return Standard(self.posterior).log_likelihood(position)

    def constrain(self, position, key):
        return Standard(self.posterior).constrain(position, key)

    def fitted(self, position):
        return Standard(self.posterior).fitted(position)

    def init(self, key):
        return Standard(self.posterior).init(key)
