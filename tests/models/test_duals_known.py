"""Activations by name: functions and parameters as in jax.nn, and what is refused."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnsample.checks import BadInput
from bnnsample.models.duals.hermite import HermiteDual
from bnnsample.models.duals.known import CLOSED_FORMS, KNOWN_ACTIVATIONS, activation, as_elementwise

IN_JAX = sorted(set(KNOWN_ACTIVATIONS) & set(dir(jax.nn)))


@pytest.mark.parametrize("name", IN_JAX)
def test_names_mean_what_they_mean_in_jax(name):
    x = jnp.linspace(-3, 3, 13)
    function = getattr(jax.nn, name)
    expected = function(x, approximate=False) if name == "gelu" else function(x)
    np.testing.assert_allclose(activation(name).function(x), expected, rtol=1e-6)
    assert set(inspect.signature(KNOWN_ACTIVATIONS[name]).parameters) <= {
        "degree",
        *inspect.signature(function).parameters,
    }


def test_parameters_reach_function_and_dual():
    x = jnp.array([-2.0, 2.0])
    leaky = activation("leaky_relu", negative_slope=0.25)
    assert leaky.function(x).tolist() == [-0.5, 2.0]
    one = jnp.asarray(1.0)
    assert leaky.dual(one, one, one).value == pytest.approx((1 + 0.25**2) / 2)
    assert activation("monomial", degree=3).function(x).tolist() == [-8, 8]
    assert activation("elu", alpha=2.0).function(x)[0] == pytest.approx(2 * np.expm1(-2))
    assert activation("tanh", degree=8).dual == HermiteDual(jnp.tanh, 8)


@pytest.mark.parametrize("name", sorted(KNOWN_ACTIVATIONS))
def test_the_same_name_twice_is_one_activation(name):
    assert activation(name).function is activation(name).function
    assert activation(name) == activation(name)
    assert hash(activation(name)) == hash(activation(name))


@pytest.mark.parametrize(("function", "name"), CLOSED_FORMS)
def test_a_function_with_a_closed_form_takes_it(function, name):
    assert as_elementwise(function) == activation(name)
    x = jnp.array([-1.5, 0.5, 2.0])
    np.testing.assert_allclose(function(x), activation(name).function(x), rtol=1e-6)


def test_any_other_function_is_expanded():
    assert as_elementwise(jnp.tanh) == activation("tanh")
    assert isinstance(as_elementwise(jax.nn.gelu).dual, HermiteDual)
    assert as_elementwise(jax.nn.relu, degree=9).dual == HermiteDual(jax.nn.relu, 9)
    assert as_elementwise("monomial", degree=3) == activation("monomial", degree=3)
    assert as_elementwise("tanh", degree=9) == as_elementwise(jnp.tanh, degree=9)


class Unhashable:
    """As modules that hold arrays are."""

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __call__(self, x):
        return jnp.tanh(x)


@pytest.mark.parametrize(
    ("arguments", "parameters", "message"),
    [
        (("rellu",), {}, "'relu' was meant"),
        (("",), {}, "expected one of identity, relu"),
        ((3.0,), {}, "a name or an elementwise function"),
        (("relu",), {"negative_slope": 0.1}, "expected no parameter"),
        (("leaky_relu",), {"negativ_slope": 0.1}, "'negative_slope' was meant"),
        (("leaky_relu",), {"negative_slope": float("nan")}, "a finite number"),
        (("leaky_relu",), {"negative_slope": "0.1"}, "a finite number"),
        (("leaky_relu",), {"negative_slope": True}, "a finite number"),
        (("elu",), {"alpha": 0.0}, "above 0"),
        (("monomial",), {"degree": 0}, "whole number from 1"),
        (("monomial",), {"degree": 2.5}, "whole number from 1"),
        (("monomial",), {"degree": 100}, "at most 16"),
        (("relu",), {"degree": 8}, "expected no parameter"),
        (("tanh",), {"degree": 0}, "whole number from 1"),
        ((jnp.tanh,), {"degree": -1}, "whole number from 1"),
        ((jax.nn.elu,), {"alpha": 2.0}, "beside a name only"),
        (("Relu",), {}, "'relu' was meant"),
        ((jax.nn.softmax,), {}, "depends on other entries.*Custom takes any"),
        ((jnp.cumsum,), {}, "depends on other entries"),
        ((np.tanh,), {}, "fails on an array.*a NumPy function"),
        ((Unhashable(),), {}, "fails on an array: unhashable.*lambda x: module"),
    ],
)
def test_bad_names_and_parameters_are_refused(arguments, parameters, message):
    with pytest.raises(BadInput, match=message):
        as_elementwise(*arguments, **parameters)
