"""An output folder holds one experiment, and its record is JSON that anything can read."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from bnnsample.reports.folder import RECORD, check_folder, write_record, write_table

SETTINGS = {"data": "digits", "widths": (3, 7), "noise_std": 0.1, "seed": 0}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_refused(folder: Path, words: str, settings: dict | None = None) -> None:
    """The folder is refused with the three parts of an error, and nothing in it changes."""
    before = contents(folder) if folder.is_dir() else folder.read_bytes()
    with pytest.raises(ValueError, match=words) as caught:
        check_folder(folder, SETTINGS if settings is None else settings)
    for part in ("out: got ", "; expected ", "; probably "):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before == (contents(folder) if folder.is_dir() else folder.read_bytes())


def test_a_new_folder_is_accepted_and_not_made(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "deeper", SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_accepted(tmp_path: Path) -> None:
    check_folder(tmp_path, SETTINGS)


def test_the_same_settings_are_accepted_as_tuples_lists_and_in_any_order(tmp_path: Path) -> None:
    write_record(tmp_path, {"settings": SETTINGS, "status": "unfinished"})
    check_folder(tmp_path, SETTINGS)
    check_folder(tmp_path, dict(reversed(SETTINGS.items())) | {"widths": [3, 7]})


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 1), ("widths", (7, 3)), ("widths", (3,)), ("noise_std", 0.2), ("data", "diabetes")],
)
def test_other_settings_are_refused_with_both_values(
    tmp_path: Path, name: str, value: object
) -> None:
    write_record(tmp_path, {"settings": SETTINGS})
    assert_refused(tmp_path, name, SETTINGS | {name: value})
    with pytest.raises(ValueError, match="got") as caught:
        check_folder(tmp_path, SETTINGS | {name: value})
    got, expected = str(caught.value).split("; expected ")
    assert repr(json.loads(json.dumps(SETTINGS[name]))) in got
    assert repr(json.loads(json.dumps(value))) in expected
    unchanged = next(key for key in SETTINGS if key not in (name, "data"))
    assert unchanged not in str(caught.value).replace(str(tmp_path), "")


def test_a_setting_that_the_record_lacks_is_refused(tmp_path: Path) -> None:
    write_record(tmp_path, {"settings": {k: v for k, v in SETTINGS.items() if k != "seed"}})
    assert_refused(tmp_path, "seed None")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert_refused(tmp_path, "holds something else")


def test_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "results"
    file.write_text("not a folder")
    assert_refused(file, "is a file")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"settings": ',
        b"[]",
        b"3",
        b"{}",
        b'{"settings": null}',
        b'{"settings": [1, 2]}',
        b'{"settings": "digits"}',
        b'{"settings": "\x80"}',
    ],
)
def test_a_broken_record_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / RECORD).write_bytes(text)
    assert_refused(tmp_path, "cannot be read")


def test_a_record_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out" / RECORD).mkdir(parents=True)
    with pytest.raises(ValueError, match="cannot be read"):
        check_folder(tmp_path / "out", SETTINGS)


def test_the_record_has_null_for_numbers_that_are_not_finite(tmp_path: Path) -> None:
    record = {
        "finite": 0.1,
        "nan": math.nan,
        "nested": {"list": [1.5, math.inf, {"deep": -math.inf}], "tuple": (math.nan, 2)},
        "text": "NaN",
        "flag": True,
        "none": None,
    }
    write_record(tmp_path, record)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / RECORD).read_text()
    assert json.loads(text, parse_constant=refuse) == {
        "finite": 0.1,
        "nan": None,
        "nested": {"list": [1.5, None, {"deep": None}], "tuple": [None, 2]},
        "text": "NaN",
        "flag": True,
        "none": None,
    }
    assert text.endswith("}\n")


def test_a_record_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path) -> None:
    write_record(tmp_path, {"settings": SETTINGS})
    before = contents(tmp_path)
    with pytest.raises(TypeError):
        write_record(tmp_path, {"settings": object()})
    assert contents(tmp_path) == before


def test_the_table_reads_back_with_awkward_text(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = [
        {"width": 3, "target": 'a, "quoted"\nname', "ess": 0.1 + 0.2, "z": None},
        {"width": 7, "target": "marginal", "ess": math.nan, "z": 1.5},
    ]
    write_table(path, rows)
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["width"] for row in found] == ["3", "7"]
    assert found[0]["target"] == rows[0]["target"]
    assert float(found[0]["ess"]) == rows[0]["ess"]
    assert found[0]["z"] == ""
    assert math.isnan(float(found[1]["ess"]))


def test_a_table_whose_rows_differ_in_columns_leaves_the_earlier_one(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", [{"a": 1}])
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="'b'"):
        write_table(tmp_path / "table.csv", [{"a": 2}, {"a": 3, "b": 4}])
    assert contents(tmp_path) == before
