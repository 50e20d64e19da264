"""Columns become the numbers that scikit-learn's transformers make of them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import bnnsample as bnn
from bnnsample.tabular.encoding import Encoding
from bnnsample.tabular.kinds import as_text
from bnnsample.tabular.learning import MOST_VALUES, learn, row_numbers
from tests.tabular.tables import diabetes

NUMBERS = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]


def oracle(train: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """The same by scikit-learn: numbers, the mark of missing ones, one-hot texts, yes and no."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    marks = SimpleImputer(strategy="median", add_indicator=True)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    made = make_column_transformer(
        (numbers, NUMBERS), (marks, ["bmi"]), (one_hot, ["region"]), ("passthrough", ["smoker"])
    ).fit(train)
    found = np.asarray(made.transform(table), float)
    columns = [0, 1, 2, 11, *range(3, 10), *range(12, found.shape[1])]  # bmi's mark after it
    return found[:, columns]


@pytest.fixture
def table() -> pd.DataFrame:
    return diabetes(120).drop(columns="progression")


def test_it_is_what_scikit_learn_makes(table):
    train, test = table.iloc[:90], table.iloc[90:]
    encoding = learn(train)
    for rows in (train, test):
        np.testing.assert_allclose(
            encoding.encoded(rows), oracle(train, rows), rtol=1e-12, atol=1e-12
        )
    assert encoding.features == (
        "age", "sex", "bmi", "bmi missing", *NUMBERS[3:], "region = north", "region = south",
        "region = west", "region = missing", "smoker",
    )  # fmt: skip
    assert encoding.left_out == {"study": "one value in all rows"}


def test_a_constant_with_empty_cells_is_in_units_of_1(table):
    table["cell"] = np.where(np.arange(len(table)) % 3, 0.1, np.nan)
    assert table["cell"].std() > 0  # by rounding
    encoding = learn(table)
    changed = table.iloc[:4].assign(cell=[0.1, 0.2, -0.4, np.nan])
    cells = encoding.encoded(changed)[:, encoding.features.index("cell")]
    np.testing.assert_allclose(cells, [0, 0.1, -0.5, 0], atol=1e-15)


def test_labels_of_some_rows_are_written_as_those_of_all():
    whole = pd.Series([1.0, 2.5, 3.0, -0.0, np.nan])
    assert list(as_text(whole).dropna()) == ["1", "2.5", "3", "0"]
    for part in (slice(0, 1), slice(2, 5), slice(1, 3)):
        pd.testing.assert_series_equal(as_text(whole[part]), as_text(whole)[part])


def test_it_goes_through_json_and_takes_columns_in_any_order(table):
    encoding = learn(table)
    again = Encoding.of_dict(json.loads(json.dumps(encoding.as_dict())))
    assert again == encoding
    shuffled = table[table.columns[::-1]].assign(other=1)
    np.testing.assert_array_equal(again.encoded(shuffled), encoding.encoded(table))


def test_it_says_what_it_does(table):
    missing = int(table["bmi"].isna().sum())
    said = "\n".join(learn(table).sentences())
    assert "numbers, standardised: age, sex, bmi" in said
    assert "yes or no, as 1 and 0: smoker" in said
    assert f"missing values of bmi: {missing}, filled with the median" in said
    assert "region (north, south, west; " in said
    assert "left out: study (one value in all rows)" in said


def test_unknown_and_missing_values_of_new_rows_are_told(table):
    encoding = learn(table)
    rows = table.iloc[:3].copy()
    rows.loc[rows.index[0], "region"] = "east"
    rows["age"] = [np.nan, 0.0, 0.0]
    assert encoding.told(table.drop(columns="bmi").assign(bmi=0.0, region="north")) == []
    told = "\n".join(encoding.told(rows))
    assert "region: 1 value that the training rows have not (east), 0 in all columns" in told
    assert "age: 1 missing value, filled with the median" in told
    x = encoding.encoded(rows)
    regions = [n.startswith("region") for n in encoding.features]
    np.testing.assert_array_equal(x[0, regions], 0.0)
    assert x[:, 0] == pytest.approx(oracle(table, rows)[:, 0])


def test_columns_of_another_kind_and_wanting_ones_are_refused(table):
    encoding = learn(table)
    with pytest.raises(bnn.BadInput, match="got no column bp, s1; expected the columns"):
        encoding.encoded(table.drop(columns=["bp", "s1"]))
    with pytest.raises(bnn.BadInput, match="column age: got text; expected numbers"):
        encoding.encoded(table.assign(age="old"))
    with pytest.raises(bnn.BadInput, match="column age: got inf in row 1"):
        encoding.encoded(table.assign(age=np.inf))


