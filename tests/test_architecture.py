"""The package is built as its design says: one direction, one place for each choice."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bnnsample

ROOT = Path(bnnsample.__file__).parent
FILES = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}

STAGES = ("models", "limits", "repriorisation", "sampling", "sweeps", "diagnostics", "reports")
FOUNDATIONS = ("checks", "numerics", "pytrees", "randomness", "files", "datasets", "provenance")
"""What any stage may import; these import no stage."""

ENTRY_POINTS = ("__init__", "__main__", "cli", "terminal", "integrations", "tabular", "sklearn")
"""What may import any stage, and no stage imports."""

LARGEST_FILE = 250


def part_of(name: str) -> str:
    """The stage or module of the package that a file belongs to: its first path component."""
    return Path(name).parts[0].removesuffix(".py")


def imports(source: str) -> Iterator[str]:
    """Every module imported anywhere in ``source``, inside functions and type checks too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


def forbidden_imports(name: str, source: str) -> set[str]:
    """What the file ``name`` imports of this package against the direction of the story."""
    part = part_of(name)
    if part in ENTRY_POINTS:
        return set()
    allowed = {*FOUNDATIONS, part}
    if part in STAGES:
        allowed |= set(STAGES[: STAGES.index(part)])
    inside = [m.split(".") for m in imports(source) if m.split(".")[0] in ("bnnsample", "")]
    return {".".join(m) for m in inside if m[0] == "" or (m[1:] and m[1] not in allowed)}


def importers(package: str) -> set[str]:
    return {
        part_of(name)
        for name, path in FILES.items()
        if package in {module.split(".")[0] for module in imports(path.read_text())}
    }


def calls(source: str) -> Iterator[str]:
    """The name of everything called in ``source``, as written."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def factorisations(source: str) -> set[str]:
    """Calls of a library's Cholesky; ours is called by its bare name."""
    return {call for call in calls(source) if call.endswith((".cholesky", ".cho_factor"))}


def test_every_file_belongs_to_a_known_part() -> None:
    assert {part_of(name) for name in FILES} == {*STAGES, *FOUNDATIONS, *ENTRY_POINTS}


@pytest.mark.parametrize("name", FILES)
def test_stages_import_leftwards_only(name: str) -> None:
    assert forbidden_imports(name, FILES[name].read_text()) == set()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("models/network.py", "from bnnsample.limits.kernels import nngp"),
        ("models/network.py", "def f():\n    import bnnsample.sampling.run"),
        ("limits/kernels.py", "from bnnsample import reports"),
        ("limits/kernels.py", "from bnnsample.repriorisation.targets import standard"),
        ("diagnostics/verdict.py", "if TYPE_CHECKING:\n    from bnnsample.reports import table"),
        ("sampling/run.py", "from ..diagnostics import convergence"),
        ("sampling/run.py", "from bnnsample import sample"),
        ("reports/page.py", "from bnnsample.cli import main"),
        ("checks.py", "from bnnsample.models.network import Network"),
        ("datasets/bundled.py", "import importlib\nimportlib.import_module('bnnsample.models')"),
    ],
)
def test_the_checker_catches_imports_to_the_right(name: str, source: str) -> None:
    assert forbidden_imports(name, source)


def test_the_checker_lets_allowed_imports_pass() -> None:
    source = "from bnnsample.checks import bad_input\nfrom bnnsample.models.kernel import Kernel"
    for name in ("models/network.py", "limits/kernels.py", "reports/page.py"):
        assert forbidden_imports(name, source) == set()
    assert (
        forbidden_imports("cli.py", "from bnnsample.reports.widths import compare_widths") == set()
    )


def test_foreign_packages_have_one_importer() -> None:
    assert importers("blackjax") == {"sampling"}
    assert importers("matplotlib") == {"reports"}
    assert importers("sklearn") == {"datasets", "sklearn"}
    assert importers("distributed") == {"sweeps"}
    assert importers("pandas") == {"tabular"}
    assert importers("shtab") == {"cli"}


