"""Real tables with what tables have: missing values, text, yes and no, a constant, row numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import sklearn.datasets


def diabetes(rows: int = 442, *, seed: int = 0) -> pd.DataFrame:
    """scikit-learn's diabetes, the target ``progression``, with columns that it has not."""
    bundle: Any = sklearn.datasets.load_diabetes(as_frame=True)
    generator = np.random.default_rng(seed)
    table = bundle.frame.sample(rows, random_state=seed, ignore_index=True)
    table = table.rename(columns={"target": "progression"})
    table.loc[generator.choice(rows, rows // 8, replace=False), "bmi"] = np.nan
    region = pd.Series(generator.choice(["north", "south", "west"], rows))
    table["region"] = region.mask(generator.random(rows) < 0.1)
    table["smoker"] = generator.random(rows) < 0.4
    table["study"] = "first"
    return table


def wine(rows: int = 178) -> pd.DataFrame:
    """scikit-learn's wine, the target ``grape`` in words."""
    bundle: Any = sklearn.datasets.load_wine(as_frame=True)
    table = bundle.frame.sample(rows, random_state=0, ignore_index=True)
    names = np.array(["barolo", "grignolino", "barbera"])
    table["grape"] = names[table.pop("target")]
    return table
