"""Residual blocks and what they are made with: sums of two branches, scaled or passed on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.checks import NoKnownLimit, bad_input, located
from bnnsample.models.kernel import Kernel, Needs, Shape
from bnnsample.models.layers import serial
from bnnsample.models.layers.base import AbstractLayer, Params
from bnnsample.models.scales import Std, as_std, is_unknown
from bnnsample.pytrees import as_pytree


@as_pytree()
@dataclass(frozen=True)
class Identity(AbstractLayer):
    """``x -> x``."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> tuple[()]:
        return ()

    def apply(self, params: tuple[()], x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return x

    def kernel(self, kernel: Kernel) -> Kernel:
        return kernel


@as_pytree("factor")
@dataclass(frozen=True)
class Scale(AbstractLayer):
    """``x -> factor x``, by one number, or by one (c,) for each channel of the last axis.

    A prior of one for each input, ``Scale(dist.HalfNormal(numpy.ones(c)))`` before the first layer
    with weights, finds out which inputs matter (automatic relevance determination, Neal 1996). Only
    there does it have a limit.
    """

    factor: Std

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", as_std("Scale factor", self.factor, shaped=True))

    def output_shape(self, input_shape: Shape) -> Shape:
        shape = jnp.shape(self.factor) if not is_unknown(self.factor) else self.factor.shape
        if shape not in ((), input_shape[-1:]):
            raise bad_input(
                "Scale factor",
                got=f"shape {shape} for examples of shape {input_shape}",
                expected=f"one number, or {input_shape[-1:]}: one for each channel",
                probably="factors of other inputs",
            )
        return input_shape

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> tuple[()]:
        return ()

    def apply(self, params: tuple[()], x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        factor = jnp.asarray(self.factor, x.dtype)
        return x * factor.reshape((1,) * (x.ndim - factor.ndim) + factor.shape)

    def kernel(self, kernel: Kernel) -> Kernel:
        if jnp.ndim(self.factor) > 0:
            raise NoKnownLimit("channels behind random weights, each scaled by a factor of its own")
        return kernel.map(lambda covariance: self.factor**2 * covariance)


class ResidualParams(NamedTuple):
    """Parameters of both branches of a residual block."""

    branch: tuple[Params, ...]
    shortcut: tuple[Params, ...]


@as_pytree("branch", "shortcut")
@dataclass(frozen=True)
class Residual(AbstractLayer):
    """``x -> branch(x) + shortcut(x)``, each one layer or several; an empty shortcut passes on."""

    branch: Sequence[AbstractLayer] | AbstractLayer
    shortcut: Sequence[AbstractLayer] | AbstractLayer = ()

    def __post_init__(self) -> None:
        for name in ("branch", "shortcut"):
            layers = serial.as_layers(f"Residual {name}", getattr(self, name))
            object.__setattr__(self, name, layers)

    @property
    def chains(self) -> dict[str, tuple[AbstractLayer, ...]]:
        """Both chains of layers by name, in the order of ``ResidualParams``."""
        assert isinstance(self.branch, tuple)
        assert isinstance(self.shortcut, tuple)
        return {"branch": self.branch, "shortcut": self.shortcut}

    def output_shape(self, input_shape: Shape) -> Shape:
        found = {}
        for name, layers in self.chains.items():
            with located(name):
                found[name] = serial.shapes(layers, input_shape)[-1]
        if found["branch"] != found["shortcut"]:
            raise bad_input(
                "Residual",
                got=f"a branch that ends in shape {found['branch']} and a shortcut in "
                f"{found['shortcut']}",
                expected="equal shapes, to be added",
                probably="strides or a width that the shortcut does not follow; give it a layer "
                "of its own",
            )
        return found["branch"]

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> ResidualParams:
        keys = jax.random.split(key)
        return ResidualParams(
            *(
                serial.init(layers, own, input_shape, dtype)
                for own, layers in zip(keys, self.chains.values(), strict=True)
            )
        )

    def apply(self, params: ResidualParams, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        branch, shortcut = self.chains.values()
        return serial.apply(branch, params.branch, x) + serial.apply(shortcut, params.shortcut, x)

    def kernel(self, kernel: Kernel) -> Kernel:
        """Covariances add up where the branches do not correlate.

        They do not if random weights separate one of them from the block's input and one of them
        is centred.
        """
        start = dataclasses.replace(kernel, mixed=False)
        found = []
        for name, layers in self.chains.items():
            with located(name):
                found.append(serial.kernel(layers, start))
        branch, shortcut = found
        if not ((branch.mixed or shortcut.mixed) and (branch.gaussian or shortcut.gaussian)):
            raise NoKnownLimit("the branch and the shortcut of Residual correlate")
        ntks = [part.ntk for part in found if part.ntk is not None]
        return dataclasses.replace(
            branch,
            nngp=branch.nngp + shortcut.nngp,
            ntk=sum(ntks[1:], start=ntks[0]) if ntks else None,
            cov1=None if branch.cov1 is None else branch.cov1 + shortcut.cov1,
            cov2=None if branch.cov2 is None else branch.cov2 + shortcut.cov2,
            gaussian=branch.gaussian and shortcut.gaussian,
            mixed=kernel.mixed or (branch.mixed and shortcut.mixed),
            is_data=branch.is_data or shortcut.is_data,
        )

    def needs(self, output: Needs) -> Needs:
        branch, shortcut = (serial.needs(layers, output)[0] for layers in self.chains.values())
        return branch.union(shortcut)

    def learning_rates(self, params: ResidualParams, input_shape: Shape) -> ResidualParams:
        return ResidualParams(
            *(
                serial.learning_rates(layers, own, input_shape)
                for own, layers in zip(params, self.chains.values(), strict=True)
            )
        )
