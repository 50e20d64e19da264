"""Bad input to functions, a row each: data, networks, likelihoods and priors, sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd

import bnnsample as bnn
from bnnsample.repriorisation.parameters import Standard

N, D, OUT = 7, 4, 3


def posterior(*, network: Any = None, likelihood: Any = None, **data: Any) -> bnn.Posterior:
    """A posterior of seven points with four features and three outputs, but for what is given."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, OUT))
    return bnn.Posterior(
        bnn.fcn(1, 5, OUT) if network is None else network,
        data.get("x", x),
        data.get("y", y),
        bnn.Gaussian(0.3) if likelihood is None else likelihood,
    )


def sample(target: Any = None, **arguments: Any) -> Any:
    """A run of next to nothing, but for what is given."""
    small: dict[str, Any] = {"chains": 2, "warmup": 2, "draws": 3, "keep": ("projections",)}
    return bnn.sample(posterior() if target is None else target, **(small | arguments))


def with_one(value: float) -> np.ndarray:
    """An array of ones with ``value`` in its fourth row."""
    array = np.ones((N, D))
    array[3, 1] = value
    return array


class HalfSpace(Standard):
    """A target whose log density is NaN in half of the space, into which chains may run."""

    def log_likelihood(self, position: jax.Array) -> jax.Array:
        return jnp.where(position[0] > 0, jnp.nan, super().log_likelihood(position))

    def init(self, key: jax.Array) -> jax.Array:
        return -jnp.abs(super().init(key))


jax.tree_util.register_pytree_node(
    HalfSpace, lambda t: ((t.posterior,), None), lambda _, leaves: HalfSpace(leaves[0])
)


def run_into_nan(_: object) -> str:
    """Sample a target that is NaN in half of the space."""
    run = sample(HalfSpace(posterior()), sampler=bnn.HMC(4), warmup=20, draws=400)
    stats = run["sample_stats"]
    assert np.isfinite(stats["lp"].values).all()
    assert int(stats["diverging"].sum()) > 0
    return "such proposals are rejected, and counted as divergences"


def no_limit() -> bnn.Network:
    """A network whose kernel has no closed form."""
    return bnn.Network([bnn.Dense(4), bnn.Activation("relu"), bnn.Activation("erf"), bnn.Dense(1)])


ONES = np.ones((N, D))
NETWORK = bnn.fcn(1, 5, OUT)

type Rows = dict[str, Callable[[Any], object]]

DATA: Rows = {
    "x has a NaN": lambda _: posterior(x=with_one(np.nan)),
    "x has an infinity": lambda _: posterior(x=with_one(-np.inf)),
    "x has masked values": lambda _: posterior(x=np.ma.masked_array(ONES, ONES > 0)),
    "x is a column without its axis": lambda _: posterior(x=np.ones(N)),
    "x has no rows": lambda _: posterior(x=np.ones((0, D))),
    "x has text": lambda _: posterior(x=[["a", "b"]] * N),
    "x has dates": lambda _: posterior(x=pd.DataFrame({"day": [pd.Timestamp("2020-01-01")] * N})),
    "x is ragged": lambda _: posterior(x=[[1.0], [1.0, 2.0]]),
    "x is complex": lambda _: posterior(x=ONES + 1j),
    "x is None": lambda _: posterior(x=None),
    "x is huge": lambda _: posterior(x=1e200 * ONES),
    "x is so large that its kernel is not finite": lambda _: bnn.nngp(NETWORK, 1e100 * ONES),
    "x has fewer rows than y": lambda _: posterior(x=ONES[1:]),
    "x are images, the network is for vectors": lambda _: posterior(x=np.ones((N, 8, 8, 1))),
    "y has fewer columns than the network": lambda _: posterior(y=np.ones((N, 2))),
    "y has an infinity": lambda _: posterior(y=np.where(np.eye(N, OUT) > 0, np.inf, 0.0)),
    "x_test has another number of columns": lambda _: sample(x_test=np.ones((2, D + 1))),
    "x_test has NaN": lambda _: sample(x_test=np.full((2, D), np.nan)),
    "x is float16, in Fortran order, read-only or a pandas frame": lambda _: (
        [posterior(x=x) for x in (ONES.astype("float16"), np.asfortranarray(ONES))],
        posterior(x=pd.DataFrame(ONES)),
        posterior(x=np.broadcast_to(1.0, (N, D))),
    ),
    "x has duplicate rows and constant columns": lambda _: bnn.nngp_posterior(
        NETWORK, ONES, np.ones((N, OUT)), 0.1
    ),
}

