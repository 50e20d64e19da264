"""Files from elsewhere: what was cut off, altered or put in is an error that names the file.

Nothing in them is executed: no pickle is read while these tests run, and no name is looked up.
"""

from __future__ import annotations

import gc
import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.sampling.checkpoints import CHECKPOINTS
from bnnsample.sampling.folder import SETTINGS
from bnnsample.sampling.integrity import MANIFEST
from bnnsample.sampling.store import DRAWS as STORE
from tests.conftest import X64
from tests.faults.damage import CHAINS, DAMAGES, DRAWS, damaged, make_run
from tests.quick import cases

pytestmark = [
    pytest.mark.skipif(not X64, reason="the runs of this file are in float64"),
    # orbax and h5netcdf leave behind what fails in turn when it is collected
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LONG = {"cut to half", "random bytes", "emptied"}
"""Damages that the slow tests do to the store's many files."""


@pytest.fixture(scope="module", autouse=True)
def only_what_is_new():
    """For the collections below: half a second each if they looked at all there is."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Collected here, where it is expected, and not in a later test."""
    yield
    gc.collect()


class Unpickled(Exception):
    """A pickle was about to be read, which executes what it says."""


@pytest.fixture(autouse=True)
def no_pickles(monkeypatch):
    def refuse(*args, **kwargs):
        raise Unpickled

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)


