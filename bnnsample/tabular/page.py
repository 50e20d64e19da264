"""What the page of a fit says of its table: columns, rows, and scores in the target's units."""

from __future__ import annotations

from bnnsample.diagnostics.quality.quality import Quality
from bnnsample.reports.page import Facts, Section, Table
from bnnsample.tabular.fits import Fit
from bnnsample.tabular.targets import LabelTarget


def about(fit: Fit, found: Quality | None) -> Section:
    """The section on the table of a fit, with its scores ``found`` where rows were held out.

    Those are of standardised targets, as the run has them.
    """
    sentences = [fit.target.sentence(), *fit.encoding.sentences()]
    if fit.settings.drop:
        sentences.append(f"left out by --drop: {', '.join(fit.settings.drop)}")
    facts = Facts(dict(sentence.split(": ", 1) for sentence in sentences))
    if isinstance(fit.target, LabelTarget):
        numbered = ", ".join(
            f'{place} = "{label}"' for place, label in enumerate(fit.target.classes)
        )
        return Section("The table", f"Below, classes are numbered: {numbered}.", (facts,))
    name, mean, std = fit.target.name, fit.target.mean, fit.target.std
    text = (
        f"In the other sections targets are those of the run, standardised: ({name} - {mean:.4g}) "
        f"/ {std:.4g}; an error of 1 there is one of {std:.4g} in the units of {name}."
    )
    if found is None:
        return Section("The table", text, (facts,))
    own = fit.target.in_units(found)
    rows = [(score, str(value)) for score, value in own.scores.items()]
    rows += [(f"mean width of {i.level:.0%} intervals", f"{i.width:.4g}") for i in own.intervals]
    scores = Table(
        ("score", f"in the units of {name}"), tuple(rows),
        f"At the {len(fit.held_out)} rows that were held out, ± standard errors.",
    )  # fmt: skip
    return Section("The table", text, (facts, scores))
