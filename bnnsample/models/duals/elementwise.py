"""An elementwise function with its dual, and what may be one."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from bnnsample.checks import bad_input, check_scale
from bnnsample.models.duals.dual import Dual
from bnnsample.models.duals.hermite import Function, HermiteDual

PROBES = (-1.3, 0.4, 2.1)
"""Where a function is tried; arbitrary."""


@dataclass(frozen=True)
class Elementwise:
    """An elementwise function and its dual."""

    function: Function
    dual: Dual

    @property
    def error(self) -> float:
        """What the dual's expansion misses, see ``Expansion``; 0 for a closed form.

        For pre-activations of standard deviation 0.5 to 2, see ``error_at`` for others.
        """
        return self.dual.expansion.error if isinstance(self.dual, HermiteDual) else 0.0

    @property
    def slope_error(self) -> float:
        """The same of its slope, which tangent kernels take."""
        return self.dual.expansion.slope_error if isinstance(self.dual, HermiteDual) else 0.0

    def error_at(self, std: float) -> float:
        """``error`` for pre-activations of this standard deviation."""
        check_scale("error_at std", std)
        if not isinstance(self.dual, HermiteDual):
            return 0.0
        return self.dual.expansion_at((float(std) ** 2,)).error


def check_elementwise(function: Function) -> None:
    """Raise unless ``function`` is a hashable JAX function that maps each entry on its own."""
    try:
        hash(function)
        with jax.ensure_compile_time_eval():
            points = jnp.asarray(PROBES)
            whole = jax.jit(function)(points)
            single = np.concatenate(
                [np.ravel(function(points[i : i + 1])) for i in range(len(PROBES))]
            )
    except (TypeError, ValueError) as error:
        raise bad_input(
            "Activation",
            got=f"a function that fails on an array: {str(error).splitlines()[0]}",
            expected="an elementwise function of JAX arrays, hashable",
            probably="a NumPy function, which jax.numpy has too, or a module, to be wrapped as "
            "lambda x: module(x)",
        ) from error
    if not whole.shape == single.shape == points.shape:
        raise bad_input(
            "Activation",
            got=f"a function that maps shape {points.shape} to {whole.shape}",
            expected="an elementwise function",
            probably="a reduction or a layer was passed",
        )
    if not np.allclose(whole, single, 1e-4, 1e-6, equal_nan=True):
        raise bad_input(
            "Activation",
            got="a function of which an entry's value depends on other entries",
            expected="an elementwise function",
            probably="a softmax or another normalisation; Custom takes any function",
        )
