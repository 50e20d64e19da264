"""What the kept parameters of a run say elsewhere: predictions at new inputs, log likelihoods.

Draws are read, and computed with, some at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key
from xarray import Dataset, DataTree

from bnnsample.checks import bad_input, check_count
from bnnsample.models.network import Parameters, named_parameters
from bnnsample.models.posterior import Posterior, as_test_inputs
from bnnsample.numerics import full_precision
from bnnsample.repriorisation.base import check_posterior
from bnnsample.sampling.rebuild import NotRebuildable, rebuild, without_addresses

CHUNK_BYTES = 2**26
"""Parameters and results of the draws computed with at a time take at most this much memory, or
those of one draw; arbitrary."""

type OfDraw = Callable[..., dict[str, Array]]
"""``(posterior, params, key, *arrays)``: arrays by name, of a posterior without hyperparameters."""


def predict(
    run: DataTree, x: ArrayLike, *, posterior: Posterior | None = None, seed: int = 0
) -> Dataset:
    """Outputs ``f`` and targets ``y`` at inputs ``x`` (m, ...) that the run did not know of.

    Both are (chain, draw, test_point, output), from the parameters and hyperparameters of each
    draw, which the run must have kept; ``y`` is drawn anew with ``seed``, and left out where noise
    is known by training point. ``posterior``, the one that was sampled, is needed only where it
    cannot be made again from the run. Raises ``ValueError`` where it cannot, or where no parameters
    were kept.
    """
    posterior = posterior_of(run, posterior)
    found = of_draws(_predictions, run, posterior, as_test_inputs(x, posterior.x), seed=seed)
    columns = run.children["observed_data"].dataset["y"].dims[-1]
    last = {"f": "output", "y": columns}
    return _dataset(
        {name: (("test_point", last[name]), array) for name, array in found.items()}, run
    )


def log_likelihood(run: DataTree, *, posterior: Posterior | None = None) -> DataTree:
    """The run with a group ``log_likelihood``: ``y`` (chain, draw, point), as ArviZ wants it.

    That is ``log p(y_i | parameters)`` of each training point, normalised and summed over the
    columns of ``y``. The other groups are shared, not copied. Arguments and errors as ``predict``.
    """
    posterior = posterior_of(run, posterior)
    found = of_draws(_log_likelihoods, run, posterior)
    longer = run.copy(deep=False)
    longer["log_likelihood"] = DataTree(_dataset({"y": (("point",), found["y"])}, run))
    return longer


def likelihood_of(run: DataTree) -> Any:
    """The likelihood of a run's posterior, made again from the run."""
    return _rebuilt(run, "likelihood")


def posterior_of(run: DataTree, posterior: Posterior | None = None) -> Posterior:
    """The posterior of a run, made again from it where it is not given.

    Raises ``ValueError`` where it cannot be, and for one that is not the run's: of other data, or
    whose network or likelihood prints otherwise.
    """
    found = _made_again(run) if posterior is None else posterior
    check_posterior(found)
    dtype = _attribute(run, "dtype")
    if str(found.x.dtype) != dtype:
        raise bad_input(
            "precision",
            got=f"a posterior in {found.x.dtype}",
            expected=f"{dtype}, in which the run was made",
            probably="jax.config.update('jax_enable_x64', True) was left out, or data of another "
            "type; the run's own can be passed as posterior=",
        )
    if posterior is not None:
        _check_is_of(run, posterior)
    return found


def _made_again(run: DataTree) -> Posterior:
    network, likelihood = _rebuilt(run, "network"), _rebuilt(run, "likelihood")
    x, y = _data(run)
    return Posterior(network, x, y.astype(x.dtype), likelihood)


def _check_is_of(run: DataTree, posterior: Posterior) -> None:
    same = {
        name: without_addresses(repr(getattr(posterior, name)))
        == without_addresses(_attribute(run, name))
        for name in ("network", "likelihood")
    }
    for name, kept in zip(("x", "y"), _data(run), strict=True):
        same[name] = np.array_equal(getattr(posterior, name), kept)
    if not all(same.values()):
        others = " and ".join(name for name, one in same.items() if not one)
        raise bad_input(
            "posterior",
            got=f"one of another {others} than the run's",
            expected="the posterior that was sampled",
            probably="the posterior of another run",
        )


def _data(run: DataTree) -> tuple[np.ndarray, np.ndarray]:
    return (
        run.children["constant_data"].dataset["x"].values,
        run.children["observed_data"].dataset["y"].values,
    )


