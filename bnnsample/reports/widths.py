"""The main job: one posterior at several widths, under several targets, and its infinite limit."""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xarray import DataTree

from bnnsample.checks import bad_input, check_count
from bnnsample.datasets import load
from bnnsample.files import write_whole
from bnnsample.models.likelihoods import Gaussian
from bnnsample.models.network import fcn
from bnnsample.models.posterior import Posterior, as_test_inputs
from bnnsample.reports.figures import (
    distance_figure,
    efficiency_figure,
    prediction_figure,
    trace_figure,
)
from bnnsample.reports.folder import check_folder, write_record, write_table
from bnnsample.reports.page import Picture, render_page
from bnnsample.reports.summary import Summary, summarise
from bnnsample.reports.verdict import Statement, verdict
from bnnsample.repriorisation.targets import TARGETS, AbstractTarget
from bnnsample.sampling.draws import environment
from bnnsample.sampling.run import Progress, sample
from bnnsample.sampling.samplers import HMC, AbstractSampler
from bnnsample.sampling.store import save_run

SAMPLERS: dict[str, AbstractSampler] = {
    "standard": HMC(integrator="leapfrog"),
    "repriorised": HMC(integrator="rotation"),
    "marginal": HMC(integrator="rotation"),
}
"""What each target is sampled with: leapfrog is what people run on the weights as they are."""

REFERENCE = "marginal"
"""The target that the others of the same width are compared with."""


