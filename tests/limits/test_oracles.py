"""Kernels of twelve networks against those of an independent library, computed in float64."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from tests.conftest import X64
from tests.quick import quickly
from tests.shared import shared_file

RESNET = "paper_resnet8_gelu"
NAMES = (
    "fcn1_relu", "fcn1_gelu", "fcn3_erf", "fcn3_gelu", "fcn2_relu_standard", "conv2_relu_flatten",
    "conv2_relu_gap", "conv_stride_erf_gap", "residual_fcn_gelu", RESNET, "layernorm_fcn_relu",
    "attention_gap",
)  # fmt: skip
ALONE = ("fcn3_erf", "conv2_relu_gap", "layernorm_fcn_relu", "attention_gap")
CHEAP = [name for name in NAMES if name != RESNET]
TOLERANCE = 1e-8 if X64 else 1e-3
KINDS = ("nngp", "ntk")


class Oracle(NamedTuple):
    layers: list[dict[str, Any]]
    x1: np.ndarray
    x2: np.ndarray
    kernels: dict[str, np.ndarray]


def read(name: str) -> Oracle:
    specs = json.loads(shared_file("oracles", "kernels.json").read_text())
    layers = {spec["name"]: spec["layers"] for spec in specs}[name]
    dtype = np.float64 if X64 else np.float32
    with np.load(shared_file("oracles", "kernels.npz")) as arrays:
        x1, x2 = (arrays[f"{name}/{x}"].astype(dtype) for x in ("x1", "x2"))
        kernels = {k: arrays[f"{name}/{k}"] for k in ("nngp11", "nngp12", "ntk11", "ntk12")}
    return Oracle(layers, x1, x2, kernels)


def layer(spec: dict[str, Any]) -> bnn.AbstractLayer:
    scales = {name: spec[name] for name in ("w_std", "b_std") if name in spec}
    match spec["type"]:
        case "dense":
            parameterisation = spec.get("parameterization", "ntk")
            return bnn.Dense(spec.get("units", 64), **scales, parameterisation=parameterisation)
        case "conv":
            window, strides = tuple(spec["filter"]), spec.get("strides")
            return bnn.Conv(16, window, strides, spec.get("padding", "SAME"), **scales)
        case "act":
            return bnn.Activation(spec["name"])
        case "avgpool":
            return bnn.AvgPool(tuple(spec["window"]), tuple(spec["strides"]))
        case "residual":
            branch, shortcut = ([layer(s) for s in spec[k]] for k in ("branch", "shortcut"))
            return bnn.Residual(branch, shortcut)
        case "rescale":
            return bnn.Scale(spec["factor"])
        case "attention":
            names = ("w_query_std", "w_key_std", "w_value_std", "w_out_std")
            return bnn.SelfAttention(16, "softmax", *(spec[k] for k in names))
        case "flatten":
            return bnn.Flatten()
        case "gap":
            return bnn.GlobalAvgPool()
        case "layernorm":
            return bnn.LayerNorm()
    raise ValueError(f"an unknown layer {spec}")


def network(oracle: Oracle) -> bnn.Network:
    return bnn.Network([layer(spec) for spec in oracle.layers])


def error(found, oracle: Oracle, which: str) -> float:
    """Largest relative error of an entry, beyond one rounding of the largest entry.

    One entry is 1e-5 of the others, a difference of larger numbers; rounding the inputs to float32
    alone moves it by 8e-4.
    """
    expected = oracle.kernels[which]
    assert found.shape == expected.shape
    rounding = jnp.finfo(found.dtype).eps * np.max(np.abs(expected))
    difference = np.abs(np.asarray(found, np.float64) - expected) - rounding
    return float(np.max(difference / np.abs(expected)))


def errors_of_joint(kernel, oracle: Oracle, kind: str) -> list[float]:
    """Of both blocks of a kernel of x1 followed by x2."""
    n = len(oracle.x1)
    return [error(kernel[:n, :n], oracle, f"{kind}11"), error(kernel[:n, n:], oracle, f"{kind}12")]


def joint(oracle: Oracle) -> np.ndarray:
    return np.concatenate([oracle.x1, oracle.x2])


def test_every_network_of_the_oracle_is_compared():
    specs = json.loads(shared_file("oracles", "kernels.json").read_text())
    assert {spec["name"] for spec in specs} == set(NAMES)
    assert {tuple(spec["kernels"]) for spec in specs} == {KINDS}


@pytest.mark.parametrize("name", CHEAP)
def test_both_kernels_at_once(name):
    oracle = read(name)
    # the rows of x1 against both sets: one program instead of two
    for kind, kernel in zip(
        KINDS, bnn.nngp_and_ntk(network(oracle), oracle.x1, joint(oracle)), strict=True
    ):
        assert max(errors_of_joint(kernel, oracle, kind)) < TOLERANCE


@pytest.mark.slow
def test_both_kernels_of_the_residual_network():
    oracle = read(RESNET)
    kernels = quickly(lambda x: bnn.nngp_and_ntk(network(oracle), x))(joint(oracle))
    for kind, kernel in zip(KINDS, kernels, strict=True):
        assert max(errors_of_joint(kernel, oracle, kind)) < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ALONE else pytest.mark.slow) for name in NAMES]
)
def test_each_kernel_alone(name, kind):
    oracle = read(name)
    kernel = quickly(lambda x: getattr(bnn, kind)(network(oracle), x))(joint(oracle))
    assert max(errors_of_joint(kernel, oracle, kind)) < TOLERANCE


@pytest.mark.parametrize("name", ["fcn3_erf", "attention_gap"])
def test_one_set_of_inputs_against_itself_and_another(name):
    oracle = read(name)
    for kind in KINDS:
        function = getattr(bnn, kind)
        own, cross = function(network(oracle), oracle.x1), function(network(oracle), *oracle[1:3])
        assert error(own, oracle, f"{kind}11") < TOLERANCE
        assert error(cross, oracle, f"{kind}12") < TOLERANCE


@pytest.mark.parametrize("name", ["fcn1_gelu", "conv2_relu_gap", "conv_stride_erf_gap"])
def test_the_comparison_fails_for_a_scale_that_is_one_percent_off(name):
    oracle = read(name)
    random = [i for i, spec in enumerate(oracle.layers) if "w_std" in spec]
    right = network(oracle)

    @quickly
    def kernels(x, scales):
        layers = [*right.layers]
        for i, scale in zip(random, scales, strict=True):
            values = {k: v for k, v in oracle.layers[i].items() if k in ("w_std", "b_std")}
            layers[i] = layer(oracle.layers[i] | {"w_std": values["w_std"] * scale})
        return bnn.nngp_and_ntk(bnn.Network(layers), x)

    x = joint(oracle)
    for i in range(len(random)):
        found = kernels(x, jnp.ones(len(random)).at[i].set(1.01))
        for kind, kernel in zip(KINDS, found, strict=True):
            assert min(errors_of_joint(kernel, oracle, kind)) > TOLERANCE
    for kind, kernel in zip(KINDS, kernels(x, jnp.ones(len(random))), strict=True):
        assert max(errors_of_joint(kernel, oracle, kind)) < TOLERANCE