@full_precision
def of_draws(
    of_draw: OfDraw, run: DataTree, posterior: Posterior, *arrays: Array, seed: int = 0
) -> dict[str, np.ndarray]:
    """``of_draw`` of every draw, (chain, draw, ...) by name, compiled once.

    A draw's key depends on the seed and its place alone, so that how many are computed together
    changes nothing.
    """
    check_count("seed", seed, minimum=0)
    kept = _kept(run, posterior)
    chains, draws = (run.children["posterior"].sizes[name] for name in ("chain", "draw"))
    key = jax.random.key(seed)
    one = {name: jax.ShapeDtypeStruct(a.shape[2:], a.dtype) for name, a in kept.items()}
    shapes = jax.eval_shape(partial(_of_one, of_draw), posterior, one, key, *arrays)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((one, shapes)))
    length = min(draws, max(1, CHUNK_BYTES // size))
    found = {n: np.empty((chains, draws, *leaf.shape), leaf.dtype) for n, leaf in shapes.items()}
    for chain in range(chains):
        chain_key = jax.random.fold_in(key, chain)
        for start in range(0, draws, length):
            # the last chunk is as long as the others, so that one program serves all
            indices = np.arange(length) + min(start, draws - length)
            place = {"chain": chain, "draw": slice(indices[0], indices[-1] + 1)}
            chunk = {name: array.isel(place).values for name, array in kept.items()}
            keys = jax.vmap(jax.random.fold_in, (None, 0))(chain_key, indices)
            for name, rows in _of_chunk(of_draw, posterior, chunk, keys, *arrays).items():
                found[name][chain, indices] = rows
    return found


@partial(jax.jit, static_argnames="of_draw")
def _of_chunk(
    of_draw: OfDraw,
    posterior: Posterior,
    kept: dict[str, Array],
    keys: Key[Array, " draws"],
    *arrays: Array,
) -> dict[str, Array]:
    return jax.lax.map(
        lambda draw: _of_one(of_draw, posterior, draw[0], draw[1], *arrays), (kept, keys)
    )


def _of_one(
    of_draw: OfDraw, posterior: Posterior, kept: dict[str, Array], key: Array, *arrays: Array
) -> dict[str, Array]:
    shapes = posterior.parameter_shapes
    leaves = [kept[name] for name in named_parameters(shapes)]
    params = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    values = {name: kept[name] for name in posterior.hyperpriors}
    return of_draw(posterior.given(values), params, key, *arrays)


def _predictions(
    posterior: Posterior, params: Parameters, key: Key[Array, ""], x: Float[Array, "m ..."]
) -> dict[str, Array]:
    f = posterior.network.apply(params, x)
    if posterior.likelihood.varies_by_point:
        return {"f": f}
    return {"f": f, "y": posterior.likelihood.draw(key, f)}


def _log_likelihoods(
    posterior: Posterior, params: Parameters, key: Key[Array, ""]
) -> dict[str, Array]:
    f = posterior.network.apply(params, posterior.x)
    return {"y": posterior.likelihood.point_log_densities(f, posterior.y)}


def _kept(run: DataTree, posterior: Posterior) -> dict[str, Any]:
    """The draws of parameters and hyperparameters by name; raises unless all are there."""
    shapes = named_parameters(posterior.parameter_shapes)
    draws = run.children["posterior"].dataset if "posterior" in run.children else Dataset()
    if "readout" not in draws:
        raise bad_input(
            "run",
            got="no parameters",
            expected="a run that kept the parameters of its draws",
            probably="sample(..., keep=(..., 'parameters')) was left out, without which large "
            "networks' are not kept",
        )
    shapes |= {name: prior.shape() for name, prior in posterior.hyperpriors.items()}
    for name, leaf in shapes.items():
        shape = getattr(leaf, "shape", leaf)
        if name not in draws or draws[name].shape[2:] != shape:
            raise bad_input(
                "posterior",
                got=f"{name} of shape {shape}",
                expected=f"the run's, {draws[name].shape[2:] if name in draws else 'without it'}",
                probably="the posterior of another run",
            )
    return {name: draws[name] for name in shapes}


def _rebuilt(run: DataTree, name: str) -> Any:
    try:
        return rebuild(_attribute(run, name))
    except NotRebuildable as error:
        raise bad_input(
            "run",
            got=f"a {name} that cannot be made again from its text: {error}",
            expected="the posterior that was sampled, as posterior=",
            probably="a function, an array or a prior of your own",
        ) from error


def _attribute(run: DataTree, name: str) -> str:
    if not isinstance(run, DataTree) or name not in run.attrs:
        raise bad_input(
            "run",
            got=f"a {type(run).__name__} without the attribute {name}",
            expected="the DataTree that sample() returned or load_run() read, finished",
            probably="one group of a run, or a folder that `bnnsample resume FOLDER` would finish",
        )
    return run.attrs[name]


def _dataset(variables: dict[str, tuple[tuple[Any, ...], np.ndarray]], run: DataTree) -> Dataset:
    """Arrays (chain, draw, ...) with the names of their other dimensions, indexed as runs are."""
    draws = run.children["posterior"].dataset
    named = {name: (("chain", "draw", *last), array) for name, (last, array) in variables.items()}
    dataset = Dataset(named, {name: draws[name] for name in ("chain", "draw")})
    others = {
        name: np.arange(size) for name, size in dataset.sizes.items() if name not in draws.coords
    }
    return dataset.assign_coords(others)
