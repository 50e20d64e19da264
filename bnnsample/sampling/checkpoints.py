"""Checkpoints of a run, by orbax: whole or not at all, the newest two kept, and verified."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bnnsample.checks import bad_input, warn
from bnnsample.sampling.progress import Clock

CHECKPOINTS = "checkpoints"
KEPT = 2
"""Checkpoints kept: the newest, and the one to fall back on."""

SECONDS = 60.0
"""From one checkpoint (the first: from the beginning) to the next, where saving takes little. A
choice."""

SHARE = 0.05
"""Of a run's time that saving takes at most, but where phases end or the caller asks. A choice."""


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """``settings`` (JSON) are those of the run, whose checkpoints are of no other."""
        import orbax.checkpoint as orbax  # three seconds, and only runs in folders need it

        # orbax reports each of its steps, to the root logger of absl
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._orbax = orbax
        self._folder = folder
        self._settings = settings
        self._unreadable: list[int] = []
        self._since_saved = Clock()
        self._wait = SECONDS
        self._manager = orbax.CheckpointManager(
            (folder / CHECKPOINTS).absolute(),
            options=orbax.CheckpointManagerOptions(
                max_to_keep=KEPT, create=True, enable_async_checkpointing=False
            ),
        )

    def due(self) -> bool:
        """Whether the last one is a minute old, and as old as is worth what it took."""
        return self._since_saved.elapsed() > self._wait

    def save(self, number: int, state: Any, record: dict[str, Any]) -> None:
        """Save a state (a pytree of arrays) and a record (JSON) as checkpoint ``number``.

        It takes the place of those that could not be read.
        """
        clock = Clock()
        while self._unreadable:
            self._manager.delete(self._unreadable.pop())
        args = self._orbax.args
        leaves = _by_name(state)
        self._manager.save(
            number,
            args=args.Composite(
                state=args.StandardSave(leaves),
                record=args.JsonSave(record | {"digest": self._digest(leaves, record)}),
            ),
            force=True,
        )
        self._since_saved.lap()
        self._wait = max(SECONDS, clock.elapsed() / SHARE)

    def newest(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest checkpoint that is whole: its state, laid out as ``like``, and its record.

        None where there is no checkpoint. Warns of a newer one that cannot be read, and raises
        ``ValueError`` where none can: to begin again would lose the draws.
        """
        reasons = []
        for number in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self._restore(number, like)
            except Exception as error:  # what a damaged file raises is not documented
                what = f"{type(error).__name__}: {str(error)[:200]}"
                reasons.append(f"checkpoint {number} is damaged ({what})")
                self._unreadable.append(number)
                continue
            for reason in reasons:
                warn(f"{reason}; falling back to the one before")
            return found
        if reasons:
            raise bad_input(
                "run folder",
                got=f"{self._folder}, of which no checkpoint can be read: {'; '.join(reasons)}",
                expected=f"one at least in {CHECKPOINTS}/ that is whole",
                probably="a damaged disk, settings that were edited since, or another version of "
                "bnnsample made them; load_run(folder) still opens the draws; without that folder "
                "all begins again",
            )
        return None

    def _restore(self, number: int, like: Any) -> tuple[Any, dict[str, Any]]:
        args = self._orbax.args
        wanted = jax.tree.map(self._orbax.tree.to_shape_dtype_struct, _by_name(like))
        restored = self._manager.restore(
            number,
            args=args.Composite(state=args.StandardRestore(wanted), record=args.JsonRestore()),
        )
        leaves, record = restored["state"], dict(restored["record"])
        if record.pop("digest", None) != self._digest(leaves, record):
            raise ValueError("its arrays, or the run's settings, are not those that were saved")
        structure = jax.tree.structure(like)
        return jax.tree.unflatten(structure, [leaves[name] for name in _by_name(like)]), record

    def _digest(self, leaves: dict[str, Any], record: dict[str, Any]) -> str:
        texts = json.dumps([self._settings, record], sort_keys=True)
        digest = hashlib.sha256(texts.encode())
        for name in sorted(leaves):
            for shard in leaves[name].addressable_shards:
                digest.update(np.asarray(shard.data).tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        self._manager.close()


def _by_name(state: Any) -> dict[str, Any]:
    return {f"{index:04d}": leaf for index, leaf in enumerate(jax.tree.leaves(state))}
