"""Networks of the literature, ready made, in NTK parameterisation."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Array

from bnnsample.checks import bad_input, check_count
from bnnsample.models.layers.activation import Activation
from bnnsample.models.layers.attention import SelfAttention
from bnnsample.models.layers.base import AbstractLayer
from bnnsample.models.layers.conv import Conv
from bnnsample.models.layers.dense import Dense
from bnnsample.models.layers.pooling import Flatten, GlobalAvgPool
from bnnsample.models.layers.residual import Residual, Scale
from bnnsample.models.network import Network
from bnnsample.models.scales import Std

type ActivationFunction = str | Callable[[Array], Array]


def fcn(
    depth: int,
    width: int,
    out: int,
    activation: ActivationFunction = "gelu",
    *,
    w_std: Std = 2**0.5,
    b_std: Std | None = 0.1,
    w_std_out: Std = 1.0,
    b_std_out: Std | None = 0.1,
) -> Network:
    """A fully connected network of ``depth`` hidden layers of ``width`` units and ``out`` outputs.

    The defaults are those of the experiments in this repository.
    """
    check_count("fcn depth", depth)
    hidden = [Dense(width, w_std, b_std), Activation(activation)] * depth
    return Network([*hidden, Dense(out, w_std_out, b_std_out)])


def convnet(
    depth: int,
    channels: int,
    out: int,
    activation: ActivationFunction = "relu",
    *,
    pooling: bool = False,
    filter_shape: tuple[int, ...] = (3, 3),
    w_std: Std = 2**0.5,
    b_std: Std | None = 0.1,
    w_std_out: Std = 1.0,
    b_std_out: Std | None = 0.1,
) -> Network:
    """``depth`` convolutions with padding SAME, then global average pooling or flattening.

    Without ``pooling`` the limit keeps one covariance per position, which for 32 x 32 pixels is a
    thousand times less work than the pairs of positions that pooling needs.
    """
    check_count("convnet depth", depth)
    conv = Conv(channels, filter_shape, w_std=w_std, b_std=b_std)
    hidden = [conv, Activation(activation)] * depth
    return Network(
        [*hidden, GlobalAvgPool() if pooling else Flatten(), Dense(out, w_std_out, b_std_out)]
    )


def resnet(
    depth: int,
    channels: int,
    out: int,
    activation: ActivationFunction = "gelu",
    *,
    w_std: Std = 2**0.5,
    b_std: Std | None = 0.1,
    w_std_out: Std = 1.0,
    b_std_out: Std | None = 0.1,
) -> Network:
    """The normaliser-free wide ResNet of 2206.07673, for images (height, width, colours).

    ``depth = 6 k + 2``: three groups of k blocks of two 3 x 3 convolutions, the channels doubling
    and the image halving from group to group, then global average pooling. Block i, counted from 1,
    is ``branch / sqrt(i + 1) + shortcut sqrt(i / (i + 1))``, so that variances stay what they are.
    """
    check_count("resnet depth", depth)
    if depth < 8 or depth % 6 != 2:
        raise bad_input(
            "resnet depth",
            got=repr(depth),
            expected="6 k + 2: 8, 14, 20, ...",
            probably="the number of blocks instead of layers",
        )

    def conv(wide: int, stride: int = 1, scale: Std = w_std) -> Conv:
        return Conv(wide, (3, 3), (stride, stride), w_std=scale, b_std=b_std)

    layers: list[AbstractLayer] = [conv(channels, scale=1.0)]
    block = 0
    for group in range(3):
        wide = channels * 2**group
        for first in (True, *[False] * (depth // 6 - 1)):
            block += 1
            stride = 2 if first and group > 0 else 1
            branch = [
                Activation(activation),
                conv(wide, stride),
                Activation(activation),
                conv(wide),
                Scale((1 / (block + 1)) ** 0.5),
            ]
            projection = [conv(wide, stride, scale=1.0)] if first else []
            layers.append(Residual(branch, [*projection, Scale((block / (block + 1)) ** 0.5)]))
    return Network([*layers, GlobalAvgPool(), Dense(out, w_std_out, b_std_out)])


def attention_classifier(
    channels: int,
    out: int,
    activation: ActivationFunction = "relu",
    *,
    patch: tuple[int, ...] = (1,),
    w_std: Std = 2**0.5,
    b_std: Std | None = 0.1,
    position_std: Std | None = 1.0,
    position_length: Std | None = None,
    w_std_out: Std = 1.0,
    b_std_out: Std | None = 0.1,
) -> Network:
    """One layer of self-attention over tokens (length, features), or patches of an image.

    Each token, or ``patch`` of pixels, is embedded by a dense layer shared by all; what attention
    returns is averaged over positions. ``position_std`` and ``position_length`` as in
    ``SelfAttention``.
    """
    return Network(
        [
            Conv(channels, patch, patch, "VALID", w_std, b_std),
            Activation(activation),
            SelfAttention(
                channels,
                b_std=b_std,
                position_std=position_std,
                position_length=position_length,
            ),
            Activation(activation),
            GlobalAvgPool(),
            Dense(out, w_std_out, b_std_out),
        ]
    )
