"""All baselines of a posterior with one call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from jax.typing import ArrayLike

from bnnsample.checks import BadInput, NoKnownLimit, check_count
from bnnsample.diagnostics.baselines.deep_ensemble import deep_ensemble
from bnnsample.diagnostics.baselines.evidence_mode import at_evidence_mode
from bnnsample.diagnostics.baselines.last_layer_laplace import last_layer_laplace
from bnnsample.diagnostics.baselines.map import map_baseline
from bnnsample.diagnostics.baselines.nngp import nngp_baseline
from bnnsample.diagnostics.baselines.ntk_ensemble import ntk_ensemble
from bnnsample.diagnostics.quality.predictive import Predictive
from bnnsample.models.posterior import Posterior, as_test_inputs
from bnnsample.numerics import full_precision
from bnnsample.repriorisation.base import check_posterior


class Baselines(dict[str, Predictive]):
    """Predictives by name; ``left_out`` has the reason for each baseline that there is none of."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: dict[str, str] = {}


@full_precision
def baselines(
    posterior: Posterior, x_test: ArrayLike, *, seed: int = 0, members: int = 5
) -> Baselines:
    """What simpler methods predict at ``x_test`` (m, ...) from the same posterior.

    ``"NNGP"``, the infinitely wide network (1711.00165); ``"NTK ensemble"``, infinitely many of
    them trained to the end (1902.06720); ``"MAP"``, the most probable parameters;
    ``"deep ensemble"`` of ``members`` trained on the likelihood alone (1612.01474);
    ``"last-layer Laplace"``, a readout that is uncertain on the features of the most probable
    network (2002.10118). Unknown hyperparameters are those of
    highest evidence of the limit, for all of them. Each is a ``Predictive``, for ``bnn.quality``:

        for name, predictive in bnn.baselines(posterior, x_test).items():
            print(name, bnn.quality(predictive, y_test))

    Those that do not apply are left out, with the reason in ``.left_out``. Raises ``ValueError``
    for bad input.
    """
    check_posterior(posterior)
    check_count("seed", seed, minimum=0)
    check_count("members", members)
    x_test = as_test_inputs(x_test, posterior.x)
    methods: dict[str, Callable[..., Predictive]] = {
        "NNGP": nngp_baseline,
        "NTK ensemble": ntk_ensemble,
        "MAP": map_baseline,
        "deep ensemble": partial(deep_ensemble, members=members),
        "last-layer Laplace": last_layer_laplace,
    }
    known = at_evidence_mode(posterior)
    found = Baselines()
    for name, method in methods.items():
        try:
            found[name] = method(known, x_test, seed=seed)
        except (BadInput, NoKnownLimit) as error:
            found.left_out[name] = str(error)
    return found
