"""Whether a new model may take over from the one that serves: a comparison on the same rows.

Both predicted the same impressions when these became known; the last window of event time whose
labels are final decides. What is compared is what a server does: calibrated, if it is.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from headrace.monitoring.ratios import auc, ratios
from headrace.monitoring.statistics import Floats, Int64s, Observation, Statistics
from headrace.schemas.records.restored import Int, Text, checked, written


@dataclass(frozen=True)
class GatePlan:
    """How much worse than the serving model a new one may be.

    Parameters
    ----------
    entropy
        Its log loss, and so its normalised entropy, is at most this share higher.
    calibration
        Its mean prediction over the label rate is within a factor of 1 plus this, or not further
        from 1 than the serving model's.
    auc
        Its AUC is at most this much lower.
    positives
        With fewer positives in the window nothing is said.
    """

    entropy: float = 0.02
    calibration: float = 0.1
    auc: float = 0.01
    positives: int = 100


@dataclass(frozen=True)
class GateFigures:
    """Figures of one model in the window that decides; None where undefined."""

    log_loss: float | None
    normalized_entropy: float | None
    calibration: float | None
    auc: float | None


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a new model.

    Parameters
    ----------
    reasons
        Why it is refused, a sentence each; none if it is accepted.
    window
        When the window that decided begins, microseconds.
    impressions, positives
        How many there are in it.
    serving, candidate
        Figures of the model that serves, and of the new one.
    """

    reasons: tuple[str, ...]
    window: int
    impressions: int
    positives: int
    serving: GateFigures
    candidate: GateFigures

    @property
    def accepted(self) -> bool:
        """Whether the new model may take over."""
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {"accepted": self.accepted, **asdict(self), "reasons": list(self.reasons)}


_Pair = tuple[dict[Text, Any], dict[Text, Any]]


@written
class _Written:
    number: Int | None
    now: _Pair
    last: _Pair


class Gate:
    """Sums of the window that is coming in, and of the last one whose labels are final.

    Parameters
    ----------
    plan
        How much worse a new model may be.
    window
        Length of a window, microseconds.
    """

    def __init__(self, plan: GatePlan, window: int) -> None:
        self.plan, self.window = plan, window
        self.number: int | None = None
        self.now, self.last = self._empty(), self._empty()

    def _empty(self) -> tuple[Statistics, Statistics]:
        return Statistics(self.window, ()), Statistics(self.window, ())

    def observe(
        self, event_time: Int64s, label: Floats, candidate: Floats, serving: Floats
    ) -> None:
        """Add impressions that settled, in order of event time, with log-odds of both models.

        Each array has the shape (n,).
        """
        numbers = event_time // self.window
        begin = 0
        while begin < numbers.size:
            number = int(numbers[begin])
            end = begin + int((numbers[begin:] == number).sum())
            if self.number is None or number > self.number:
                if self.number is not None:
                    self.last, self.now = self.now, self._empty()
                self.number = number
            here = slice(begin, end)
            one = 0 * label[here] + 1
            for statistics, margin in zip(self.now, (candidate, serving), strict=True):
                statistics.observe(
                    Observation(event_time[here], label[here], one, margin[here], {})
                )
            begin = end

    def verdict(self) -> Verdict | None:
        """Judge the new model; None if there is nothing, or not enough, to judge it by."""
        pair = self.last if not self.last[0].empty else self.now
        windows = pair[0].windows()
        if not windows:
            return None
        (window, sums), *_ = windows
        found = ratios(sums)
        if found["positives"] < self.plan.positives:
            return None
        candidate, serving = (_figures(statistics) for statistics in pair)
        return Verdict(
            tuple(_reasons(self.plan, candidate, serving)), window,
            found["samples"], found["positives"], serving, candidate,
        )  # fmt: skip

    def export(self) -> dict[str, Any]:
        """Return the whole state as JSON types."""
        pairs = {"now": self.now, "last": self.last}
        return {
            "number": self.number,
            **{name: [of.export() for of in pair] for name, pair in pairs.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        checked(_Written, state, "gate")
        self.number = state["number"]
        for name, pair in (("now", self.now), ("last", self.last)):
            for statistics, exported in zip(pair, state[name], strict=True):
                statistics.restore(exported)


def _figures(statistics: Statistics) -> GateFigures:
    found = ratios(statistics.totals()[""])
    return GateFigures(
        found["log_loss"], found["normalized_entropy"], found["calibration"], auc(statistics.bins)
    )


def _reasons(plan: GatePlan, new: GateFigures, old: GateFigures) -> list[str]:
    reasons = []
    if new.log_loss is not None and old.log_loss:
        worse = new.log_loss / old.log_loss - 1
        if not worse <= plan.entropy:
            reasons.append(
                f"its log loss is {worse:.2%} above that of the serving model "
                f"(at most {plan.entropy:.2%})"
            )
    if new.calibration is not None and old.calibration is not None:
        off, before = (abs(math.log(max(of.calibration or 0, 1e-9))) for of in (new, old))
        if not off <= max(math.log1p(plan.calibration), before):
            reasons.append(
                f"its predictions are {new.calibration:.3f} times the labels, the serving "
                f"model's {old.calibration:.3f} (at most {1 + plan.calibration:.3g} times off)"
            )
    if new.auc is not None and old.auc is not None and not old.auc - new.auc <= plan.auc:
        reasons.append(
            f"its AUC is {new.auc:.4f}, the serving model's {old.auc:.4f} "
            f"(at most {plan.auc:.3g} less)"
        )
    return reasons
