"""For a theorist: finite networks beside their infinite-width limit, and the map that it suggests.

1. Kernels: the covariance of a finite network's outputs given its hidden weights tends to the NNGP.
2. Posteriors: the exact posterior of a finite network tends to the NNGP posterior.
3. The map: sampled as they are, weights take smaller steps the wider the network is; after the map
   of the readout, larger ones.
4. Training: an ensemble of infinitely wide networks trained to the end knows no noise. It is near
   the posterior where there is little, and too sure where there is much.

Digits, one hidden gelu layer, noise std 0.1. ``--smoke`` has tiny sizes, whose figures mean
nothing.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp

import bnnsample as bnn

NOISE_STD = 0.1


def kernels(data: bnn.Dataset, widths: list[int], seeds: int) -> None:
    """Error of the empirical NNGP (n, n), which falls with the root of the width.

    Relative to the limit's, root mean square over entries and networks.
    """
    limit = bnn.nngp(bnn.fcn(1, 1, 10), data.x_train)  # (n, n), the same at every width
    print("\n1. Kernels\n width   relative error   times sqrt(width)")
    for width in widths:
        network = bnn.fcn(1, width, 10)
        squared = 0.0
        for key in jax.random.split(jax.random.key(0), seeds):
            params = network.init(key, data.x_train.shape[1:])
            finite = bnn.empirical_nngp(network, params, data.x_train)  # (n, n)
            squared += float(jnp.mean((finite - limit) ** 2)) / seeds
        error = (squared / float(jnp.mean(limit**2))) ** 0.5
        print(f"{width:6}   {error:14.4f}   {error * width**0.5:17.2f}")


def posteriors(data: bnn.Dataset, widths: list[int], draws: int) -> None:
    """Distance to the limit, and what two targets of the same posterior cost, by width."""
    print(
        "\n2. and 3. Posteriors, as they are ('standard') and after the map ('marginal')\n"
        " width   target     distance to the NNGP (± 1 s.e.)   step size   R-hat"
        "   ESS of predictions per 1000 gradients"
    )
    for width in widths:
        network = bnn.fcn(1, width, 10)
        posterior = bnn.Posterior(network, data.x_train, data.y_train, bnn.Gaussian(NOISE_STD))
        targets = {
            "standard": (bnn.standard, bnn.HMC(32, integrator="leapfrog")),
            "marginal": (bnn.marginal, bnn.HMC()),
        }
        for name, (target, sampler) in targets.items():
            run = bnn.sample(
                target(posterior), sampler, warmup=draws, draws=draws, x_test=data.x_test,
                keep=("predictions",),
            )  # fmt: skip
            distance = bnn.distance_to_nngp(run)
            low, high = distance.interval
            found = bnn.convergence(run)["predictions"]
            step_size = float(run["sample_stats"].dataset["step_size"].mean())
            print(
                f"{width:6}   {name:8}   {distance.value:13.3f} ({low:.3f} to {high:.3f})"
                f"{step_size:12.3f}   {found.rhat_max:5.2f}   {1e3 * found.ess_per_gradient:37.1f}"
            )


def training(data: bnn.Dataset) -> None:
    """Predictions of gradient descent beside those of Bayes, both infinitely wide, by noise."""
    network = bnn.fcn(1, 1, 10)
    flow = bnn.gradient_flow(network, data.x_train, data.y_train)
    print(
        "\n4. Trained for a time t, against the NNGP posterior, both infinitely wide\n"
        " noise std      t   distance of means, in the posterior's std   ratio of std"
    )
    for noise_std in (NOISE_STD, 1.0):
        bayes = bnn.nngp_posterior(network, data.x_train, data.y_train, noise_std)
        mean, covariance = bayes.predict(data.x_test)  # (m, 10), (m, m)
        std = jnp.sqrt(jnp.diagonal(covariance))
        for t in (0.0, 1.0, 10.0, jnp.inf):
            trained, spread = flow.predict(data.x_test, t)
            distance = jnp.sqrt(jnp.mean(((trained - mean) / std[:, None]) ** 2))
            ratio = jnp.mean(jnp.sqrt(jnp.diagonal(spread)) / std)
            print(f"{noise_std:10}   {t:4.0f}   {distance:41.2f}   {ratio:12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, for the tests")
    smoke = parser.parse_args().smoke
    jax.config.update("jax_enable_x64", True)
    data = bnn.load("digits", train=8 if smoke else 32, test=20)
    kernels(data, [4, 16] if smoke else [64, 256, 1024, 4096], seeds=2 if smoke else 100)
    posteriors(data, [4] if smoke else [32, 128, 512], draws=8 if smoke else 200)
    training(data)


if __name__ == "__main__":
    main()
