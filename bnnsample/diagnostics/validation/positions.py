"""From parameters back to positions, and what the density there must be.

A target pushes positions forward to parameters. Here is the way back, written from the maps alone
and not from the targets' densities, so that one can be held against the other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input
from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior
from bnnsample.models.priors import NORMALISER, log_prior
from bnnsample.models.scales import promoting_as_numpyro, substitute
from bnnsample.numerics import eigh, solve_lower
from bnnsample.repriorisation.base import AbstractTarget, Position, flatten
from bnnsample.repriorisation.bijections import AbstractBijection, Identity
from bnnsample.repriorisation.conditional import exact_bijection
from bnnsample.repriorisation.hierarchical import Hierarchical
from bnnsample.repriorisation.marginal import Marginal
from bnnsample.repriorisation.parameters import Repriorised, Standard

type Values = dict[str, Array]


def has_way_back(target: AbstractTarget) -> bool:
    """Whether a target is of the library's kinds, whose positions can be found from parameters."""
    inner = target.inner if isinstance(target, Hierarchical) else target
    return isinstance(inner, Standard | Repriorised | Marginal)


def check_way_back(target: AbstractTarget) -> None:
    """Raise unless positions can be found from parameters."""
    if not has_way_back(target):
        raise bad_input(
            "target",
            got=f"a {type(target).__name__}",
            expected="one that bnn.standard, bnn.repriorised or bnn.marginal made, or a subclass",
            probably="a target of your own, of which no way back to its positions is known",
        )


def readout_map(target: AbstractTarget) -> AbstractBijection:
    """The map from N(0, I) to the readout, of a target whose hyperparameters have values."""
    if isinstance(target, Repriorised):
        return target.bijection
    return exact_bijection(target.posterior) if isinstance(target, Marginal) else Identity()


def position_of(target: AbstractTarget, params: Parameters, values: Values) -> Position:
    """The position whose parameters are ``params`` at ``values`` of the hyperparameters.

    What the target integrates out is left out.
    """
    if isinstance(target, Hierarchical):
        inner = position_of(substitute(target.inner, values), params, {})
        return jnp.concatenate([_coordinates_of(target, values), inner])
    if isinstance(target, Marginal):
        return flatten(_along_span(target, params.hidden))
    return flatten(Parameters(params.hidden, _phi_of(target, params)[0]))


def density_gap(
    target: AbstractTarget, posterior: Posterior, position: Position, key: Key[Array, ""]
) -> Float[Array, ""]:
    """What a target's log density has too much at a position, in nats; 0 if it is right.

    The density of ``posterior``, which is meant, at the parameters there, times the maps' change of
    volume, over that of what was integrated out: for the readout ``W`` of ``phi`` that is ``log p(y
    | h, W) + log N(W) - log N(phi) + log |dW/dphi|``, whether ``phi`` is sampled or integrated out
    (Chib 1995).
    """
    draw = target.drawer()(position, key)
    values = draw.hyperparameters
    expected = posterior.log_likelihood(draw.params, values)
    given = target
    if isinstance(target, Hierarchical):
        given = substitute(target.inner, values)
        u = position[: target.coordinates.centre.size]
        expected += _log_hyperprior(posterior, values) + _log_volume(target, u)
        expected -= log_prior(u) + u.size * NORMALISER
    phi, inverse_logdet = _phi_of(given, draw.params)
    expected += log_prior(draw.params.readout) - log_prior(phi) - inverse_logdet
    return target.log_likelihood(position) - expected


def logdet_gap(target: AbstractTarget, params: Parameters, values: Values) -> Float[Array, ""]:
    """How far the map's log-determinant is from that of its Jacobian by autodiff, in nats.

    Takes as many derivatives as the readout has entries.
    """
    given = substitute(target.inner, values) if isinstance(target, Hierarchical) else target
    features = given.posterior.network.features(params.hidden, given.posterior.x)
    forward = readout_map(given).given(features)
    phi, inverse_logdet = _phi_of(given, params)
    jacobian = jax.jacfwd(lambda flat: forward(flat.reshape(phi.shape))[0].ravel())(phi.ravel())
    return -inverse_logdet - _half_log_det(jacobian)


def _phi_of(
    target: AbstractTarget, params: Parameters
) -> tuple[Float[Array, "p o"], Float[Array, ""]]:
    posterior = target.posterior
    features = posterior.network.features(params.hidden, posterior.x)
    return readout_map(target).inverse_and_logdet(features, params.readout)


def _along_span(target: Marginal, hidden: tuple) -> tuple:
    """The hidden parameters that are sampled: of a first layer, its weights along the inputs."""
    if target.span is None:
        return hidden
    first, *others = hidden[len(target.span.fixed) :]
    along = jnp.matmul(target.span.basis.T, first["weight"], precision="highest")
    return ({**first, "weight": along}, *others)


def _coordinates_of(target: Hierarchical, values: Values) -> Float[Array, " k"]:
    """``u`` with ``centre + root u`` the unconstrained hyperparameters."""
    with promoting_as_numpyro():
        parts = [
            jnp.ravel(dist.biject_to(prior.support).inv(values[name]))
            for name, prior in target.posterior.hyperpriors.items()
        ]
    centre, root = target.coordinates
    return solve_lower(root, (jnp.concatenate(parts) - centre)[:, None])[:, 0]


def _log_hyperprior(posterior: Posterior, values: Values) -> Float[Array, ""]:
    with promoting_as_numpyro():
        return sum(  # pyright: ignore[reportReturnType]
            jnp.sum(prior.log_prob(values[name])) for name, prior in posterior.hyperpriors.items()
        )


def _log_volume(target: Hierarchical, u: Float[Array, " k"]) -> Float[Array, ""]:
    """``log |d values / du|``, by autodiff."""

    def values(u: Float[Array, " k"]) -> Float[Array, " k"]:
        found = target.hyperparameters(u)
        return jnp.concatenate([jnp.ravel(found[name]) for name in target.posterior.hyperpriors])

    return _half_log_det(jax.jacfwd(values)(u))


def _half_log_det(jacobian: Float[Array, "k k"]) -> Float[Array, ""]:
    """``log |det|`` of a square matrix, through the eigenvalues of ``J' J``."""
    return 0.5 * jnp.sum(jnp.log(eigh(jacobian.T @ jacobian)[0]))
