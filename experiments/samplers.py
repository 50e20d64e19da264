"""Which sampler on which target makes most effective draws, per gradient and per second.

Digits, n = 64, noise_std 0.1, one hidden layer, gelu. The baseline is leapfrog HMC on the weights
as they are, tuned over trajectory lengths and acceptance rates; the others are every sampler on the
marginal target, and some on the repriorised one. What ``bnn.sample`` takes when nothing is named is
by this record the best per second for the slower of predictions and hidden weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import harness
import jax
import numpy as np
from harness import Record, Row

import bnnsample as bnn
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling.samplers.base import AbstractSampler

TRAIN, TEST, NOISE_STD = 64, 20, 0.1
BASELINES: tuple[AbstractSampler, ...] = (
    *(bnn.HMC(steps, integrator="leapfrog") for steps in (64, 128, 32, 16)),
    *(bnn.HMC(steps, integrator="leapfrog", target_acceptance=0.65) for steps in (64, 128)),
    bnn.NUTS(integrator="leapfrog", max_doublings=7),
)
CANDIDATES: tuple[AbstractSampler, ...] = (
    *(bnn.HMC(steps) for steps in (1, 2, 4, 8)),
    bnn.HMC(1, target_acceptance=0.65),
    bnn.HMC(),
    bnn.NUTS(),
    bnn.MALA(),
    bnn.PCNL(),
    bnn.PCN(),
    bnn.EllipticalSlice(),
    bnn.Langevin(),
    bnn.MicrocanonicalLangevin(),
)
ON_THE_MAP = (bnn.HMC(1), bnn.HMC(2), bnn.HMC(), bnn.NUTS(), bnn.Langevin())
FINALISTS = (
    *(("marginal", sampler) for sampler in (bnn.HMC(4), bnn.HMC(), bnn.MALA(), bnn.Langevin())),
    ("standard", bnn.HMC(64, integrator="leapfrog", target_acceptance=0.65)),
    ("standard", bnn.HMC(128, integrator="leapfrog", target_acceptance=0.65)),
)
"""What is run at every width; all else only at the first, where these were the best."""
GRADIENTS = 8_000
"""Of each run, of all of its chains together: the longer the trajectories, the fewer draws, but
never fewer than 100 of each chain."""
WARMUP = 200


def pairs() -> Iterator[tuple[str, AbstractSampler]]:
    """Targets and samplers: all on the marginal target, baselines, some on the repriorised one."""
    yield from (("marginal", sampler) for sampler in CANDIDATES)
    yield from (("standard", sampler) for sampler in BASELINES)
    yield "standard", bnn.HMC(8)
    yield from (("repriorised", sampler) for sampler in ON_THE_MAP)


def posterior_of(width: int) -> tuple[bnn.Posterior, np.ndarray]:
    """The posterior of a network of one hidden layer, and inputs to predict at."""
    data = bnn.load("digits", train=TRAIN, test=TEST, seed=0)
    network = bnn.fcn(1, width, data.y_train.shape[1])
    return bnn.Posterior(network, data.x_train, data.y_train, bnn.Gaussian(NOISE_STD)), data.x_test


def expected_steps(sampler: AbstractSampler) -> int:
    """Gradients or likelihoods that a draw takes, roughly where the sampler finds their number."""
    found = {bnn.HMC: 6, bnn.NUTS: 15, bnn.EllipticalSlice: 6}
    return getattr(sampler, "num_steps", None) or found.get(type(sampler), 1)


def measure(about: Row, folder: Path, *, gradients: int) -> Row:
    """One run, of about as many gradients as all others, and what it achieved."""
    posterior, x_test = posterior_of(about["width"])
    known = (sampler for _, sampler in (*pairs(), *FINALISTS))
    sampler = next(one for one in known if repr(one) == about["sampler"])
    draws = max(100, gradients // (4 * expected_steps(sampler)))
    run = bnn.sample(
        TARGETS[about["target"]](posterior), sampler, draws=draws, warmup=WARMUP, x_test=x_test,
        keep=("predictions", "projections"), out=folder / "run",
    )  # fmt: skip
    found = bnn.convergence(run)
    stats = {name: values.values for name, values in run["sample_stats"].dataset.items()}
    likelihoods = float(stats["n_steps"].sum())
    return {
        "draws": draws,
        "steps": float(stats["n_steps"].mean()),
        "step_size": float(stats["step_size"][:, -1].mean()) if sampler.tunes_step_size else None,
        "acceptance": float(stats["acceptance_rate"].mean()),
        "rhat": found["predictions"].rhat_max,
        **{
            f"{name}_ess_per_{unit}": found[name].ess_bulk / count
            for name in ("predictions", "hidden")
            for unit, count in (
                ("gradient", likelihoods),
                ("second", run.attrs["sampling_seconds"]),
            )
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny size, for the tests")
    parser.add_argument("--widths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--out", type=Path, default=Path("results/samplers"))
    harness.add_where(parser)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    widths, gradients, chosen = options.widths, GRADIENTS, list(pairs())
    if options.smoke:
        widths, gradients, chosen = [8], 800, [chosen[0], chosen[-1]]
    points = [
        {"width": width, "target": target, "sampler": repr(sampler)}
        for width in widths
        for target, sampler in (chosen if width == widths[0] else FINALISTS)
    ]
    rows = Record(options.out).swept(partial(measure, gradients=gradients), points, options)
    print(
        f"{'width':>5} {'target':>11}  {'sampler':60} {'steps':>6} {'accept':>6} {'R-hat':>6}",
        end="",
    )
    print("  ESS of predictions / hidden weights per 1000 gradients, per second")
    for row in rows:
        name = row["sampler"][:60]
        print(f"{row['width']:5} {row['target']:>11}  {name:60} {row['steps']:6.1f}", end="")
        print(f" {row['acceptance']:6.2f} {row['rhat']:6.3f}", end="")
        for unit, factor in (("gradient", 1e3), ("second", 1)):
            for quantity in ("predictions", "hidden"):
                print(f" {factor * row[f'{quantity}_ess_per_{unit}']:8.2f}", end="")
        print()


if __name__ == "__main__":
    main()
