"""Mistakes that one could make, each of which some check must catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from blackjax.mcmc.hmc import HMCState
from blackjax.mcmc.integrators import IntegratorState

import bnnsample as bnn
from bnnsample.checks import bad_input
from bnnsample.models.scales import is_unknown
from bnnsample.pytrees import as_pytree
from bnnsample.randomness import normal
from bnnsample.repriorisation.base import unflatten
from bnnsample.repriorisation.hierarchical import Hierarchical
from bnnsample.repriorisation.parameters import Repriorised
from bnnsample.sampling.integrators import integrator, metric_from
from bnnsample.sampling.samplers.base import Info, kinetic_energy


@dataclass(frozen=True)
class AcceptsAlways(bnn.HMC):
    """HMC that reports its acceptance rate and accepts all the same."""

    def transition(self, log_likelihood, tuning, num_steps, rng_key, state):
        position = state.position
        momentum = normal(rng_key, position.shape, position.dtype)
        step = integrator(self.integrator, tuning.scale)(log_likelihood, kinetic_energy)
        begin = IntegratorState(position, momentum, state.logdensity, state.logdensity_grad)
        end = jax.lax.fori_loop(0, num_steps, lambda _, state: step(state, tuning.step_size), begin)
        gained = metric_from(position, momentum).kinetic_energy(end.momentum, end.position)
        rate = jnp.minimum(1.0, jnp.exp(end.logdensity - begin.logdensity - gained))
        info = Info(rate, rate, jnp.zeros((), bool), kinetic_energy(momentum), jnp.asarray(1))
        return HMCState(end.position, end.logdensity, end.logdensity_grad), info


@as_pytree("posterior", "ridge", "pseudo")
@dataclass(frozen=True)
class WithoutLogDeterminant(Repriorised):
    """The map of the readout with its change of volume forgotten."""

    def log_likelihood(self, position):
        hidden, phi = unflatten(self.posterior, position)
        features = self.posterior.network.features(hidden, self.posterior.x)
        return super().log_likelihood(position) - self.bijection.given(features)(phi)[1]


@as_pytree("inner", "coordinates")
@dataclass(frozen=True)
class WithoutJacobian(Hierarchical):
    """Hyperparameters whose change to unconstrained numbers is forgotten."""

    name: str = field(init=False)

    def log_likelihood(self, position):
        z = self.coordinates.unconstrained(position[: self.coordinates.centre.size])
        log_likelihood = super().log_likelihood(position)
        for entry, prior in zip(z, self.posterior.hyperpriors.values(), strict=True):
            bijection = dist.biject_to(prior.support)
            log_likelihood -= bijection.log_abs_det_jacobian(entry, bijection(entry))
        return log_likelihood


def without_log_determinant(posterior: bnn.Posterior) -> bnn.AbstractTarget:
    """With a ridge of twice the noise variance, or the pseudo-observations of a Laplace fit."""
    if isinstance(posterior.likelihood, bnn.Gaussian):
        return WithoutLogDeterminant(posterior, 2.0 * known(posterior.likelihood.noise_std) ** 2)
    exact: Any = bnn.repriorised(posterior)
    return WithoutLogDeterminant(posterior, None, exact.pseudo)


def without_jacobian(posterior: bnn.Posterior) -> bnn.AbstractTarget:
    exact: Any = bnn.marginal(posterior)
    if not posterior.hyperpriors:
        raise not_applicable("hyperparameters")
    return WithoutJacobian(exact.inner, exact.coordinates)


def variance_for_std(posterior: bnn.Posterior) -> bnn.AbstractTarget:
    noise = bnn.Gaussian(known(posterior.likelihood.noise_std) ** 2)
    return bnn.marginal(bnn.Posterior(posterior.network, posterior.x, posterior.y, noise))


def readout_scale_off(posterior: bnn.Posterior) -> bnn.AbstractTarget:
    """By 5 %, of weights and bias."""
    *hidden, last = posterior.network.layers
    bias = None if last.b_std is None else 1.05 * last.b_std
    readout = bnn.Dense(last.width, 1.05 * known(last.w_std), bias)
    network = bnn.Network([*hidden, readout])
    return bnn.marginal(bnn.Posterior(network, posterior.x, posterior.y, posterior.likelihood))


def known(scale: Any) -> float:
    if is_unknown(scale):
        raise not_applicable("known scales")
    return scale


def not_applicable(what: str) -> Exception:
    return bad_input("fault", got="none", expected=what, probably="another fault")


class Fault(NamedTuple):
    """A target and a sampler, one of them wrong, and the kind of posterior that shows it."""

    target: Callable[[bnn.Posterior], bnn.AbstractTarget]
    sampler: bnn.AbstractSampler
    kind: str = "Gaussian"


X = np.random.default_rng(1).standard_normal((6, 2))
Y = 0.5 * np.sin(X[:, :1])


def network(outputs: int) -> bnn.Network:
    return bnn.fcn(1, 3, outputs, "tanh", w_std=1.2, b_std=0.4)


def posteriors() -> dict[str, bnn.Posterior]:
    """One of each kind, in the precision that JAX is set to."""
    return {
        "Gaussian": bnn.Posterior(network(1), X, Y, bnn.Gaussian(0.4)),
        "Bernoulli": bnn.Posterior(network(2), X, X > 0, bnn.Bernoulli()),
        "unknown noise": bnn.Posterior(network(1), X, Y, bnn.Gaussian(dist.LogNormal(-0.7, 0.5))),
    }


FAULTS = {
    "none": Fault(bnn.marginal, bnn.HMC(4)),
    "none, MALA": Fault(bnn.standard, bnn.MALA()),
    "none, pseudo-observations": Fault(bnn.repriorised, bnn.HMC(4), "Bernoulli"),
    "none, unknown noise": Fault(bnn.marginal, bnn.HMC(4), "unknown noise"),
    "accepts always": Fault(bnn.marginal, AcceptsAlways(1, target_acceptance=0.5)),
    "no log-determinant, ridge": Fault(without_log_determinant, bnn.HMC(4)),
    "no log-determinant, pseudo-observations": Fault(
        without_log_determinant, bnn.HMC(4), "Bernoulli"
    ),
    "variance for standard deviation": Fault(variance_for_std, bnn.HMC(4)),
    "readout scale off by 5 %": Fault(readout_scale_off, bnn.HMC(4)),
    "hyperparameters' Jacobian dropped": Fault(without_jacobian, bnn.HMC(4), "unknown noise"),
}
