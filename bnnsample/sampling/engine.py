"""A run's compiled parts on their devices: chains begin, advance and are observed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array

from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.sampling.chains import (
    ChainKeys,
    Chains,
    Segment,
    Transitions,
    advance,
    chain_keys,
    start,
)
from bnnsample.sampling.functionals import first_moments, observe
from bnnsample.sampling.mesh import on_every_device, spread_chains, spread_target, to_host
from bnnsample.sampling.moments import Moments
from bnnsample.sampling.projections import Projections, random_projections
from bnnsample.sampling.settings import Settings

IN_TURN = 10_000
"""Dimension from which chains on one CPU advance in turn: NUTS then takes a half to a third of the
time per gradient, HMC about as long (experiments/README.md)."""


class State(NamedTuple):
    """All that the next transition depends on, beside the settings and its number."""

    chains: Chains
    moments: Moments | None


class Observed(NamedTuple):
    """A segment on the host, (draw, chain, ...) by name: sampler statistics, what was kept."""

    stats: dict[str, np.ndarray]
    kept: dict[str, np.ndarray]


@dataclass(frozen=True)
class Engine:
    """What a segment of a run is made with, where it is to be."""

    settings: Settings
    target: AbstractTarget
    keys: ChainKeys
    test: Array | None
    projections: Projections
    mesh: Mesh | None

    @classmethod
    def place(cls, settings: Settings, mesh: Mesh | None) -> Engine:
        """The engine of a run, spread over ``mesh``."""
        target = settings.target
        return cls(
            settings,
            spread_target(target, mesh),
            spread_chains(chain_keys(settings.seed, target.name, settings.chains), mesh),
            on_every_device(settings.x_test, mesh),
            on_every_device(random_projections(target), mesh),
            mesh,
        )

    def begin(self) -> State:
        """Chains at their starting points, and moments of no draws."""
        settings = self.settings
        chains = start(self.target, settings.sampler, self.keys.init)
        moments = first_moments(settings.target, settings.chains, settings.x_test, settings.keep)
        return self.spread(State(chains, moments))

    def spread(self, state: State) -> State:
        """The state of chains, spread over the mesh."""
        return spread_chains(state, self.mesh)

    def warm_up(self, state: State, first: int, count: int) -> tuple[State, dict[str, np.ndarray]]:
        """``count`` transitions of warm-up from number ``first`` on, and their statistics.

        A chain that has converged stands still, and what it tries from there says nothing: its
        acceptance is that of the window it converged in.
        """
        state, transitions = self._advance(state, first, count, adapting=True)
        stats, adaptation = _to_host(transitions.stats, count), state.chains.adaptation
        still, signal = to_host((adaptation.converged, adaptation.window.last_signal))
        acceptance = np.where(still, signal, stats["acceptance_rate"])
        diverging = stats["diverging"] & ~np.asarray(still)
        return state, stats | {"acceptance_rate": acceptance, "diverging": diverging}

    def draw(self, state: State, first: int, count: int) -> tuple[State, Observed]:
        """``count`` draws from number ``first`` on."""
        state, transitions = self._advance(state, first, count, adapting=False)
        observed = observe(
            self.target,
            transitions.positions,
            on_every_device(jnp.asarray(count), self.mesh),
            _functional_keys(self.keys, first, self.settings.segment),
            self.projections,
            self.test,
            state.moments,
            keep=self.settings.keep,
            in_turn=self._in_turn,
        )
        state = state._replace(moments=spread_chains(observed.moments, self.mesh))
        stats, kept = (_to_host(each, count) for each in (transitions.stats, observed.kept))
        if not self.settings.sampler.uses_gradients:
            return state, Observed(stats | {"n_gradients": np.zeros_like(stats["n_steps"])}, kept)
        return state, Observed(stats | {"n_gradients": stats["n_steps"]}, kept)

    @property
    def _in_turn(self) -> bool:
        on_one_cpu = self.mesh is None and jax.default_backend() == "cpu"
        return on_one_cpu and self.target.dim >= IN_TURN

    def _advance(
        self, state: State, first: int, count: int, *, adapting: bool
    ) -> tuple[State, Transitions]:
        segment = Segment(*map(jnp.asarray, (first, count, self.settings.warmup, adapting)))
        chains, transitions = advance(
            self.target,
            self.settings.sampler,
            state.chains,
            self.keys.warmup if adapting else self.keys.transitions,
            on_every_device(segment, self.mesh),
            capacity=self.settings.segment,
            in_turn=self._in_turn,
        )
        return state._replace(chains=spread_chains(chains, self.mesh)), transitions


@partial(jax.jit, static_argnames="count")
def _functional_keys(keys: ChainKeys, first: ArrayLike, count: int) -> Array:
    indices = first + jnp.arange(count)
    fold_chain = jax.vmap(jax.random.fold_in, (0, None))
    return jax.vmap(fold_chain, (None, 0))(keys.functionals, indices)


def _to_host(arrays: dict[str, Array], count: int) -> dict[str, np.ndarray]:
    return {name: np.asarray(array)[:count] for name, array in to_host(arrays).items()}
