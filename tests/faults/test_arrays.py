"""Whatever arrays come in: a documented refusal, or finite results, and nothing of them is changed.

Cases are generated: shapes, types, containers, layouts, magnitudes, and what tables are like in
practice. Hypothesis makes the same ones in every run.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bnnsample as bnn
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling.steadiness import check_starts
from tests.conftest import X64

pytestmark = pytest.mark.skipif(not X64, reason="magnitudes are those of float64")

CASES = 240
REFUSALS = (bnn.BadInput, bnn.NoKnownLimit, bnn.NoUsableStepSize)
MESSAGE = re.compile(r"got .*; expected .*; probably .*", re.DOTALL)

SHAPES = {
    "n, d, o = 5, 3, 2": (5, 3, bnn.fcn(1, 4, 2)),
    "n, d, o, p = 1, 1, 1, 1": (1, 1, bnn.fcn(1, 1, 1, b_std=None, b_std_out=None)),
    "one feature": (6, 1, bnn.fcn(1, 3, 1, "relu")),
}
CONTENTS = ("normal", "duplicate rows", "constant column", "zeros", "NaN", "infinity")
TYPES = ("float64", "float32", "float16", "longdouble", "int64", "int8", "uint8", "bool", "object")
CONTAINERS = {
    "C order": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "reversed view": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "read-only": lambda a: _read_only(a),
    "list": lambda a: a.tolist(),
    "pandas": lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a),
    "JAX": lambda a: jnp.asarray(a) if a.dtype in (np.float32, np.float64, np.int64) else a,
}
MAGNITUDES = (1.0, 1e-300, 1e-160, 1e-30, 1e-8, 1e8, 1e30, 1e100, 1e160, 1e300)

recipes = st.tuples(
    st.sampled_from(CONTENTS[:1] * 3 + CONTENTS),
    st.sampled_from(TYPES[:2] * 3 + TYPES),
    st.sampled_from([*CONTAINERS]),
    st.sampled_from(MAGNITUDES[:1] * 8 + MAGNITUDES),
    st.integers(0, 2**32 - 1),
)


class Case(NamedTuple):
    """Data in the containers they come in, and a network for them."""

    network: bnn.Network
    x: Any
    y: Any
    x_test: Any


def _read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _made(recipe: tuple, shape: tuple[int, ...]) -> Any:
    content, dtype, container, magnitude, seed = recipe
    rng = np.random.default_rng(seed)
    array = 3 * rng.standard_normal(shape)
    if content == "duplicate rows":
        array[:] = array[:1]
    elif content == "constant column":
        array[..., -1] = 1.7
    elif content == "zeros":
        array[:] = 0.0
    if "float" in dtype or dtype in ("longdouble", "object"):
        array *= magnitude
        if content in ("NaN", "infinity"):
            array.flat[rng.integers(array.size)] = np.nan if content == "NaN" else -np.inf
    else:
        array = np.clip(array, -9 if dtype.startswith("int") else 0, 9)
    with np.errstate(over="ignore", under="ignore"):
        return CONTAINERS[container](array.astype(dtype))


@st.composite
def cases(draw: st.DrawFn, shapes: tuple[str, ...] = tuple(SHAPES)) -> Case:
    n, d, network = SHAPES[draw(st.sampled_from(shapes))]
    outputs = network.readout_layer.width
    y_shape = (n,) if outputs == 1 and draw(st.booleans()) else (n, outputs)
    x, y, x_test = draw(recipes), draw(recipes), draw(recipes)
    return Case(network, _made(x, (n, d)), _made(y, y_shape), _made(x_test, (2, d)))


@jax.jit
def value_and_gradient(target, position):
    return jax.value_and_grad(target.logdensity)(position)


def use(case: Case) -> str:
    """What becomes of a case; fails for what is neither refused as documented nor finite."""
    try:
        posterior = bnn.Posterior(case.network, case.x, case.y, bnn.Gaussian(0.3))
        for name, array in (("x", posterior.x), ("y", posterior.y)):
            given_ = np.asarray(getattr(case, name)).astype(float).reshape(array.shape)
            np.testing.assert_array_equal(np.asarray(array, float), given_)
        for make in TARGETS.values():
            target = make(posterior)
            value, gradient = value_and_gradient(target, target.init(jax.random.key(0)))
            check_starts(np.asarray(value)[None])  # as every run does
            assert np.isfinite(gradient).all()
        for kernel in (bnn.nngp(case.network, case.x), bnn.nngp(case.network, case.x, case.x_test)):
            assert np.isfinite(kernel).all()
        process = bnn.nngp_posterior(case.network, case.x, case.y, noise_std=0.3)
        mean, variance = process.marginals(case.x_test)
        assert np.isfinite(process.log_evidence)
        assert np.isfinite(mean).all()
        assert np.isfinite(variance).all()
    except REFUSALS as error:
        assert MESSAGE.search(str(error)), str(error)  # noqa: PT017 - or it is finite
        return "refused"
    return "finite"


def snapshot(case: Case) -> list[tuple[Any, ...]]:
    """Values, types and layout of a case's arrays; of long doubles not the bytes in between."""
    return [
        (type(a), np.asarray(a).dtype, repr(np.asarray(a).tolist()), str(getattr(a, "flags", None)))
        for a in (case.x, case.y, case.x_test)
    ]


