"""Tiles are spread over all devices, and which one computed them does not show."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

DEVICES = 4

SCRIPT = f"""
    import jax, numpy as np
    jax.config.update("jax_enable_x64", True)
    import bnnsample as bnn
    from bnnsample.limits import plan, tiles

    plan.ENTRIES_PER_TILE["cpu"] = 16
    plan.ENTRIES_PER_BUNDLE = 16
    assert len(jax.local_devices()) == {DEVICES}
    used = []
    stacked = tiles.stacked_tiles

    def recorded(*arguments):
        blocks = stacked(*arguments)
        used.append(blocks[0].devices())
        return blocks

    tiles.stacked_tiles = recorded
    network = bnn.fcn(1, 4, 1, "erf")
    x = np.random.default_rng(0).standard_normal((13, 3))
    several = [bnn.nngp(network, x), bnn.nngp(network, x, x[:5])]
    assert len(used) > 2 * {DEVICES}
    assert set.union(*used) == set(jax.local_devices()), used
    one = jax.local_devices()[:1]
    jax.local_devices = lambda: one
    used.clear()
    alone = [bnn.nngp(network, x), bnn.nngp(network, x, x[:5])]
    assert set.union(*used) == set(one)
    for a, b in zip(several, alone, strict=True):
        np.testing.assert_array_equal(a, b)
    print("the same")
"""


def test_four_devices_share_the_work_and_agree_with_one():
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the same\n"
