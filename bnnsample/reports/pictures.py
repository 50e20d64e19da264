"""The pictures of a comparison, with their captions."""

from __future__ import annotations

from collections.abc import Sequence

from xarray import DataTree

from bnnsample.reports.figures import (
    as_svg,
    distance_figure,
    efficiency_figure,
    prediction_figure,
    trace_figure,
)
from bnnsample.reports.page import Picture
from bnnsample.reports.settings import REFERENCE, WidthsSettings
from bnnsample.reports.summary import Summary


def pictures(
    settings: WidthsSettings,
    summaries: Sequence[Summary],
    runs: dict[tuple[int, str], DataTree],
) -> list[Picture]:
    """Efficiency, distance to the limit, predictions and traces of a comparison of widths."""
    narrow, wide = min(settings.widths), max(settings.widths)
    shown = REFERENCE if REFERENCE in settings.targets else settings.targets[0]
    return [
        Picture(
            "efficiency",
            "How many effective draws a gradient buys",
            "Median effective sample size divided by the number of gradient evaluations, against "
            "width, both axes logarithmic; higher is better. One panel each for projections of the "
            "hidden weights, of the readout, and for the predictions.",
            as_svg(efficiency_figure(summaries)),
        ),
        Picture(
            "distance",
            "How far the finite networks are from the infinite one",
            "Distance of the posterior predictive to the NNGP posterior at the test points, in "
            "units of the latter's standard deviation, with one Monte-Carlo standard error. Points "
            "whose unbiased squared distance is negative lie below the noise and are left out.",
            as_svg(distance_figure(summaries)),
        ),
        Picture(
            "predictions",
            "Predictions against the NNGP's",
            "Mean and 95 % interval of the noise-free output with the largest NNGP mean (for "
            "classes the predicted one) at every test point: the NNGP limit (grey), "
            f"width {narrow} and width {wide} "
            f"({shown} target).",
            as_svg(
                prediction_figure(
                    runs[narrow, shown],
                    runs[wide, shown],
                    (f"width {narrow}", f"width {wide}"),
                )
            ),
        ),
        Picture(
            "chains",
            "The chains",
            f"Draws at width {wide}. Shown is the component whose chains differ most. Chains that "
            "have converged overlap and look like noise.",
            as_svg(
                trace_figure(
                    [
                        (f"{name} target, width {wide}", runs[wide, name])
                        for name in settings.targets
                    ]
                )
            ),
        ),
    ]
