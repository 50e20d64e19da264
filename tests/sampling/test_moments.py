"""Streaming moments are those of the draws, chain by chain, however the run was cut."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.sampling.moments import Moments, add_draw, as_variables, no_moments
from bnnsample.sampling.settings import SEGMENT_DRAWS
from tests.conftest import X64

TOLERANCE = 1e-10 if X64 else 1e-3


@pytest.fixture(scope="module")
def run():
    """Two whole segments and a part of one, of a network with a span (n < d)."""
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((3, 4)), rng.standard_normal((3, 2))
    posterior = bnn.Posterior(bnn.fcn(1, 5, 2), x, y, bnn.Gaussian(0.3))
    return bnn.sample(
        posterior, bnn.PCN(), chains=2, warmup=5, draws=2 * SEGMENT_DRAWS + 3, x_test=x + 1.0
    )


def test_moments_are_those_of_the_kept_draws(run):
    assert set(run["moments"].data_vars) == {
        "layer_0_weight", "layer_0_bias", "readout", "f", "f_mean", "f_std",
    }  # fmt: skip
    for name, moments in run["moments"].data_vars.items():
        group = "posterior" if name in run["posterior"] else "predictions"
        draws = run[group][name].values
        for moment, expected in (("mean", draws.mean(1)), ("std", draws.std(1, ddof=1))):
            found = moments.sel(moment=moment).values
            np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_chains_have_moments_of_their_own(run):
    readout = run["moments"]["readout"].values
    assert not np.any(readout[:, 0] == readout[:, 1])


def stream(draws: np.ndarray) -> Moments:
    moments = no_moments({"a": jnp.asarray(draws[0])})
    step = jax.jit(add_draw)
    for draw in draws:
        moments = step(moments, {"a": jnp.asarray(draw)})
    # as in a run, where chains come first
    return jax.tree.map(lambda leaf: leaf[None], moments)


def test_a_mean_far_from_zero_does_not_drown_the_deviation(rng):
    """The difference of two mean squares would keep none of it."""
    offset = 1e9 if X64 else 1e4
    draws = (offset + rng.standard_normal((200, 3))).astype(float if X64 else np.float32)
    naive = (draws**2).mean(0) - draws.mean(0) ** 2
    mean, std = as_variables(stream(draws))["a"][:, 0]
    np.testing.assert_allclose(mean, draws.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, draws.astype(float).std(0, ddof=1), rtol=1e-2)
    assert np.abs(naive - draws.astype(float).var(0)).max() > 0.1


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_draws_deviate_by_nothing(count):
    moments = stream(np.full((2, 3), 4.0))
    fewer = no_moments({"a": jnp.zeros(3)})
    fewer = add_draw(fewer, {"a": jnp.full(3, 4.0)}) if count else fewer
    mean, std = as_variables(jax.tree.map(lambda leaf: leaf[None], fewer))["a"][:, 0]
    np.testing.assert_array_equal(std, 0.0)
    np.testing.assert_array_equal(mean, 4.0 * count)
    np.testing.assert_array_equal(as_variables(moments)["a"][1], 0.0)
