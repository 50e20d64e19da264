"""The law of targets that were not seen, as a mixture: of all draws, of some networks, or of one.

Under Gaussian noise a component may be Gaussian in the outputs too, as it is where a readout was
integrated out: few draws then already make a smooth mixture (Rao-Blackwell).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from xarray import DataTree

from bnnsample.checks import as_finite_array, bad_input
from bnnsample.diagnostics.convergence import check_finished
from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.models.likelihoods.discrete import Bernoulli, Categorical
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.posterior import Posterior
from bnnsample.models.scales import hyperparameters, substitute
from bnnsample.numerics import symmetric_root
from bnnsample.pytrees import as_pytree
from bnnsample.sampling.predict import likelihood_of, posterior_of

FUNCTION_DRAWS = 1000
"""Components that a Gaussian law of the outputs is drawn as where the noise is not Gaussian: means
then err by 3 % of the outputs' standard deviation; arbitrary."""

BLOCK_BYTES = 2**26
"""Outputs of all components computed with at a time take at most this much memory, or those at one
point; arbitrary."""


@as_pytree("likelihood", "f", "f_std", "values", "functions")
@dataclass(frozen=True, eq=False)
class Predictive:
    """The law of targets at m points: a mixture of k equally weighted ones.

    ``f`` (k, m, o): the outputs that each component sees through ``likelihood``; their means where
    ``f_std`` (k, m, o) is given, which is for Gaussian noise alone. ``values``: hyperparameters of
    the likelihood, (k, ...) by name.

    Scores take each point by itself, but how far they may vary depends on all points together,
    which share what is not known of the function. That is in the rows of ``f``, unless these were
    not drawn ``jointly``; with ``f_std`` in ``functions`` (r, m, o), outputs drawn at all points
    together, a row for each component where there are several.
    """

    likelihood: AbstractLikelihood
    f: Float[Array, "k m o"]
    f_std: Float[Array, "k m o"] | None = None
    values: Mapping[str, Float[Array, "k ..."]] = field(default_factory=dict)
    functions: Float[Array, "r m o"] | None = None
    jointly: bool = True

    def __post_init__(self) -> None:
        if self.likelihood.varies_by_point:
            raise bad_input(
                "likelihood",
                got="noise known by training point",
                expected="a law of targets at other points",
                probably="one noise for all points, or HeteroscedasticGaussian(), was meant",
            )

    @property
    def of_classes(self) -> bool:
        """Whether the targets are labels of a few classes, with a probability for each."""
        return isinstance(self.likelihood, Bernoulli | Categorical)

    @property
    def joint(self) -> bool:
        """Whether it is known how the outputs at several points go together."""
        return self.functions is not None or (self.f_std is None and self.jointly)

    def as_targets(self, y_test: object) -> Array:
        """``y_test`` (m, columns), or (m,), checked as training targets are."""
        y = as_finite_array("y_test", y_test, min_ndim=1)
        y = (y[:, None] if y.ndim == 1 else y).astype(self.f.dtype)
        points, outputs = self.f.shape[1:]
        if len(y) != points:
            raise bad_input(
                "y_test",
                got=f"{len(y)} rows",
                expected=f"{points}, one for each test point",
                probably="the targets of another split",
            )
        return self.likelihood.as_targets(y, outputs)

    def each(self, function: Callable[..., Array], *by_component: Array) -> Float[Array, "k ..."]:
        """``function(law, f, ...)`` of every component, ``law`` a likelihood of known scales."""

        def one(f: Array, f_std: Array | None, values: dict[str, Array], *more: Array) -> Array:
            law = substitute(self.likelihood, values)
            if f_std is not None:
                law = Gaussian(jnp.sqrt(law.distribution(f).variance + f_std**2))
            return function(law, f, *more)

        return jax.vmap(one)(self.f, self.f_std, dict(self.values), *by_component)

    def replicated(self, key: Key[Array, ""], sets: int) -> Float[Array, "sets m columns"]:
        """Sets of targets at all points, each through one function; of all components in turn.

        Where ``joint`` is False, outputs are drawn point by point.
        """
        of_component = jnp.arange(sets) * len(self.f) // sets
        f_key, key = jax.random.split(key)
        if self.functions is not None:
            f = self.functions[jnp.arange(sets) * len(self.functions) // sets]
        else:
            f = self.f[of_component]
            if self.f_std is not None:
                noise = jax.random.normal(f_key, f.shape, f.dtype)
                f += self.f_std[of_component] * noise
        values = {name: value[of_component] for name, value in self.values.items()}

        def one(key: Key[Array, ""], f: Array, values: dict[str, Array]) -> Array:
            return substitute(self.likelihood, values).draw(key, f)

        return jax.vmap(one)(jax.random.split(key, sets), f, values)

    def by_blocks[Scores](
        self,
        score: Callable[[Predictive, Array, Key[Array, ""]], Scores],
        y: Array,
        seed: int,
        *,
        draws: int,
    ) -> Scores:
        """``score(part, y, key)`` of some points at a time, as memory allows, joined again.

        ``draws``: how many targets at each point it works with. ``Scores`` is a tree of arrays
        that have points first.
        """
        components, points, outputs = self.f.shape
        at_a_point = max(components, draws) * outputs * self.f.dtype.itemsize
        largest = max(1, BLOCK_BYTES // at_a_point)
        key = jax.random.key(seed)
        parts = []
        for start in range(0, points, largest):
            rows = slice(start, start + largest)
            f_std, functions = (
                None if array is None else array[:, rows] for array in (self.f_std, self.functions)
            )
            part = replace(self, f=self.f[:, rows], f_std=f_std, functions=functions)
            parts.append(score(part, y[rows], jax.random.fold_in(key, start)))
        return jax.tree.map(lambda *own: np.concatenate(own), *parts)


def predictive_of(run: DataTree, posterior: Posterior | None = None) -> Predictive:
    """What a run predicts at its test inputs: a component for each draw.

    With the moments of the outputs given the hidden weights where the readout was integrated out,
    and each draw's own hyperparameters. ``posterior``, the one that was sampled, is needed only
    where its likelihood cannot be made again from the run. Raises ``ValueError`` for a run that is
    not finished, or without predictions, and for the posterior of another run.
    """
    check_finished(run)
    if "predictions" not in run.children:
        raise bad_input(
            "run",
            got="no predictions",
            expected="predictions at the inputs of the targets",
            probably="sample(...) without x_test",
        )
    given = None if posterior is None else posterior_of(run, posterior)
    likelihood = likelihood_of(run) if given is None else given.likelihood
    predictions = run.children["predictions"].dataset

    def joined(values: np.ndarray) -> Array:
        return jnp.asarray(values.reshape(-1, *values.shape[2:]))

    values = {
        name: joined(run.children["posterior"].dataset[name].values)
        for name in hyperparameters(likelihood)
    }
    if "f_mean" in predictions:
        f, f_std = (joined(predictions[name].values) for name in ("f_mean", "f_std"))
        return Predictive(likelihood, f, f_std, values, joined(predictions["f"].values))
    return Predictive(likelihood, joined(predictions["f"].values), None, values)


def of_gaussian_outputs(
    likelihood: AbstractLikelihood,
    mean: Float[Array, "m o"],
    std: Float[Array, "m o"],
    covariances: Float[Array, "k m m"] | None,
    key: Key[Array, ""],
) -> Predictive:
    """What Gaussian outputs predict, drawn where the noise is not Gaussian too.

    ``covariances`` between the points, one for all outputs (k = 1) or one for each; without them
    outputs are drawn point by point.
    """
    noise = jax.random.normal(key, (FUNCTION_DRAWS, *mean.shape), mean.dtype)
    functions = None
    if covariances is not None:
        # one at a time: each takes as much memory again
        roots = jax.lax.map(lambda own: symmetric_root(own)[0], covariances)
        roots = jnp.broadcast_to(roots, (mean.shape[1], *roots.shape[1:]))
        functions = mean[None] + jnp.einsum("oij,sjo->sio", roots, noise)
    if isinstance(likelihood, Gaussian):
        return Predictive(likelihood, mean[None], std[None], functions=functions)
    if functions is None:
        return Predictive(likelihood, mean[None] + std[None] * noise, jointly=False)
    return Predictive(likelihood, functions)
