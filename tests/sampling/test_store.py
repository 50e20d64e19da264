"""Runs on disk: whole, readable by ArviZ, and honest about files that are not runs."""

from __future__ import annotations

import numpy as np
import pytest

import bnnsample as bnn


@pytest.fixture(scope="module")
def run():
    rng = np.random.default_rng(3)
    posterior = bnn.Posterior(
        bnn.fcn(1, 4, 2),
        rng.standard_normal((5, 3)),
        rng.standard_normal((5, 2)),
        bnn.Gaussian(0.4),
    )
    x_test = rng.standard_normal((2, 3))
    return bnn.sample(bnn.marginal(posterior), chains=2, warmup=3, draws=6, x_test=x_test)


def test_a_run_survives_the_round_trip(run, tmp_path):
    path = bnn.save_run(run, tmp_path / "deep" / "run.nc")
    back = bnn.load_run(path)
    assert set(back.children) == set(run.children)
    for group in run.children:
        for name, values in run[group].data_vars.items():
            np.testing.assert_array_equal(back[group][name], values)
    assert back.attrs["seed"] == run.attrs["seed"]
    assert back.attrs["versions"] == run.attrs["versions"]


def test_the_file_is_as_readable_as_any_other(run, tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    path = bnn.save_run(run, tmp_path / "run.nc")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_failed_write_leaves_the_old_run_and_nothing_else(run, tmp_path, monkeypatch):
    path = bnn.save_run(run, tmp_path / "run.nc")
    before = path.read_bytes()

    def fail(self, file, **_):
        file.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(type(run), "to_netcdf", fail)
    with pytest.raises(KeyboardInterrupt):
        bnn.save_run(run, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_truncated_file_is_refused_by_name(run, tmp_path):
    path = bnn.save_run(run, tmp_path / "run.nc")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"run\.nc, which cannot be read.*truncated"):
        bnn.load_run(path)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run at .*absent\.nc"):
        bnn.load_run(tmp_path / "absent.nc")
