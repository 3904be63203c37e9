"""The join as design and docs state it, in a few quadratic lines."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from joiner.plan import JoinPlan


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
    """Samples as key, time -> labels; outcomes by (source, offset)."""

    samples: dict[tuple[str, int], tuple]
    corrections: list[tuple]
    outcomes: dict[tuple[int, int], str]
    positive_units: set[tuple[str, int]]


def place(row: Impression | Action) -> tuple[int, int, int]:
    return (row.time, row.source, row.offset)


def reference_join(plan: JoinPlan, impressions: list[Impression], actions: list[Action]) -> Joined:
    outcomes: dict[tuple[int, int], str] = {}
    kept: list[Impression] = []
    last: dict[str, Impression] = {}
    for i in sorted(impressions, key=place):
        if i.arrival >= i.time + plan.settle_delay:
            outcomes[i.source, i.offset] = "late"
        elif i.key in last and i.time < last[i.key].time + plan.dedup_horizon:
            outcomes[i.source, i.offset] = "duplicate"
        else:
            outcomes[i.source, i.offset] = "settled"
            last[i.key] = i
            kept.append(i)

    def visible(a: Action, i: Impression) -> bool:
        settle = i.time + plan.settle_delay
        remembered = max(settle + plan.retention, i.time + plan.dedup_horizon)
        return a.arrival < remembered and i.arrival < a.time + plan.wait_for_impression

    def belongs(a: Action, i: Impression) -> bool:
        return i.time - plan.early <= a.time < i.time + plan.actions[a.stream].window

    labels: dict[Impression, list[Action]] = defaultdict(list)
    corrections = []
    for a in sorted(actions, key=place):
        seen = [i for i in kept if i.key == a.key and visible(a, i)]
        own = [i for i in seen if belongs(a, i)]
        if not seen:
            outcome = "orphan"
        elif not own:
            outcome = "outside_window"
        else:
            i = own[0]
            settle = i.time + plan.settle_delay
            if a.arrival >= settle:
                outcome = "late"
                if a.arrival < settle + plan.retention:
                    corrections.append((i.key, i.time, a.stream, a.time))
            elif a.id and any(b.id == a.id and b.stream == a.stream for b in labels[i]):
                outcome = "duplicate"
            else:
                outcome = "settled"
                labels[i].append(a)
        outcomes[a.source, a.offset] = outcome

    samples = {}
    positive_units = set()
    for i in kept:
        label = []
        for stream in range(len(plan.actions)):
            own_actions = [a for a in labels[i] if a.stream == stream]
            first = own_actions[0].time if own_actions else None
            label.append((bool(own_actions), first, len(own_actions)))
        samples[i.key, i.time] = tuple(label)
        near = [
            j
            for j in kept
            if j.key.split("/")[0] == i.key.split("/")[0]
            and abs(j.time - i.time) <= plan.group_span
        ]
        if any(labels[j] for j in near):
            positive_units.add((i.key, i.time))
    return Joined(samples, sorted(corrections), outcomes, positive_units)
