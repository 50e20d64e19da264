"""What a check says: one finding each, and the verdict that they make together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

MARKS = {True: "ok  ", False: "FAIL", None: "note"}


@dataclass(frozen=True)
class Finding:
    """One check: whether it passed, its figure, what that was held against, and what to do.

    ``ok`` is None for what is told and not judged. ``value`` and ``threshold`` are NaN where there
    is no number; ``figure`` says both in words. ``advice`` is for where the check did not pass.
    ``more_draws``: how many times as many draws would make it pass, where nothing else is wanting.
    """

    name: str
    ok: bool | None
    figure: str
    advice: str = ""
    value: float = math.nan
    threshold: float = math.nan
    more_draws: float = math.nan

    def __post_init__(self) -> None:
        if self.ok is not None:  # NumPy's True is none that ``is`` or JSON knows
            object.__setattr__(self, "ok", bool(self.ok))

    def __str__(self) -> str:
        advice = f". {self.advice}" if self.advice and not self.ok else ""
        return f"{MARKS[self.ok]} {self.name}: {self.figure}{advice}"


class Verdict(NamedTuple):
    """Whether no check failed, and all findings: ``ok, findings = bnn.diagnose(run)``.

    True where ``ok``, so that ``assert bnn.diagnose(run)`` says what it means.
    """

    ok: bool
    findings: tuple[Finding, ...]

    def __bool__(self) -> bool:
        return self.ok

    @staticmethod
    def of(findings: Iterable[Finding]) -> Verdict:
        """The verdict that these findings make."""
        found = tuple(findings)
        return Verdict(all(finding.ok is not False for finding in found), found)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that did not pass."""
        return tuple(finding for finding in self.findings if finding.ok is False)

    @property
    def summary(self) -> str:
        """The verdict in a line."""
        judged = sum(finding.ok is not None for finding in self.findings)
        if not judged:
            return f"{len(self.findings)} told, none judged"
        if self.ok:
            return f"passed all {judged} checks"
        names = ", ".join(finding.name for finding in self.failed)
        return f"failed {len(self.failed)} of {judged} checks: {names}"

    def as_dict(self) -> dict[str, Any]:
        """The verdict as JSON takes it: numbers that are not finite are None."""
        return {
            "ok": self.ok,
            "findings": [
                {name: _finite(value) for name, value in asdict(finding).items()}
                for finding in self.findings
            ],
        }

    def __str__(self) -> str:
        return "\n".join([self.summary, *map(str, self.findings)])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
