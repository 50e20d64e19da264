"""For a practitioner: a table with unknown noise, predictions with intervals, and whether to act.

The table is scikit-learn's diabetes: ten measurements of a patient, and a score of how the disease
has progressed a year later (25 to 346). How noisy that score is, how smooth it is in the
measurements and how far it varies are not known, so they have priors and are sampled too.

1. Sample. 2. Read the verdict: is the computation to be believed? 3. Predict, in the table's units.
4. Hold the predictions against patients that were not used. 5. See whether something simpler does
as well. 6. Write the page with all of it. ``--smoke`` has tiny sizes, whose figures mean nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import sklearn.datasets

import bnnsample as bnn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, for the tests")
    parser.add_argument("--out", type=Path, default=Path("results/tutorials/practitioner"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    train, width, draws = (20, 8, 10) if options.smoke else (150, 256, 800)

    # your table: rows are cases, columns are measurements; shuffled once, then split
    table: Any = sklearn.datasets.load_diabetes(scaled=False)
    order = np.random.default_rng(0).permutation(len(table.data))
    x, y = table.data[order], table.target[order, None]  # (442, 10), (442, 1)
    # by what is known of the training rows alone: the priors below are for columns of unit size
    x = (x - x[:train].mean(axis=0)) / x[:train].std(axis=0)
    centre, unit = y[:train].mean(), y[:train].std()
    y = (y - centre) / unit
    x_test, y_test = x[-100:], y[-100:]

    # 1. one hidden layer; noise, smoothness (w_std) and size (w_std_out) of the function unknown
    network = bnn.fcn(
        1, width, 1, w_std=dist.LogNormal(0.3, 1.0), w_std_out=dist.LogNormal(0.0, 1.0)
    )
    likelihood = bnn.Gaussian(noise_std=dist.HalfNormal(1.0))
    posterior = bnn.Posterior(network, x[:train], y[:train], likelihood)
    run = bnn.sample(posterior, warmup=min(300, draws), draws=draws, x_test=x_test)

    # 2. True, or what failed and what to do about it, usually to draw more
    verdict = bnn.diagnose(run)
    print(f"verdict: {verdict.summary}")
    for finding in verdict.failed:
        print(f"  {finding}")

    # 3. draws of what would be measured, with noise, back in the table's units
    scores = centre + unit * run["predictions"]["y"].values  # (chain, draw, test_point, 1)
    low, median, high = np.quantile(scores, [0.05, 0.5, 0.95], axis=(0, 1))[..., 0]
    measured = centre + unit * y_test[:, 0]
    print("\npatient   predicted   90 % interval   measured")
    for i in range(5):
        print(f"{i:7}   {median[i]:9.0f}   {low[i]:5.0f} to {high[i]:4.0f}   {measured[i]:8.0f}")
    noise = unit * run["posterior"]["noise_std"].values
    print(f"\nnoise: {noise.mean():.0f} ± {noise.std():.0f} (posterior standard deviation)")

    # 4. are the intervals as wide as they should be? and 5. does something simpler do as well?
    simpler = bnn.baselines(posterior, x_test)
    rows = {"sampled network": bnn.quality(run, y_test)}
    rows |= {name: bnn.quality(predictive, y_test) for name, predictive in simpler.items()}
    print(f"\n{'method':20}{'log density*':>18}{'RMSE (score)':>16}   predictions are")
    for name, quality in rows.items():
        rmse, density = unit * quality.scores["RMSE"].value, quality.scores["log density"]
        print(f"{name:20}{density!s:>18}{rmse:16.1f}   {quality.direction}")
    print(f"* nats a patient, of scores in units of their standard deviation, {unit:.0f}")

    # 6. the same for someone who was not here; the verdict and its advice come first
    page = bnn.report(run, options.out, y_test=y_test, baselines=simpler, posterior=posterior)
    print(f"\npage: {page}")


if __name__ == "__main__":
    main()
