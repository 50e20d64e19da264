"""Targets with outliers."""

from __future__ import annotations

from dataclasses import dataclass

import numpyro.distributions as dist
from jaxtyping import Array, Float

from bnnsample.models.likelihoods.base import AbstractLikelihood, one_column_per_output
from bnnsample.models.scales import Std, as_std
from bnnsample.pytrees import as_pytree


@as_pytree("df", "scale")
@dataclass(frozen=True)
class StudentT(AbstractLikelihood):
    """``y = f + scale t`` with ``t`` from Student's t with ``df`` degrees of freedom.

    Independent over points and outputs. ``scale`` is in the units of ``y``; it is no standard
    deviation, which is ``scale sqrt(df / (df - 2))`` for ``df > 2``. Both may be priors: NumPyro
    distributions.
    """

    df: Std
    scale: Std

    def __post_init__(self) -> None:
        for name in ("df", "scale"):
            object.__setattr__(self, name, as_std(f"StudentT {name}", getattr(self, name)))

    def distribution(self, f: Float[Array, "n o"]) -> dist.Distribution:
        return dist.StudentT(self.df, f, self.scale)

    def as_targets(self, y: Float[Array, "n o"], outputs: int) -> Float[Array, "n o"]:
        one_column_per_output(y, outputs)
        return y
