"""Microcanonical Langevin ensembles of sklearn-contrib-bde (2502.06335).

In an environment of its own, as it asks for another version of blackjax. Settings are those that
its documentation shows for regression, but for the network's width and activation and the number of
members. Reads ``x``, ``y``, ``x_test`` from a .npz file; writes mean and standard deviation
of the predictions by draw, (member, draw, m), and the seconds that fit and predictions took.
"""

from __future__ import annotations

import itertools
import sys
import time

import numpy as np

ROWS = 4
"""Test points predicted at once: it computes the hidden units of every draw together."""


def main(data: str, out: str, width: str, epochs: str, warmup: str, samples: str) -> None:
    from bde import BdeRegressor  # pyright: ignore[reportMissingImports]
    from bde.loss import GaussianNLL  # pyright: ignore[reportMissingImports]

    arrays = np.load(data)
    began = time.perf_counter()
    model = BdeRegressor(
        hidden_layers=[int(width)], n_members=4, activation="gelu", seed=0, loss=GaussianNLL(),
        epochs=int(epochs), validation_split=0.15, lr=1e-3, weight_decay=1e-4, patience=10,
        warmup_steps=int(warmup), n_samples=int(samples), n_thinning=2,
    )  # fmt: skip
    model.fit(x=arrays["x"], y=arrays["y"].ravel())
    rows = itertools.batched(arrays["x_test"], ROWS)
    raw = np.concatenate([model.predict(np.stack(some), raw=True) for some in rows], axis=2)
    mean, std = raw[..., 0], np.logaddexp(0.0, raw[..., 1]) + 1e-6  # as its predict does
    np.savez(out, mean=mean, std=std, seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
