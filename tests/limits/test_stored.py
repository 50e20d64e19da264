"""Kernels on disk: those in memory, whole after any interruption, and never another call's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
import zarr

import bnnsample as bnn
from bnnsample.limits import stored
from tests.conftest import X64

NETWORK = bnn.fcn(1, 3, 1, "erf", b_std=0.3)
D = 2


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stored, "LARGEST_SIDE", 3)


@pytest.fixture
def x(rng):
    return rng.standard_normal((11, D))


class Interrupted(Exception):
    pass


def interrupt_after(count):
    def on_progress(done, total):
        if done == count:
            raise Interrupted

    return on_progress


@pytest.mark.parametrize("n2", [None, 4])
@pytest.mark.parametrize("kinds", [("nngp", "ntk"), ("ntk",)])
def test_a_store_holds_the_kernels_of_memory(x, n2, kinds, tmp_path, tolerance):
    second = None if n2 is None else x[:n2] + 0.5
    calls = []
    group = bnn.store_kernels(
        tmp_path / "k", NETWORK, x, second, kinds=kinds, on_progress=lambda *c: calls.append(c)
    )
    for kind in kinds:
        kernel = getattr(bnn, kind)(NETWORK, x, second)
        np.testing.assert_allclose(group[kind][:], kernel, rtol=tolerance)
        assert group[kind].dtype == kernel.dtype
        if n2 is None:
            np.testing.assert_array_equal(group[kind][:], group[kind][:].T)
    total = group["done"].size
    assert total > 4
    assert calls == [(i + 1, total) for i in range(total)]
    assert set(group.array_keys()) == {*kinds, "done"}


def test_an_interrupted_store_goes_on_where_it_stopped(x, tmp_path):
    whole = bnn.store_kernels(tmp_path / "whole", NETWORK, x)
    path = tmp_path / "parts"
    for stop in (3, 6):
        with pytest.raises(Interrupted):
            bnn.store_kernels(path, NETWORK, x, on_progress=interrupt_after(stop))
    early = zarr.open_group(path, mode="r")
    done = early["done"][:]
    assert done.sum() == 6
    counts = []
    group = bnn.store_kernels(
        path, NETWORK, x, memory=10**6, on_progress=lambda *c: counts.append(c[0])
    )
    assert counts == list(range(7, len(done) + 1))
    for kind in ("nngp", "ntk"):
        np.testing.assert_array_equal(group[kind][:], whole[kind][:])


def test_blocks_done_are_not_touched_again(x, tmp_path):
    path = tmp_path / "k"
    with pytest.raises(Interrupted):
        bnn.store_kernels(path, NETWORK, x, on_progress=interrupt_after(1))
    group = zarr.open_group(path, mode="r+")
    group["nngp"][:3, :3] = mark = np.full((3, 3), -7.0, group["nngp"].dtype)
    found = bnn.store_kernels(path, NETWORK, x)["nngp"][:]
    np.testing.assert_array_equal(found[:3, :3], mark)
    assert (found != -7).sum() == found.size - 9


def test_other_sizes_go_on_with_the_blocks_begun(x, tmp_path, monkeypatch, tolerance):
    path = tmp_path / "k"
    with pytest.raises(Interrupted):
        bnn.store_kernels(path, NETWORK, x, on_progress=interrupt_after(4))
    monkeypatch.setattr(stored, "LARGEST_SIDE", 100)
    group = bnn.store_kernels(path, NETWORK, x)
    np.testing.assert_allclose(group["nngp"][:], bnn.nngp(NETWORK, x), rtol=tolerance)
    assert group["nngp"].chunks == (3, 3)


def test_a_finished_store_is_returned_without_work(x, tmp_path):
    path = tmp_path / "k"
    first = bnn.store_kernels(path, NETWORK, x)
    calls = []
    again = bnn.store_kernels(path, NETWORK, x, on_progress=lambda *c: calls.append(c))
    assert calls == []
    np.testing.assert_array_equal(again["ntk"][:], first["ntk"][:])
    with pytest.raises(ValueError, match="read"):
        again["ntk"][0, 0] = 0.0


KILLED = """
    import sys, jax, numpy as np
    jax.config.update("jax_enable_x64", sys.argv[2] == "64")
    import bnnsample as bnn
    from bnnsample.limits import stored
    stored.LARGEST_SIDE = 3
    def on_progress(done, total):
        print(done, flush=True)
        if done == 5:
            sys.stdin.read()  # until it is killed
    network = bnn.fcn(1, 3, 1, "erf", b_std=0.3)
    x = np.load(sys.argv[3])
    bnn.store_kernels(sys.argv[1], network, x, on_progress=on_progress)
