"""A posterior as an ordinary NumPyro model."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from bnnsample.checks import bad_input
from bnnsample.models.network import named_parameters
from bnnsample.models.posterior import Posterior, as_test_inputs, as_training_data
from bnnsample.models.scales import promoting_as_numpyro, substitute
from bnnsample.repriorisation.base import check_posterior


def numpyro_model(posterior: Posterior) -> Callable[..., Array]:
    """``model(x=..., y=...)`` for NumPyro's inference, with the density of ``posterior``.

    Sites: every array of parameters by its name in a run (``layer_0_weight``, ..., ``readout``),
    the hyperparameters by theirs, the outputs ``f`` and the targets ``obs``, in a plate ``points``
    so that ``numpyro.infer.log_likelihood`` has one number for each point. By default ``x`` and
    ``y`` are the posterior's; ``Predictive(model, samples)(key, x_test)`` draws targets at others.
    Returns ``f`` (n, o). The model raises ``ValueError`` for other data that a posterior would not
    take, and where targets are to be drawn at points whose noise is not known.
    """
    check_posterior(posterior)
    shapes = posterior.parameter_shapes
    structure = jax.tree.structure(shapes)

    def model(x: ArrayLike | None = None, y: ArrayLike | None = None) -> Float[Array, "n o"]:
        inputs, targets = _data(posterior, x, y)
        values = {
            name: jnp.asarray(numpyro.sample(name, prior.to_event(len(prior.batch_shape))))
            for name, prior in posterior.hyperpriors.items()
        }
        leaves = [
            numpyro.sample(name, dist.Normal(0.0, 1.0).expand(leaf.shape).to_event(leaf.ndim))
            for name, leaf in named_parameters(shapes).items()
        ]
        known = substitute(posterior, values)
        f = known.network.apply(jax.tree.unflatten(structure, leaves), inputs)
        f = jnp.asarray(numpyro.deterministic("f", f))
        with promoting_as_numpyro(), numpyro.plate("points", len(inputs)):
            law = known.likelihood.distribution(f)
            numpyro.sample("obs", law.to_event(len(law.batch_shape) - 1), obs=targets)
        return f

    return model


def _data(
    posterior: Posterior, x: ArrayLike | None, y: ArrayLike | None
) -> tuple[Float[Array, "n ..."], Array | None]:
    """Inputs, and the targets or None where these are to be drawn."""
    inputs = posterior.x if x is None else as_test_inputs(x, posterior.x)
    if y is not None:
        return as_training_data(posterior.network, inputs, y, posterior.likelihood.as_targets)
    if x is None:
        return inputs, posterior.y
    if posterior.likelihood.varies_by_point:
        raise bad_input(
            "x",
            got=f"{len(inputs)} points without y",
            expected="the posterior's own: the noise is known by point, and at those only",
            probably="Predictive at test inputs; posterior.network.apply has the outputs",
        )
    return inputs, None
