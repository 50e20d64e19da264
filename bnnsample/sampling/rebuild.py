"""Settings read back from their ``repr``, without executing it.

A run folder names its network, likelihood and sampler by their ``repr``: legible, and exact, as
floats print all their digits. Only constructors listed here with literal arguments are accepted.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np
import numpyro.distributions as dist

from bnnsample.models.layers.activation import Activation
from bnnsample.models.layers.attention import SelfAttention
from bnnsample.models.layers.conv import Conv
from bnnsample.models.layers.dense import Dense
from bnnsample.models.layers.normalisation import LayerNorm
from bnnsample.models.layers.pooling import AvgPool, Flatten, GlobalAvgPool
from bnnsample.models.layers.residual import Identity, Residual, Scale
from bnnsample.models.likelihoods.discrete import (
    Bernoulli,
    Categorical,
    NegativeBinomial,
    Poisson,
)
from bnnsample.models.likelihoods.gaussian import Gaussian, HeteroscedasticGaussian
from bnnsample.models.likelihoods.student_t import StudentT
from bnnsample.models.network import Network
from bnnsample.models.scales import Hyperparameter
from bnnsample.sampling.samplers.alternating import AlternatingHMC
from bnnsample.sampling.samplers.crank_nicolson import PCN, EllipticalSlice
from bnnsample.sampling.samplers.hamiltonian import HMC, MALA, PCNL
from bnnsample.sampling.samplers.langevin import Langevin
from bnnsample.sampling.samplers.microcanonical import (
    MicrocanonicalLangevin,
    UnadjustedMicrocanonicalLangevin,
)
from bnnsample.sampling.samplers.nuts import NUTS

CONSTRUCTORS: dict[str, Any] = {
    constructor.__name__: constructor
    for constructor in (
        *(Gaussian, HeteroscedasticGaussian, StudentT),
        *(Bernoulli, Categorical, Poisson, NegativeBinomial),
        *(Hyperparameter, dist.HalfNormal, dist.HalfCauchy, dist.LogNormal, dist.Gamma),
        *(dist.InverseGamma, dist.Exponential, dist.Uniform, dist.Weibull),
        *(Network, Dense, Conv, Activation, SelfAttention, LayerNorm, Residual, Scale),
        *(Identity, AvgPool, GlobalAvgPool, Flatten),
        *(HMC, AlternatingHMC, NUTS, MALA, PCNL, PCN, EllipticalSlice, Langevin),
        *(MicrocanonicalLangevin, UnadjustedMicrocanonicalLangevin),
    )
}


NUMPY_SCALARS = ("float64", "float32", "int64", "int32")


class NotRebuildable(ValueError):
    """A text that is not a known constructor with literal arguments."""


def rebuild(text: str) -> Any:
    """The object whose ``repr`` is ``text``.

    Raises ``NotRebuildable`` for anything but the constructors above, literals, tuples and lists:
    a network with a function of one's own, or a file that was tampered with.
    """
    try:
        return _value(ast.parse(text, mode="eval").body)
    except NotRebuildable:
        raise
    except Exception as error:  # a constructor's, of arguments that it was never given
        raise NotRebuildable(f"{text[:200]!r} ({error})") from error


def without_addresses(text: str) -> str:
    """A ``repr`` without where functions lie in memory, which the next process has elsewhere."""
    return re.sub(" at 0x[0-9a-f]+", "", text)


def _is_number(node: ast.expr) -> bool:
    """Whether it is one of the numbers of an array, as priors print them."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in CONSTRUCTORS:
            arguments = [_value(argument) for argument in node.args]
            keywords = {str(word.arg): _value(word.value) for word in node.keywords}
            return CONSTRUCTORS[name](*arguments, **keywords)
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="np"), attr=kind), args=[number], keywords=[]
        ) if kind in NUMPY_SCALARS:
            return getattr(np, kind)(_value(number))
        case ast.List(elts=elements) if elements and all(map(_is_number, elements)):
            return np.array([_value(element) for element in elements])
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return tuple(_value(element) for element in elements)
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise NotRebuildable(f"{ast.unparse(node)[:200]!r}")