"""


def test_a_killed_process_leaves_a_store_that_goes_on(x, tmp_path, tolerance):
    path = tmp_path / "k"
    np.save(tmp_path / "x.npy", x)
    bits = "64" if X64 else "32"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), path, bits, tmp_path / "x.npy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    ) as process:
        assert [process.stdout.readline().strip() for _ in range(5)] == list("12345")
        process.send_signal(signal.SIGKILL)
    counts = []
    group = bnn.store_kernels(path, NETWORK, x, on_progress=lambda *c: counts.append(c[0]))
    assert counts == list(range(6, 11))
    np.testing.assert_allclose(group["ntk"][:], bnn.ntk(NETWORK, x), rtol=tolerance)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_missing_block_is_named(x, stopped, tmp_path):
    path = tmp_path / "k"
    if stopped:
        with pytest.raises(Interrupted):
            bnn.store_kernels(path, NETWORK, x, on_progress=interrupt_after(3))
    else:
        bnn.store_kernels(path, NETWORK, x)
    lost = path / "ntk" / "c" / "0" / "1"
    lost.unlink()
    with pytest.raises(bnn.BadInput, match=f"got {lost}: no such file"):
        bnn.store_kernels(path, NETWORK, x)


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b[:3] + b"#" + b[4:]])
def test_a_block_that_is_not_as_written_is_named_where_it_is_read(x, spoil, tmp_path):
    group = bnn.store_kernels(tmp_path / "k", NETWORK, x)
    chunk = tmp_path / "k" / "nngp" / "c" / "1" / "2"
    chunk.write_bytes(spoil(chunk.read_bytes()))
    assert group["nngp"][0, 0] > 0
    with pytest.raises(bnn.BadInput, match=f"got {chunk}: bytes that do not match"):
        group["nngp"][:]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a | {"x1": a["x1"] + 1e-3}, "inputs differ"),
        (lambda a: a | {"x1": a["x1"][:-1]}, "inputs differ"),
        (lambda a: a | {"x2": a["x1"]}, "inputs differ"),
        (lambda a: a | {"kinds": ("nngp",)}, "kinds differ"),
        (lambda a: a | {"network": bnn.fcn(1, 3, 1, "erf", b_std=0.31)}, "network differ"),
        (lambda a: a | {"network": bnn.fcn(2, 3, 1, "erf", b_std=0.3)}, "network differ"),
    ],
)
def test_the_folder_of_another_call_is_refused(x, change, expected, tmp_path):
    path = tmp_path / "k"
    arguments = {"path": path, "network": NETWORK, "x1": x}
    with pytest.raises(Interrupted):
        bnn.store_kernels(**arguments, on_progress=interrupt_after(1))
    with pytest.raises(ValueError, match=f"store_kernels path.*{expected}.*give another"):
        bnn.store_kernels(**change(arguments))
    bnn.store_kernels(**arguments)


def test_a_group_of_others_is_refused_and_left_alone(x, tmp_path):
    group = zarr.open_group(tmp_path / "k", mode="a")
    group.create_array("nngp", data=np.arange(3.0))
    with pytest.raises(ValueError, match="store_kernels path.*a zarr group of others, with nngp"):
        bnn.store_kernels(tmp_path / "k", NETWORK, x)
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "k", mode="r")["nngp"][:], [0, 1, 2])


def test_a_network_with_equal_variances_is_refused(x, tmp_path):
    """Depth changes no variance of a relu network that keeps them, but every covariance."""

    def network(depth):
        return bnn.fcn(depth, 3, 1, "relu", b_std=None, b_std_out=None)

    shallow, deep = (bnn.nngp(network(depth), x) for depth in (1, 2))
    np.testing.assert_allclose(np.diagonal(shallow), np.diagonal(deep), rtol=1e-5)
    assert abs(shallow - deep).max() > 0.01
    bnn.store_kernels(tmp_path / "k", network(1), x, kinds=("nngp",))
    with pytest.raises(ValueError, match="network differ"):
        bnn.store_kernels(tmp_path / "k", network(2), x, kinds=("nngp",))


def test_traced_calls_are_refused(x, tmp_path):
    with pytest.raises(ValueError, match="store_kernels: got values that JAX is tracing"):
        jax.jit(lambda x: bnn.store_kernels(tmp_path / "k", NETWORK, x))(x)
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize("kinds", [(), ("nngp", "nonsense"), "nngp"])
def test_kinds_that_are_none_are_refused(x, kinds, tmp_path):
    with pytest.raises(ValueError, match="kinds"):
        bnn.store_kernels(tmp_path / "k", NETWORK, x, kinds=kinds)
    assert not (tmp_path / "k").exists()
