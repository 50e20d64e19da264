"""Scales of layers and likelihoods: known, or unknown with a prior and then sampled.

A NumPyro distribution in place of a number makes a scale a hyperparameter. The same distribution
object in several places is one hyperparameter; equal ones that were made apart are several.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer

from bnnsample.checks import BadInput, as_scale, bad_input
from bnnsample.pytrees import as_pytree

if TYPE_CHECKING:
    type Std = Any
else:
    type Std = float | int | np.number | np.ndarray | jax.Array | dist.Distribution | Hyperparameter
"""A finite positive number; an array where one differentiates in it; or a prior.

Layers compute with it once it has a value, which a type checker cannot know.
"""

PROBED = np.linspace(-30.0, 30.0, 61)
"""Unconstrained values at which the support of a prior is looked at; arbitrary."""


@as_pytree("prior")
@dataclass(frozen=True)
class Hyperparameter:
    """A quantity that is sampled: its prior, and its name once it belongs to a posterior."""

    name: str | None
    prior: dist.Distribution

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its values."""
        return self.prior.shape()

    def __repr__(self) -> str:
        return f"Hyperparameter({self.name!r}, {prior_text(self.prior)})"


def is_unknown(value: object) -> bool:
    """Whether a scale is a hyperparameter."""
    return isinstance(value, Hyperparameter)


def as_std(name: str, value: Any, *, shaped: bool = False) -> Std:
    """``value`` checked: a positive number, a prior of one, and ``shaped`` arrays of either."""
    if is_unknown(value):
        return value
    if isinstance(value, dist.Distribution):
        _check_prior(name, value, shaped=shaped)
        return Hyperparameter(None, value)
    if isinstance(value, type):
        raise bad_input(
            name,
            got=f"the class {value.__name__}",
            expected="a finite number above 0, or a prior of one",
            probably="a distribution without its arguments, as in HalfNormal(1.0)",
        )
    if shaped and not isinstance(value, Tracer) and np.ndim(value) > 0:
        return _positive_array(name, value)
    return as_scale(name, value)


def as_bias_std(name: str, value: Any) -> Std | None:
    """``value`` checked; the plain number 0 becomes None: no bias parameter."""
    if value is None or is_unknown(value) or isinstance(value, dist.Distribution | type):
        return None if value is None else as_std(name, value)
    value = as_scale(name, value, zero_allowed=True)
    return None if isinstance(value, numbers.Real) and value == 0 else value


def check_value(name: str, value: Any, prior: dist.Distribution) -> None:
    """Raise unless ``value`` may be that of the hyperparameter ``name`` with this ``prior``."""
    if isinstance(value, dist.Distribution):
        raise bad_input(
            name,
            got=prior_text(value),
            expected="a value",
            probably="another prior was meant, which is given to the layer or the likelihood",
        )
    as_std(name, value, shaped=True)
    if jnp.shape(value) != prior.shape():
        raise bad_input(
            name,
            got=f"values of shape {jnp.shape(value)}",
            expected=f"{prior.shape()}, as those of its prior",
            probably="all draws of a run; posterior.given takes one",
        )


def check_known(network: Any) -> None:
    """Raise where a scale of ``network`` has a prior instead of a value."""
    for _, unknown in _unknowns(network):
        raise bad_input(
            "network",
            got=f"an unknown scale, {unknown!r}",
            expected="numbers: outputs and kernels depend on them",
            probably="a network made for bnn.Posterior; posterior.given(values).network has values",
        )


def hyperparameters(tree: Any) -> dict[str, dist.Distribution]:
    """The priors of the named hyperparameters in ``tree``, by name."""
    return {str(leaf.name): leaf.prior for _, leaf in _unknowns(tree)}


def substitute[T](tree: T, values: Mapping[str, Any]) -> T:
    """``tree`` with values in place of hyperparameters."""
    return jax.tree.map(
        lambda leaf: values[leaf.name] if is_unknown(leaf) else leaf, tree, is_leaf=is_unknown
    )


