"""A run's page: the verdict first, what is on it, the Python that makes the run again; errors."""

from __future__ import annotations

import html
import re
from pathlib import Path

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from xarray import DataTree

import bnnsample as bnn
from bnnsample.models.scales import promoting_as_numpyro
from bnnsample.reports.predictive_sections import _check_table
from bnnsample.reports.run_sections import headline
from tests.conftest import X64
from tests.reports.test_page import Page
from tests.zoo import softsign

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
rng = np.random.default_rng(11)
X, X_TEST = rng.standard_normal((15, 3)), rng.standard_normal((9, 3))
Y, Y_TEST = np.sin(X[:, :1]) + 0.1, np.sin(X_TEST[:, :1]) + 0.1
ORDER = [
    "What was run",
    "Efficiency",
    "Convergence",
    "Function space",
    "Posterior predictive checks",
    "Leave-one-out",
    "Predictive checks at the test inputs",
    "Scores at the test inputs",
    "Calibration",
    "Findings",
    "To make it again",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    network = bnn.fcn(1, 6, 1, w_std_out=dist.LogNormal(0.0, 0.5))
    posterior = bnn.Posterior(network, X, Y, bnn.Gaussian(dist.LogNormal(-1.0, 0.5)))
    bnn.sample(posterior, bnn.HMC(3), chains=2, warmup=20, draws=40, seed=5, x_test=X_TEST, out=out)
    return out


@pytest.fixture(scope="module")
def run(folder: Path) -> DataTree:
    return bnn.load_run(folder)


@pytest.fixture(scope="module")
def text(folder: Path, run: DataTree) -> str:
    baselines = bnn.baselines(bnn.posterior_of(run), X_TEST, members=2)
    page = bnn.report(folder, y_test=Y_TEST, baselines=baselines)
    assert page == folder / "report.html"
    return page.read_text()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_verdict_comes_first_and_sections_in_order(page: Page, run: DataTree) -> None:
    places = [page.words.index(heading) for heading in ORDER]
    assert places == sorted(places)
    verdict = bnn.diagnose(run)
    assert not verdict.ok  # 40 draws are few
    first = "Do not believe this run"
    assert page.words.index(first) < page.words.index("as sure as they should be") < places[0]
    assert verdict.summary in page.words


def test_every_finding_is_on_the_page_with_its_figure(page: Page, run: DataTree) -> None:
    cells = page.texts["td"]
    for finding in bnn.diagnose(run).findings:
        assert finding.name in cells
        assert finding.figure in cells
        if not finding.ok:
            assert finding.advice in cells


def test_scores_and_baselines_are_those_of_quality(page: Page, run: DataTree) -> None:
    found = bnn.quality(run, Y_TEST)
    for score in found.scores.values():
        assert str(score) in page.texts["td"]
    for name in ("NNGP", "NTK ensemble", "MAP", "deep ensemble", "last-layer Laplace"):
        assert name in page.texts["td"]


def test_a_page_needs_nothing_else_and_every_figure_has_words(page: Page) -> None:
    images = page.attributes("img")
    assert len(images) == 5
    assert all(image["src"].startswith("data:") and len(image["alt"]) > 40 for image in images)
    assert "script" not in page.texts


def test_the_python_on_the_page_makes_the_run_again_bit_for_bit(text: str, run: DataTree) -> None:
    (code,) = re.findall(r"<pre><code>(.*?)</code></pre>", text, re.DOTALL)
    names: dict = {}
    with promoting_as_numpyro():
        exec(html.unescape(code), names)
    assert jax.config.jax_enable_x64 is X64
    for group in ("posterior", "predictions", "sample_stats"):
        for name, values in run[group].dataset.items():
            np.testing.assert_array_equal(names["run"][group][name], values, err_msg=str(name))


def test_a_run_in_memory_without_predictions_or_parameters_has_a_page(tmp_path: Path) -> None:
    posterior = bnn.Posterior(bnn.fcn(1, 4, 1, softsign), X, Y, bnn.Gaussian(0.5))
    bare = bnn.sample(posterior, bnn.PCN(), chains=2, warmup=5, draws=8, keep=("projections",))
    words = Page(bnn.report(bare, tmp_path / "deep" / "own.html").read_text()).words
    assert "Do not believe this run" in words
    assert "Not made at the training inputs" in words
    assert "Scores" not in words
    assert "Function space" not in words


def test_a_comparison_has_a_verdict_and_a_row_for_each_run(tmp_path: Path, run: DataTree) -> None:
    posterior = bnn.posterior_of(run)
    other = bnn.sample(posterior, bnn.HMC(2), chains=2, warmup=20, draws=30, x_test=X_TEST)
    blind = bnn.sample(posterior, bnn.HMC(2), chains=2, warmup=20, draws=30)
    runs = {"first": run, "<other>": other, "without test inputs": blind}
    page = Page(bnn.compare(runs, tmp_path).read_text())
    assert (tmp_path / "report.html").exists()
    for name in runs:
        assert page.words.count(name) >= 3  # verdict, row, how it was made
    assert page.texts["td"].count("marginal") == 3
    expected = f"{bnn.diagnostics.function_space.disagreement(other, run):.2f}"
    assert expected in page.texts["td"]
    assert "<other>" in page.words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run, out: bnn.report(run), "out: got none, for a run in memory"),
        (lambda run, out: bnn.report(run["posterior"], out), "run: got a DataTree without"),
        (lambda run, out: bnn.report(run, out, y_test=Y_TEST[:2]), "y_test: got 2 rows"),
        (
            lambda run, out: bnn.report(run, out, baselines=bnn.Baselines()),
            "baselines: got baselines without y_test",
        ),
        (
            lambda run, out: bnn.report(run, out, y_test=Y_TEST, baselines=["NNGP"]),
            "baselines: got a list",
        ),
        (lambda run, out: bnn.compare({"one": run}, out), "runs: got 1"),
        (lambda run, out: bnn.compare([run, run], out), "runs: got a list"),
    ],
)
def test_what_is_no_run_is_refused_and_nothing_written(run, tmp_path, call, message) -> None:
    with pytest.raises(bnn.BadInput, match=re.escape(message)):
        call(run, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_a_run_of_an_older_version_is_refused_by_name(run: DataTree, tmp_path: Path) -> None:
    old = run.copy()
    del old.attrs["settings"]
    with pytest.raises(bnn.BadInput, match="a run of an older version"):
        bnn.report(old, tmp_path)


def test_good_draws_of_a_model_that_does_not_fit_are_told_apart() -> None:
    passed = bnn.Verdict.of([bnn.Finding("predictions", True, "R-hat")])
    assert headline(passed, []).question == "Believe this run"
    assert headline(passed).question == "Believe the draws"
    assert "No held-out targets" in headline(passed).text
    told = headline(passed, ["predictions are too sure"])
    assert (told.question, told.good) == ("Believe the draws, not the model", None)
    assert "predictions are too sure" in told.text
    failed = bnn.Verdict.of([bnn.Finding("predictions", False, "R-hat", "Draw more")])
    assert headline(failed, ["predictions are too sure"]).good is False


def test_the_headline_asks_for_the_most_draws_and_first_for_what_draws_do_not_mend() -> None:
    few = [bnn.Finding(str(n), False, "", f"Draw {n} times", more_draws=n) for n in (2.0, 3.2)]
    short = headline(bnn.Verdict.of(few), [])
    assert (short.question, short.good) == ("Not yet: draw about 4 times as many", None)
    apart = bnn.Finding("log density", False, "R-hat", "The chains have not met")
    met = headline(bnn.Verdict.of([*few, apart]), [])
    assert (met.question, met.good) == ("Do not believe this run", False)
    assert "What to do first: The chains have not met." in met.text


def test_checks_that_failed_say_what_to_do() -> None:
    told = bnn.Finding("mean", None, "observed 1", threshold=0.01)
    failed = bnn.Finding("largest", False, "observed 9", "Take logarithms", threshold=0.01)
    assert _check_table(bnn.Verdict.of([told])).columns[-1] == "observed and replicated"
    table = _check_table(bnn.Verdict.of([told, failed]))
    assert table.columns[-1] == "what to do"
    assert [row[-1] for row in table.rows] == ["", "Take logarithms"]


@pytest.mark.slow
def test_predictions_of_too_little_noise_are_called_too_sure(tmp_path: Path) -> None:
    noisy = np.repeat(Y, 4, axis=0) + np.random.default_rng(4).standard_normal((60, 1))
    posterior = bnn.Posterior(bnn.fcn(1, 20, 1), X, Y, bnn.Gaussian(0.1))
    inputs = np.repeat(X, 4, axis=0)
    sure = bnn.sample(posterior, bnn.HMC(3), chains=2, warmup=30, draws=100, x_test=inputs)
    words = Page(bnn.report(sure, tmp_path, y_test=noisy).read_text()).words
    assert "They are too sure" in words


def test_a_run_that_kept_predictions_alone_has_a_page(tmp_path: Path) -> None:
    posterior = bnn.Posterior(bnn.fcn(1, 4, 1), X, Y, bnn.Gaussian(0.5))
    run = bnn.sample(
        posterior, bnn.HMC(2), chains=2, warmup=5, draws=8, x_test=X_TEST, keep=("predictions",)
    )
    assert "Function space" in Page(bnn.report(run, tmp_path).read_text()).words