NETWORKS: Rows = {
    "the readout is left out": lambda _: bnn.Network([bnn.Dense(4), bnn.Activation("relu")]),
    "a list of layers in place of a network": lambda _: bnn.nngp([bnn.Dense(1)], ONES),
    "no hidden layer asked of fcn": lambda _: bnn.fcn(0, 4, 1),
    "a depth that no resnet has": lambda _: bnn.resnet(9, 4, 1),
    "a width that is not whole": lambda _: bnn.Dense(2.5),
    "a weight scale of 0": lambda _: bnn.Dense(4, w_std=0.0),
    "an unknown activation": lambda _: bnn.Activation("swishy"),
    "the limit of a network that has none": lambda _: bnn.nngp(no_limit(), ONES),
    "the kernel of a network with a prior": lambda _: bnn.nngp(
        bnn.fcn(1, 4, 1, w_std=dist.HalfNormal(1.0)), ONES
    ),
}

LIKELIHOODS: Rows = {
    "noise_std = 0": lambda _: bnn.Gaussian(0.0),
    "noise_std is NaN": lambda _: bnn.Gaussian(float("nan")),
    "noise_std is text": lambda _: bnn.Gaussian("0.1"),
    "noise_std by point without its axis": lambda _: posterior(likelihood=bnn.Gaussian(np.ones(N))),
    "noise_std is far below rounding": lambda _: sample(
        posterior(x=ONES, likelihood=bnn.Gaussian(1e-30))
    ),
    "a class of priors without its arguments": lambda _: bnn.Gaussian(dist.HalfNormal),
    "a prior that is negative too": lambda _: bnn.Gaussian(dist.Normal(0.0, 1.0)),
    "labels from 1 on": lambda _: posterior(likelihood=bnn.Categorical(), y=np.full(N, OUT)),
    "one-hot targets for Categorical": lambda _: posterior(
        likelihood=bnn.Categorical(), y=np.eye(N, OUT)
    ),
    "labels -1 and 1 for Bernoulli": lambda _: posterior(
        likelihood=bnn.Bernoulli(), y=-np.ones((N, OUT))
    ),
    "counts below 0": lambda _: posterior(likelihood=bnn.Poisson(), y=-np.ones((N, OUT))),
    "an odd number of outputs for means and variances": lambda _: posterior(
        likelihood=bnn.HeteroscedasticGaussian()
    ),
    "a number in place of a likelihood": lambda _: posterior(likelihood=0.1),
}

SAMPLING: Rows = {
    "a network in place of a posterior": lambda _: sample(NETWORK),
    "the class of a sampler": lambda _: sample(sampler=bnn.HMC),
    "no chains": lambda _: sample(chains=0),
    "draws = 2.5": lambda _: sample(draws=2.5),
    "checkpoint_every = 0": lambda _: sample(checkpoint_every=0),
    "warmup = -1": lambda _: sample(warmup=-1),
    "seed = -3": lambda _: sample(seed=-3),
    "keep without its tuple": lambda _: sample(keep="parameters"),
    "predictions without x_test": lambda _: sample(keep=("predictions",)),
    "a flag for on_progress": lambda _: sample(on_progress=True),
    "an acceptance in per cent": lambda _: bnn.HMC(target_acceptance=80),
    "a sampler of the readout for a target without one": lambda _: sample(
        bnn.marginal(posterior()), sampler=bnn.AlternatingHMC()
    ),
    "a log density that is NaN in half of the space": run_into_nan,
}

TABLE = {
    "Data": DATA,
    "Networks": NETWORKS,
    "Likelihoods and priors": LIKELIHOODS,
    "Sampling": SAMPLING,
}
