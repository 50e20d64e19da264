"""HMC of all weights and of the readout alone in turn, where a likelihood is not Gaussian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from blackjax.mcmc.hmc import HMCState
from jaxtyping import Array, Float, Int, Key

from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.sampling.samplers.base import QUARTER_TURN, Info, Tuning
from bnnsample.sampling.samplers.hamiltonian import HMC, hmc_state

LENGTH = 1.0
"""Integration time of all weights. Shorter ones serve predictions as well and hidden weights less;
after a quarter turn it is the other way round (experiments/README.md)."""

MOST_STEPS = 32
"""Of either trajectory, however small the step size."""


@dataclass(frozen=True)
class AlternatingHMC(HMC):
    """``HMC`` whose every draw goes on with a quarter turn of the readout alone.

    Given the hidden weights the features stay as they are, so that a gradient in the readout costs
    a fraction of one in all weights. Both trajectories are accepted by themselves, with one step
    size (Metropolis within Gibbs). For targets whose positions end in the readout: not the marginal
    one, which needs no such turn. Unless given, ``num_steps`` is what makes an integration time of
    1, shorter than ``HMC`` would choose, as predictions follow the readout first.

    ``n_steps`` counts gradients in all weights, one more than the trajectory's steps; a draw
    diverges where either trajectory does, and ``acceptance_rate`` is that of all weights.
    """

    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        size, scale = target.readout_size, tuning.scale
        of_readout = tuning._replace(scale=scale[-size:] if scale.ndim else scale)

        def step(rng_key: Key[Array, ""], state: Any) -> tuple[HMCState, Info]:
            whole_key, readout_key = jax.random.split(rng_key)
            state, info = self.transition(
                target.log_likelihood,
                tuning,
                self.num_steps or _steps(LENGTH, tuning.step_size),
                whole_key,
                state,
            )
            log_likelihood = target.given_hidden(state.position)
            readout, readout_info = self.transition(
                log_likelihood,
                of_readout,
                _steps(QUARTER_TURN, tuning.step_size),
                readout_key,
                hmc_state(log_likelihood, state.position[-size:]),
            )
            position = state.position.at[-size:].set(readout.position)
            after = hmc_state(target.log_likelihood, position)
            both = info._replace(  # pyright: ignore[reportAttributeAccessIssue]
                num_steps=info.num_steps + 1,
                is_divergent=info.is_divergent | readout_info.is_divergent,
            )
            return after, both  # pyright: ignore[reportReturnType]

        return super().build(target, tuning)._replace(step=step)

    @property
    def searches_num_steps(self) -> bool:
        return False


def _steps(length: float, step_size: Float[Array, ""]) -> Int[Array, ""]:
    return jnp.clip(jnp.round(length / step_size), 1, MOST_STEPS).astype(int)
