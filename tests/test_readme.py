"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from bnnsample.models.scales import promoting_as_numpyro

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, sampling, scales, own_model, module, trust, limits, estimator = re.findall(
        r"```python\n(.*?)```", README.read_text(), re.DOTALL
    )
    names = {}
    exec(first, names)
    assert "checks" in capsys.readouterr().out
    assert (tmp_path / "results" / "first.nc").exists()
    exec(sampling, names)
    assert names["run"]["posterior"].sizes["draw"] == 300
    exec(scales, names)
    assert names["y"].shape == (4, 800, 50, 1)
    assert names["run"]["posterior"]["factor"].shape == (4, 800, 10)
    with promoting_as_numpyro():
        exec(own_model, names)
    assert names["samples"]["readout"].shape == (20, 64, 1)
    exec(module, names)
    assert names["net"].init(jax.random.key(0), (10,)).readout.shape == (65, 1)
    exec(trust, names)
    assert names["ok"]
    assert names["page"].name == "report.html"
    assert set(names["scores"]) == set(names["simpler"])
    with promoting_as_numpyro():
        exec(estimator, names)
    assert names["model"].verdict_
    assert names["scenarios"].shape == (len(names["y_test"]), 50)
    exec(limits, names)
    assert names["K"].shape == (64, 20)
    assert names["group"]["ntk"].shape == (64, 64)
    for kernel in (names["theta"], names["covariance"], names["k"](names["x"][:3])):
        assert np.isfinite(kernel).all()
