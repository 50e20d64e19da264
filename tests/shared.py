"""Where results of other programs lie, for tests that compare with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def shared_file(folder: str, name: str) -> Path:
    """A file of ``../shared/folder``, or of its like around $BNNSAMPLE_DATA; skips without it."""
    data = Path(os.environ.get("BNNSAMPLE_DATA", ROOT.parent / "shared" / "data"))
    places = [data, data / folder, data.parent / folder, ROOT.parent / "shared" / folder]
    for place in places:
        if (place / name).is_file():
            return place / name
    pytest.skip(f"{name} is in none of {', '.join(map(str, places))}")
