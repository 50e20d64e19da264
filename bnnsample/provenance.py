"""Where a result came from: versions, device and platform."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import jax

REPORTED_VERSIONS = ("bnnsample", "jax", "blackjax", "numpyro", "arviz", "numpy")


def environment() -> dict[str, Any]:
    """Versions by package, device and Python: what a result must say of where it came from."""
    device = jax.devices()[0]
    return {
        "versions": {name: version_of(name) for name in REPORTED_VERSIONS},
        "device": f"{device.platform}: {device.device_kind}, {os.cpu_count()} CPU cores",
        "python": platform.python_version(),
    }


def version_of(package: str = "bnnsample") -> str:
    """The installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # used from its source, where only its path is known
        return "not installed"
