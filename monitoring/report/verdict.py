"""The first lines of the report: whether something is to be done, and the headline figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BAND = 1.25
"""A ratio of positives to predictions within a factor of this is no reason to act."""

_GUARD = {
    "young": ("plain", "is young: it judges nothing yet"),
    "watching": ("good", "is watching, and found nothing"),
    "warned": ("finding", "has warned"),
    "disconnected": ("bad", "has disconnected learning"),
    "asking": ("bad", "has disconnected learning and asks for a decision"),
}


def verdicts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the sentences of the verdict, each with the class of its box.

    Of each guard its state; of each label, by the first learner with final labels, how many
    positives came for those predicted, and the worst slice.
    """
    found = []
    for label, guard in summary.get("guard", {}).items():
        kind, state = _GUARD[guard["state"]]
        since = "" if guard.get("since") is None else f" since {guard['since'][:16]}"
        found.append((kind, f"The guard of {label} {state}{since.replace('T', ' ')}."))
    judged: set[str] = set()
    for name, learner in summary["learners"].items():
        figures, label = learner["after_warm_up"], learner["label"]
        if figures is not None and figures["actual"] is not None and label not in judged:
            judged.add(label)
            found.append(_of_label(name, learner, figures))
    if summary["learners"] and not judged:
        found.append(("plain", "Nothing is judged: no label of a learner is final."))
    return found


def _of_label(name: str, learner: Mapping[str, Any], figures: Mapping[str, Any]) -> tuple[str, str]:
    label, (low, high) = learner["label"], figures["actual_interval"]
    off = low > BAND or (high is not None and high < 1 / BAND)
    text = (
        f"{label}: {figures['actual']:.3f} times as many positives as learner {name} predicts "
        f"({low:.3f} to {high:.3f}; {figures['positives']:,} of {figures['samples']:,} samples)."
    )
    worst = learner["worst_slice"]
    if worst is None:
        return "finding" if off else "good", f"{text} No slice has 20 predicted positives."
    beyond = max(worst["low"], 1 / worst["high"])
    chance = "" if beyond > 1 else ", which may be chance"
    return (
        "finding" if off or beyond > BAND else "good",
        f"{text} Worst slice: {worst['slice']} {worst['value']}, {worst['actual']:.2f} times "
        f"({worst['low']:.2f} to {worst['high']:.2f}; {worst['positives']:,} for "
        f"{worst['expected']:,.0f} predicted, {worst['samples']:,} samples){chance}.",
    )


def headline_rows(learners: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """Return a row of headline figures for each learner, without the warm-up."""
    rows = []
    for name, learner in learners.items():
        of = learner["after_warm_up"]
        if of is None:
            continue
        rows.append(
            [
                name, "before learning" if of["predicted"] == "learned" else "as served",
                f"{of['samples']:,}", f"{of['positives']:,}",
                with_interval(of, "label_rate", ".3%"), with_interval(of, "calibration", ".3f"),
                with_interval(of, "normalized_entropy"), with_interval(of, "log_loss"),
            ]
        )  # fmt: skip
    return rows


def with_interval(figures: Mapping[str, Any], name: str, form: str = ".4f") -> str:
    """Return a figure in words, with its interval where there is one."""
    text = number(figures[name], form)
    interval = figures.get(f"{name}_interval")
    if figures[name] is None or interval is None:
        return text
    low, high = interval
    return f"{text} ({low:{form}} to {'any' if high is None else format(high, form)})"


def number(value: float | None, form: str = ".4f") -> str:
    """Return a figure as text."""
    return "undefined" if value is None else format(value, form)
