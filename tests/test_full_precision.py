"""Products in float32 are not rounded to fewer bits, as accelerators do by default.

No accelerator is needed to see it: what a product asks for is in the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import bnnsample as bnn
from bnnsample.repriorisation.targets import TARGETS

PRODUCTS = ("dot_general", "conv_general_dilated")
FULL = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
POINTS, SIDE, OUTPUTS = 4, 6, 3


@pytest.fixture
def posterior(rng) -> bnn.Posterior:
    """A convolution, whose inputs have more dimensions than there are points, and more features."""
    network = bnn.Network(
        [bnn.Conv(5, (3, 3)), bnn.Activation("gelu"), bnn.Flatten(), bnn.Dense(OUTPUTS)]
    )
    x = rng.standard_normal((POINTS, SIDE, SIDE, 2))
    return bnn.Posterior(network, x, rng.standard_normal((POINTS, OUTPUTS)), bnn.Gaussian(0.3))


def dense(posterior: bnn.Posterior) -> bnn.Posterior:
    """Of a dense network, whose first layer is sampled along the span of its inputs."""
    network = bnn.fcn(2, 7, OUTPUTS)
    return bnn.Posterior(
        network, posterior.x.reshape(POINTS, -1), posterior.y, posterior.likelihood
    )


def asked_for(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The precision that each product of a function asks for."""
    return list(_of_program(jax.make_jaxpr(function)(*arguments).jaxpr))


def _of_program(program: Any) -> Iterator[Any]:
    for equation in program.eqns:
        if equation.primitive.name in PRODUCTS:
            yield equation.params["precision"]
        for value in jax.tree.leaves(equation.params, is_leaf=_is_program):
            if _is_program(value):
                yield from _of_program(getattr(value, "jaxpr", value))


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def test_other_products_ask_for_nothing():
    x = jnp.ones((3, 3))
    inner = jax.jit(lambda y: jax.lax.map(lambda row: row @ x, y))
    assert asked_for(inner, x) == [None]


@pytest.mark.parametrize("change", [dense, lambda posterior: posterior], ids=["dense", "conv"])
@pytest.mark.parametrize("name", list(TARGETS))
def test_log_densities_and_their_gradients(posterior, name, change):
    target = TARGETS[name](change(posterior))
    position = target.init(jax.random.key(1))
    found = asked_for(jax.value_and_grad(target.logdensity), position)
    assert len(found) > 3
    assert set(found) == {FULL}


@pytest.mark.parametrize("name", list(TARGETS))
def test_draws_and_predictions(posterior, name):
    target = TARGETS[name](dense(posterior))
    key = jax.random.key(2)
    x_test = jnp.asarray(dense(posterior).x[:2])

    def drawn(key: jax.Array) -> Any:
        position = target.init(key)
        return target.constrain(position, key), target.drawer(x_test)(position, key)

    assert set(asked_for(drawn, key)) == {FULL}


def test_kernels_and_their_regression(posterior):
    small = dense(posterior)

    def predicted(x: jax.Array) -> Any:
        return bnn.nngp_posterior(small.network, x, small.y, 0.3).marginals(small.x)

    found = asked_for(predicted, jnp.asarray(small.x))
    assert len(found) > 3
    assert set(found) == {FULL}


def test_kernels_by_draws_and_the_slope_of_the_evidence(posterior):
    small = dense(posterior)
    estimate = bnn.monte_carlo_kernel(small.network, draws=3).estimate

    def evidence(noise_std: jax.Array) -> Any:
        return bnn.nngp_posterior(small.network, small.x, small.y, noise_std).log_evidence

    assert set(asked_for(estimate, jnp.asarray(small.x))) == {FULL}
    assert set(asked_for(jax.value_and_grad(evidence), jnp.asarray(0.3))) == {FULL}


@pytest.mark.slow
def test_sampling_from_its_start_to_its_end(posterior, tmp_path):
    seen = []

    def look(progress: bnn.Progress) -> None:
        seen.append(jax.config.jax_default_matmul_precision)  # pyright: ignore[reportAttributeAccessIssue]

    before = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    settings: dict[str, Any] = {"chains": 2, "warmup": 4, "draws": 4, "out": tmp_path / "run"}
    bnn.sample(bnn.marginal(dense(posterior)), **settings, on_progress=look)
    count = len(seen)
    bnn.resume(tmp_path / "run", extra_draws=4, on_progress=look)
    assert 0 < count < len(seen)
    assert set(seen) == {"highest"}
    assert jax.config.jax_default_matmul_precision == before  # pyright: ignore[reportAttributeAccessIssue]
