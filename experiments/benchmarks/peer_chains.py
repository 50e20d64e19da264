"""Chains of one posterior by this library and by its peers, for a given time, as each comes.

Each maker has four chains and its own warm-up at its own defaults, and goes on until the time is
over. The peers see the weights as they are, as their users' models would have them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.infer import MCMC, NUTS

import bnnsample as bnn
from bnnsample.models.network import Parameters, named_parameters
from bnnsample.repriorisation.base import unflatten

CHAINS = 4
WARMUP = 1000
"""Transitions: what NumPyro's ``MCMC`` and blackjax's ``window_adaptation`` are shown with."""
TUNING = 10_000
"""Steps that ``mclmc_find_L_and_step_size`` is given, three tenths of which it takes."""
THINNING = 10
"""Steps of the microcanonical sampler between two draws that are kept."""
BLOCK = 25
"""Draws between two looks at the clock."""


@dataclass
class Made:
    """Outputs at the test points by draws, and in how many seconds these were there."""

    began: float = field(default_factory=time.perf_counter)
    blocks: list[Float[np.ndarray, "chain draw m o"]] = field(default_factory=list)
    stamps: list[tuple[int, float]] = field(default_factory=list)
    predictive: bnn.Predictive | None = None

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.began

    def add(self, block: Float[np.ndarray, "chain draw m o"]) -> None:
        """More draws of the chains."""
        self.blocks.append(np.asarray(block))
        self.stamps.append((sum(b.shape[1] for b in self.blocks), self.seconds))

    @property
    def draws(self) -> Float[np.ndarray, "chain draw m o"]:
        """All of them."""
        return np.concatenate(self.blocks, axis=1)


type Maker = Callable[[bnn.Posterior, np.ndarray, float], Made]


def ours(posterior: bnn.Posterior, x_test: np.ndarray, budget: float) -> Made:
    """``bnn.sample`` as it comes: the marginal target, HMC. Made longer until the time is over."""
    made, draws = Made(), 100

    def on_progress(progress: bnn.Progress) -> None:
        if progress.phase == "sampling":
            made.stamps.append((progress.done, made.seconds))

    with tempfile.TemporaryDirectory() as folder:
        while True:
            run = bnn.sample(
                posterior, draws=draws, x_test=x_test, keep=("predictions",),
                on_progress=on_progress, out=f"{folder}/run",
            )  # fmt: skip
            pace = run.attrs["sampling_seconds"] / draws
            more = int(0.9 * (budget - made.seconds) / pace)
            if more < BLOCK:
                break
            draws += more
        made.blocks.append(run["predictions"].to_dataset()["f"].values)
        made.predictive = bnn.predictive_of(run, posterior)
    return made


def numpyro_nuts(posterior: bnn.Posterior, x_test: np.ndarray, budget: float) -> Made:
    """NumPyro's NUTS on its model of the same posterior, the chains vectorised."""
    made = Made()
    kernel = NUTS(bnn.numpyro_model(posterior))
    mcmc = MCMC(
        kernel, num_warmup=WARMUP, num_samples=BLOCK, num_chains=CHAINS,
        chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    shapes = posterior.parameter_shapes
    structure, names = jax.tree.structure(shapes), named_parameters(shapes)

    @jax.jit
    def outputs(samples: dict[str, Array]) -> Array:
        params = jax.tree.unflatten(structure, [samples[name] for name in names])
        of_one = lambda own: posterior.network.apply(own, jnp.asarray(x_test))  # noqa: E731
        return jax.vmap(jax.vmap(of_one))(params)

    mcmc.warmup(jax.random.key(0))
    while made.seconds < budget:
        state: Any = mcmc.last_state
        mcmc.post_warmup_state = state
        mcmc.run(state.rng_key)
        made.add(np.asarray(outputs(mcmc.get_samples(group_by_chain=True))))
    return made


def _raw(
    posterior: bnn.Posterior, x_test: np.ndarray
) -> tuple[Callable[[Array], Array], Callable[[Array], Array], Float[Array, "chain p"]]:
    """Of the weights as they are, flat: log density, outputs, and starts from the prior."""
    target = bnn.standard(posterior)

    def outputs(position: Array) -> Array:
        hidden, readout = unflatten(posterior, position)
        return posterior.network.apply(Parameters(hidden, readout), jnp.asarray(x_test))

    starts = jax.vmap(target.init)(jax.random.split(jax.random.key(0), CHAINS))
    return target.logdensity, outputs, starts


def blackjax_nuts(posterior: bnn.Posterior, x_test: np.ndarray, budget: float) -> Made:
    """NUTS of blackjax after its ``window_adaptation``, with a diagonal mass matrix."""
    made = Made()
    log_density, outputs, starts = _raw(posterior, x_test)

    @jax.jit
    @jax.vmap
    def warm_up(key: Array, start: Array) -> tuple[Any, Any]:
        warm: Any = blackjax.window_adaptation(blackjax.nuts, log_density)
        adapted, _ = warm.run(key, start, num_steps=WARMUP)
        return adapted.state, adapted.parameters

    def step(state: Any, parameters: Any, key: Array) -> Any:
        return blackjax.nuts(log_density, **parameters).step(key, state)[0]

    return _until(made, budget, warm_up, step, outputs, starts)


def blackjax_mclmc(posterior: bnn.Posterior, x_test: np.ndarray, budget: float) -> Made:
    """Microcanonical Langevin steps of blackjax, not adjusted, tuned as it documents."""
    made = Made()
    log_density, outputs, starts = _raw(posterior, x_test)
    kernel = blackjax.mcmc.mclmc.build_kernel()

    @jax.jit
    @jax.vmap
    def warm_up(key: Array, start: Array) -> tuple[Any, Any]:
        first, second = jax.random.split(key)
        state = blackjax.mcmc.mclmc.init(start, log_density, first)
        state, parameters, _ = blackjax.mclmc_find_L_and_step_size(
            kernel, num_steps=TUNING, state=state, rng_key=second, logdensity_fn=log_density
        )
        return state, parameters

    def step(state: Any, parameters: Any, key: Array) -> Any:
        algorithm = blackjax.mclmc(log_density, **parameters._asdict())
        keys = jax.random.split(key, THINNING)
        return jax.lax.scan(lambda now, own: (algorithm.step(own, now)[0], None), state, keys)[0]

    return _until(made, budget, warm_up, step, outputs, starts)


def _until(
    made: Made,
    budget: float,
    warm_up: Callable[..., tuple[Any, Any]],
    step: Callable[..., Any],
    outputs: Callable[[Array], Array],
    starts: Float[Array, "chain p"],
) -> Made:
    """Draws of blackjax's chains after their warm-up, block by block, until the time is over."""
    key, warmup_key = jax.random.split(jax.random.key(1))
    states, parameters = warm_up(jax.random.split(warmup_key, CHAINS), starts)

    @jax.jit
    @jax.vmap
    def block(key: Array, state: Any, parameters: Any) -> tuple[Any, Array]:
        def draw(now: Any, own: Array) -> tuple[Any, Array]:
            now = step(now, parameters, own)
            return now, outputs(now.position)

        return jax.lax.scan(draw, state, jax.random.split(key, BLOCK))

    while made.seconds < budget:
        key, own = jax.random.split(key)
        states, f = block(jax.random.split(own, CHAINS), states, parameters)
        made.add(np.asarray(f))
    return made


MAKERS: dict[str, Maker] = {
    "bnnsample": ours,
    "NumPyro NUTS": numpyro_nuts,
    "blackjax NUTS": blackjax_nuts,
    "blackjax MCLMC": blackjax_mclmc,
}
