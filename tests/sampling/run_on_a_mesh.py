"""Runs on virtual devices or in several processes, for the tests of meshes.

Takes JSON with the fields of ``Job``; the last line printed is JSON: what was found.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist

import bnnsample as bnn
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling import chains, checkpoints, functionals, settings
from bnnsample.sampling.engine import Engine

D, OUT, M, CHAINS = 3, 2, 4, 4
WARMUP, DRAWS = 8, 6
KEEP = ("predictions", "projections", "moments")
COMPARED = (
    ("predictions", "f"),
    ("posterior", "hidden_projection"),
    ("moments", "readout"),
    ("sample_stats", "step_size"),
)


@dataclass(frozen=True)
class Job:
    """One target on one device, then over meshes; in several processes over the first of them.

    In several processes the draws are saved to ``save``, and the run in the folder ``out`` is
    stopped after ``stop_after`` draws and resumed.
    """

    target: str
    points: int
    width: int
    kind: str = "known noise"
    meshes: list[tuple[int, int]] = field(default_factory=list)
    draws: int = DRAWS
    save: str | None = None
    out: str | None = None
    stop_after: int | None = None


class Stop(Exception):
    """Raised in the middle of a run."""


def main(job: Job) -> dict[str, Any]:
    """Runs the job: largest deviations from the run on one device, or draws saved to a file."""
    jax.config.update("jax_enable_x64", True)
    if jax.process_count() > 1:
        return one_of_several_processes(job)
    settings.SEGMENT_DRAWS = 4  # so that a short run has several segments
    alone = sample(job, None)
    found: dict[str, Any] = {"another seed": deviation(sample(job, None, seed=2), alone)}
    for shape in job.meshes:
        for compiled in (chains.start, chains.advance, functionals.observe):
            compiled.clear_cache()
        mesh = bnn.device_mesh(*shape)
        found["x".join(map(str, shape))] = {
            "deviation": deviation(sample(job, mesh), alone),
            "compilations": compilations(),
            **placement(job, mesh),
        }
    return found


def compilations() -> list[int]:
    compiled: Any = (chains.start, chains.advance, functionals.observe)
    return [function._cache_size() for function in compiled]


def posterior(job: Job) -> bnn.Posterior:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((job.points, D)), rng.standard_normal((job.points, OUT))
    if job.kind == "classes":
        labels = rng.integers(0, OUT, job.points)
        return bnn.Posterior(bnn.fcn(1, job.width, OUT), x, labels, bnn.Categorical())
    if job.kind == "unknown noise":
        relevance = bnn.Scale(dist.LogNormal(np.zeros(D), 0.5))
        network = bnn.Network([relevance, *bnn.fcn(1, job.width, OUT).layers])
        return bnn.Posterior(network, x, y, bnn.Gaussian(dist.HalfNormal(1.0)))
    return bnn.Posterior(bnn.fcn(1, job.width, OUT), x, y, bnn.Gaussian(0.3))


def sample(job: Job, mesh: Any, seed: int = 1, **more: Any) -> Any:
    return bnn.sample(
        TARGETS[job.target](posterior(job)),
        bnn.MALA(),
        chains=CHAINS,
        warmup=WARMUP,
        draws=job.draws,
        seed=seed,
        x_test=np.random.default_rng(4).standard_normal((M, D)),
        keep=KEEP,
        mesh=mesh,
        **more,
    )


def save(path: str, run: Any) -> None:
    np.savez(path, **{name: run[group][name].values for group, name in COMPARED})


def deviation(run: Any, alone: Any) -> float:
    """The largest difference, relative to the largest entry of an array."""
    pairs = [(run[group][name].values, alone[group][name].values) for group, name in COMPARED]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def placement(job: Job, mesh: Any) -> dict[str, Any]:
    """Which part of the points and of the chains a device has, and what a gradient compiles to."""
    engine = Engine.place(
        settings.Settings(
            target=TARGETS[job.target](posterior(job)),
            sampler=bnn.MALA(),
            chains=CHAINS,
            warmup=WARMUP,
            draws=job.draws,
            seed=1,
            keep=KEEP,
            x_test=None,
            segment=4,
        ),
        mesh,
    )
    state, _ = engine.warm_up(engine.begin(), 0, 2)
    positions = state.chains.sampler.position
    gradients = jax.jit(jax.vmap(jax.grad(type(engine.target).log_likelihood, 1), (None, 0)))
    compiled = gradients.lower(engine.target, positions).compile()
    text, cost = compiled.as_text(), compiled.cost_analysis() or {}
    return {
        "points of a device": local_lengths(engine.target.posterior.x),
        "targets of a device": local_lengths(engine.target.posterior.y),
        "chains of a device": local_lengths(positions),
        "step sizes of a device": local_lengths(state.chains.adaptation.step_size.log_step_size),
        "all-reduce": text.count(" all-reduce("),
        "all-gather": text.count(" all-gather("),
        "flops": cost["flops"],
        "temporary bytes": compiled.memory_analysis().temp_size_in_bytes,
        "features of a device": f"f64[{CHAINS // mesh.shape['chains']},"
        f"{job.points // mesh.shape['data']},{job.width}]" in text,
    }


def local_lengths(array: jax.Array) -> list[int]:
    return sorted({shard.data.shape[0] for shard in array.addressable_shards})


def one_of_several_processes(job: Job) -> dict[str, Any]:
    settings.SEGMENT_DRAWS = 4
    more: dict[str, Any] = {"out": job.out} if job.out else {}
    # the first process decides when to save: here always
    checkpoints.SECONDS, checkpoints.SHARE = (0.0 if jax.process_index() == 0 else 1e9), 1e9
    mesh = bnn.device_mesh(*job.meshes[0])

    def stop(progress: bnn.Progress) -> None:
        if progress.phase == "sampling" and progress.done == job.stop_after:
            raise Stop

    saved: list[str] = []
    try:
        run = sample(job, mesh, on_progress=stop, **more)
    except Stop:
        saved = [path.name for path in (Path(str(job.out)) / checkpoints.CHECKPOINTS).iterdir()]
        run = bnn.resume(str(job.out), mesh=mesh)
    assert job.save is not None
    save(job.save, run)
    return {
        "processes": jax.process_count(),
        "devices": mesh.devices.size,
        "compilations": compilations(),
        "saved": sorted(saved),
    }


def run(job: str) -> None:
    print(json.dumps(main(Job(**json.loads(job)))))
