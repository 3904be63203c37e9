"""The join against its brute-force reference, under everything a runner may do."""

from __future__ import annotations

import os
from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.joiner.state import actions, keytable, known, remembered
from headrace.schemas.records.events import FOREVER
from tests.joiner.harness import (
    Rows,
    envelopes,
    event_rows,
    final_progress,
    make_plan,
    play,
)
from tests.joiner.reference import reference_join

KEYS = st.sampled_from(["g/1", "g/2", "g/3", "h/1", "h/2", "i/1"])
TIMES = st.one_of(st.integers(0, 60), st.integers(0, 400))
IMPRESSIONS = st.lists(st.tuples(TIMES, KEYS), max_size=25)
ACTIONS = st.lists(st.tuples(TIMES, KEYS, st.sampled_from(["", "", "x", "y"])), max_size=25)


@st.composite
def cases(draw):
    windows = draw(st.sampled_from([(10,), (5, 30), (1,), ()]))
    modes = ["window", "window", "immediate", "elapsed", "window_and_immediate"]
    mode = draw(st.sampled_from(modes if windows else ["window"]))
    group_span = draw(st.sampled_from([0, 0, 4]))
    delay = max(windows, default=0) + group_span
    early = draw(st.sampled_from([0, 0, 3]))
    horizon = max(1, delay + early + draw(st.sampled_from([0, 0, 1, 50])))
    plan = make_plan(
        windows=windows,
        sources=0,
        shards=draw(st.sampled_from([1, 2, 3])),
        group_span=group_span,
        by_group=mode == "window" and group_span > 0 and draw(st.booleans()),
        mode=mode,
        joined=bool(windows) and draw(st.booleans()),
        rate=draw(st.sampled_from([1.0, 0.5])),
        early=early,
        wait_for_impression=draw(st.sampled_from([0, 5, 10, 40])),
        dedup_horizon=horizon,
        elapsed=draw(st.sampled_from([(0.0, 1.0), (1.0, 1.0), (0.5, 0.5)])),
        retention=min(horizon, draw(st.sampled_from([0, 0, 15]))),
    )
    sources = [Rows(0, draw(IMPRESSIONS)) for _ in range(draw(st.integers(1, 2)))]
    for stream in range(len(windows)):
        sources += [Rows(1 + stream, draw(ACTIONS)) for _ in range(draw(st.integers(1, 2)))]
    # Copies, and repetitions at the edge of the horizon, are rare by chance.
    for _ in range(draw(st.integers(0, 6))):
        rows = draw(st.sampled_from(sources)).rows
        if rows:
            time, *rest = draw(st.sampled_from(rows))
            shift = draw(st.sampled_from([0, 0, horizon, horizon - 1, -horizon]))
            again = draw(
                st.sampled_from([s.rows for s in sources if len(rest) == 1 + (s.stream > 0)])
            )
            again.insert(draw(st.integers(0, len(again))), (max(0, time + shift), *rest))
    for source in sources:
        if draw(st.booleans()):
            source.rows.sort(key=lambda row: row[0])
    plan = make_plan_with(plan, sources=len(sources))
    ends = draw(st.sampled_from(["close", "close", "open", "declared"]))
    return plan, sources, draw(st.sampled_from([0, 0, 7])), ends, draw(st.integers(0, 2**32))


def make_plan_with(plan, **changes):
    from dataclasses import replace

    return replace(plan, **changes)


