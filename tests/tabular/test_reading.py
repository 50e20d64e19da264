"""Tables are read as they are meant, or refused in one line that says what is wrong."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

import bnnsample as bnn
from bnnsample.tabular.kinds import as_floats, kind_of
from bnnsample.tabular.reading import column_of, listed, nearest, read_table, told_of_marks
from tests.tabular.tables import diabetes


def written(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_table_is_read_as_it_was_written(tmp_path):
    table = diabetes(30)
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), table, check_dtype=False)
    said = table.assign(smoker=table["smoker"].astype(str))
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), said, check_dtype=False)


def test_spaces_marks_and_texts_that_look_like_numbers(tmp_path):
    path = written(tmp_path, b'\xef\xbb\xbfcode, name\n007, "x, y"\nNA,z \n')
    assert read_table(path).columns.tolist() == ["code", "name"]
    assert read_table(path)["code"].tolist()[0] == 7
    table = read_table(path, text=["code", "no such column"])
    assert table["code"].tolist()[0] == "007"
    assert table["code"].tolist() == ["007", "NA"]
    assert table["name"].tolist() == ["x, y", "z"]


def test_marks_are_missing_among_numbers_and_words_of_their_own_among_texts(tmp_path):
    path = written(
        tmp_path,
        "n,wall,fence,empty,gone\n1,None,yes,,NA\nNA,Brick,NO,,\n,NA,null,,nan\n3,,yes,,\n",
    )
    table = read_table(path)
    assert table["n"].isna().tolist() == [False, True, True, False]
    assert table["n"].dtype == float
    assert table["wall"].tolist()[:3] == ["None", "Brick", "NA"]
    assert table["wall"].isna().tolist() == [False, False, False, True]
    assert as_floats(table["fence"]).tolist() == pytest.approx([1, 0, float("nan"), 1], nan_ok=True)
    assert table[["empty", "gone"]].isna().all(axis=None)
    assert {kind_of(table[name]) for name in ("n", "empty", "gone")} == {"number"}
    assert told_of_marks(table, table) == [
        "n: NA in 1 of 4 rows, taken for missing",
        "fence: null in 1 of 4 rows, taken for missing",
        "gone: NA, nan in 2 of 4 rows, taken for missing",
    ]


def test_blanks_around_texts_are_no_part_of_them(tmp_path):
    table = pd.DataFrame({"a": [" yes", "yes ", "no", "  "], "n": [1, 2, 3, 4]})
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        read = read_table(tmp_path / name)
        assert read["a"].tolist()[:3] == ["yes", "yes", "no"]
        assert read["a"].isna().tolist() == [False, False, False, True]


def test_lines_that_are_empty_are_none_and_quotes_hold_line_breaks(tmp_path):
    table = read_table(written(tmp_path, 'a,b\r\n\r\n1,"x\r\ny"\r\n\r\n2,"say ""z"""\r\n'))
    assert table["a"].tolist() == [1, 2]
    assert table["b"].tolist() == ["x\r\ny", 'say "z"']


@pytest.mark.parametrize(
    ("content", "got", "probably"),
    [
        ("", "got nothing", "truncated"),
        ("a,b\n", "no rows", "truncated"),
        ("a;b\n1;2\n", "a first line with semicolons", "semicolons"),
        ("a\tb\n1\t2\n", "a first line with tabs", "tabs"),
        ("a, in m;b\n1;2\n3;4\n", "a first line with semicolons", "semicolons"),
        ("a, in m\tb, in kg\n1\t2\n", "a first line with tabs", "tabs"),
        ("a, m;b, kg\n1,5;2,5\n2,5;3,0\n", "a first line with semicolons", "semicolons"),
        ("a,a,b\n1,2,3\n", "several columns named a;", "joined"),
        ("1,1,5\n1,2,3\n", "several columns named 1;", "without names"),
        (",a\n0,1\n", "no name for column 1 of 2", "index=False"),
        ("a,,b\n0,1,2\n", "no name for column 2 of 3", "a comma too many"),
        ("a,b\n1,2,3\n4,5,6\n", "3 cells in line 2 under 2 names", "commas but no quotes"),
        ("a,b\n1,2\n4,5,6\n", "3 cells in line 3 under 2 names", "commas but no quotes"),
        ("a,b\n1,2\n\n4\n", "1 cell in line 4 under 2 names", "a truncated copy"),
        ("a,b\n1,2\n4,\0\n", "a NUL byte in line 3", "a damaged file"),
        ('a,b\n1,"2\n4,5\n', "a cell up to line 3 whose quotes do not end", "truncated"),
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
