"""What sampling costs beside gradients, and what a gradient buys, as ratios within one run.

Six tables: the dual over the primal form; time outside gradients; effective draws per gradient of
the marginal target over the standard one; acceptance of pCN against width; unknown noise mapped or
not; float32 against float64.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from arviz_stats.sampling_diagnostics import mcse
from threadpoolctl import threadpool_limits

import bnnsample as bnn
from bnnsample.limits.hyperposterior import Coordinates
from bnnsample.repriorisation import collapse
from bnnsample.repriorisation.hierarchical import Hierarchical
from bnnsample.repriorisation.marginal import Marginal
from bnnsample.sampling.samplers.base import AbstractSampler, Tuning

TUNED: dict[str, tuple[AbstractSampler, int]] = {
    "standard": (bnn.HMC(64, integrator="leapfrog", target_acceptance=0.65), 150),
    "marginal": (bnn.MALA(), 1500),
}
"""The best per gradient of experiments/samplers.py, of leapfrog HMC on the weights as they are and
of all samplers on the marginal target, and how many draws of each."""


def classes(n: int, d: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs of unit variance and one-hot targets of 10 classes."""
    rng = np.random.default_rng(0)
    y = np.eye(10)[rng.integers(10, size=n)] - 0.1
    return rng.standard_normal((n, d)).astype(dtype), y.astype(dtype)


def posterior_of(n: int, d: int, width: int, dtype: str = "float32") -> bnn.Posterior:
    return bnn.Posterior(bnn.fcn(1, width, 10), *classes(n, d, dtype), bnn.Gaussian(0.1))


def digits(n: int, width: int) -> tuple[bnn.Posterior, np.ndarray]:
    data = bnn.load("digits", train=n, test=20)
    network = bnn.fcn(1, width, 10)
    return bnn.Posterior(network, data.x_train, data.y_train, bnn.Gaussian(0.1)), data.x_test


def seconds(call: Callable[[], object], repeats: int = 1) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return (time.perf_counter() - began) / repeats


def dual_over_primal(n: int, d: int, width: int, rounds: int) -> None:
    """Value and gradient in the weights, the collapse in either form."""
    target = Marginal(posterior_of(n, d, width))
    posterior, position = target.posterior, target.init(jax.random.key(0))
    calls = {}
    for form in ("dual", "primal"):

        def gradient(position: jax.Array, form: str = form) -> jax.Array:
            features, pull_back = jax.vjp(target._features, position)
            precision_root = jnp.full((n, 1), 10.0, position.dtype)
            of = getattr(collapse, f"_{form}")(features, posterior.y, precision_root)[1]
            return pull_back(of.features)[0]

        compiled = jax.jit(gradient)
        calls[form] = lambda f=compiled: f(position)
        jax.block_until_ready(calls[form]())
    times = np.array([[seconds(call) for call in calls.values()] for _ in range(rounds)])
    ratio = np.median(times[:, 1] / times[:, 0])
    dual, primal = 1e3 * np.median(times, axis=0)
    print(f"  width {width}: dual {dual:.1f} ms, primal {primal:.0f} ms, ratio {ratio:.1f}")


