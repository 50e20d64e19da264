"""What is typed wrong is told in one line, with what was probably meant."""

from __future__ import annotations

import shlex

import pytest

from bnnsample.cli import _parser, main
from bnnsample.cli.words import check_words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "the following arguments are required: COMMAND (`bnnsample --help` tells more)"),
        ("widths", "the following arguments are required: --out (`bnnsample widths --help` tells"),
        ("wdths", "COMMAND: got 'wdths'; expected one of fit, predict, "),
        ("wdths", "'widths' was meant"),
        ("widths --draws many --out o", "argument --draws: invalid int value: 'many'"),
        ("fit d.csv --taget y --out o", "bnnsample fit: got the option --taget; expected one of "),
        ("fit d.csv --taget y", "probably '--target' or '--test' was meant"),
        ("fit d.csv --taget=y", "probably '--target' or '--test' was meant"),
        ("fit d.csv -o y", "got the option -o;"),
        ("fit d.csv e.csv --target y --out o", "unrecognized arguments: e.csv"),
        ("--out o fit", "argument COMMAND: invalid choice: 'o'"),
    ],
)
def test_words_that_do_not_parse_are_told_in_one_line_with_status_2(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert told in error


def test_words_like_options_are_values_where_they_can_be() -> None:
    _, commands = _parser()
    for words in ("fit d.csv --target=--y --drop=-z", "fit --target y -- --d.csv", "fit -h", "-h"):
        check_words(shlex.split(words), commands)
    check_words(["fit", "d.csv", "--drop", "-1", "--y of x"], commands)