def check(case, crashes, repeats):
    plan, sources, out_of_orderness, ends, seed = case
    finals = None if ends == "close" else final_progress(sources, out_of_orderness)
    if ends == "declared":
        finals = {stream: max(final, 0) + 30 for stream, final in finals.items()}
    clock = FOREVER if finals is None else min(finals.values())
    expected = reference_join(plan, *event_rows(sources, out_of_orderness), clock)
    blocks = envelopes(plan, sources, out_of_orderness, Random(seed), finals)
    cache_bytes = Random(seed).choice((0, 2000, 1 << 20))
    with pytest.MonkeyPatch.context() as patch:
        # So small that tables grow, forget and are compacted within a case.
        patch.setattr(actions, "COMPACTED_FROM", 4)
        patch.setattr(keytable, "SMALLEST", 4)
        patch.setattr(remembered, "SMALLEST", 8)
        patch.setattr(known, "SMALLEST", 4)
        played = play(plan, blocks, Random(seed + 1), crashes, repeats, cache_bytes)

    assert played.outcomes == {
        place: outcome
        for place, outcome in expected.outcomes.items()
        if outcome not in ("settled", "open")
    }
    assert played.about == {place: expected.about[place] for place in played.outcomes}
    counted = Counter()
    for counts in played.counts.values():
        counted.update(counts)
    assert {k: v for k, v in counted.items() if v} == Counter(expected.outcomes.values())
    assert played.corrections == expected.corrections
    for name, copies in played.copies.items():
        assert copies == {expected.kept[name]}
    for said in played.mature.values():
        assert all(len(labels) == 1 for labels in said.values()), "a mature label changed"
    assert sorted(played.joined) == (expected.joined if plan.joined else [])
    if plan.emission.early:
        check_early(plan, played, expected)
    elif plan.sampling.keeps_all:
        assert played.samples == expected.samples
    else:
        # What is dropped is for the sampling tests; all positive units are kept.
        kept = {name: expected.samples[name] for name in played.samples}
        assert played.samples == kept
        by_row = {n for n, labels in expected.samples.items() if any(x[0] for x in labels)}
        must = expected.positive_units if plan.sampling.by_group else by_row
        assert must <= played.samples.keys()
        for row in played.rows:
            name = (f"{row['group']}/{row['item']}", round(row["event_time"].timestamp() * 1e6))
            assert row["sampling_rate"] == (1.0 if name in must else 0.5)
            assert row["weight"] * row["sampling_rate"] == 1.0
    for (key, shown), labels in played.samples.items():
        for (positive, time, _), note in zip(labels, played.notes[key, shown], strict=True):
            assert note == (f"{time}:{key}" if positive else None)


def check_early(plan, played, expected):
    positive = {name for name, labels in expected.early.items() if any(x[0] for x in labels)}
    if plan.sampling.keeps_all:
        assert played.early == expected.early
    else:
        assert positive <= played.early.keys()
        kept = {name: expected.early[name] for name in played.early}
        assert played.early == kept
    if plan.emission.mode == "window_and_immediate":
        # Once more, for the streams that have no action.
        negative = {name: labels for name, labels in expected.samples.items()
                    if not all(x[0] for x in labels)}  # fmt: skip
        sampled = {name[1:3] for name in played.early}
        again = {name for name in negative if plan.sampling.keeps_all or name in sampled}
        assert played.samples.keys() <= negative.keys()
        assert again <= played.samples.keys() | {name[1:3] for name in positive}
    else:
        assert not played.samples


EXAMPLES = int(os.environ.get("HEADRACE_EXAMPLES", "300"))
COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "derandomize": True}


@settings(max_examples=EXAMPLES, **COMMON)
@given(cases())
def test_join_equals_the_reference(case):
    """Any cuts, sources and shards give exactly the reference's samples and outcomes."""
    check(case, crashes=0.0, repeats=0.0)


@settings(max_examples=EXAMPLES, **COMMON)
@given(cases())
def test_join_survives_crashes_repeats_and_overtaking(case):
    """Lost memory, failed attempts, repeated and reordered envelopes change nothing."""
    check(case, crashes=0.3, repeats=0.3)


@pytest.mark.slow
@settings(max_examples=20_000, **COMMON)
@given(cases(), st.booleans())
def test_join_equals_the_reference_in_many_cases(case, rough):
    """The same, over many more cases."""
    check(case, crashes=0.3 * rough, repeats=0.3 * rough)
