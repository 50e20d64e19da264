"""Targets: one posterior as three densities that a sampler can see."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from bnnsample.checks import bad_input
from bnnsample.limits.conditioned import limit_kernel
from bnnsample.limits.hyperposterior import Coordinates, hyperposterior
from bnnsample.limits.pseudo import pseudo_observations
from bnnsample.models.hyperpriors import constrained, prior_centre
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.posterior import Posterior
from bnnsample.models.scales import substitute
from bnnsample.numerics import full_precision
from bnnsample.repriorisation.base import AbstractTarget, check_posterior
from bnnsample.repriorisation.hierarchical import Hierarchical
from bnnsample.repriorisation.marginal import Marginal
from bnnsample.repriorisation.parameters import Repriorised, Standard
from bnnsample.repriorisation.span import span_of


def standard(posterior: Posterior) -> AbstractTarget:
    """The posterior of the network's parameters as they are.

    Hyperparameters are unconstrained and shifted by the median of their prior.
    """
    check_posterior(posterior)
    target = Standard(posterior)
    if not posterior.hyperpriors:
        return target
    centre = prior_centre(posterior.hyperpriors, posterior.x.dtype)
    return Hierarchical(target, Coordinates(centre, jnp.eye(centre.size, dtype=centre.dtype)))


@full_precision
def repriorised(posterior: Posterior, ridge: float | None = None) -> AbstractTarget:
    r"""The posterior after the map of the readout, exact unless another ``ridge`` is given.

    Given the features the readout ``W`` is Gaussian; the sampler sees in its place ``phi``, which
    is N(0, I) in the wide limit (2206.07673):

    $$W = M + S \phi, \quad S S^\top = \Sigma = (I + \Psi^\top \Psi / \sigma^2)^{-1},
    \quad M = \Sigma \Psi^\top y / \sigma^2$$

    The map is that of the posterior's own Gaussian likelihood, or of Gaussian pseudo-observations
    from the infinitely wide network's Laplace fit. Hyperparameters are mapped by mode and curvature
    of that network's evidence. Raises ``ValueError`` for a ``ridge`` where there is no noise
    variance that it could replace.
    """
    check_posterior(posterior)
    coordinates = hyperposterior(posterior) if posterior.hyperpriors else None
    if isinstance(posterior.likelihood, Gaussian):
        return _with_hyperparameters(Repriorised(posterior, ridge), coordinates)
    if ridge is not None:
        raise bad_input(
            "ridge",
            got=f"{ridge!r} with {type(posterior.likelihood).__name__}()",
            expected="none, as the map is that of a Laplace fit",
            probably="a setting for Gaussian()",
        )
    values = {}
    if coordinates is not None:
        values, _ = constrained(posterior.hyperpriors, coordinates.centre)
    kernel = substitute(limit_kernel(posterior.network, posterior.x), values)
    known = posterior.given(values)
    gram = jnp.asarray(kernel(posterior.x), posterior.x.dtype)
    outputs = posterior.network.readout_layer.width
    pseudo = pseudo_observations(gram, known.likelihood, posterior.y, outputs)
    return _with_hyperparameters(Repriorised(posterior, pseudo=pseudo), coordinates)


@full_precision
def marginal(posterior: Posterior) -> AbstractTarget:
    r"""The posterior of the hidden weights that the data see, the readout integrated out.

    The density of the hidden weights ``h``, and the readout drawn exactly afterwards:

    $$-\log \, p(h \mid y) = \frac12 \lvert h \rvert^2 + \frac12 \mathrm{tr}(y^\top K^{-1} y)
    + \frac{o}{2} \log \, \lvert K \rvert + \mathrm{const}, \quad K = \Psi \Psi^\top + \sigma^2 I$$

    Where the first layer with parameters is ``Dense`` and there are fewer training points than
    input dimensions, the weights along the other directions are integrated out too.
    Hyperparameters are mapped by mode and curvature of the infinitely wide network's evidence.
    Raises ``ValueError`` for likelihoods that are not Gaussian: that integral has no closed form.
    """
    check_posterior(posterior)
    if not isinstance(posterior.likelihood, Gaussian):
        raise bad_input(
            "posterior",
            got=f"the likelihood {posterior.likelihood!r}",
            expected="Gaussian(), under which the readout can be integrated out exactly",
            probably="bnn.repriorised(posterior) or bnn.standard(posterior) was meant, or "
            "bnn.sample(posterior), which chooses",
        )
    coordinates = hyperposterior(posterior) if posterior.hyperpriors else None
    return _with_hyperparameters(Marginal(posterior, span_of(posterior)), coordinates)


def _with_hyperparameters(
    target: AbstractTarget, coordinates: Coordinates | None
) -> AbstractTarget:
    return target if coordinates is None else Hierarchical(target, coordinates)


TARGETS: dict[str, Callable[[Posterior], AbstractTarget]] = {
    Standard.name: standard,
    Repriorised.name: repriorised,
    Marginal.name: marginal,
}
"""The three targets of one posterior by name."""