@pytest.mark.parametrize(
    ("column", "got", "advice"),
    [
        ([f"person {i}" for i in range(40)], "text of 40 different values", "--drop new"),
        ([*map(str, range(39)), "?"], "numbers and texts, '?'", "leave the cell empty"),
        (pd.date_range("2020-01-01", periods=40), "dates", "--drop new"),
        ([[i] for i in range(40)], "type list", "--drop new"),
        ([1j * i for i in range(40)], "complex numbers", "--drop new"),
    ],
)
def test_what_no_number_stands_for_is_refused_with_advice(column, got, advice):
    table = pd.DataFrame({"good": np.arange(40.0) ** 2, "new": column})
    with pytest.raises(bnn.BadInput) as error:
        learn(table)
    assert f"got {got}" in str(error.value)
    assert advice in str(error.value)
    assert learn(table[["good"]]).features == ("good",)


def test_all_bad_columns_are_named_at_once():
    names = [f"name {i}" for i in range(30)]
    table = pd.DataFrame({"who is it": names, "when": pd.date_range("2020-01-01", periods=30)})
    with pytest.raises(bnn.BadInput, match="columns who is it, when: .*--drop 'who is it' when"):
        learn(table)


def test_as_many_different_texts_as_allowed_and_one_more():
    texts = [f"t{i:02}" for i in range(MOST_VALUES)]
    assert len(learn(pd.DataFrame({"a": texts})).features) == MOST_VALUES
    with pytest.raises(bnn.BadInput, match=f"text of {MOST_VALUES + 1} different values"):
        learn(pd.DataFrame({"a": [*texts, "one more"]}))


def test_columns_with_one_value_are_left_out_unless_some_are_missing():
    table = pd.DataFrame({"a": [1, 2, 3], "none": [np.nan] * 3, "same": ["x"] * 3})
    assert learn(table).left_out == {"none": "no value", "same": "one value in all rows"}
    some = learn(table.assign(same=[5, np.nan, 5])[["same"]])
    np.testing.assert_array_equal(
        some.encoded(pd.DataFrame({"same": [5, np.nan]})), [[0, 0], [0, 1]]
    )
    with pytest.raises(bnn.BadInput, match="no column to learn from"):
        learn(table[["none", "same"]])


@pytest.mark.parametrize(
    "column",
    [
        pd.array([True, None, False], dtype="boolean"),
        [True, None, False],
        pd.array([1, None, 0], dtype="Int64"),
        [1.0, None, 0.0],
    ],
)
def test_missing_values_in_any_type(column):
    encoding = learn(pd.DataFrame({"a": column}))
    x = encoding.encoded(pd.DataFrame({"a": column}))
    np.testing.assert_array_equal(x[:, 1], [0, 1, 0])
    assert x[0, 0] > x[1, 0] > x[2, 0]


def test_texts_of_categories_and_numbers_as_texts():
    encoding = learn(pd.DataFrame({"a": pd.Categorical(["1", "x", "1"])}))
    same = pd.DataFrame({"a": [1, 2, 1]}), pd.DataFrame({"a": [1.0, np.nan, 1.0]})
    for table in same:
        np.testing.assert_array_equal(encoding.encoded(table)[:, 0], [1, 0, 1])


def test_columns_like_row_numbers_are_named():
    table = pd.DataFrame({"row": range(20), "year": [1990, 1991] * 10, "x": np.arange(20) / 3})
    assert list(row_numbers(table)) == ["row"]
    assert list(row_numbers(table.sample(frac=1, random_state=0))) == []


@pytest.mark.parametrize(
    ("words", "as_numbers"),
    [
        (["yes", "No", "YES", "no"], [1, 0, 1, 0]),
        (["true", "False", "TRUE", "true"], [1, 0, 1, 1]),
        (["yes", None, "no", "no"], [1, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("dtype", ["str", object, "category"])
def test_yes_and_no_are_1_and_0_in_any_case(words, as_numbers, dtype):
    table = pd.DataFrame({"fence": pd.Series(words, dtype=dtype)})
    encoding = learn(table)
    assert encoding.features[0] == "fence"
    assert encoding.sentences()[0] == "yes or no, as 1 and 0: fence"
    np.testing.assert_array_equal(encoding.encoded(table)[:, 0], as_numbers)
    new = pd.DataFrame({"fence": ["yes", "perhaps", "yes"]})
    assert encoding.encoded(new)[:, 0].tolist()[::2] == [1, 1]
    assert "fence: 1 missing or unknown value, filled with the median" in encoding.told(new)[0]


def test_other_words_and_words_of_both_kinds_are_texts():
    for words in (["yes", "no", "unknown"], ["yes", "false", "no"], ["y", "n", "y"]):
        assert len(learn(pd.DataFrame({"a": words})).features) == len(set(words))
    assert learn(pd.DataFrame({"a": ["yes", "Yes"], "b": [1, 2]})).left_out == {
        "a": "one value in all rows"
    }