def test_a_pickle_would_be_seen():
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    file.seek(0)
    with pytest.raises(Unpickled):
        np.load(file, allow_pickle=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    make_run(folder)
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "run"
    make_run(folder, stop=True)
    return folder


@pytest.fixture(scope="module")
def reference(finished):
    return bnn.load_run(finished).load()


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def assert_same(run, reference) -> None:
    assert set(run.children) == set(reference.children)
    for group in reference.children:
        assert run[group].dataset.load().equals(reference[group].dataset), group


def files_in(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert found
    return found


@pytest.mark.parametrize("damage", cases(DAMAGES.keys(), slow=LONG))
def test_each_damaged_file_of_the_store_is_named(folder, reference, damage):
    for path in [folder / MANIFEST, *files_in(folder / STORE)]:
        with damaged(path, DAMAGES[damage]), pytest.raises(bnn.BadInput) as caught:
            bnn.load_run(folder).load()
        names = (f"stored results: got {path}", f"than {path.name} has")
        assert any(name in str(caught.value) for name in names)
        assert "expected the folder as it was written; probably" in str(caught.value)
    assert_same(bnn.load_run(folder), reference)


@pytest.mark.parametrize("damage", ["cut to half", "deleted"])
def test_what_is_missing_is_seen_before_an_array_is_read(folder, damage):
    path = next(path for path in files_in(folder / STORE / "predictions") if "c" in path.parts)
    with damaged(path, DAMAGES[damage]), pytest.raises(bnn.BadInput, match=str(path)):
        bnn.load_run(folder)


def test_what_was_altered_is_seen_where_it_is_read_and_not_before(folder, reference):
    path = next(path for path in files_in(folder / STORE / "predictions/f") if "c" in path.parts)
    with damaged(path, DAMAGES["one bit altered"]):
        run = bnn.load_run(folder)
        lp = run["sample_stats"]["lp"].values
        np.testing.assert_array_equal(lp, reference["sample_stats"]["lp"])
        with pytest.raises(bnn.BadInput, match=f"{path}: bytes that do not match"):
            bnn.diagnose(run)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_settings_are_named(folder, reference, damage):
    path = folder / SETTINGS
    with damaged(path, DAMAGES[damage]):
        assert_same(bnn.load_run(folder), reference)  # which they are not needed for
        with pytest.raises((bnn.BadInput, FileNotFoundError), match=SETTINGS):
            bnn.resume(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:checkpoint .* is damaged:RuntimeWarning")
def test_a_damaged_file_of_a_checkpoint_loses_nothing(folder, reference, tmp_path):
    """Each file in one of the ways: the draws are the same, from this checkpoint or another."""
    newest = max((folder / CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    for index, path in enumerate(files_in(newest)):
        damage = list(DAMAGES.values())[index % len(DAMAGES)]
        copy = shutil.copytree(folder, tmp_path / f"copy {index}")
        with damaged(copy / path.relative_to(folder), damage):
            assert_same(bnn.resume(copy), reference)


def test_a_checkpoint_of_another_moment_is_refused(folder):
    """That its draws are counted otherwise would repeat some of them, or leave a gap."""
    for path in (folder / CHECKPOINTS).glob("*/record/metadata"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"draws": record["draws"] - 5}))
    with pytest.raises(bnn.BadInput, match=f"{folder}, of which no checkpoint can be read"):
        bnn.resume(folder)


OTHER_VALUES = (None, [], ["a", 3], {}, "__import__('os').abort()", -1, 0, 2.5, True, 10**400)


@pytest.mark.parametrize("value", OTHER_VALUES, ids=lambda value: repr(value)[:30])
def test_settings_of_other_values_are_named_and_never_executed(folder, reference, value):
    record = json.loads((folder / SETTINGS).read_text())
    for name in record:
        if type(record[name]) is type(value) and record[name] == value:
            continue
        changed = json.dumps(record | {name: value}).encode()
        with (
            damaged(folder / SETTINGS, lambda _, changed=changed: changed),
            pytest.raises(bnn.BadInput, match=f"{folder}"),
        ):
            bnn.resume(folder)
    assert_same(bnn.resume(folder), reference)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("likelihood", "noise_std=0.4", "noise_std=0.5"),
        ("network", "gelu", "erf"),
        ("network", "width=5", "width=6"),
        ("network", "width=5", "width=__import__('os').system('touch pwned')"),
        ("network", "'gelu'", "open('pwned', 'w').write('')"),
        ("sampler", "0.8", "(lambda: open('pwned', 'w'))()"),
        ("sampler", "num_steps=2", "num_steps=3"),
        ("sampler", "HMC(", "os.system("),
        ("likelihood", "0.4", "Hyperparameter('noise_std', 5)"),
        ("likelihood", "0.4", "Hyperparameter('noise_std', HalfNormal('a'))"),
        ("likelihood", "0.4", "(" * 5000 + "0.4" + ")" * 5000),
    ],
)
def test_settings_of_another_run_do_not_go_on_with_this_one(
    folder, tmp_path, monkeypatch, name, old, new
):
    monkeypatch.chdir(tmp_path)
    record = json.loads((folder / SETTINGS).read_text())
    assert old in record[name]
    changed = record | {name: record[name].replace(old, new)}
    (folder / SETTINGS).write_text(json.dumps(changed))
    with pytest.raises(bnn.BadInput, match=f"{folder}"):
        bnn.resume(folder)
    assert not (tmp_path / "pwned").exists()


def _with(metadata: dict, path: str, value: object) -> dict:
    """``metadata`` with another ``value`` at a ``path`` of names."""
    name, _, rest = path.partition(".")
    return metadata | {name: _with(metadata[name], rest, value) if rest else value}


PICKLE = {"name": "numcodecs.pickle", "configuration": {"protocol": 5}}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("shape", [CHAINS, DRAWS, 2, 4]),
        ("shape", [CHAINS, DRAWS - 1, 4, 2]),
        ("shape", [CHAINS, 10**12, 4, 2]),
        ("shape", "all"),
        ("data_type", "int64"),
        ("data_type", "float32"),
        ("data_type", "object"),
        ("data_type", "string"),
        ("codecs", [BYTES]),
        ("codecs", [BYTES, PICKLE]),
        ("codecs", [{"name": "vlen-utf8"}]),
        ("codecs", [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}]),
        ("chunk_grid.configuration.chunk_shape", [CHAINS, 5, 4, 2]),
        ("chunk_key_encoding.configuration.separator", "../"),
        ("dimension_names", ["draw", "chain", "test_point", "output"]),
        ("attributes", {"scale_factor": 2.0}),
        ("storage_transformers", [{"name": "pickle"}]),
        ("node_type", "group"),
    ],
)
def test_arrays_of_another_kind_are_named(folder, path, value):
    file = folder / STORE / "predictions" / "f" / "zarr.json"
    file.write_text(json.dumps(_with(json.loads(file.read_text()), path, value)))
    with pytest.raises(bnn.BadInput, match=f"stored results: got {file}"):
        bnn.load_run(folder)


