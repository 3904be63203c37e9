"""A guard that also looks at the arrivals of actions: learning waits before windows close.

What arrivals say has states, events and a recovery of its own beside those of labels. Fewer than
the band disconnect, more only warn: they change labels when they are labels, which the guard sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.monitoring import guard as labels
from headrace.monitoring.guard import (
    ASKING,
    DISCONNECTED,
    OVERALL,
    RARER,
    STATES,
    WARNED,
    WATCHING,
    YOUNG,
    Bools,
    GuardPlan,
    Int32s,
    LabelGuard,
)
from headrace.monitoring.lead import FEWER, SILENCE, YOUNG_SILENCE, Block, Lead, LeadPlan, Suspicion
from headrace.monitoring.statistics import Int64s
from headrace.schemas.config.durations import SECOND, format_duration, format_moment, iso_moment
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.restored import (
    Count,
    Finite,
    Flag,
    Moment,
    Sum,
    Text,
    checked,
    expect,
    written,
)

LEAD = "lead-"
"""Events of the arrivals begin with it in the journal, and go on as those of a guard."""

_HOLDER = 2**31 - 1
"""Stands for the arrivals where scopes have numbers."""
_YOUNG_BAND = 4.0
"""What a model predicts before it is settled may be wrong by so many times."""
_BLOCKS_A_WINDOW = 4
"""While arrivals are disconnected, a window has so many blocks: three have passed when it has."""
_SHORTEST_BLOCK = 150 * SECOND
"""But a block is at least so long, microseconds: a source that comes and goes is one fault."""


@written
class _Written:
    lead: dict[Text, Any]
    arrivals: tuple[Count, Moment, Moment, Count, Finite, Text | None, Count, Flag]
    block: tuple[Moment, Count, Sum] | None


class LeadGuard(LabelGuard):
    """Guards one label by its labels and by the arrivals of its actions.

    Parameters
    ----------
    label, plan, columns, armed
        See `headrace.monitoring.guard.LabelGuard`.
    lead
        Where the arrivals are.

    Attributes
    ----------
    standing
        State of the arrivals, as of a guard.
    """

    def __init__(
        self,
        label: str,
        plan: GuardPlan,
        columns: tuple[str, ...],
        armed: bool,
        lead: LeadPlan,
    ) -> None:
        super().__init__(label, plan, columns, armed)
        self.arrivals = Lead(lead, plan.disconnect, (plan.alarm, plan.alarm * RARER))
        self.standing = YOUNG
        self.entered = self.calm_since = NEVER
        self.calm = 0
        self.band = _YOUNG_BAND
        self.why: str | None = None
        self.block: Block | None = None
        self.waited_us = 0
        self.heeds = False
        """Whether labels may end a disconnect: those of impressions after it began."""
        self.waits: list[tuple[int, bool]] = []

    @property
    def holding(self) -> bool:
        """Whether it holds back any rows now: those of a value, or all."""
        return super().holding or (self.plan.holds and self.standing >= DISCONNECTED)

    @property
    def lead(self) -> Lead:
        """What is to be told of the arrivals of actions."""
        return self.arrivals

    def begin(self) -> None:
        """Begin an epoch."""
        super().begin()
        self.waits = [(NEVER, True)] if self.standing >= DISCONNECTED else []

    def holder(self, scopes: Int32s) -> Int32s:
        """Return what holds each row back now, -1 for nothing, shape (m,)."""
        held = super().holder(scopes)
        if self.plan.holds and self.standing >= DISCONNECTED:
            self.counts["held"] += int(np.count_nonzero(held < 0))
            held[held < 0] = _HOLDER
        return held

    def reason(self, holder: int) -> str:
        """Return why a scope, or what arrives, holds rows back."""
        if holder == _HOLDER:
            assert self.why is not None
            return self.why
        return super().reason(holder)

    def held_at(self, emit: Int64s, columns: Mapping[str, pa.Array]) -> Bools:
        """Return which rows beside the samples of this epoch fell into a disconnect, shape (m,)."""
        held = super().held_at(emit, columns)
        if self.plan.holds and self.waits:
            times = np.array([time for time, _ in self.waits])
            off = np.array([False, *(off for _, off in self.waits)])
            held |= off[np.searchsorted(times, emit, side="left")]
        return held

    def _decide(self, now: int) -> None:
        accepted = self.accepted
        super()._decide(now)
        if self.accepted > accepted and self.standing >= WARNED:
            self._accept_arrivals(now)
        self.lead.advance(
            now,
            armed=self.standing in (WATCHING, WARNED),
            frozen=self.standing >= WARNED,
            silence=YOUNG_SILENCE if self.standing == YOUNG else SILENCE,
        )
        block = self.lead.take_block(labels.BLOCK_POSITIVES, self._block_length(now))
        if block is not None:
            self._judge_block(block, now)
        suspicion = self.lead.suspicion()
        if suspicion is not None:
            self._suspect(suspicion, now)
        if self.standing >= DISCONNECTED and self.state < DISCONNECTED:
            self._heed_labels(now)
        if self.standing == DISCONNECTED and now - self.entered >= self.plan.cap:
            self.standing = ASKING
            asked = f"so for {format_duration(self.plan.cap)}: is this how it is now?"
            self._tell(now, "ask", f"{self.why}; {asked}", self._last_block())
        if self.standing == YOUNG and self.state != YOUNG and self.lead.knows_usual:
            self._become(WATCHING, now)
            self.lead.reset()
            reason = f"{self.label}: {self.lead.usual:.2f} arrivals for each expected positive"
            self._tell(now, "armed", reason, self._last_block())

    def _suspect(self, found: Suspicion, now: int) -> None:
        if found.side == FEWER and self.standing < DISCONNECTED:
            self.band = _YOUNG_BAND if self.standing == YOUNG else self.plan.disconnect
            event, state = "disconnect", DISCONNECTED
        elif found.side != FEWER and self.standing == WATCHING:
            self.band = self.plan.disconnect
            event, state = "warn", WARNED
        else:
            return
        moment = format_moment(found.since)
        arrivals = f"{found.arrivals:,}" if found.arrivals else "no"
        reason = (
            f"{self.label}: {arrivals} arrivals since {moment}, where "
            f"{found.expected:,.1f} were expected"
        )
        if not found.arrivals:
            reason += ": the source is idle, or lost"
        self._become(state, now)
        self.trial = False
        self._tell(
            found.time, event, reason, (found.arrivals, found.expected),
            "fewer" if found.side == FEWER else "more", found.evidence,
        )  # fmt: skip
        self.lead.clear_block()
        if state == DISCONNECTED:
            self.why = reason
            self.waits.append((now, True))

    def _block_length(self, now: int) -> int:
        """Return how long a block must be, microseconds; it always has some expected arrivals."""
        if self.standing < DISCONNECTED:
            return labels.BLOCK_LENGTH
        # The first is short, to say from when on arrivals are right; and the last may be.
        if self.calm_since == NEVER or self._has_recovered(now):
            return 0
        part = max(self.lead.plan.released // _BLOCKS_A_WINDOW, _SHORTEST_BLOCK)
        return min(labels.BLOCK_LENGTH, part)

    def _has_recovered(self, now: int) -> bool:
        """Return whether arrivals have been right for long enough, but for the block under way.

        That is a window: until then labels leave of impressions whose actions were lost.
        """
        since = self.calm_since + self.lead.plan.released
        return self.calm >= labels.CALM_BLOCKS and now >= since

    def _judge_block(self, block: Block, now: int) -> None:
        self.block = block
        calm = block.expected / self.band <= block.arrivals <= block.expected * self.band
        off = self.standing >= DISCONNECTED
        self.calm = self.calm + 1 if calm else 0
        if not calm:
            self.calm_since = NEVER
        elif self.calm_since == NEVER:
            # Not from its begin on: its first part may be of the fault.
            self.calm_since = self.lead.passed
        if self.calm < labels.CALM_BLOCKS or self.standing < WARNED:
            return
        if off and not self._has_recovered(now):
            return
        event = "reconnect" if off else "calm"
        reason = (
            f"{self.label}: {labels.CALM_BLOCKS} blocks in a row within the band; in the last "
            f"{block.arrivals:,} arrivals, {block.expected:,.1f} expected"
        )
        # A disconnect of labels that began later is of the same fault.
        same = off and int(self.arrays.entered[OVERALL]) >= self.entered
        young = self.band == _YOUNG_BAND
        self._reconnect(YOUNG if young else WATCHING, now)
        self._tell(now, event, reason, self._last_block())
        self.lead.reset()
        if same and self.state >= DISCONNECTED:
            self._try_labels()

    def _heed_labels(self, now: int) -> None:
        """Connect again if labels are right: then the usual number of arrivals was not.

        As after many were logged twice, for so long that it was taken to be usual.
        """
        calm = self.arrays.calm
        if not self.heeds:
            if now >= self.entered + self.lead.plan.released:
                self.heeds = True
                calm[OVERALL] = 0
        elif calm[OVERALL] >= labels.CALM_BLOCKS:
            reason = (
                f"{self.label}: {labels.CALM_BLOCKS} blocks of labels in a row within the band; "
                "how many arrivals are usual is learned anew"
            )
            self._reconnect(YOUNG, now)
            self.band = _YOUNG_BAND
            self.lead.forget()
            self._tell(now, "reconnect", reason, self._last_block())

    def _accept_arrivals(self, now: int) -> None:
        self._reconnect(YOUNG, now)
        self.band = _YOUNG_BAND
        self.lead.forget()
        reason = f"{self.label}: arrivals accepted as they are by guard.accept"
        self._tell(now, "accept", reason, self._last_block())

    def _reconnect(self, state: int, now: int) -> None:
        if self.standing >= DISCONNECTED:
            self.waits.append((now, False))
        self._become(state, now)
        self.why = None

    def _become(self, state: int, now: int) -> None:
        if self.standing >= DISCONNECTED:
            self.waited_us += now - self.entered
        self.standing, self.entered = state, now
        self.calm, self.calm_since = 0, NEVER
        self.heeds = False

    def _last_block(self) -> tuple[int, float]:
        return (0, 0.0) if self.block is None else (self.block.arrivals, self.block.expected)

    def _tell(
        self,
        time: int,
        event: str,
        reason: str,
        sums: tuple[int, float],
        direction: str | None = None,
        evidence: float | None = None,
    ) -> None:
        self._note(0, time, LEAD + event, reason, sums, direction, evidence)

    def standing_of_arrivals(self) -> dict[str, Any]:
        """Return where the arrivals stand, as JSON types."""
        block = self.block
        since = None if self.entered == NEVER else iso_moment(self.entered)
        return {
            "state": STATES[self.standing],
            "since": since,
            "positives": None if block is None else block.arrivals,
            "expected": None if block is None else block.expected,
            "ratio": None if block is None else block.arrivals / block.expected,
            "reason": self.why,
        }

    def _standing(self, at: int) -> dict[str, Any]:
        """Return a scope's state; that of all samples is that of the arrivals if it is worse."""
        found = super()._standing(at)
        if at == OVERALL and self.standing >= WARNED and self.standing > self.state:
            arrivals = self.standing_of_arrivals()
            found |= {name: arrivals[name] for name in ("state", "since", "reason")}
        return found

    def summary(self) -> dict[str, Any]:
        """Return where the guard stands, as JSON types."""
        waited_us = self.waited_us
        if self.standing >= DISCONNECTED:
            waited_us += self.now - self.entered
        arrivals = {
            **self.standing_of_arrivals(),
            "usual": self.lead.usual,
            "disconnected_s": waited_us / SECOND,
        }
        return {**super().summary(), "arrivals": arrivals}

    def export(self) -> dict[str, Any]:
        """Return the whole state as JSON types."""
        block = self.block
        return {
            **super().export(),
            "lead": self.lead.export(),
            "arrivals": [
                self.standing, self.entered, self.calm_since, self.calm, self.band, self.why,
                self.waited_us, self.heeds,
            ],
            "block": None if block is None else [block.began, block.arrivals, block.expected],
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        own = ("lead", "arrivals", "block")
        super().restore({name: of for name, of in state.items() if name not in own})
        checked(_Written, {name: state[name] for name in own}, "arrivals")
        expect(state["arrivals"][0] < len(STATES), "arrivals", "have another state")
        self.lead.restore(state["lead"])
        (
            self.standing, self.entered, self.calm_since, self.calm, self.band, self.why,
            self.waited_us, self.heeds,
        ) = state["arrivals"]  # fmt: skip
        self.block = None if state["block"] is None else Block(*state["block"])
