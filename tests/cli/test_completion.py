"""Completion scripts are what their shells accept, and complete commands, options and paths."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from bnnsample.cli import _parser, main
from bnnsample.cli.completion import SHELLS


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_name_every_command(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    _, commands = _parser()
    assert {"fit", "predict", "report", "compare", "resume", "validate", "kernel", "widths"} <= set(
        commands
    )
    for command in commands:
        assert command in script
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_other_shells_are_refused_in_a_line(capsys):
    assert main(["completion", "fish"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: argument shell: invalid choice: 'fish'")
    assert all(shell in error for shell in SHELLS)
    assert error.count("\n") == 1


def completed(script: str, words: str, folder: str) -> set[str]:
    """What bash would offer for the last of ``words``."""
    ask = f"""
cd {folder}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
[ "{words[-1]}" = " " ] && COMP_WORDS+=("") && COMP_CWORD=$((COMP_CWORD + 1))
COMP_LINE="{words}"; COMP_POINT=${{#COMP_LINE}}
_shtab_bnnsample bnnsample "${{COMP_WORDS[COMP_CWORD]}}" ""
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash"], input=script + ask, text=True, capture_output=True, check=True)
    return {word.strip() for word in done.stdout.split()}


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes_commands_options_and_paths(tmp_path, capsys):
    main(["completion", "bash"])
    script = capsys.readouterr().out
    (tmp_path / "table.csv").write_text("a\n")
    (tmp_path / "folder").mkdir()
    assert "predict" in completed(script, "bnnsample pre", str(tmp_path))
    assert "--target" in completed(script, "bnnsample fit --ta", str(tmp_path))
    assert "table.csv" in completed(script, "bnnsample fit ta", str(tmp_path))
    folders = completed(script, "bnnsample fit --out f", str(tmp_path))
    assert any(word.startswith("folder") for word in folders)
    assert not completed(script, "bnnsample fit --out ta", str(tmp_path))
