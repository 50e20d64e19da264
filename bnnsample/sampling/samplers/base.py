"""What every sampler is: settings, and blackjax's ``(init, step)`` pair at what warm-up has tuned.

The states of all samplers have ``position`` and ``logdensity``, the latter the log LIKELIHOOD at
the position; the N(0, I) part of a target is the samplers' own business.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from jaxtyping import Array, Bool, Float, Int

from bnnsample.checks import bad_input
from bnnsample.repriorisation.base import AbstractTarget

QUARTER_TURN = math.pi / 2
"""Integration time after which positions of N(0, I) are independent of where they started."""


class Tuning(NamedTuple):
    """What warm-up finds for a chain; a sampler uses of it what it has.

    ``num_steps``: integration steps a trajectory, 0 while not yet chosen. ``scale``: multiplies the
    step size of each coordinate, the posterior standard deviations where a diagonal mass matrix was
    asked for and 1 otherwise.
    """

    step_size: Float[Array, ""]
    num_steps: Int[Array, ""]
    scale: Float[Array, ""] | Float[Array, " dim"]


class Info(NamedTuple):
    """What a step reports beside the next state.

    ``tuning_signal`` is what dual averaging holds at the sampler's ``target_acceptance``: the
    acceptance rate where there is one. ``num_steps`` counts gradients, or likelihoods for samplers
    that take no gradient. ``kinetic_energy`` is that of the momentum drawn, at the start; None for
    samplers without one.
    """

    acceptance_rate: Float[Array, ""]
    tuning_signal: Float[Array, ""]
    is_divergent: Bool[Array, ""]
    kinetic_energy: Float[Array, ""] | None
    num_steps: Int[Array, ""]


class AbstractSampler(ABC):
    """Settings of a sampler. Its tuning belongs to warm-up, its loop to the run.

    ``target_acceptance`` is what warm-up tunes the step size to; draws accept up to 0.1 more, as
    their step size is an average of those tried.
    """

    target_acceptance: float = math.nan
    exact: ClassVar[bool] = True
    uses_gradients: ClassVar[bool] = True
    tunes_step_size: ClassVar[bool] = True

    @abstractmethod
    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        """Blackjax's ``(init, step)`` pair for a target; ``step`` returns a state and ``Info``."""

    @property
    @abstractmethod
    def max_step_size(self) -> float:
        """The largest step size that warm-up may choose."""

    @property
    def searches_num_steps(self) -> bool:
        """Whether warm-up is to choose how many steps a trajectory takes."""
        return False

    @property
    def adapts_scale(self) -> bool:
        """Whether warm-up is to find a scale for each coordinate."""
        return False


def kinetic_energy(momentum: Float[Array, " dim"]) -> Float[Array, ""]:
    """``|p|^2 / 2``."""
    return 0.5 * jnp.sum(momentum**2)


def check_fraction(name: str, value: float) -> None:
    """Refuse what is not in (0, 1)."""
    if not isinstance(value, numbers.Real) or not 0 < value < 1:
        raise bad_input(
            name, got=repr(value), expected="a probability in (0, 1)", probably="a percentage"
        )


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse what is not one of ``choices``."""
    if value not in choices:
        raise bad_input(
            name,
            got=repr(value),
            expected=" or ".join(map(repr, choices)),
            probably="a typing error",
        )