def quiet(examples: int):
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.slow
def test_generated_arrays_are_refused_or_give_finite_results_and_are_not_changed():
    seen = Counter()

    @quiet(CASES)
    @given(cases())
    def check(case: Case) -> None:
        before = snapshot(case)
        seen[use(case)] += 1
        assert snapshot(case) == before

    check()
    assert seen.total() >= 200
    assert min(seen["refused"], seen["finite"]) >= 40, seen


@pytest.mark.parametrize("shape", list(SHAPES)[:2])
def test_generated_arrays_are_refused_or_sampled(shape):
    seen = Counter()

    @quiet(12)
    @given(cases((shape,)))
    def check(case: Case) -> None:
        before = snapshot(case)
        try:
            posterior = bnn.Posterior(case.network, case.x, case.y, bnn.Gaussian(0.3))
            run = bnn.sample(
                bnn.marginal(posterior),
                bnn.HMC(2),
                chains=2,
                warmup=4,
                draws=5,
                x_test=case.x_test,
                keep=("predictions",),
            )
            for group in ("sample_stats", "predictions"):
                for name, array in run[group].data_vars.items():
                    assert np.isfinite(array.values).all(), name
            seen["sampled"] += 1
        except REFUSALS as error:
            assert MESSAGE.search(str(error)), str(error)  # noqa: PT017 - or it is finite
        assert snapshot(case) == before

    check()
    assert seen["sampled"] >= 2


FRAME = pd.DataFrame(np.ones((4, 2)))
MALFORMED = {
    "nothing": None,
    "a number": 3.0,
    "text": "x.csv",
    "bytes": b"abc",
    "a dictionary": {"x": 1},
    "a set": {1.0, 2.0},
    "a generator": (i for i in range(4)),
    "a function": np.sin,
    "a module": np,
    "no rows": np.ones((0, 2)),
    "no columns": np.ones((4, 0)),
    "an empty list": [],
    "a ragged list": [[1.0, 2.0], [3.0]],
    "text among numbers": [[1.0, "two"]] * 4,
    "None among numbers": [[1.0, None]] * 4,
    "an integer beyond floats": [[10**400, 1]] * 4,
    "complex numbers": np.ones((4, 2)) + 1j,
    "dates": np.full((4, 2), np.datetime64("2020-01-01")),
    "durations": np.full((4, 2), np.timedelta64(1, "D")),
    "a record array": np.zeros(4, dtype=[("a", float), ("b", float)]),
    "masked values": np.ma.masked_array(np.ones((4, 2)), np.eye(4, 2)),
    "a sparse matrix": scipy.sparse.csr_matrix(np.ones((4, 2))),
    "a frame with text": FRAME.assign(c=list("abcd")),
    "a frame with categories": FRAME.assign(c=pd.Categorical(list("abca"))),
    "a frame with dates": FRAME.assign(c=pd.Timestamp("2020-01-01")),
    "a frame with a missing integer": FRAME.assign(c=pd.array([1, 2, None, 4], "Int64")),
    "a frame with NaN": FRAME.assign(c=[1.0, np.nan, 2.0, 3.0]),
    "a random key": jax.random.key(0),
    "five axes": np.ones((4, 2, 1, 1, 1)),
}


def use_in(place: str, value: Any) -> None:
    rng = np.random.default_rng(4)
    network, x, y = bnn.fcn(1, 5, 3), rng.standard_normal((4, 2)), rng.standard_normal((4, 3))
    if place == "x_test":
        bnn.nngp_posterior(network, x, y, 0.1).predict(value)
    else:
        bnn.Posterior(network, **({"x": x, "y": y} | {place: value}), likelihood=bnn.Gaussian(0.1))


@pytest.mark.parametrize("place", ["x", "y", "x_test"])
@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_table_of_numbers_is_refused_by_name(name, place):
    with pytest.raises(bnn.BadInput, match=MESSAGE) as caught:
        use_in(place, MALFORMED[name])
    assert place in str(caught.value) or "layer 0" in str(caught.value)
