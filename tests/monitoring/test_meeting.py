"""What keeps actions from their impressions, in words."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.monitoring.diagnosis import diagnose
from headrace.monitoring.origins import SourceResult
from headrace.monitoring.results import LogResult, Meeting, StreamResult
from headrace.monitoring.shifts import Shift
from headrace.monitoring.statistics import POSITIVES, SUMS, WEIGHT
from headrace.monitoring.stops import Hours
from headrace.schemas.config.durations import DAY, HOUR, MINUTE

T = 20_454 * DAY  # 2026-01-01


def stream(name="click", meeting=None, sources=(), key=("text",), span=(T, T + DAY), **outcomes):
    return StreamResult(
        name, 1000, outcomes, {}, *span, key, zone="Asia/Kolkata" if name == "click" else "UTC",
        sources=tuple(sources), meeting=meeting,
    )  # fmt: skip


SHOWN = stream("impressions", settled=1000)
CLOCKS = (
    "is a time zone declared wrongly? Check actions.click.time.zone (now Asia/Kolkata) and "
    "impressions.time.zone (now UTC), and whether times were logged as local ones."
)


def said(click, shown=SHOWN):
    return diagnose(LogResult((shown, click), 10 * MINUTE))


@pytest.mark.parametrize(
    ("by", "many", "words"),
    [(-HOUR, 600, "most actions lie 1h before"),
     (5 * HOUR + 30 * MINUTE, 100, "many actions lie 5h 30m after")],
    ids=["most, before", "some, after"],
)  # fmt: skip
def test_a_constant_shift_asks_for_the_zone(by, many, words):
    """With both zones as they are, instead of what else could be the reason."""
    click = stream(meeting=Meeting(shift=Shift(by, many, 700)), orphan=400, outside_window=300)
    assert said(click) == [
        "click: 40.0 % of 1,000 records are orphans: they have no impression of their key.",
        "click: 30.0 % of 1,000 records are outside the window of their impression.",
        f"click: {words} their impression ({many} of 700 whose impression has a sample): {CLOCKS}",
    ]


def test_a_log_that_lies_beside_the_other_asks_for_the_zone_although_nothing_has_settled():
    """Of a short log all impressions may be open."""
    by = 5 * HOUR + 30 * MINUTE
    apart = stream(meeting=Meeting(), span=(T - by, T + DAY - by), open=1000)
    assert said(apart) == [
        "click: hardly any action meets an impression, and its log begins and ends 5h 30m before "
        f"that of the impressions: {CLOCKS}"
    ]
    assert said(replace(apart, outcomes={"settled": 101, "open": 899})) == []
    assert said(replace(apart, records=49, outcomes={"open": 49})) == []


def hours(*shown):
    rows = []
    for hour, (weight, positives) in enumerate(shown):
        sums = np.zeros(len(SUMS))
        sums[WEIGHT], sums[POSITIVES] = weight, positives
        rows.append((T + hour * HOUR, sums))
    return rows


def test_hours_in_which_nothing_meets_are_named():
    """With what to look for, which differs if there are no impressions."""
    met = {T + hour * HOUR: 97 for hour in range(6)}
    unmet = {T + hour * HOUR: 3 if hour < 6 else 100 for hour in range(10)}
    there = Meeting(Hours(met, unmet, hours(*[(1000, 50)] * 10), MINUTE))
    first = "click: 41.8 % of 1,000 records are orphans: they have no impression of their key."
    begins = (
        "click: from 2026-01-01 06:00 on no action meets an impression (400 actions; before: "
        "97.0%)."
    )
    assert said(stream(meeting=there, orphan=418)) == [
        first, f"{begins} What changed then: keys, a clock, a file of either stream?",
    ]  # fmt: skip
    gone = Meeting(Hours(met, unmet, hours(*[(1000, 50)] * 6), MINUTE))
    assert said(stream(meeting=gone, orphan=418)) == [
        first,
        f"{begins} No impression with a sample is of that time: are files of impressions missing?",
    ]


def test_a_few_that_still_meet_are_counted():
    """One in twenty-five."""
    met = {T + hour * HOUR: 97 if hour < 6 else 4 for hour in range(10)}
    unmet = {T + hour * HOUR: 3 if hour < 6 else 96 for hour in range(10)}
    click = stream(meeting=Meeting(Hours(met, unmet, hours(*[(1000, 50)] * 10), MINUTE)))
    (found,) = said(click)
    assert "from 2026-01-01 06:00 on 4.0% of actions meet an impression (400 actions" in found


def test_hours_without_an_action_are_named():
    """With how many were to come; unless it is because they met nothing."""
    quiet = hours(*[(1000, 50)] * 6, *[(1000, 0)] * 4)
    assert said(stream(meeting=Meeting(Hours({}, {}, quiet, MINUTE)))) == [
        "click: no impression from 2026-01-01 06:00 on has an action (200 were to be expected at "
        "the rate before, 5.00%). Is a file of actions.click missing or cut short, or did the "
        "actions of that time go elsewhere?"
    ]
    met = {T + hour * HOUR: 50 for hour in range(6)}
    unmet = {T + hour * HOUR: 50 for hour in range(6, 10)}
    (found,) = said(stream(meeting=Meeting(Hours(met, unmet, quiet, MINUTE))))
    assert "no action meets an impression" in found


def test_keys_in_another_notation_are_shown():
    """Where types differ too, that is told first."""
    meeting = Meeting(notations={"id": ("AB", "ab")})
    assert said(stream(meeting=meeting, orphan=1000))[1:] == [
        "click: the keys of orphans are written otherwise than those of impressions (id), such as "
        "'AB' here and 'ab' there. Keys must be equal to match: write them alike where they are "
        "logged."
    ]
    assert said(stream(meeting=meeting, orphan=10)) == []
    types, found = said(stream(meeting=meeting, key=("numbers",), orphan=1000))
    assert "The key is numbers here and text in the impressions" in types
    assert "'AB' here and 'ab' there" in found


def test_one_file_that_stands_out_is_named_for_each_thing_that_is_lost():
    """Of impressions too."""
    bad = SourceResult("b.csv", 500, {"invalid records": 100, "orphans": 200})
    good = SourceResult("a.csv", 500, {"invalid records": 0, "orphans": 1})
    named = [text.split(" (")[0] for text in said(stream(sources=(good, bad)))]
    assert named == [
        "click: all 100 invalid records are from b.csv", "click: 200 of 201 orphans are from b.csv"
    ]  # fmt: skip
    shown = stream("impressions", sources=(good, bad))
    assert diagnose(LogResult((shown,), MINUTE))[0].startswith("impressions: all 100 invalid")


def test_a_sound_log_has_no_findings():
    """Nor has one without impressions or actions."""
    sound = Meeting(Hours({T: 50}, {T: 1}, hours((1000, 50)), MINUTE))
    assert said(stream(meeting=sound, settled=999, orphan=1)) == []
    assert said(stream(meeting=Meeting(), span=(None, None))) == []
