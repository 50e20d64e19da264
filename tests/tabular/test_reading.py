"""Tables are read as they are meant, or refused in one line that says what is wrong."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

import bnnsample as bnn
from bnnsample.tabular.reading import column_of, listed, nearest, read_table
from tests.tabular.tables import diabetes


def written(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_table_is_read_as_it_was_written(tmp_path):
    table = diabetes(30)
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        pd.testing.assert_frame_equal(read_table(tmp_path / name), table, check_dtype=False)


def test_spaces_marks_and_texts_that_look_like_numbers(tmp_path):
    path = written(tmp_path, b'\xef\xbb\xbfcode, name\n007, "x, y"\nNA,z\n')
    assert read_table(path).columns.tolist() == ["code", "name"]
    assert read_table(path)["code"].tolist()[0] == 7
    table = read_table(path, text=["code", "no such column"])
    assert table["code"].tolist()[0] == "007"
    assert table["code"].isna().tolist() == [False, True]
    assert table["name"].tolist() == ["x, y", "z"]


@pytest.mark.parametrize(
    ("content", "got", "probably"),
    [
        ("", "No columns to parse", "another file"),
        ("a,b\n", "no rows", "truncated"),
        ("a;b\n1;2\n", "one column, named 'a;b'", "semicolons"),
        ("a\tb\n1\t2\n", "one column", "tabs"),
        ("a,a,b\n1,2,3\n", "several columns named a;", "joined"),
        ("1,1,5\n1,2,3\n", "several columns named 1;", "without names"),
        (",a\n0,1\n", "no name for column 1 of 2", "index=False"),
        ("a,,b\n0,1,2\n", "no name for column 2 of 3", "a comma too many"),
        ("a,b\n1,2,3\n4,5,6\n", "Length of header", "commas but no quotes"),
        ("a,b\n1,2\n4,5,6\n", "Expected 2 fields in line 3, saw 3", "commas but no quotes"),
        ('a,b\n1,"2\n4,5\n', "EOF inside string", "truncated"),
        ("a,b\nvoilà,1\n".encode("latin1"), "bytes that are not UTF-8", "another encoding"),
        (b"\x1f\x8b\x08\x00junk", "bytes that are not UTF-8", "another kind of file"),
    ],
)
def test_what_is_no_table_is_refused(content, got, probably, tmp_path):
    path = written(tmp_path, content)
    with pytest.raises(bnn.BadInput) as error:
        read_table(path)
    text = str(error.value)
    assert text.startswith(f"{path}: got ")
    assert got in text
    assert probably in text
    assert "\n" not in text


def test_what_is_no_parquet_is_refused(tmp_path):
    path = written(tmp_path, "a,b\n1,2\n", "t.parquet")
    with pytest.raises(bnn.BadInput, match="expected a CSV file"):
        read_table(path)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(bnn.BadInput, match=r"pip install 'bnnsample\[parquet\]'"):
        read_table(written(tmp_path, "", "t.parquet"))


def test_an_index_with_a_name_is_a_column(tmp_path):
    pd.DataFrame({"a": [1, 2]}, index=pd.Index([5, 7], name="key")).to_parquet(tmp_path / "t.pq")
    assert read_table(tmp_path / "t.pq")["key"].tolist() == [5, 7]
    pd.DataFrame({"a": [1, 2]}, index=[5, 7]).to_parquet(tmp_path / "u.pq")
    assert read_table(tmp_path / "u.pq").columns.tolist() == ["a"]


def test_a_column_that_is_not_there_is_refused_with_the_nearest():
    table = pd.DataFrame({"price": [1], "rooms": [2]})
    assert column_of(table, "rooms", asked_by="--target").tolist() == [2]
    with pytest.raises(bnn.BadInput, match=r"--target: got 'prize'.*'price' was meant"):
        column_of(table, "prize", asked_by="--target")
    assert nearest("zzz", table.columns, otherwise="nothing") == "nothing"


def test_of_many_names_the_first_are_told():
    assert listed("ab") == "a, b"
    assert listed(range(14)).endswith("10, 11 and 2 more")
