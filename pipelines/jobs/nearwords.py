"""What lies nearest to orphans, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.pipelines.jobs.neighbours import Neighbours, Side, Texts
from headrace.schemas.config.durations import format_duration
from headrace.schemas.records.events import FOREVER, NEVER
from headrace.schemas.records.hashing import Bools, Int64s
from headrace.schemas.records.texts import duration_texts, moment_texts, sentences

BETWEEN = "\x1f"
"""Between the texts of the columns of a key."""


@dataclass(frozen=True)
class Near:
    """What lies nearest to each of n orphans of a stream.

    Parameters
    ----------
    time, keys
        Event times, and keys as texts.
    own_key, key
        Names of the key columns of the stream and of impressions.
    types
        What the keys of either match, column by column.
    shared
        Which key columns an orphan may share with impressions of other keys.
    exact, late
        Impressions of its very key: by when they were known, and the late ones.
    loose, part
        Impressions whose key is equal but for case, blanks, zeros and type; and those that
        share a part of it.
    empty
        Whether there are no impressions at all where its own should be.
    begin, end
        The edges of the hours without impressions in which it lies.
    """

    time: Int64s
    keys: pa.Array
    own_key: tuple[str, ...]
    key: tuple[str, ...]
    types: tuple[list[str], list[str]]
    shared: tuple[int, ...]
    exact: Neighbours
    late: Neighbours
    loose: Neighbours
    part: Neighbours
    empty: Bools
    begin: Int64s
    end: Int64s

    def kinds(self) -> dict[str, Bools]:
        """Return which orphans are of which kind: each of the first that applies, or of none."""
        found = {
            "forgotten": self.exact.before.found,
            "after": self.exact.after.found,
            "late": _found(self.late),
            "loose": _found(self.loose),
            "empty": self.empty,
            "part": _found(self.part) if self.shared else np.zeros(self.time.size, np.bool_),
        }
        left = np.ones(self.time.size, np.bool_)
        for kind, of_kind in found.items():
            found[kind] = of_kind & left
            left &= ~of_kind
        return found


def _found(nearest: Neighbours) -> Bools:
    return nearest.before.found | nearest.after.found


def _nearer(nearest: Neighbours, rows: Int64s) -> tuple[Int64s, Texts]:
    """Return time and text of the last before, or else of the first after, of some moments."""
    before, after = nearest.before, nearest.after
    use = before.found[rows]
    time = np.where(use, before.time[rows], after.time[rows])
    return time, np.where(use, before.text[rows], after.text[rows])


def details(near: Near, plan: JoinPlan) -> pa.Array:
    """Return a text for each orphan, to follow the sentence that it has; "" for nothing."""
    texts = np.full(near.time.size, "", np.object_)
    for kind, of_kind in near.kinds().items():
        rows = np.flatnonzero(of_kind)
        if rows.size:
            said = sentences("; ", _SENTENCES[kind](near, rows, plan))
            texts[rows] = said.to_numpy(zero_copy_only=False)
    return pa.array(texts, pa.string())


def _forgotten(near: Near, rows: Int64s, plan: JoinPlan) -> pa.Array:
    shown = moment_texts(near.exact.before.time[rows])
    after = f" was forgotten by then (after {format_duration(remembered_for(plan))})"
    return sentences("the impression of its key of ", shown, after)


def _after(near: Near, rows: Int64s, plan: JoinPlan) -> pa.Array:
    after: Side = near.exact.after
    shown, delay = moment_texts(after.time[rows]), duration_texts(after.at[rows] - near.time[rows])
    wait = f" after it; wait_for_impression is {format_duration(plan.wait_for_impression)}"
    return sentences("the impression of its key of ", shown, " became known ", delay, wait)


def _late(near: Near, rows: Int64s, plan: JoinPlan) -> pa.Array:
    shown, _ = _nearer(near.late, rows)
    return sentences("the impression of its key of ", moment_texts(shown), " was itself late")


def _loose(near: Near, rows: Int64s, plan: JoinPlan) -> pa.Array:
    shown, keys = _nearer(near.loose, rows)
    own = near.keys.take(pa.array(rows)).to_pylist()
    pairs = zip(own, keys, strict=True)
    unlike = pa.array([differences(a, b, near.types) for a, b in pairs], pa.string())
    names = pa.array([key_text(near.key, key, near.types[1]) for key in keys], pa.string())
    return sentences(
        "its key differs from that of the impression of ", moment_texts(shown), ", ", names,
        ", in ", unlike,
    )  # fmt: skip


def _empty(near: Near, rows: Int64s, plan: JoinPlan) -> pa.Array:
    begin, end = near.begin[rows], near.end[rows]
    first, last = begin == NEVER, end == FOREVER
    begins = moment_texts(np.where(last, 0, end))
    ends = moment_texts(np.where(first, 0, begin))
    texts = np.full(rows.size, "there are no impressions at all", np.object_)
    for chosen, said in (
        (first & ~last, sentences("there are no impressions before ", begins)),
        (last & ~first, sentences("there are no impressions from ", ends, " on")),
        (~first & ~last, sentences("there are no impressions from ", ends, " to ", begins)),
    ):
        texts[chosen] = said.to_numpy(zero_copy_only=False)[chosen]
    return pa.array(texts, pa.string())


def _part(near: Near, rows: Int64s, plan: JoinPlan) -> pa.Array:
    shown, keys = _nearer(near.part, rows)
    names = pa.array([key_text(near.key, key, near.types[1]) for key in keys], pa.string())
    return sentences("the impression of ", moment_texts(shown), " has ", names)


_SENTENCES = {
    "forgotten": _forgotten, "after": _after, "late": _late, "loose": _loose, "empty": _empty,
    "part": _part,
}  # fmt: skip


def finding(stream: str, near: Near, plan: JoinPlan, total: int) -> str | None:
    """Say in one sentence how many orphans are of which kind; None if nothing is known of any."""
    kinds = near.kinds()
    wait, remembered = plan.wait_for_impression, remembered_for(plan)
    said = {
        "forgotten": f"came after their key was forgotten ({format_duration(remembered)})",
        "after": "came before an impression of their key that became known only after "
        f"wait_for_impression ({format_duration(wait)})",
        "late": "have an impression that was itself late",
        "loose": "would match an impression if case, blanks, leading zeros and types of keys "
        "were ignored",
        "empty": "lie where there are no impressions at all",
        "part": f"have {_and([near.key[at] for at in near.shared])} of an impression, but not "
        "the rest of its key",
    }
    parts, hint = [], ""
    for kind, of_kind in kinds.items():
        rows = np.flatnonzero(of_kind)
        if not rows.size:
            continue
        part = f"{rows.size:,} {said[kind]}"
        if kind in ("loose", "part"):
            _, there = _nearer(near.loose if kind == "loose" else near.part, rows[:1])
            here = key_text(near.own_key, near.keys[int(rows[0])].as_py(), near.types[0])
            part += f", such as {here} here and {key_text(near.key, there[0], near.types[1])} there"
        if kind == "loose":
            hint = " Keys must be equal to match: correct them where they are written."
        parts.append(part)
    if not parts:
        return None
    size = near.time.size
    of = f"{size:,} orphans" if size == total else f"the first {size:,} of {total:,} orphans"
    return f"{stream}: of {of} {'; '.join(parts)}.{hint}"


def remembered_for(plan: JoinPlan) -> int:
    """Return how long after its event time an impression is visible, microseconds (rule 9)."""
    return max(plan.settle_delay + plan.retention, plan.dedup_horizon)


def key_text(names: tuple[str, ...], key: str, types: list[str]) -> str:
    """Write a key as people read it, such as ``user=5, item='a'``.

    Parameters
    ----------
    names
        Of its columns.
    key
        The texts of its values.
    types
        What they match: text is quoted.
    """
    values = key.split(BETWEEN, len(names) - 1)
    shown = (repr(v) if kind == "text" else v for v, kind in zip(values, types, strict=True))
    return ", ".join(f"{name}={value}" for name, value in zip(names, shown, strict=True))


def differences(a: str, b: str, types: tuple[list[str], list[str]]) -> str:
    """Say in what two keys differ that are equal without these differences."""
    found = []
    for name in _LOOSENING:
        others = [loosen for other, loosen in _LOOSENING.items() if other != name]
        one, two = a.split(BETWEEN), b.split(BETWEEN)
        for loosen in others:
            one, two = [loosen(v) for v in one], [loosen(v) for v in two]
        if one != two:
            found.append(name)
    if types[0] != types[1]:
        found.append("type")
    return _and(found)


_LOOSENING = {
    "blanks": lambda value: value.strip(),
    "case": lambda value: value.lower(),
    "leading zeros": lambda value: re.sub(r"^(\s*)0+(.)", r"\1\2", value),
}


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
