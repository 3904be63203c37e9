"""The join as `docs/join.md` states it, in a few quadratic lines."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.schemas.records.hashing import hash_columns


@dataclass(frozen=True)
class Impression:
    """A row of an impression source."""

    time: int
    arrival: int
    key: str
    source: int
    offset: int


@dataclass(frozen=True)
class Action:
    """A row of an action source; an empty id is none."""

    stream: int
    time: int
    arrival: int
    key: str
    id: str
    source: int
    offset: int


@dataclass
class Joined:
    """What must come out.

    `kept` has the place of each kept impression by key and time. Samples that leave when
    they have settled are by key and time, outcomes by (source, offset). `joined` has
    (impression's place, action's place, emit time); `early` has the samples that leave
    before they settle, by (emission, key, time, emit time, trigger); `corrections` are by (emit
    time, key, time, action's time and place). `about` has of each dead letter, by (source,
    offset), the event time of the impression that it is about, and of a duplicate action the place
    of the one that counted.
    """

    kept: dict[tuple[str, int], tuple[int, int]]
    about: dict[tuple[int, int], tuple[int | None, tuple[int, int, int] | None]]
    samples: dict[tuple[str, int], tuple]
    corrections: dict[tuple, tuple]
    outcomes: dict[tuple[int, int], str]
    positive_units: set[tuple[str, int]]
    joined: list[tuple]
    early: dict[tuple[str, str, int, int, int | None], tuple]


def place(row: Impression | Action) -> tuple[int, int, int]:
    return (row.time, row.source, row.offset)


def known(row: Impression | Action) -> int:
    """When the row can first have a consequence."""
    return max(row.time, row.arrival)


def reference_join(
    plan: JoinPlan, impressions: list[Impression], actions: list[Action], clock: int
) -> Joined:
    """Join a whole log, up to a final clock."""
    outcomes = {(r.source, r.offset): "open" for r in [*impressions, *actions]}

    about = {}

    def bury(
        row: Impression | Action,
        outcome: str,
        impression: Impression | None = None,
        counted: Action | None = None,
    ) -> None:
        outcomes[row.source, row.offset] = outcome
        about[row.source, row.offset] = (
            impression.time if impression else None,
            place(counted) if counted else None,
        )

    kept: list[Impression] = []  # in time; whether they have settled shows by the clock
    last: dict[str, Impression] = {}
    meeting = meet(plan, impressions, actions)
    for i in sorted(impressions, key=place):
        settle = i.time + plan.settle_delay
        if i.arrival >= settle:
            bury(i, "late")
        elif plan.meets:
            if i not in meeting.shadowed:
                kept.append(i)
            elif known(i) < clock:
                bury(i, "duplicate", meeting.shadowed[i])
        elif i.key in last and i.time < last[i.key].time + plan.dedup_horizon:
            if settle <= clock:
                bury(i, "duplicate", last[i.key])
        else:
            last[i.key] = i
            kept.append(i)

    def visible(a: Action, i: Impression) -> bool:
        settle = i.time + plan.settle_delay
        remembered = max(settle + plan.retention, i.time + plan.dedup_horizon)
        return known(a) < remembered and known(i) < a.time + plan.wait_for_impression

    def belongs(a: Action, i: Impression) -> bool:
        return i.time - plan.early <= a.time < i.time + plan.actions[a.stream].window

    labels: dict[Impression, list[Action]] = defaultdict(list)
    late: dict[Impression, list[Action]] = defaultdict(list)
    for a in sorted(actions, key=place):
        seen = [i for i in kept if i.key == a.key and visible(a, i)]
        own = [i for i in seen if belongs(a, i)]
        assert len(own) <= 1, "an action belongs to one kept impression at most"
        if not own:
            deadline = a.time + plan.wait_for_impression + plan.settle_delay
            if deadline <= clock:
                latest = max(seen, key=place, default=None)
                bury(a, "outside_window" if seen else "orphan", latest)
            continue
        i = own[0]
        settle = i.time + plan.settle_delay
        if a.arrival >= settle:
            if settle <= clock:
                bury(a, "late", i)
                if a.arrival < min(clock, settle + plan.retention):
                    late[i].append(a)
        elif same := [b for b in labels[i] if a.id and b.id == a.id and b.stream == a.stream]:
            if settle <= clock:
                bury(a, "duplicate", i, same[0])
        else:
            labels[i].append(a)

    corrections = {}
    for i, after in late.items():
        so_far = list(labels[i])
        for a in sorted(after, key=lambda a: (a.arrival, *place(a))):
            repeated = a.id and any(b.id == a.id and b.stream == a.stream for b in so_far)
            so_far = sorted([*so_far, a], key=place)
            if not repeated:
                name = (a.arrival, i.key, i.time, a.time, a.source, a.offset)
                corrections[name] = label_of(plan, so_far)

    joined = [
        (i.source, i.offset, a.source, a.offset, at)
        for i, a, at in meeting.pairs
        if at < clock
        and not any(
            b.id == a.id and a.id and b.stream == a.stream and j is i
            for j, b, _ in meeting.pairs[: meeting.pairs.index((i, a, at))]
        )
    ]

    samples = {}
    positive_units = set()
    for i in kept:
        if i.time + plan.release_delay > clock:
            continue
        outcomes[i.source, i.offset] = "settled"
        outcomes.update({(a.source, a.offset): "settled" for a in labels[i]})
        samples[i.key, i.time] = label_of(plan, labels[i])
        near = [
            j
            for j in kept
            if j.key.split("/")[0] == i.key.split("/")[0]
            and abs(j.time - i.time) <= plan.group_span
        ]
        if any(labels[j] for j in near):
            positive_units.add((i.key, i.time))
    early = early_samples(plan, kept, meeting, clock) if plan.emission.early else {}
    places = {(i.key, i.time): (i.source, i.offset) for i in kept}
    assert len(places) == len(kept), "no two kept impressions have one key and time"
    return Joined(
        places, about, samples, corrections, outcomes, positive_units, sorted(joined), early
    )


def label_of(plan: JoinPlan, actions: list[Action]) -> tuple:
    """Per stream: positive, time of the first action, count; `actions` in order of place."""
    label = []
    for stream in range(len(plan.actions)):
        own = [a for a in actions if a.stream == stream]
        counted = [a for n, a in enumerate(own) if not a.id or a.id not in {b.id for b in own[:n]}]
        label.append((bool(own), own[0].time if own else None, len(counted)))
    return tuple(label)


@dataclass
class Meeting:
    """Who met whom, (impression, action, when) in order; impressions shadowed, and by which."""

    pairs: list[tuple[Impression, Action, int]]
    shadowed: dict[Impression, Impression]


def meet(plan: JoinPlan, impressions: list[Impression], actions: list[Action]) -> Meeting:
    """Go through everything in the order of becoming known, impressions first."""
    table: list[Impression] = []
    waiting: list[Action] = []
    meeting = Meeting([], {})

    def meets(i: Impression, a: Action) -> bool:
        return (
            i.key == a.key
            and a.arrival < i.time + plan.settle_delay + plan.retention
            and known(i) < a.time + plan.wait_for_impression
            and i.time - plan.early <= a.time < i.time + plan.actions[a.stream].window
        )

    in_time = [i for i in impressions if i.arrival < i.time + plan.settle_delay]
    for row in sorted([*in_time, *actions], key=lambda r: (known(r), isinstance(r, Action),
                                                           *place(r))):  # fmt: skip
        if isinstance(row, Action):
            found = [i for i in table if meets(i, row)]
            if found:
                meeting.pairs.append((min(found, key=place), row, known(row)))
            else:
                waiting.append(row)
            continue
        others = [
            i for i in table if i.key == row.key and abs(row.time - i.time) < plan.dedup_horizon
        ]
        if others:
            meeting.shadowed[row] = min(others, key=place)
            continue
        table.append(row)
        for a in [a for a in waiting if meets(row, a) and known(a) < known(row)]:
            meeting.pairs.append((row, a, known(row)))
            waiting.remove(a)
    return meeting


def early_samples(plan: JoinPlan, kept: list[Impression], meeting: Meeting, clock: int) -> dict:
    """Return the first emissions, and the positive ones, by what identifies them."""
    window = max((action.window for action in plan.actions), default=0)
    samples = {}
    for i in kept:
        key0 = hash_columns([pa.array([part]) for part in i.key.split("/")])[0]
        one = np.array([i.time]), np.array([known(i)])
        first = int(plan.emission.first_emit(key0, *one, window)[0])
        settle = i.time + plan.settle_delay
        mine = [a for j, a, _ in meeting.pairs if j == i and a.arrival < settle]

        def labels(at: int, mine: list[Action] = mine) -> tuple:
            return label_of(plan, sorted((a for a in mine if known(a) <= at), key=place))

        if first < clock:
            samples[plan.emission.first, i.key, i.time, first, None] = labels(first)
        streams = set()
        for j, a, at in meeting.pairs:
            if j == i and a.stream not in streams:
                streams.add(a.stream)
                if first < at < clock and a.arrival < settle:
                    samples["positive", i.key, i.time, at, a.stream] = labels(at)
    return samples
