"""For a researcher: a gold standard of the posterior, and how far approximations are from it.

1. Is the sampler right? ``bnn.validate`` holds target and sampler against exact answers.
2. Did this run converge? ``bnn.diagnose`` judges it, and a second run with another seed says how
   far two gold standards are apart: no approximation can be judged more finely.
3. How far is an approximation? By predictive means in units of the posterior's own standard
   deviation, and by the ratio of standard deviations: of a MAP estimate, a deep ensemble and
   last-layer Laplace here. Your own is another ``bnn.Predictive``: its outputs at the test inputs.

Diabetes, two hidden tanh layers, noise std 0.5. ``--smoke`` has tiny sizes, whose figures mean
nothing.
"""

from __future__ import annotations

import argparse

import jax
import numpy as np

import bnnsample as bnn


def moments(predictive: bnn.Predictive) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (m, o) of the outputs, without noise, of a mixture of laws."""
    f = np.asarray(predictive.f)  # (k, m, o), one for each component
    within = 0.0 if predictive.f_std is None else np.mean(predictive.f_std**2, axis=0)
    return f.mean(axis=0), np.sqrt(f.var(axis=0) + within)


def apart(approximation: bnn.Predictive, gold: bnn.Predictive) -> tuple[float, float]:
    """Distance of means in the gold standard's deviations, root mean square, and ratio of these."""
    mean, std = moments(approximation)
    gold_mean, gold_std = moments(gold)
    distance = np.sqrt(np.mean(((mean - gold_mean) / gold_std) ** 2))
    return float(distance), float(np.exp(np.mean(np.log(np.maximum(std, 1e-12) / gold_std))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, for the tests")
    smoke = parser.parse_args().smoke
    jax.config.update("jax_enable_x64", True)
    train, width, draws = (10, 8, 10) if smoke else (60, 128, 1000)
    data = bnn.load("diabetes", train=train, test=100)
    network = bnn.fcn(2, width, 1, activation="tanh")
    posterior = bnn.Posterior(network, data.x_train, data.y_train, bnn.Gaussian(noise_std=0.5))

    # 1. of the target and sampler that bnn.sample takes; on small problems, in a minute
    checked = bnn.preflight(posterior) if smoke else bnn.validate(target=bnn.marginal)
    print(f"validation: {checked.summary}")

    # 2. two runs of one posterior
    settings = {"warmup": draws // 2, "draws": draws, "x_test": data.x_test}
    run, again = (bnn.sample(posterior, seed=seed, **settings) for seed in (0, 1))
    print(f"run: {bnn.diagnose(run).summary}")
    print(f"again: {bnn.diagnose(again).summary}")

    # 3. each approximation beside the gold standard; the second run is the finest difference
    gold = bnn.predictive_of(run)
    others = {"sampled again": bnn.predictive_of(again)}
    others |= bnn.baselines(posterior, data.x_test, members=2 if smoke else 10)
    print(f"\n{'approximation':20}{'distance of means':>18}{'ratio of std':>14}{'log density':>18}")
    print(
        f"{'(gold standard)':20}{'':32}{bnn.quality(gold, data.y_test).scores['log density']!s:>18}"
    )
    for name, predictive in others.items():
        distance, ratio = apart(predictive, gold)
        density = bnn.quality(predictive, data.y_test).scores["log density"]
        print(f"{name:20}{distance:18.3f}{ratio:14.3f}{density!s:>18}")


if __name__ == "__main__":
    main()
