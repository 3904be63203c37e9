"""What the terminal shows of a model: its weights, and what a prediction is made of."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from headrace.pipelines.app.terminal import Terminal
from headrace.pipelines.jobs.explaining import Explanation
from headrace.pipelines.jobs.weighing import Weights


def weights_table(found: Weights, values: str | None) -> None:
    """Print weights, and how much of the model has no name.

    Parameters
    ----------
    found
        The weights.
    values
        Where names came from; None if there were no rows.
    """
    console = Terminal(highlight=False)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("index", justify="right", no_wrap=True)
    table.add_column("feature", overflow="fold")
    for weight in found.largest:
        name = " or ".join(weight.names) or "(no name)"
        table.add_row(f"{weight.weight:+.6f}", str(weight.index), name)
    console.print(table)
    source = "; no rows to take names from, see --values" if values is None else f" in {values}"
    console.print(
        f"{found.unnamed:,} of {found.coordinates:,} coordinates have no name"
        f" ({_share(found.unnamed_magnitude, found.magnitude)} of the sum of magnitudes){source}",
        soft_wrap=True,
    )
    if found.shared:
        console.print(f"{found.shared:,} have several names, whose hashes collide")


def explanation_table(found: Explanation) -> None:
    """Print a prediction, its parts in order of magnitude."""
    console = Terminal(highlight=False)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("adds", "weight", "value"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("feature", overflow="fold")
    for term in sorted(found.terms, key=lambda term: -abs(term.contribution)):
        weight = "" if term.weight is None else f"{term.weight:+.6f}"
        value = "" if term.value is None else f"{term.value:g}"
        table.add_row(f"{term.contribution:+.6f}", weight, value, term.name)
    if found.rest:
        table.add_row(f"{found.rest:+.1e}", "", "", "(rest)")
    console.print(table)
    uncertain = "" if found.uncertainty is None else f", uncertainty {found.uncertainty:.6f}"
    console.print(f"margin {found.margin:+.6f}, p {found.p:.6f}{uncertain}")


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "0.0%"
