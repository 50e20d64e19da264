"""The main job: one posterior at several widths, under several targets, and its infinite limit."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xarray import DataTree

from bnnsample.datasets import load
from bnnsample.files import write_whole
from bnnsample.models.builders import fcn
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.posterior import Posterior, as_test_inputs
from bnnsample.provenance import environment
from bnnsample.reports.folder import check_folder, write_record, write_table
from bnnsample.reports.page import Code, Facts, Picture, Section, render_page
from bnnsample.reports.pictures import pictures
from bnnsample.reports.settings import REFERENCE, SAMPLERS, WidthsSettings, command
from bnnsample.reports.summary import Summary, summarise
from bnnsample.reports.table import table_of
from bnnsample.reports.verdict import Statement, verdict
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling.draws import limit_at
from bnnsample.sampling.run import Progress, sample
from bnnsample.sampling.store import load_run, save_run
from bnnsample.sweeps.points import Row, folder_name
from bnnsample.sweeps.sweep import sweep

POINTS, RUN = "points", "run"
"""The folder of runs made side by side, and in that of each the run's own."""


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
    scheduler: str | None = None,
    workers: int = 0,
    on_progress: Callable[[str, Progress], None] | None = None,
    on_summary: Callable[[Summary], None] | None = None,
) -> WidthsResult:
    """Sample every width under every target and write the comparison to the folder ``out``.

    Writes ``report.html``, its figures, ``table.csv``, ``record.json`` and one netCDF file of draws
    per run under ``draws/``, each whole or not at all; ``on_summary`` is called after each run.
    With ``workers`` or a ``scheduler``, see ``sweep``, runs are first made side by side, in folders
    under ``points/``, where those that were stopped go on; ``on_progress`` is not called then.

    Raises ``ValueError`` before anything is compiled or written, if a setting is bad or ``out``
    holds an experiment with other settings.
    """
    started = time.perf_counter()
    points = _targets(settings)
    check_folder(out, dataclasses.asdict(settings))
    out.mkdir(parents=True, exist_ok=True)
    for stale in (out / "report.html", out / "table.csv", *out.glob("figures/*.svg")):
        stale.unlink(missing_ok=True)
    record = _Record(out, settings)
    elsewhere = {}
    if scheduler is not None or workers:
        elsewhere = {at: _point(settings, *at) for at in points}
        where: Any = {"scheduler": scheduler, "workers": workers or None}
        sweep(run_at, elsewhere.values(), out / POINTS, **where)
    runs: dict[tuple[int, str], DataTree] = {}
    summaries: list[Summary] = []
    for (width, name), (target, x_test) in points.items():
        label = f"width {width}, {name}"
        tell = None if on_progress is None else lambda p, at=label: on_progress(at, p)
        run = (
            load_run(out / POINTS / folder_name(elsewhere[width, name]) / RUN)
            if elsewhere
            else _run(settings, name, target, x_test, on_progress=tell)
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
    shown = pictures(settings, ordered, runs)
    (out / "figures").mkdir(exist_ok=True)
    for picture in shown:
        write_whole(out / "figures" / f"{picture.name}.svg", picture.svg)
    page = out / "report.html"
    write_whole(page, _page(settings, ordered, statements, shown, out, record))
    return WidthsResult(tuple(ordered), tuple(statements), page)


def _run(
    settings: WidthsSettings, name: str, target: AbstractTarget, x_test: Any, **more: Any
) -> DataTree:
    return sample(
        target,
        SAMPLERS[name],
        chains=settings.chains,
        warmup=settings.warmup,
        draws=settings.draws_of(name),
        seed=settings.seed,
        x_test=x_test,
        keep=("projections", "predictions"),
        **more,
    )


def _point(settings: WidthsSettings, width: int, name: str) -> Row:
    """The settings of the job with one width and one target, as JSON."""
    return dataclasses.asdict(settings) | {"widths": [width], "targets": [name]}


def run_at(point: Row, folder: Path) -> Row:
    """Make the run of a job with one width and one target, as a point of a sweep."""
    settings = WidthsSettings(**point)
    (((_, name), (target, x_test)),) = _targets(settings).items()
    _run(settings, name, target, x_test, out=folder / RUN)
    return {}


def _targets(settings: WidthsSettings) -> dict[tuple[int, str], tuple[AbstractTarget, Any]]:
    """Every width and target, the reference first, all checked before the first is sampled.

    The limit is the same for all widths, and fails where the noise is below the kernel's rounding.
    """
    data = load(settings.data, train=settings.train, test=settings.test, seed=settings.seed)
    likelihood = Gaussian(settings.noise_std)
    points = {}
    for width in settings.widths:
        network = fcn(1, width, data.y_train.shape[1], settings.activation)
        posterior = Posterior(network, data.x_train, data.y_train, likelihood)
        x_test = as_test_inputs(data.x_test, posterior.x)
        if not points:
            limit_at(posterior, x_test)
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
            "versions": environment()["versions"],
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


def _page(
    settings: WidthsSettings,
    summaries: Sequence[Summary],
    statements: Sequence[Statement],
    shown: Sequence[Picture],
    out: Path,
    record: _Record,
) -> str:
    made = {
        "data": f"{settings.data}, {settings.train} training and {settings.test} test points",
        "network": f"one hidden layer, {settings.activation}; noise std {settings.noise_std}",
        "chains": f"{settings.chains}, of at most {settings.warmup} warm-up transitions each",
        "kept draws of a chain": "; ".join(
            f"{name}: {settings.draws_of(name)}" for name in settings.targets
        ),
        "samplers": "; ".join(f"{name}: {SAMPLERS[name]}" for name in settings.targets),
        "precision": record.content["dtype"],
        "seed": settings.seed,
        "device": record.content["device"],
        "versions": ", ".join(f"{n} {v}" for n, v in record.content["versions"].items()),
        "total time": f"{record.content['total_seconds']:.0f} s",
    }
    return render_page(
        f"Bayesian networks of width {', '.join(map(str, settings.widths))} on {settings.data}",
        statements,
        [
            Section("Table", parts=(table_of(summaries),)),
            *(Section(picture.heading, parts=(picture,)) for picture in shown),
            Section("How it was made", parts=(Code(command(settings, out)), Facts(made))),
        ],
    )