def named[T](tree: T, names_of: Callable[[tuple[Any, ...]], tuple[str, str]]) -> T:
    """``tree`` with a name for each hyperparameter that has none.

    ``names_of`` a path are a short name, which all places of one prior share, and a long one for
    where several priors would have the same short one. Raises ``ValueError`` for two priors of one
    name.
    """
    found = [(path, leaf.name, leaf.prior) for path, leaf in _unknowns(tree)]
    names = {id(prior): name for _, name, prior in found if name is not None}
    owners: dict[str, set[int]] = {}
    for path, _, prior in found:
        owners.setdefault(names.get(id(prior), names_of(path)[0]), set()).add(id(prior))
    for path, _, prior in found:
        if id(prior) not in names:
            short, long = names_of(path)
            name = short if len(owners[short]) == 1 else long
            if name in names.values():
                raise _two_of_one_name(name, f"a prior beside another {prior_text(prior)}")
            names[id(prior)] = name
    _check_distinct([(names[id(prior)], prior) for _, _, prior in found])
    return jax.tree.map(
        lambda leaf: (
            replace(leaf, name=names[id(leaf.prior)])
            if is_unknown(leaf) and leaf.name is None
            else leaf
        ),
        tree,
        is_leaf=is_unknown,
    )


def _check_distinct(priors: list[tuple[str, dist.Distribution]]) -> None:
    texts: dict[str, str] = {}
    for name, prior in priors:
        text = prior_text(prior)
        if texts.setdefault(name, text) != text:
            raise _two_of_one_name(name, f"two priors, {texts[name]} and {text}")


def _two_of_one_name(name: str, got: str) -> BadInput:
    return bad_input(
        f"hyperparameter {name}",
        got=got,
        expected="one for each name",
        probably="layers of two posteriors, whose hyperparameters are named: make them anew",
    )


def prior_text(prior: dist.Distribution) -> str:
    """``HalfNormal(scale=1.0)``: the distribution and its arguments, as one would write them."""
    arguments = [
        f"{name}={_number_text(getattr(prior, name))}"
        for name in prior.arg_constraints
        if name in prior.__dict__ and prior.__dict__[name] is not None
    ]
    known = arguments and isinstance(prior, dist.TransformedDistribution)
    if "base_dist" in prior.__dict__ and not known:
        arguments.insert(0, prior_text(prior.__dict__["base_dist"]))
    return f"{type(prior).__name__}({', '.join(arguments)})"


def _number_text(value: Any) -> str:
    return repr(value if isinstance(value, Tracer | str) else np.asarray(value).tolist())


def _unknowns(tree: Any) -> list[tuple[tuple[Any, ...], Hyperparameter]]:
    leaves = jax.tree.leaves_with_path(tree, is_leaf=is_unknown)
    return [(path, leaf) for path, leaf in leaves if is_unknown(leaf)]


@contextlib.contextmanager
def promoting_as_numpyro() -> Iterator[None]:
    """NumPyro relies on JAX's own rules for shapes and types, which a program may have narrowed."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _check_prior(name: str, prior: dist.Distribution, *, shaped: bool) -> None:
    part = prior
    while "base_dist" in part.__dict__ and not isinstance(part, dist.MaskedDistribution):
        part = part.__dict__["base_dist"]
    try:
        with promoting_as_numpyro():
            values = dist.biject_to(prior.support)(jnp.asarray(PROBED))
            jax.eval_shape(prior.sample, jax.random.key(0))
        positive = values.shape == PROBED.shape and bool(jnp.all(values >= 0))
        # which has a density other than that of its draws
        positive &= not isinstance(part, dist.MaskedDistribution)
    except (NotImplementedError, TypeError, ValueError):
        positive = False
    if not positive:
        raise bad_input(
            name,
            got=prior_text(prior),
            expected="a proper prior of a positive number, such as HalfNormal(1.0) or "
            "LogNormal(0.0, 1.0)",
            probably="a prior of the logarithm, whose exponential has LogNormal",
        )
    shape = prior.shape()
    if shape and not (shaped and len(shape) == 1):
        raise bad_input(
            name,
            got=f"a prior of values of shape {shape}",
            expected="one of a single number" + (", or of one for each output" if shaped else ""),
            probably="parameters of the prior that are arrays",
        )


def _positive_array(name: str, value: Any) -> jax.Array:
    array = np.asarray(value)
    good = np.issubdtype(array.dtype, np.number) and array.ndim <= 2 and array.size > 0
    if not (good and bool(np.all(np.isfinite(array) & (array > 0)))):
        raise bad_input(
            name,
            got=" ".join(np.array2string(array, threshold=6).split()),
            expected="finite numbers above 0, in an array of one or two axes",
            probably="a missing value, a logarithm or noise of other data",
        )
    floating = np.issubdtype(array.dtype, np.floating)
    return jnp.asarray(array if floating else array.astype(float))
