"""Chains and data spread over devices: XLA does the communication, this file says what goes where.

A mesh has the axes ``chains`` and ``data``. Chains are independent; training points are split over
``data``, so that Gram matrices and likelihood sums are reduced over it and the primal form serves
many more points than one device holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from bnnsample.checks import bad_input, check_count
from bnnsample.repriorisation.base import AbstractTarget

OF_POINTS = ("x", "y")
"""Fields of a posterior whose rows are training points."""


def device_mesh(chains: int = 1, data: int = 1) -> Mesh:
    """A mesh of ``chains * data`` devices, of all processes; pass it to ``sample``.

    Several processes call ``jax.distributed.initialize`` before they import this package, which
    blackjax, imported with it, would make too late; and then all do the same.
    """
    check_count("chains", chains)
    check_count("data", data)
    if chains * data > jax.device_count():
        raise bad_input(
            "device_mesh",
            got=f"{chains} x {data} devices",
            expected=f"at most {jax.device_count()}, as there are",
            probably="jax.distributed.initialize() or XLA_FLAGS were left out",
        )
    devices = np.asarray(jax.devices()[: chains * data]).reshape(chains, data)
    return Mesh(devices, ("chains", "data"), axis_types=(AxisType.Auto, AxisType.Auto))


def check_mesh(mesh: Mesh | None, chains: int, points: int, folder: Path | None) -> None:
    """Refuse a mesh over which chains or training points do not spread evenly, or a part of one."""
    processes = jax.process_count()
    if mesh is None:
        if folder is not None and processes > 1:
            raise bad_input(
                "out",
                got=f"one folder for runs of {processes} processes, without a mesh",
                expected="one run over the devices of all of them",
                probably="mesh=bnn.device_mesh(chains, data) was left out",
            )
        return
    if not isinstance(mesh, Mesh):
        raise bad_input(
            "mesh",
            got=repr(mesh),
            expected="a mesh of devices",
            probably="a count; bnn.device_mesh(chains, data) makes a mesh",
        )
    used = len({device.process_index for device in mesh.devices.flat})
    if used < processes:
        raise bad_input(
            "mesh",
            got=f"devices of {used} processes",
            expected=f"of all {processes}",
            probably="a mesh of fewer devices than there are",
        )
    if tuple(mesh.axis_names) != ("chains", "data"):
        raise bad_input(
            "mesh",
            got=f"axes {mesh.axis_names}",
            expected="('chains', 'data')",
            probably="a mesh of something else; bnn.device_mesh(chains, data) makes one",
        )
    for name, count, what in (("chains", chains, "chains"), ("data", points, "points")):
        if count % mesh.shape[name]:
            raise bad_input(
                "mesh",
                got=f"{mesh.shape[name]} devices for {count} {what}",
                expected="a divisor of it",
                probably="another number of devices is wanted along this axis",
            )


def spread_target[Target: AbstractTarget](target: Target, mesh: Mesh | None) -> Target:
    """The target with its training points over the mesh's ``data`` and all else on every device."""
    if mesh is None:
        return target

    def place(path: tuple[Any, ...], leaf: Any) -> Any:
        of_points = getattr(path[-1], "name", None) in OF_POINTS
        return _put(leaf, NamedSharding(mesh, PartitionSpec("data" if of_points else None)))

    return jax.tree.map_with_path(place, target)


def spread_chains[Tree](tree: Tree, mesh: Mesh | None) -> Tree:
    """Arrays whose first axis is that of chains, over the mesh's ``chains``."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec("chains"))
    return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)


def on_every_device[Tree](tree: Tree, mesh: Mesh | None) -> Tree:
    """Arrays, whole on each device."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, PartitionSpec())), tree)


def one_copy_a_process[Tree](tree: Tree, mesh: Mesh | None) -> Tree:
    """Arrays, whole on one device of each process: so do checkpoints not depend on the mesh."""
    if mesh is None:
        return tree
    devices = {device.process_index: device for device in mesh.devices.flat}
    return on_every_device(tree, Mesh(np.asarray(list(devices.values())), ("process",)))


def to_host[Tree](tree: Tree) -> Tree:
    """Whole arrays on the host, of every process."""
    return jax.tree.map(_whole, tree)


def writes_to(folder: Path | None) -> bool:
    """Whether this process writes: all to memory, the first one to a folder."""
    return folder is None or jax.process_index() == 0


@contextlib.contextmanager
def first_process_first(name: str) -> Iterator[None]:
    """The block is run by the first process, and then by the others, also where it raises."""
    first = jax.process_index() == 0
    if not first:
        wait_for_all(name)
    try:
        yield
    finally:
        if first:
            wait_for_all(name)


def wait_for_all(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def first_process_says(yes: bool) -> bool:
    """What the first of several processes says, in each of them."""
    return yes if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(yes))


def _whole(array: Any) -> np.ndarray:
    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _put(leaf: Any, sharding: NamedSharding) -> Any:
    """``leaf`` placed; a scalar goes everywhere, a number that is no array stays."""
    if isinstance(leaf, float | int):
        return leaf
    if leaf.ndim == 0:
        sharding = NamedSharding(sharding.mesh, PartitionSpec())
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data)
    if getattr(leaf, "sharding", None) == sharding:
        return leaf
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    host = _whole(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
