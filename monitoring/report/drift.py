"""The table of the report that says how features, scores and actions differ from what they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOST = 15
_MEASURES = {
    "distribution": "stability index",
    "null": "share of nulls",
    "unseen": "share of new values",
    "duplicates": "share of duplicates",
    "actions": "actions of a positive",
}


def drift_table(drift: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what the report shows of the section ``drift`` of a summary; None if it has none.

    Returns
    -------
    dict
        ``reference``, when the day begins that is compared with, as text, empty if there was none;
        ``rows``, what differs most first, each of text; and ``left_out``, how many are not shown.
    """
    if drift is None:
        return None
    lines, reference = drift["lines"], drift["reference"]
    return {
        "reference": "" if reference is None else _when(reference),
        "rows": [_row(line) for line in lines[:_MOST]],
        "left_out": max(0, len(lines) - _MOST),
    }


def _row(line: Mapping[str, Any]) -> list[str]:
    share = line["measure"] in ("null", "unseen", "duplicates")
    form = ".2%" if share else ".3f"
    before = "" if line["measure"] == "distribution" else format(line["reference"], form)
    return [
        f"{line['of']} {line['name']}", _MEASURES[line["measure"]], line["level"],
        format(line["value"], form), before, f"{line['rows']:,}", _when(line["hour"]),
        f"{line['much']:,} of {line['hours']:,}",
    ]  # fmt: skip


def _when(moment: str) -> str:
    return moment.replace("T", " ")[:16]
