"""The loop of a run: compiled segments, with the host in between to write, report and save."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bnnsample.sampling.checkpoints import Checkpoints
from bnnsample.sampling.engine import Engine, Observed, State
from bnnsample.sampling.folder import guarded, read_record, write_record
from bnnsample.sampling.mesh import first_process_says, one_copy_a_process, to_host, writes_to
from bnnsample.sampling.moments import as_variables
from bnnsample.sampling.progress import Clock, Phase, Progress, RunningESS
from bnnsample.sampling.steadiness import check_starts, check_step_sizes
from bnnsample.sampling.store import DrawStore

PREDICTIONS = ("f", "y", "f_mean", "f_std")
"""What is kept of a draw under ``predictions``, all else being under ``posterior``."""


@dataclass
class Cursor:
    """How far a run is, and the wall-clock seconds it took."""

    warmup: int = 0
    warmed_up: bool = False
    draws: int = 0
    compile_seconds: float = 0.0
    warmup_seconds: float = 0.0
    sampling_seconds: float = 0.0


@dataclass(frozen=True)
class Loop:
    """A run: what makes its segments, and where draws, checkpoints and reports go."""

    engine: Engine
    store: DrawStore
    folder: Path | None
    checkpoints: Checkpoints | None
    checkpoint_every: int | None
    report: Callable[[Progress], None]

    def run(self) -> Cursor:
        """From the beginning, or from the newest checkpoint, to the last draw."""
        clock = Clock()
        unknown = np.full(self.engine.settings.chains, np.nan)
        self.report(Progress("compiling", 0, 1, unknown, np.zeros_like(unknown, int)))
        state, cursor = self._begin()
        self.store.check(cursor.draws)
        state, _ = self.engine.warm_up(state, 0, 0)
        state, nothing = self.engine.draw(state, 0, 0)
        self._make_room(cursor, nothing)
        cursor.compile_seconds += clock.lap()
        state = self._warm_up(state, cursor, clock)
        state = self._draw(state, cursor, clock)
        if state.moments is not None:
            self._put_moments(state)
        return cursor

    def _begin(self) -> tuple[State, Cursor]:
        state = self.engine.begin()
        check_starts(to_host(state.chains.sampler.logdensity))
        if self.checkpoints is None:
            return state, Cursor()
        saved = self.checkpoints.newest(one_copy_a_process(state, self.engine.mesh))
        return (
            (state, Cursor())
            if saved is None
            else (self.engine.spread(saved[0]), Cursor(**saved[1]))
        )

    def _warm_up(self, state: State, cursor: Cursor, clock: Clock) -> State:
        settings = self.engine.settings
        while not cursor.warmed_up:
            count = min(settings.segment, settings.warmup - cursor.warmup)
            state, stats = self.engine.warm_up(state, cursor.warmup, count)
            cursor.warmup += count
            converged = bool(np.all(to_host(state.chains.adaptation.converged)))
            cursor.warmed_up = converged or cursor.warmup == settings.warmup
            if cursor.warmed_up:
                window: Any = to_host(state.chains.adaptation.window)
                check_step_sizes(
                    settings.sampler,
                    window.last_signal,
                    window.last_log_step_size,
                    cursor.warmup,
                )
            cursor.warmup_seconds += clock.lap()
            self._tell("warm-up", cursor.warmup, settings.warmup, stats, cursor.warmup_seconds)
            self._maybe_save(cursor.warmup, state, cursor, cursor.warmed_up)
        return state

    def _draw(self, state: State, cursor: Cursor, clock: Clock) -> State:
        settings = self.engine.settings
        running = RunningESS(settings.segment)
        while cursor.draws < settings.draws:
            # segments end where chunks of the store do, also after a run was extended
            count = min(
                settings.segment - cursor.draws % settings.segment, settings.draws - cursor.draws
            )
            state, observed = self.engine.draw(state, cursor.draws, count)
            self._write(cursor.draws, observed)
            cursor.draws += count
            if "f" in observed.kept:
                running.add(observed.kept["f"])
            cursor.sampling_seconds += clock.lap()
            self._tell(
                "sampling",
                cursor.draws,
                settings.draws,
                observed.stats,
                cursor.sampling_seconds,
                running.median(),
            )
            number = cursor.warmup + cursor.draws
            self._maybe_save(number, state, cursor, cursor.draws == settings.draws)
        return state

    def _tell(
        self,
        phase: Phase,
        done: int,
        total: int,
        stats: dict[str, np.ndarray],
        seconds: float,
        ess: float = math.nan,
    ) -> None:
        acceptance, divergences = stats["acceptance_rate"].mean(0), stats["diverging"].sum(0)
        left = seconds * (total / done - 1)
        self.report(Progress(phase, done, total, acceptance, divergences, ess, left))

    def _maybe_save(self, number: int, state: State, cursor: Cursor, last: bool) -> None:
        if self.checkpoints is None or not (last or self._in_between(number, self.checkpoints)):
            return
        with guarded(self.folder):
            whole = one_copy_a_process(state, self.engine.mesh)
            self.checkpoints.save(number, whole, asdict(cursor))

    def _in_between(self, number: int, checkpoints: Checkpoints) -> bool:
        """Whether to save after transition ``number``, though nothing ends with it."""
        segments, every = number // self.engine.settings.segment, self.checkpoint_every
        asked = every is not None and segments % every == 0
        return asked or first_process_says(checkpoints.due())

    def _make_room(self, cursor: Cursor, of_no_draws: Observed) -> None:
        """Room for all draws; of a run made longer, from here on the folder says so."""
        settings = self.engine.settings
        if not writes_to(self.folder) or 0 < settings.draws == cursor.draws:
            return
        if self.folder is not None and read_record(self.folder)["draws"] != settings.draws:
            write_record(self.folder, settings.record)
        shapes = jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(array.shape[2:], array.dtype), _by_group(of_no_draws)
        )
        with guarded(self.folder):
            if cursor.draws == 0:
                self.store.create(shapes, settings.chains, settings.draws, settings.segment)
            else:
                self.store.lengthen(settings.draws)

    def _write(self, first: int, observed: Observed) -> None:
        with guarded(self.folder):
            if writes_to(self.folder):
                self.store.write(first, _by_group(observed))

    def _put_moments(self, state: State) -> None:
        assert state.moments is not None
        variables = as_variables(to_host(state.moments))
        with guarded(self.folder):
            if writes_to(self.folder):
                self.store.put("moments", variables)


def _by_group(observed: Observed) -> dict[str, dict[str, np.ndarray]]:
    groups: dict[str, dict[str, np.ndarray]] = {"posterior": {}, "sample_stats": observed.stats}
    for name, array in observed.kept.items():
        group = "predictions" if name in PREDICTIONS else "posterior"
        groups.setdefault(group, {})[name] = array
    return groups