@pytest.mark.parametrize("name", [name for name in FILES if name != "numerics.py"])
def test_matrices_are_factorised_by_numerics_only(name: str) -> None:
    source = FILES[name].read_text()
    assert factorisations(source) == set()
    assert not {m for m in imports(source) if "linalg" in m}


def test_the_checker_catches_a_factorisation() -> None:
    assert factorisations("l = jnp.linalg.cholesky(k)")
    assert factorisations("l = jax.scipy.linalg.cho_factor(k)")
    assert factorisations(FILES["numerics.py"].read_text())
    assert factorisations("from bnnsample.numerics import cholesky\nl = cholesky(k)") == set()


@pytest.mark.parametrize(
    "name", [name for name in FILES if part_of(name) not in ("cli", "terminal")]
)
def test_only_the_command_line_prints_or_configures(name: str) -> None:
    called = set(calls(FILES[name].read_text()))
    assert not {call for call in called if call.split(".")[-1] in ("print", "pprint")}
    assert not {call for call in called if "config" in call.split(".") and "update" in call}
    assert not {call for call in called if call in ("warnings.simplefilter", "filterwarnings")} or (
        "warnings.catch_warnings" in called
    )


def test_importing_the_package_changes_no_configuration_and_loads_no_plotting() -> None:
    script = """
import os, sys, warnings
import jax
def state():
    return dict(jax.config.values), dict(os.environ), list(warnings.filters)
import blackjax, arviz_base, arviz_stats, numpyro, scipy.optimize, sklearn.datasets, zarr  # theirs
before = state()
import bnnsample
assert state() == before, "changed by import"
assert "matplotlib" not in sys.modules, "matplotlib loaded"
print(jax.config.jax_enable_x64)
"""
    clean = {"JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=clean, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"
    assert done.stderr == ""


def public_names() -> list[str]:
    return [name for name in vars(bnnsample) if not name.startswith("_") and not is_module(name)]


def is_module(name: str) -> bool:
    return inspect.ismodule(getattr(bnnsample, name))


def test_the_facade_has_the_story_and_nothing_but_the_api() -> None:
    assert bnnsample.__doc__
    assert {"Dense", "fcn", "nngp", "nngp_posterior", "Posterior", "Gaussian", "standard"} <= set(
        public_names()
    )
    tree = ast.parse(FILES["__init__.py"].read_text())
    assert all(isinstance(node, ast.Expr | ast.ImportFrom) for node in tree.body)


@pytest.mark.parametrize("name", public_names())
def test_every_name_of_the_facade_says_what_it_is(name: str) -> None:
    documented = inspect.getdoc(getattr(bnnsample, name))
    assert documented
    # not the signature that a dataclass or a named tuple writes for itself
    assert not documented.startswith(f"{name}(")


def undocumented(source: str) -> set[str]:
    """Public functions and classes at the top level of ``source`` without a docstring."""
    return {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    }


@pytest.mark.parametrize("name", FILES)
def test_every_module_function_and_class_has_a_docstring(name: str) -> None:
    source = FILES[name].read_text()
    assert ast.get_docstring(ast.parse(source))
    assert undocumented(source) == set()


def test_the_checker_catches_a_missing_docstring() -> None:
    assert undocumented("def f():\n    return 1\nclass A: ...\ndef _g(): ...") == {"f", "A"}


@pytest.mark.parametrize("name", FILES)
def test_files_stay_small(name: str) -> None:
    assert len(FILES[name].read_text().splitlines()) <= LARGEST_FILE


@pytest.mark.parametrize("name", FILES)
def test_every_file_can_be_imported(name: str) -> None:
    module = Path(name).with_suffix("").as_posix().replace("/", ".").removesuffix("__init__")
    importlib.import_module(f"bnnsample.{module}".rstrip("."))
