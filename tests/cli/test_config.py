"""``--config``: options from TOML, checked as those of the command line, which win."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

import bnnsample as bnn
from bnnsample.cli import _parser, main
from bnnsample.cli.config import with_config

RUN = """
seed = 3
[fit]
target = "price"
drop = ["id", "name"]
test = 0.25
dry_run = true
out = "from config"
[kernel]
w-std = 1
[widths]
widths = [5, 7]
noise_std = 1e-2
"""


def parsed(tmp_path: Path, toml: str, *words: str) -> Namespace:
    path = tmp_path / "run.toml"
    path.write_text(toml)
    parser, commands = _parser()
    words = tuple(str(path) if word == "CONFIG" else word for word in words)
    return parser.parse_args(with_config(words, commands))


def test_options_come_from_the_table_of_the_command(tmp_path):
    fit = parsed(tmp_path, RUN, "fit", "--config", "CONFIG", "data.csv")
    assert (fit.data, fit.target, fit.drop) == (Path("data.csv"), "price", ["id", "name"])
    assert (fit.seed, fit.test, fit.dry_run, fit.classes) == (3, 0.25, True, False)
    widths = parsed(tmp_path, RUN, "widths", "--out", "w", "--config", "CONFIG")
    assert (widths.widths, widths.noise_std, widths.seed) == ([5, 7], 0.01, 3)


def test_the_command_line_wins(tmp_path):
    words = ["fit", "data.csv", "--config", "CONFIG", "--seed=9", "--drop", "row"]
    fit = parsed(tmp_path, RUN, *words, "--out", "mine")
    assert (fit.seed, fit.drop, fit.out, fit.target) == (9, ["row"], Path("mine"), "price")


def test_the_table_of_a_command_wins_over_what_is_outside(tmp_path):
    toml = 'seed = 1\ntarget = "y"\nout = "o"\n[fit]\nseed = 2\n'
    assert parsed(tmp_path, toml, "fit", "d.csv", "--config", "CONFIG").seed == 2


def test_columns_may_be_named_like_numbers_and_options(tmp_path):
    for drop, columns in (('"2020"', ["2020"]), ("['--id', 'a', -1]", ["--id", "a", "-1"])):
        toml = f'target = "-1"\nout = "o"\ndrop = {drop}'
        fit = parsed(tmp_path, toml, "fit", "d.csv", "--config", "CONFIG")
        assert (fit.target, fit.drop) == ("-1", columns)


def test_without_the_option_words_are_as_they_were():
    _, commands = _parser()
    for words in (["fit", "d.csv"], [], ["--help"], ["nonsense", "--config", "x"]):
        assert with_config(words, commands) == words


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[fit]\nwitdh = 3", "--config: got witdh in .*; expected an option of fit; .*'width' was"),
        ("[fti]\nwidth = 3", r"got a table \[fti\] in .*'fit' was meant"),
        ("size = 3", "got size in .*expected an option of fit"),
        ("config = 'x'", "got config in"),
        ("[fit]\nwidth = true", "--config, width: got True; expected a number or a text"),
        ("[fit]\nwidth = [3]", r"--config, width: got \[3\]"),
        ("[fit]\nclasses = 'yes'", "--config, classes: got 'yes'; expected true or false"),
        ("[fit]\ndrop = [[1]]", "--config, drop: got"),
        ("[fit]\nwidth = 2020-01-01", "--config, width: got datetime"),
        (
            "data = 'd.csv'",
            "got data in .*probably DATA, which is typed: bnnsample fit DATA --conf",
        ),
        ("[fit]\nDATA = 'd.csv'", "got DATA in .*which is typed"),
        ("width : 3", "run.toml, which cannot be read"),
    ],
)
def test_what_is_no_option_is_refused(toml, message, tmp_path):
    with pytest.raises(bnn.BadInput, match=message):
        parsed(tmp_path, toml, "fit", "d.csv", "--config", "CONFIG")


def test_a_config_that_is_not_there_or_not_of_the_type_ends_with_status_2(tmp_path, capsys):
    assert main(["fit", "d.csv", "--config", str(tmp_path / "none.toml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "run.toml").write_text("[fit]\nwidth = 'wide'")
    assert main(["fit", "d.csv", "--config", str(tmp_path / "run.toml")]) == 2
    assert "argument --width: invalid int value: 'wide'" in capsys.readouterr().err
    assert main(["fit", "d.csv", "--config"]) == 2
    assert capsys.readouterr().err.count("--config: expected one argument") == 1


def test_every_command_with_options_has_it_and_none_takes_abbreviations(capsys):
    _, commands = _parser()
    with_it = {name for name, one in commands.items() if "--config" in one.format_help()}
    assert with_it == set(commands) - {"completion"}
    assert main(["diagnose", "run", "--jso"]) == 2
    assert "got the option --jso; " in capsys.readouterr().err
