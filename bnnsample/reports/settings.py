"""What fixes the widths job: its settings, the samplers, the command that repeats it."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path

from bnnsample.checks import bad_input, check_count
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sampling.samplers.hamiltonian import HMC

SAMPLERS: dict[str, AbstractSampler] = {
    "standard": HMC(integrator="leapfrog"),
    "repriorised": HMC(integrator="rotation"),
    "marginal": HMC(integrator="rotation"),
}
"""What each target is sampled with: leapfrog is what people run on the weights as they are."""

FEWER, FEWEST = 3, 50
"""The standard target is given a third of the draws, but not fewer than 50: with trajectories of up
to 64 steps a draw costs about ten times as many gradients there."""

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
    draws: int = 200
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

    def draws_of(self, target: str) -> int:
        """Draws of each chain on a target: ``draws``, but for the standard one."""
        if target != "standard":
            return self.draws
        return max(min(self.draws, FEWEST), self.draws // FEWER)


def command(settings: WidthsSettings, out: Path) -> str:
    """The command line that repeats the job."""
    words = ["bnnsample", "widths"]
    for name, value in dataclasses.asdict(settings).items():
        option = "target" if name == "targets" else name.replace("_", "-")
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{option}", *map(str, values)]
    return shlex.join([*words, "--out", str(out)])
