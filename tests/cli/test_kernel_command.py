"""``kernel``: the infinite-width kernel of the rows that fit would encode."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

import bnnsample as bnn
from bnnsample.cli import main
from bnnsample.tabular.learning import learn
from tests.conftest import X64
from tests.tabular.tables import diabetes

pytestmark = pytest.mark.skipif(not X64, reason="the command line computes in float64")


@pytest.fixture
def words(tmp_path):
    diabetes(40).to_csv(tmp_path / "t.csv", index=False)
    return ["kernel", str(tmp_path / "t.csv"), "--target", "progression", "--depth", "2",
            "--activation", "relu", "--w-std", "1.2", "--out", str(tmp_path / "k")]  # fmt: skip


def test_it_is_the_kernel_of_the_encoded_rows(words, tmp_path, capsys):
    table = diabetes(40).drop(columns="progression")
    x = learn(table).encoded(table)
    net = bnn.fcn(2, 1, 1, "relu", w_std=1.2)
    for more, kinds in ([], "nngp"), (["--ntk"], "nngp and ntk"):
        folder = tmp_path / kinds.replace(" ", "-")
        assert main([*words[:-1], str(folder), *more]) == 0
        told = capsys.readouterr().out
        assert "left out by option: progression" in told
        assert f"{kinds}: 40 x 40, " in told
        assert f"zarr.open_group({str(folder)!r}, mode='r')['nngp'][:]" in told
        group = zarr.open_group(folder, mode="r")
        np.testing.assert_allclose(group["nngp"][:], bnn.nngp(net, x), rtol=1e-10)
        assert ("ntk" in group) == bool(more)
    np.testing.assert_allclose(group["ntk"][:], bnn.ntk(net, x), rtol=1e-10)


def test_a_second_call_goes_on_and_another_network_is_refused(words, capsys):
    assert main(words) == main(words) == 0
    assert main([*words, "--b-std", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "its network differ" in error
    assert error.count("\n") == 1


def test_a_dry_run_writes_nothing(words, tmp_path, capsys):
    assert main([*words, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "ok   size: 40 x 40 in float64, 0.0122 MiB of" in told
    assert "note time: about" in told
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize("out", ["notes", "t.csv"])
def test_a_folder_of_other_files_is_refused(out, words, tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine").write_text("mine")
    assert main([*words[:-1], str(tmp_path / out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine"]
