"""Wheel and sdist have what users need and no more, and the wheel works where nothing else is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

QUICKSTART = """
from pathlib import Path
import bnnsample as bnn

assert not Path(bnn.__file__).is_relative_to({root!r}), bnn.__file__
data = bnn.load("diabetes", train=10, test=5)
posterior = bnn.Posterior(bnn.fcn(1, 8, 1), data.x_train, data.y_train, bnn.Gaussian(0.5))
run = bnn.sample(posterior, chains=2, warmup=10, draws=10, x_test=data.x_test)
print(run["predictions"]["f"].shape, bnn.report(run, "page"))
"""


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_version_is_the_same_everywhere() -> None:
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation
    assert newest
    assert citation[1] == newest[1] == VERSION


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of wheel and sdist, built by ``make dist``'s command from a copy of the source."""
    source = tmp_path_factory.mktemp("dist") / "source"
    left_out = shutil.ignore_patterns(".*", "results", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=left_out)
    run(sys.executable, "-m", "build", cwd=source)
    return source / "dist"


@pytest.mark.slow
def test_the_wheel_has_code_types_template_and_licence(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    about = f"bnnsample-{VERSION}.dist-info"
    assert wheel.name == f"bnnsample-{VERSION}-py3-none-any.whl"
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "bnnsample").rglob("*.py")}
    assert source <= names
    assert {
        "bnnsample/py.typed", "bnnsample/reports/page.html.j2", f"{about}/licenses/LICENSE",
    } <= names  # fmt: skip
    assert {name.split("/")[0] for name in names} == {"bnnsample", about}


@pytest.mark.slow
def test_the_sdist_builds_the_same_and_has_no_tests(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml",
        "bnnsample/py.typed", "bnnsample/reports/page.html.j2",
    } <= names  # fmt: skip
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"bnnsample", "bnnsample.egg-info"}


@pytest.mark.slow
def test_the_wheel_installs_where_nothing_is_and_samples(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--constraint", ROOT / "constraints.txt", wheel,
        cwd=tmp_path)  # fmt: skip
    printed = run(python, "-W", "error", "-c", QUICKSTART.format(root=str(ROOT)), cwd=tmp_path)
    assert "(2, 10, 5, 1)" in printed
    assert "<html" in (tmp_path / "page" / "report.html").read_text()
    assert VERSION in run(python, "-m", "pip", "show", "bnnsample", cwd=tmp_path)
    assert "usage" in run(tmp_path / "venv" / "bin" / "bnnsample", "--help", cwd=tmp_path).lower()