@pytest.mark.parametrize(
    "attributes", [{"draws": 10}, {"seed": 7}, {"likelihood": 5}, {"chains": "two"}, {"more": 1}]
)
def test_attributes_of_other_values_are_named(folder, attributes):
    file = folder / STORE / "zarr.json"
    metadata = json.loads(file.read_text())
    file.write_text(json.dumps(metadata | {"attributes": metadata["attributes"] | attributes}))
    with pytest.raises(bnn.BadInput, match=f"stored results: got {file}"):
        bnn.load_run(folder)


def test_arrays_put_in_or_taken_out_are_named(folder):
    store = folder / STORE
    shutil.copytree(store / "predictions" / "f", store / "predictions" / "g")
    with pytest.raises(bnn.BadInput, match=f"{store}/predictions/g: another array than"):
        bnn.load_run(folder)
    shutil.rmtree(store / "predictions" / "g")
    shutil.rmtree(store / "predictions" / "f")
    with pytest.raises(bnn.BadInput, match=f"{store}/predictions/f/zarr.json: no such file"):
        bnn.load_run(folder)


@pytest.mark.parametrize(
    "name",
    [STORE, f"{STORE}/predictions", f"{STORE}/predictions/f/c/0/0/0/0", CHECKPOINTS, SETTINGS],
)
def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path, name):
    path, outside = folder / name, tmp_path / "outside"
    shutil.move(path, outside)
    path.symlink_to(outside)
    before = {file: file.read_bytes() for file in [outside, *outside.rglob("*")] if file.is_file()}
    for use in (bnn.load_run, bnn.resume, make_run):
        with pytest.raises(bnn.BadInput, match=f"{path}: a symbolic link"):
            use(folder)
    assert before == {file: file.read_bytes() for file in before}


def test_an_unfinished_run_has_all_draws_up_to_its_checkpoint(stopped, reference, tmp_path):
    """It was stopped before the checkpoint of its second chunk, which is made again."""
    folder = shutil.copytree(stopped, tmp_path / "run")
    first, second = files_in(folder / STORE / "predictions" / "f" / "c")
    with damaged(first, DAMAGES["deleted"]):
        with pytest.raises(bnn.BadInput, match=f"{first}: no such file"):
            bnn.load_run(folder)
        with damaged(second, DAMAGES["deleted"]):
            assert np.isnan(bnn.load_run(folder)["predictions"]["f"].values).all()
            with pytest.raises(bnn.BadInput, match=f"{first}: no such file"):
                bnn.resume(folder)
    second.unlink()
    assert_same(bnn.resume(folder), reference)


def test_a_stopped_run_goes_on_after_all(stopped, reference, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "run")
    assert_same(bnn.resume(folder), reference)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "deleted"])
def test_a_damaged_file_of_a_run_is_named(reference, tmp_path, damage):
    path = bnn.save_run(reference, tmp_path / "run.nc")
    with damaged(path, DAMAGES[damage]), pytest.raises(bnn.BadInput, match=f"run: got {path}"):
        bnn.load_run(path)
    assert_same(bnn.load_run(path), reference)


@pytest.mark.filterwarnings("ignore")  # HDF5's and xarray's, of what they cannot make sense of
@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_a_file_of_a_run_with_altered_bytes_is_as_it_was_or_named(reference, tmp_path, seed):
    path = bnn.save_run(reference, tmp_path / "run.nc")
    rng = np.random.default_rng(seed)
    whole, refused = path.read_bytes(), 0
    for place in rng.integers(len(whole) - 8, size=15):
        path.write_bytes(whole[:place] + rng.bytes(8) + whole[place + 8 :])
        try:
            run = bnn.load_run(path)
        except bnn.BadInput as error:
            assert f"run: got {path}" in str(error)  # noqa: PT017 - or it is as it was
            refused += 1
        else:
            assert_same(run, reference)
            assert run.attrs == reference.attrs
    assert refused > 3
