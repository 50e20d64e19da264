"""Simulation-based calibration (Talts et al. 2018, 1804.06788) of likelihoods and hyperparameters.

Parameters and hyperparameters come from their priors, targets from the likelihood; the rank of each
quantity among draws of the posterior is then uniform. 128 replications each, ranks in 8 bins, a
chi-square p-value above 1e-3. With 15 cases of at most 5 quantities, which go together, a correct
suite fails at most 7 times in 100 seeds; the seed is fixed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import bnnsample as bnn
from bnnsample.models.scales import promoting_as_numpyro
from bnnsample.repriorisation.targets import TARGETS
from tests.zoo import LIKELIHOODS

pytestmark = pytest.mark.slow

REPLICATIONS, BINS, KEPT, THINNING = 128, 8, 63, 6
LEAST_P = 1e-3
SAMPLERS = {
    "standard": bnn.HMC(6, integrator="leapfrog"),
    "repriorised": bnn.AlternatingHMC(3),
    "marginal": bnn.HMC(4),
}
N, D, WIDTH = 6, 2, 3
X = np.random.default_rng(1).standard_normal((N, D))
X_TEST = np.random.default_rng(2).standard_normal((1, D))


class Model:
    """A likelihood with as many outputs as it needs, and where it says so unknown scales."""

    def __init__(self, likelihood: bnn.AbstractLikelihood, columns: int, outputs: int, **scales):
        self.network = bnn.fcn(1, WIDTH, outputs, "tanh", w_std=1.2, b_std=0.4, **scales)
        self.likelihood, self.columns = likelihood, columns

    def posterior(self, y) -> bnn.Posterior:
        return bnn.Posterior(self.network, X, y, self.likelihood)

    def simulate(self, key) -> tuple[bnn.Posterior, dict[str, float]]:
        """A posterior given simulated targets, and the quantities behind them."""
        start = self.posterior(np.zeros((N, self.columns)))
        keys = jax.random.split(key, 2 + len(start.hyperpriors))
        params = self.network.init(keys[0], (D,))
        with promoting_as_numpyro():
            values = {
                name: prior.sample(own)
                for own, (name, prior) in zip(keys[2:], start.hyperpriors.items(), strict=True)
            }
        known = start.given(values)
        y = known.likelihood.draw(keys[1], known.network.apply(params, start.x))
        posterior = self.posterior(y)
        f = known.network.apply(params, jnp.asarray(X_TEST))[0]
        truth = {f"f {o}": float(f[o]) for o in range(min(2, len(f)))}
        truth["log density"] = float(posterior.log_density(params, values))
        return posterior, truth | {name: float(value) for name, value in values.items()}


def quantities(run, posterior) -> dict[str, np.ndarray]:
    """Draws, thinned, of what ``simulate`` names."""
    draws = run["posterior"].to_dataset().isel(chain=0)
    f = run["predictions"].to_dataset()["f"].values[0, :, 0]
    found = {f"f {o}": f[:, o] for o in range(min(2, f.shape[1]))}
    leaves, structure = jax.tree.flatten(posterior.parameter_shapes)
    names = ["layer_0_bias", "layer_0_weight", "readout"]
    assert [leaf.shape for leaf in leaves] == [draws[name].shape[1:] for name in names]
    arrays = [jnp.asarray(draws[name].values[::THINNING]) for name in names]
    values = {name: jnp.asarray(draws[name].values[::THINNING]) for name in posterior.hyperpriors}
    found = {name: value[::THINNING] for name, value in found.items()}
    found["log density"] = np.asarray(
        jax.vmap(lambda a, v: posterior.log_density(jax.tree.unflatten(structure, a), v))(
            arrays, values
        )
    )
    return found | {name: np.asarray(value) for name, value in values.items()}


def p_values(model: Model, target, *, fitted: Model | None = None) -> dict[str, float]:
    """The chi-square p-value of the ranks of each quantity."""
    counts: dict[str, np.ndarray] = {}
    for replication in range(REPLICATIONS):
        posterior, truth = model.simulate(jax.random.key(1000 + replication))
        if fitted is not None:
            posterior = fitted.posterior(posterior.y)
        run = bnn.sample(
            TARGETS[target](posterior), SAMPLERS[target], chains=1, warmup=200, seed=replication,
            draws=KEPT * THINNING, x_test=X_TEST, keep=("predictions", "parameters"),
        )  # fmt: skip
        for name, draws in quantities(run, posterior).items():
            rank = int(np.sum(draws < truth[name]))
            counts.setdefault(name, np.zeros(BINS))[rank * BINS // (KEPT + 1)] += 1
    return {name: float(scipy.stats.chisquare(count).pvalue) for name, count in counts.items()}


def of(name: str, columns: int, outputs: int) -> Model:
    return Model(LIKELIHOODS[name].likelihood, columns, outputs)


MODELS = {
    "Gaussian": of("Gaussian", 1, 1),
    "heteroscedastic": of("heteroscedastic", 1, 2),
    "Student t": of("Student t", 1, 1),
    "Bernoulli": of("Bernoulli", 2, 2),
    "categorical": of("categorical", 1, 3),
    "Poisson": of("Poisson", 1, 1),
    "negative binomial": of("negative binomial", 1, 1),
    "unknown noise": Model(bnn.Gaussian(dist.LogNormal(-0.7, 0.5)), 1, 1),
    "unknown noise and scale": Model(
        bnn.Gaussian(dist.LogNormal(-0.7, 0.5)), 2, 2, w_std_out=dist.Gamma(4.0, 3.0)
    ),
    "unknown scale of Student t": Model(bnn.StudentT(4.0, dist.LogNormal(-0.7, 0.5)), 1, 1),
    "unknown concentration": Model(bnn.NegativeBinomial(dist.LogNormal(0.5, 0.5)), 1, 1),
}
DEFAULTS = {
    name: "marginal" if isinstance(model.likelihood, bnn.Gaussian) else "repriorised"
    for name, model in MODELS.items()
}
CASES = [
    *DEFAULTS.items(),
    ("categorical", "standard"),
    ("unknown noise", "standard"),
    ("unknown noise", "repriorised"),
    ("unknown noise and scale", "repriorised"),
]


@pytest.mark.filterwarnings("ignore:the Laplace fit:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:stuck chains:RuntimeWarning")
@pytest.mark.parametrize(("name", "target"), CASES)
def test_ranks_of_prior_draws_are_uniform(name, target):
    found = p_values(MODELS[name], target)
    assert min(found.values()) > LEAST_P, found


@pytest.mark.filterwarnings("ignore:stuck chains:RuntimeWarning")
def test_a_wrong_noise_is_caught():
    """A negative control: noise of half its size, as a variance taken for a standard deviation."""
    found = p_values(MODELS["Gaussian"], "marginal", fitted=Model(bnn.Gaussian(0.16), 1, 1))
    assert min(found.values()) < LEAST_P, found
