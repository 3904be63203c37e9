"""The tables of the report that say whether clicks rank above the rest alike in every slice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.monitoring.pairwise import FEWEST_EFFECTIVE, MOST_WEIGHT
from headrace.monitoring.report.verdict import with_interval

_MOST = 20


def pairwise_tables(pairwise: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what the report shows of the section ``pairwise`` of a learner; None without one.

    Returns
    -------
    dict
        ``tables``, of each slice column its name and rows of text; and ``note``, a sentence of
        counts.
    """
    if pairwise is None:
        return None
    tables: dict[str, list[list[str]]] = {}
    for of in pairwise["slices"]:
        rows = tables.setdefault(of["slice"], [])
        if len(rows) < _MOST:
            rows.append([
                of["value"], _figure(of, "intra"), _figure(of, "inter"), f"{of['positives']:,}",
                f"{of['effective_positives']:,.1f}", f"{of['unclicked']:,}",
            ])  # fmt: skip
    note = (
        f"Of all {pairwise['samples']:,} impressions together: {_figure(pairwise, 'accuracy')}. "
        f"Left out for want of a {pairwise['propensity']} above 0 and at most 1: "
        f"{pairwise['left_out']:,}. Clicks that weigh {MOST_WEIGHT:.0f} and not more: "
        f"{pairwise['clipped']:,}."
    )
    return {"tables": list(tables.items()), "note": note}


def _figure(of: Mapping[str, Any], name: str) -> str:
    if of["effective_positives"] < FEWEST_EFFECTIVE:
        return f"fewer than {FEWEST_EFFECTIVE:.0f} effective clicks"
    return with_interval(of, name, ".3f")