def outside_gradients(n: int, d: int, width: int, draws: int, rounds: int) -> None:
    """A run's seconds a draw less those of its gradients alone, timed between runs."""
    target = bnn.marginal(posterior_of(n, d, width))
    x_test = classes(20, d, "float32")[0]
    value_and_grad = jax.jit(lambda target, q: jax.value_and_grad(target.log_likelihood)(q))
    position = target.init(jax.random.key(1))
    jax.block_until_ready(value_and_grad(target, position))
    for keep in (("predictions",), None):
        shares, per_draw = [], []
        for _ in range(rounds):
            run = bnn.sample(
                target, bnn.HMC(8), chains=1, warmup=60, draws=draws, x_test=x_test, keep=keep
            )
            count = int(run["sample_stats"].dataset["n_gradients"].sum())
            alone = seconds(lambda: value_and_grad(target, position), max(10, count // 8))
            shares.append(1 - count * alone / run.attrs["sampling_seconds"])
            per_draw.append(1e3 * run.attrs["sampling_seconds"] / draws)
        name = "predictions" if keep else "the default"
        print(
            f"  width {width}, keeping {name}: {np.median(per_draw):.0f} ms a draw,"
            f" {100 * np.median(shares):.0f} % outside gradients"
        )


def ess_per_gradient(width: int, warmup: int, share: int) -> None:
    """Median ESS of the predictions per gradient, marginal over standard, best sampler of each."""
    posterior, x_test = digits(64, width)
    found = {}
    for name, (sampler, draws) in TUNED.items():
        target = bnn.marginal(posterior) if name == "marginal" else bnn.standard(posterior)
        run = bnn.sample(
            target, sampler, warmup=warmup, draws=draws // share, x_test=x_test,
            keep=("predictions",),
        )  # fmt: skip
        found[name] = bnn.convergence(run)["predictions"].ess_per_gradient
    ratio = found["marginal"] / found["standard"]
    print(f"  width {width}: {found['marginal']:.4f} / {found['standard']:.4f} = {ratio:.0f}")


def pcn_acceptance(width: int, draws: int) -> float:
    """Mean acceptance at angle 0.1 of a chain that is in the posterior."""
    posterior, _ = digits(64, width)
    target = bnn.marginal(posterior)
    tuning = Tuning(jnp.asarray(0.1), jnp.asarray(0), jnp.asarray(1.0))

    @jax.jit
    def mean_acceptance(key: jax.Array) -> jax.Array:
        start, burn, stay = jax.random.split(key, 3)
        hmc: Any
        pcn: Any
        hmc, pcn = (sampler.build(target, tuning) for sampler in (bnn.HMC(8), bnn.PCN()))
        burnt = jax.lax.scan(
            lambda state, key: (hmc.step(key, state)[0], None),
            hmc.init(target.init(start)),
            jax.random.split(burn, 60),
        )[0]
        infos = jax.lax.scan(
            lambda state, key: pcn.step(key, state), pcn.init(burnt.position),
            jax.random.split(stay, draws),
        )[1]  # fmt: skip
        return jnp.mean(infos.acceptance_rate)

    keys = jax.random.split(jax.random.key(0), 4)
    rates = [float(mean_acceptance(key)) for key in keys]
    print(f"  width {width}: {np.mean(rates):.3f} ({np.std(rates, ddof=1) / 2:.3f} s.e.)")
    return float(np.mean(rates))


def precisions(n: int, width: int, draws: int) -> None:
    """Acceptance at one step size, and predictive means in units of their Monte-Carlo error."""
    runs = {}
    data = bnn.load("digits", train=n, test=20)
    for dtype in ("float64", "float32"):
        x, y, x_test = (a.astype(dtype) for a in (data.x_train, data.y_train, data.x_test))
        posterior = bnn.Posterior(bnn.fcn(1, width, 10), x, y, bnn.Gaussian(0.1))
        runs[dtype] = bnn.sample(
            bnn.marginal(posterior), bnn.HMC(4), draws=draws, seed=int(dtype[-2:]), x_test=x_test,
            keep=("predictions",),
        )  # fmt: skip
    f = {name: run["predictions"].dataset["f"].astype(float) for name, run in runs.items()}
    means = [each.mean(("chain", "draw")).values for each in f.values()]
    errors = [np.asarray(mcse(each, method="mean")) for each in f.values()]
    z = (means[0] - means[1]) / np.hypot(errors[0], errors[1])
    print(f"  root mean square z of {z.size} predictive means: {np.sqrt(np.mean(z**2)):.2f}")
    for name, run in runs.items():
        stats = run["sample_stats"].dataset
        accepted, size = (float(stats[each].mean()) for each in ("acceptance_rate", "step_size"))
        print(f"  {name}: acceptance {accepted:.3f} at {size:.3f}")


def acceptance_at(sampler: AbstractSampler, size: float, n: int, width: int, draws: int) -> None:
    """Mean acceptance at one step size in both precisions, from the same starts."""
    data = bnn.load("digits", train=n, test=20)
    found = {}
    for dtype in ("float64", "float32"):
        x, y = (a.astype(dtype) for a in (data.x_train, data.y_train))
        target = bnn.marginal(bnn.Posterior(bnn.fcn(1, width, 10), x, y, bnn.Gaussian(0.1)))
        tuning = Tuning(jnp.asarray(size, dtype), jnp.asarray(0), jnp.ones((), dtype))
        algorithm: Any = sampler.build(target, tuning)

        @jax.jit
        def rates(key: jax.Array, target=target, algorithm=algorithm) -> jax.Array:
            start, stay = jax.random.split(key)
            return jax.lax.scan(
                lambda state, key: algorithm.step(key, state),
                algorithm.init(target.init(start)),
                jax.random.split(stay, draws),
            )[1].acceptance_rate[draws // 5 :]

        keys = jax.random.split(jax.random.key(7), 4)
        found[dtype] = [float(jnp.mean(rates(key))) for key in keys]
    means = {name: float(np.mean(values)) for name, values in found.items()}
    errors = [float(np.std(values, ddof=1)) / 2 for values in found.values()]
    error = np.hypot(errors[0], errors[1])
    print(f"  acceptance at angle {size}: float64 {means['float64']:.4f}, ", end="")
    print(f"float32 {means['float32']:.4f} (error of the difference {error:.4f})")


def unknown_noise(width: int, draws: int) -> None:
    """Step size with the noise's logarithm as it is, and mapped by the limit's evidence."""
    data = bnn.load("diabetes", train=300, test=20)
    network, noise = bnn.fcn(1, width, 1), bnn.Gaussian(dist.HalfNormal(1.0))
    mapped = bnn.marginal(bnn.Posterior(network, data.x_train, data.y_train, noise))
    assert isinstance(mapped, Hierarchical)
    centre = mapped.coordinates.centre
    plain = Hierarchical(mapped.inner, Coordinates(centre, jnp.eye(1)))
    for name, target in (("as it is", plain), ("mapped", mapped)):
        run = bnn.sample(target, bnn.HMC(4), warmup=draws, draws=draws, x_test=data.x_test)
        steps = run["sample_stats"].to_dataset()["step_size"]
        found = bnn.convergence(run)
        ess = {
            key: found[key].ess_per_gradient for key in ("hyperparameters", "predictions", "hidden")
        }
        print(
            f"  width {width}, {name}: step size {float(steps.mean()):.3f}, ESS per gradient: ",
            end="",
        )
        print(", ".join(f"{key} {value:.4f}" for key, value in ess.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, for the tests")
    smoke = parser.parse_args().smoke
    jax.config.update("jax_enable_x64", True)
    print(f"sampling, on {jax.devices()[0].device_kind}, jax {jax.__version__}")
    n, d, widths, draws, rounds = 256, 3072, (1024, 4096), 30, 3
    if smoke:
        n, d, widths, draws, rounds = 8, 12, (16,), 3, 1
    with threadpool_limits(1, user_api="blas"):
        print(f"dual over primal form, gradient of the marginal density, n = {n}, d = {d}, float32")
        dual_over_primal(n, d, widths[-1], rounds)
        print(f"rotation HMC, 8 steps a draw, marginal target, n = {n}, d = {d}, float32")
        for width in widths:
            outside_gradients(n, d, width, draws, rounds)
    print("ESS of the predictions per gradient, marginal / standard, digits, n = 64")
    for width in (8,) if smoke else (512, 2048):
        ess_per_gradient(width, *((20, 20) if smoke else (200, 1)))
    print("acceptance of pCN at angle 0.1, marginal target, digits, n = 64")
    for width in (8,) if smoke else (128, 512, 2048, 8192):
        pcn_acceptance(width, 20 if smoke else 1000)
    print("unknown noise, diabetes, n = 300, marginal target, HMC(4)")
    unknown_noise(*((8, 10) if smoke else (512, 300)))
    print("float32 against float64, digits, noise_std = 0.1")
    n, width, draws = (8, 8, 20) if smoke else (256, 512, 1000)
    acceptance_at(bnn.HMC(4, jitter=0.0), 0.15, n, width, 3 * draws)
    precisions(n, width, draws)


if __name__ == "__main__":
    main()
