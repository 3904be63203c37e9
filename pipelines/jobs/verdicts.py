"""What became of every record of a key, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.rules import Durations, belongs, is_visible, known_at
from headrace.pipelines.jobs.keyjoin import KeyJoin, WantedKey
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.letterwords import letter_details
from headrace.pipelines.sources.recordnames import record_name
from headrace.schemas.config.durations import format_duration
from headrace.schemas.records.eventing import value_at
from headrace.schemas.records.events import (
    ARRIVAL,
    FOREVER,
    IMPRESSIONS,
    NEVER,
    OFFSET,
    RECORD,
    TIME,
    Outcome,
)
from headrace.schemas.records.texts import moment_texts


@dataclass(frozen=True)
class Verdict:
    """A record and what became of it.

    Parameters
    ----------
    stream, source, offset, row
        Where it is, as in dead letters.
    place
        The same, as people find it, such as ``clicks.csv line 17``.
    time
        Event time, microseconds; None of what is no event.
    id
        Of an action, its id as text; None without one.
    outcome
        What became of it: an `Outcome`, or the `Reason` for which it is invalid.
    why
        In words, with the times that decided it.
    """

    stream: str
    source: str
    offset: int
    row: int | None
    place: str
    time: int | None
    id: str | None
    outcome: str
    why: str

    @property
    def place_in_log(self) -> tuple[str, str, int, int | None]:
        """Where it is: no other record is there."""
        return self.stream, self.source, self.offset, self.row


@dataclass(frozen=True)
class _Event:
    """An event of the key."""

    number: int
    position: int
    record: int
    stream: int
    time: int
    arrival: int
    id: str | None

    @property
    def at(self) -> tuple[int, int]:
        """Source and position."""
        return self.number, self.position

    @property
    def known(self) -> int:
        """When it is known, by rule 3."""
        known: int = known_at.py_func(self.time, self.arrival)
        return known


def verdicts(inputs: Inputs, found: KeyJoin, wanted: WantedKey) -> list[Verdict]:
    """Return what became of the records of a key: impressions first, each stream by time."""
    return [*_of_events(inputs, found, wanted), *_of_rejects(inputs, found)]


def _of_events(inputs: Inputs, found: KeyJoin, wanted: WantedKey) -> Iterator[Verdict]:
    events = [event for source, batch in found.events for event in _events(inputs, source, batch)]
    events.sort(key=lambda event: (event.stream, event.time, event.number, event.position))
    dead = dict(_dead(inputs, found))
    shown = [e for e in events if e.stream == IMPRESSIONS and e.at not in dead]
    for event in events:
        if event.at in dead:
            outcome, why = dead[event.at]
        elif event.stream == IMPRESSIONS:
            outcome, why = _of_impression(event, found)
        else:
            outcome, why = _of_action(event, shown, found)
        source = inputs.logs[event.number].name
        numbering = inputs.streams[event.stream].numbering
        offset = int(numbering.message(event.record))
        row = int(numbering.row(event.record)) if numbering.row_bits else None
        yield Verdict(
            inputs.streams[event.stream].name, source, offset, row,
            record_name(source, offset, row, inputs.logs[event.number].format),
            event.time, event.id, outcome, why,
        )  # fmt: skip


def _events(inputs: Inputs, source: int, batch: pa.RecordBatch) -> Iterator[_Event]:
    stream = inputs.logs[source].stream
    named = inputs.streams[stream].events.id if stream != IMPRESSIONS else None
    records = batch.column(RECORD if RECORD in batch.schema.names else OFFSET)
    for row in range(batch.num_rows):
        found = None if named is None else value_at(batch.column(named), row)
        yield _Event(
            source, batch.column(OFFSET)[row].as_py(), records[row].as_py(), stream,
            batch.column(TIME)[row].as_py(), batch.column(ARRIVAL)[row].as_py(),
            None if found in (None, "") else str(found),
        )  # fmt: skip


def _dead(inputs: Inputs, found: KeyJoin) -> Iterator[tuple[tuple[int, int], tuple[str, str]]]:
    for rows in found.dead:
        details = letter_details(rows, found.plan, inputs.origins).to_pylist()
        for position, why in zip(rows.batch.column(OFFSET).to_pylist(), details, strict=True):
            yield (rows.source, position), (rows.outcome.value, why)


def _of_impression(event: _Event, found: KeyJoin) -> tuple[str, str]:
    settles = event.time + found.plan.release_delay
    if settles <= found.clock:
        return Outcome.SETTLED.value, f"it settled at {_moment(settles)}"
    return Outcome.OPEN.value, f"it settles at {_moment(settles)}; {_known_until(found.clock)}"


def _of_action(event: _Event, shown: list[_Event], found: KeyJoin) -> tuple[str, str]:
    plan = found.plan
    seen = [one for one in shown if _is_visible(event, one, plan)]
    mine = next((one for one in seen if _belongs(event, one, plan)), None)
    if mine is None:
        until = _moment(event.time + plan.action_deadline)
        came = f"it came {_apart(event, seen[-1], plan)}; " if seen else ""
        return Outcome.OPEN.value, (
            f"{came}an impression of its own may come, so it is decided at {until}; "
            f"{_known_until(found.clock)}"
        )
    settles = mine.time + plan.release_delay
    where = _apart(event, mine, plan)
    if event.at in found.undecided or settles > found.clock:
        return Outcome.OPEN.value, (
            f"it came {where}, which settles at {_moment(settles)}; {_known_until(found.clock)}"
        )
    return Outcome.SETTLED.value, f"it counts, {where}"


def _belongs(event: _Event, shown: _Event, plan: JoinPlan) -> bool:
    window = plan.actions[event.stream - 1].window
    return bool(belongs.py_func(shown.time, event.time, window, Durations.of(plan)))


def _is_visible(event: _Event, shown: _Event, plan: JoinPlan) -> bool:
    times = (shown.time, shown.known, event.time, event.arrival)
    return bool(is_visible.py_func(*times, Durations.of(plan)))


def _apart(event: _Event, shown: _Event, plan: JoinPlan) -> str:
    delay = event.time - shown.time
    window = format_duration(plan.actions[event.stream - 1].window)
    limit = f"window {window}" if delay >= 0 else f"early {format_duration(plan.early)}"
    apart = f"{format_duration(abs(delay))} {'after' if delay >= 0 else 'before'}"
    return f"{apart} the impression of {_moment(shown.time)} ({limit})"


def _of_rejects(inputs: Inputs, found: KeyJoin) -> Iterator[Verdict]:
    forms = {log.name: log.format for log in inputs.logs}
    for letter in found.rejects:
        yield of_letter(letter, forms.get(letter["source"]))


def of_letter(letter: dict[str, Any], form: str | None = None) -> Verdict:
    """Return what a dead letter says of its record."""
    source, offset, row = letter["source"], letter["offset"], letter["row"]
    return Verdict(
        letter["stream"], source, offset, row, record_name(source, offset, row, form), None, None,
        letter["reason"], letter["detail"],
    )  # fmt: skip


def _known_until(clock: int) -> str:
    if clock == NEVER:
        return "of some stream there is no event"
    return f"the log is known until {_moment(clock)}"


def _moment(time: int) -> str:
    if time >= FOREVER:
        return "its end"
    text: str = moment_texts(np.array([time]))[0].as_py()
    return text
