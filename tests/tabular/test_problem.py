"""Rows are split, targets standardised or numbered, and the folder of a fit is read as written."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pandas as pd
import pytest

import bnnsample as bnn
from bnnsample.diagnostics.quality.quality import quality
from bnnsample.tabular.fits import (
    TABLE,
    check_free_for,
    claimed_for,
    fit_of,
    read_fit,
    run_at,
    write_fit,
)
from bnnsample.tabular.problem import Settings, pose
from tests.conftest import X64
from tests.tabular.tables import diabetes, wine

pytestmark = pytest.mark.skipif(not X64, reason="tables are fitted in float64")


def test_rows_are_split_by_the_seed_and_statistics_are_of_the_training_rows():
    table = diabetes(100)
    posed = pose(table, Settings("progression", test=0.2))
    assert (posed.x.shape, posed.x_test.shape) == ((80, 16), (20, 16))
    train = table.drop(index=posed.held_out.index)["progression"].to_numpy()
    assert posed.target.mean == pytest.approx(train.mean())
    np.testing.assert_allclose(posed.y[:, 0], (train - train.mean()) / train.std())
    again, other = (pose(table, Settings("progression", test=0.2, seed=s)) for s in (0, 1))
    assert posed.held_out.equals(again.held_out)
    assert not posed.held_out.index.equals(other.held_out.index)


def test_nothing_is_held_out_if_asked_for_and_rows_without_target_are_dropped():
    table = diabetes(60)
    table.loc[:6, "progression"] = np.nan
    posed = pose(table, Settings("progression", test=0.0))
    assert len(posed.x) == len(posed.x_test) == 53
    assert posed.held_out.empty
    assert "rows without progression, left out: 7" in posed.sentences
    assert fit_of(posed, "").y_test is None


def test_a_target_of_one_value_in_the_training_rows_is_refused_by_it():
    table = diabetes(60)
    held_out = pose(table, Settings("progression", test=0.2)).held_out.index
    table["progression"] = 0.1
    table.loc[held_out[0], "progression"] = 99.0
    with pytest.raises(ValueError, match=r"got 0\.1 in all training rows"):
        pose(table, Settings("progression", test=0.2))


def test_rows_are_named_by_their_place_in_the_table():
    table = diabetes(60)
    table.loc[:6, "progression"] = np.nan
    table.loc[51, "s3"] = np.inf
    for test in (0.0, 0.2):
        with pytest.raises(ValueError, match="column s3: got inf in row 52"):
            pose(table, Settings("progression", test=test, seed=1))


@pytest.mark.parametrize("name", ["self", "axis", "to predict"])
def test_a_column_may_have_any_name(name):
    table = diabetes(60)
    expected = pose(table, Settings("progression"))
    posed = pose(table.rename(columns={"progression": name}), Settings(name))
    np.testing.assert_array_equal(posed.y, expected.y)
    np.testing.assert_array_equal(posed.x, expected.x)


def test_labels_are_numbered_in_the_order_of_their_names():
    posed = pose(wine(60), Settings("grape", classes=True, drop=("ash",)))
    assert posed.target.classes == ("barbera", "barolo", "grignolino")
    assert set(posed.y.ravel()) == {0.0, 1.0, 2.0}
    assert "ash" not in posed.encoding.features
    y_test = fit_of(posed, "").y_test
    assert y_test is not None
    assert [posed.target.classes[int(n)] for n in y_test[:, 0]] == posed.held_out.tolist()
    numbers = wine(60).assign(grape=lambda t: (t["grape"] == "barolo").astype(float))
    assert pose(numbers, Settings("grape", classes=True)).target.classes == ("0", "1")


def test_few_whole_numbers_are_told_to_be_labels_perhaps():
    table = wine(60).assign(grape=lambda t: (t["grape"] == "barolo").astype(int))
    assert any("add --classes" in s for s in pose(table, Settings("grape")).sentences)
    halves = pose(table.assign(grape=table["grape"] / 2), Settings("grape"))
    assert not any("--classes" in s for s in halves.sentences)


def test_labels_that_look_like_missing_ones_stay_and_are_told():
    table = wine(60).replace({"grape": {"barolo": "None"}})
    posed = pose(table, Settings("grape", classes=True))
    assert posed.target.classes == ("None", "barbera", "grignolino")
    assert any("grape has the label None: " in sentence for sentence in posed.sentences)
    plain = pose(wine(60), Settings("grape", classes=True)).sentences
    assert not any("leave the cell empty" in sentence for sentence in plain)


@pytest.mark.parametrize("seed", range(5))
def test_copies_of_a_row_are_told_and_stay_on_one_side_of_the_split(seed):
    table = diabetes(80)
    copied = pd.concat([table, table.iloc[:30], table.iloc[:10]], ignore_index=True)
    settings = Settings("progression", test=0.3, seed=seed)
    posed = pose(copied, settings)
    told = [sentence for sentence in posed.sentences if "repeat another" in sentence]
    assert "rows that repeat another exactly, in inputs and target: 40," in told[0]
    held_out = set(posed.held_out)
    train = set(copied.drop(index=posed.held_out.index)["progression"])
    shared = set(table["progression"][~table["progression"].duplicated(keep=False)])
    assert not held_out & train & shared
    assert 36 <= len(posed.held_out) <= 38
    # negative control: by rows alone copies are on both sides
    order = np.random.default_rng(seed).permutation(120)
    by_rows = copied["progression"].to_numpy()[order]
    assert set(by_rows[:36]) & set(by_rows[36:]) & shared
    assert not any("repeat" in sentence for sentence in pose(table, settings).sentences)


def test_a_table_of_copies_alone_has_no_noise_to_learn():
    table = diabetes(40)
    twice = pd.concat([table, table], ignore_index=True)
    with pytest.raises(bnn.BadInput, match=r"copies of 36, none of which is .*drop_duplicates\(\)"):
        pose(twice, Settings("progression"))
    single = pd.concat([twice, table.iloc[:1].assign(age=0.5)], ignore_index=True)
    assert len(pose(single, Settings("progression", test=0)).x) == 81
    # inputs with two targets say what the noise is
    noisy = pd.concat([twice, twice.assign(progression=twice["progression"] + 5)])
    assert len(pose(noisy, Settings("progression")).x)
    labels = pd.concat([wine(40), wine(40)], ignore_index=True)
    assert len(pose(labels, Settings("grape", classes=True)).x)


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({"target": "progress"}, {}, "--target: got 'progress'.*'progression' was meant"),
        ({"drop": ("bnp",)}, {}, "--drop: got 'bnp'"),
        ({"target": "region"}, {}, "target region: got text; .*add --classes"),
        ({"target": "study"}, {"study": 4}, "target study: got 4 in all training rows"),
        ({"target": "study", "classes": True}, {}, "target study: got 1 different label;"),
        ({"target": "age", "classes": True}, {"age": range(60)}, "got 60 different labels; .*out"),
        ({"target": "age"}, {"age": np.inf}, "column age: got inf"),
        ({"target": "age"}, {"age": np.nan}, "target age: got 0 rows with a value"),
        ({"test": 0.99}, {}, "test: got 0.99, 59 of 60 rows"),
    ],
)
def test_what_cannot_be_posed_is_refused(settings, change, message):
    with pytest.raises(bnn.BadInput, match=message):
        pose(diabetes(60).assign(**change), Settings(**{"target": "progression"} | settings))


@pytest.mark.parametrize(
    "setting",
    [{"test": 1.0}, {"test": -0.1}, {"test": float("nan")}, {"width": 0}, {"depth": 0},
     {"chains": 0}, {"warmup": 0}, {"seed": -1}],
)  # fmt: skip
def test_settings_that_cannot_be_run_are_refused_at_once(setting):
    with pytest.raises(bnn.BadInput, match=f"{next(iter(setting))}: got"):
        Settings("progression", **setting)


@pytest.mark.parametrize(
    ("table", "settings"),
    [(diabetes(40), Settings("progression", drop=("s1",))), (wine(40), Settings("grape", True))],
)
def test_a_fit_is_read_as_it_was_written(table, settings, tmp_path):
    fit = fit_of(pose(table, settings), "digest")
    write_fit(tmp_path / "new" / "fit", fit)
    again = read_fit(tmp_path / "new" / "fit")
    assert again == fit
    np.testing.assert_array_equal(again.y_test, fit.y_test)
    assert run_at(tmp_path / "new" / "fit").name == "run"
    assert run_at(tmp_path) == tmp_path


def test_a_fit_that_was_altered_is_refused(tmp_path):
    write_fit(tmp_path, fit_of(pose(diabetes(40), Settings("progression")), "digest"))
    text = (tmp_path / TABLE).read_text()
    stored = json.loads(text)
    stored["content"]["encoding"]["columns"][0]["median"] += 1
    for changed in (json.dumps(stored), text[:50], "[]", "{}", '{"sha256": 1, "content": 2}'):
        (tmp_path / TABLE).write_text(changed)
        with pytest.raises(bnn.BadInput, match=f"{TABLE}: "):
            read_fit(tmp_path)
    with pytest.raises(FileNotFoundError, match="no fit in"):
        read_fit(tmp_path / "none")


def test_a_folder_is_for_one_table_and_its_settings(tmp_path):
    fit = fit_of(pose(diabetes(40), Settings("progression")), "digest")
    check_free_for(tmp_path, fit)
    write_fit(tmp_path, fit)
    check_free_for(tmp_path, fit)
    wider = dataclasses.replace(fit, settings=Settings("progression", width=7, seed=2))
    with pytest.raises(bnn.BadInput, match="a fit with width 100; seed 0; expected width 7; seed"):
        check_free_for(tmp_path, wider)
    with pytest.raises(bnn.BadInput, match="other data"):
        check_free_for(tmp_path, dataclasses.replace(fit, data="other"))
    (tmp_path / TABLE).rename(tmp_path / "notes.txt")
    with pytest.raises(bnn.BadInput, match="which holds something else"):
        check_free_for(tmp_path, fit)


def test_a_fit_that_goes_on_stays_as_it_was_written(tmp_path):
    fit = fit_of(pose(diabetes(40), Settings("progression")), "digest")
    with claimed_for(tmp_path, fit):
        pass
    rounded_otherwise = dataclasses.replace(fit, rows="as another NumPy rounds")
    with claimed_for(tmp_path, rounded_otherwise):
        pass
    assert read_fit(tmp_path).rows == fit.rows


def test_a_folder_has_one_fit_at_a_time(tmp_path):
    fit = fit_of(pose(diabetes(40), Settings("progression")), "digest")
    other = fit_of(pose(diabetes(40), Settings("progression", seed=1)), "digest")
    assert fit.rows != other.rows
    check_free_for(tmp_path / "fit", other)
    with claimed_for(tmp_path / "fit", fit):
        with (
            pytest.raises(bnn.BadInput, match="to which another process is fitting"),
            claimed_for(tmp_path / "fit", fit),
        ):
            pass
        with (
            pytest.raises(bnn.BadInput, match="a fit with seed 0; expected seed 1"),
            claimed_for(tmp_path / "fit", other),
        ):
            pass
    with claimed_for(tmp_path / "fit", fit):
        assert read_fit(tmp_path / "fit") == fit


def test_scores_in_units_are_those_of_targets_in_units():
    table = pd.DataFrame({"x": np.linspace(-1, 1, 40), "y": 300 + 50 * np.linspace(-1, 1, 40) ** 3})
    posed = pose(table, Settings("y", test=0.3))
    scale = posed.target.std
    f = np.random.default_rng(0).standard_normal((60, len(posed.x_test), 1)) * 0.1 + 0.3
    y = fit_of(posed, "").y_test

    def scored(factor):
        law = bnn.Predictive(bnn.Gaussian(0.5 * factor), jax.numpy.asarray(factor * f))
        return quality(law, factor * y)

    found, expected = posed.target.in_units(scored(1.0)), scored(scale)
    for name, score in expected.scores.items():
        np.testing.assert_allclose(found.scores[name], score, rtol=1e-6)
    for own, other in zip(found.intervals, expected.intervals, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6)