@dataclass(frozen=True)
class WidthsSettings:
    """All that fixes the result of the job, but for versions and device."""

    data: str = "digits"
    widths: tuple[int, ...] = (64, 256, 1024)
    targets: tuple[str, ...] = tuple(TARGETS)
    train: int = 64
    test: int = 20
    noise_std: float = 0.1
    activation: str = "gelu"
    chains: int = 4
    warmup: int = 100
    draws: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        for width in self.widths:
            check_count("width", width)
        for name in ("chains", "warmup", "draws"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, minimum=0)
        unknown = [target for target in self.targets if target not in TARGETS]
        if unknown:
            raise bad_input(
                "target",
                got=", ".join(map(repr, unknown)),
                expected=f"some of {', '.join(TARGETS)}",
                probably="a typing error",
            )
        for name in ("widths", "targets"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise bad_input(
                    name,
                    got=repr(values),
                    expected="one or several, each once",
                    probably="the same value was given twice",
                )


@dataclass(frozen=True)
class WidthsResult:
    """The rows, the verdict, and where the page is."""

    summaries: tuple[Summary, ...]
    statements: tuple[Statement, ...]
    page: Path


def compare_widths(
    settings: WidthsSettings,
    out: Path,
    *,
    on_progress: Callable[[str, Progress], None] | None = None,
    on_summary: Callable[[Summary], None] | None = None,
) -> WidthsResult:
    """Sample every width under every target and write the comparison to the folder ``out``.

    Writes ``report.html``, ``table.csv``, ``record.json`` and one netCDF file of draws per run
    under ``draws/``, each whole or not at all; ``on_summary`` is called after each run.

    Raises ``ValueError`` before anything is compiled or written, if a setting is bad or ``out``
    holds an experiment with other settings.
    """
    started = time.perf_counter()
    points = _targets(settings)
    check_folder(out, dataclasses.asdict(settings))
    out.mkdir(parents=True, exist_ok=True)
    record = _Record(out, settings)
    runs: dict[tuple[int, str], DataTree] = {}
    summaries: list[Summary] = []
    for (width, name), (target, x_test) in points.items():
        label = f"width {width}, {name}"
        run = sample(
            target,
            SAMPLERS[name],
            chains=settings.chains,
            warmup=settings.warmup,
            draws=settings.draws,
            seed=settings.seed,
            x_test=x_test,
            keep=("projections", "predictions"),
            on_progress=None if on_progress is None else lambda p, at=label: on_progress(at, p),
        )
        save_run(run, out / "draws" / f"width-{width}-{name}.nc")
        runs[width, name] = run
        reference = None if name == REFERENCE else runs.get((width, REFERENCE))
        summaries.append(summarise(run, width=width, reference=reference))
        record.add(summaries[-1], run)
        if on_summary is not None:
            on_summary(summaries[-1])

    ordered = sorted(summaries, key=lambda s: (s.width, settings.targets.index(s.target)))
    statements = verdict(ordered)
    write_table(out / "table.csv", [summary.as_row() for summary in ordered])
    record.finish(statements, time.perf_counter() - started)
    page = out / "report.html"
    write_whole(page, _page(settings, ordered, statements, runs, out, record))
    return WidthsResult(tuple(ordered), tuple(statements), page)


def _targets(settings: WidthsSettings) -> dict[tuple[int, str], tuple[AbstractTarget, Any]]:
    """Every width and target, all checked before the first is sampled, the reference first."""
    data = load(settings.data, train=settings.train, test=settings.test, seed=settings.seed)
    likelihood = Gaussian(settings.noise_std)
    points = {}
    for width in settings.widths:
        network = fcn(1, width, data.y_train.shape[1], settings.activation)
        posterior = Posterior(network, data.x_train, data.y_train, likelihood)
        x_test = as_test_inputs(data.x_test, posterior.x)
        for name in sorted(settings.targets, key=lambda name: name != REFERENCE):
            points[width, name] = (TARGETS[name](posterior), x_test)
    return points


class _Record:
    """The run record, rewritten after every run so that an interrupted job leaves a true one."""

    def __init__(self, folder: Path, settings: WidthsSettings) -> None:
        self._folder = folder
        self.content: dict[str, Any] = {
            "status": "unfinished",
            "settings": dataclasses.asdict(settings),
            "samplers": {
                name: {"sampler": type(SAMPLERS[name]).__name__}
                | dataclasses.asdict(SAMPLERS[name])  # pyright: ignore[reportArgumentType]
                for name in settings.targets
            },
            "command": command(settings, folder),
            "device": environment()["device"],
            "versions": json.loads(environment()["versions"]),
            "runs": [],
        }
        write_record(folder, self.content)

    def add(self, summary: Summary, run: DataTree) -> None:
        self.content["dtype"] = run.attrs["dtype"]
        self.content["runs"].append(summary.as_row())
        write_record(self._folder, self.content)

    def finish(self, statements: Sequence[Statement], seconds: float) -> None:
        self.content |= {
            "status": "finished",
            "total_seconds": seconds,
            "verdict": [statement.text for statement in statements],
        }
        write_record(self._folder, self.content)


def command(settings: WidthsSettings, out: Path) -> str:
    """The command line that repeats the job."""
    words = ["bnnsample", "widths"]
    for name, value in dataclasses.asdict(settings).items():
        option = "target" if name == "targets" else name.replace("_", "-")
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{option}", *map(str, values)]
    return shlex.join([*words, "--out", str(out)])


def _page(
    settings: WidthsSettings,
    summaries: Sequence[Summary],
    statements: Sequence[Statement],
    runs: dict[tuple[int, str], DataTree],
    out: Path,
    record: _Record,
) -> str:
    return render_page(
        f"Bayesian networks of width {_widths(settings)} on {settings.data}",
        statements,
        summaries,
        _pictures(settings, summaries, runs),
        {
            "data": f"{settings.data}, {settings.train} training and {settings.test} test points",
            "network": f"one hidden layer, {settings.activation}; noise std {settings.noise_std}",
            "chains": f"{settings.chains}, of {settings.warmup} warm-up and {settings.draws} "
            "kept draws each",
            "samplers": "; ".join(f"{name}: {SAMPLERS[name]}" for name in settings.targets),
            "precision": record.content["dtype"],
            "seed": settings.seed,
            "device": record.content["device"],
            "versions": ", ".join(f"{n} {v}" for n, v in record.content["versions"].items()),
            "total time": f"{record.content['total_seconds']:.0f} s",
        },
        command(settings, out),
    )


def _widths(settings: WidthsSettings) -> str:
    return ", ".join(map(str, sorted(settings.widths)))


def _pictures(
    settings: WidthsSettings,
    summaries: Sequence[Summary],
    runs: dict[tuple[int, str], DataTree],
) -> list[Picture]:
    narrow, wide = min(settings.widths), max(settings.widths)
    shown = REFERENCE if REFERENCE in settings.targets else settings.targets[0]
    return [
        Picture(
            "How many effective draws a gradient buys",
            "Median effective sample size divided by the number of gradient evaluations, against "
            "width, both axes logarithmic; higher is better. One panel each for projections of the "
            "hidden weights, of the readout, and for the predictions.",
            efficiency_figure(summaries),
        ),
        Picture(
            "How far the finite networks are from the infinite one",
            "Distance of the posterior predictive to the NNGP posterior at the test points, in "
            "units of the latter's standard deviation, with one Monte-Carlo standard error. Points "
            "whose unbiased squared distance is negative lie below the noise and are left out.",
            distance_figure(summaries),
        ),
        Picture(
            "Predictions against the NNGP's",
            f"Mean and 95 % interval of the noise-free output of the class that the NNGP predicts, "
            f"at every test point: the NNGP limit (grey), width {narrow} and width {wide} "
            f"({shown} target).",
            prediction_figure(
                runs[narrow, shown],
                runs[wide, shown],
                (f"width {narrow}", f"width {wide}"),
            ),
        ),
        Picture(
            "The chains",
            f"Draws at width {wide}. Shown is the component whose chains differ most. Chains that "
            "have converged overlap and look like noise.",
            trace_figure(
                [(f"{name} target, width {wide}", runs[wide, name]) for name in settings.targets]
            ),
        ),
    ]
