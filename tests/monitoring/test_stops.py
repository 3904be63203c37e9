import numpy as np
import pytest

from headrace.monitoring.statistics import POSITIVES, SUMS, WEIGHT
from headrace.monitoring.stops import Hours, lost_actions, lost_positives
from headrace.schemas.config.durations import DAY, HOUR, MINUTE

T = 20_454 * DAY  # 2026-01-01


def by_hour(*counts):
    return {T + hour * HOUR: count for hour, count in enumerate(counts) if count}


def shown(*hours):
    """Return sums of impressions: (weight, positives) of each hour, None for none."""
    rows = []
    for hour, of in enumerate(hours):
        if of is not None:
            sums = np.zeros(len(SUMS))
            sums[WEIGHT], sums[POSITIVES] = of
            rows.append((T + hour * HOUR, sums))
    return rows


ALL = shown(*[(1000, 50)] * 10)


def test_actions_that_meet_nothing_from_an_hour_on_are_found():
    """With the share of the time before; there are impressions, so keys have changed."""
    found = lost_actions(
        Hours(by_hour(*[97] * 6), by_hour(*[3] * 6, *[100] * 4), ALL, 10 * MINUTE)
    )  # fmt: skip
    assert found is not None
    assert found.words == "from 2026-01-01 06:00 on"
    assert (found.otherwise, found.met, found.actions) == ("before", 0, 400)
    assert (round(found.usual, 2), found.impressions) == (0.97, True)


def test_actions_of_hours_without_impressions_are_found():
    """Before the first, after the last, or in between."""
    every = by_hour(*[100] * 10)
    cases = [
        ((None,) * 5, "until 2026-01-01 05:00", range(5, 10)),
        ((), "from 2026-01-01 05:00 on", range(5)),
        ((), "from 2026-01-01 03:00 to 2026-01-01 05:00", (0, 1, 2, 5, 6, 7, 8, 9)),
    ]
    for _, words, hours in cases:
        met = {time: n for time, n in every.items() if (time - T) // HOUR in hours}
        unmet = {time: n for time, n in every.items() if time not in met}
        there = shown(*[(1000, 50) if hour in hours else None for hour in range(10)])
        found = lost_actions(Hours(met, unmet, there, 10 * MINUTE))
        assert found is not None
        assert (found.words, found.impressions) == (words, False)


def test_what_follows_the_first_impression_is_not_looked_at():
    """It may belong to impressions before the log: purchases come days later."""
    met, unmet = by_hour(0, 0, 0, 60, 90, 95, 99), by_hour(100, 100, 100, 40, 10, 5, 1)
    of = shown(*[(1000, 50)] * 7)
    assert lost_actions(Hours(met, unmet, of, 3 * HOUR)) is None
    assert lost_actions(Hours(met, unmet, of, MINUTE)) is not None


@pytest.mark.parametrize(
    ("met", "unmet"),
    [
        ([97] * 9 + [50], [3] * 9 + [49]),
        ([10] * 10, [90] * 10),
        ([0] * 10, [100] * 10),
        ([400] * 3 + [0] * 3 + [400] * 4, [10] * 3 + [20] * 3 + [10] * 4),
        ([30] * 9, [70] * 9 + [100]),
    ],
    ids=["one hour is worse", "all alike", "none at all", "a few robots at night", "few ever meet"],
)
def test_what_is_no_stop_is_not_said(met, unmet):
    """There are other findings for these."""
    assert lost_actions(Hours(by_hour(*met), by_hour(*unmet), ALL, MINUTE)) is None


def test_few_actions_show_nothing():
    """Fifty are enough, if they are one in a hundred."""
    met = by_hour(50, 50, 50)
    assert lost_actions(Hours(met, by_hour(0, 0, 0, 49), ALL, MINUTE)) is None
    assert lost_actions(Hours(met, by_hour(0, 0, 0, 50), ALL, MINUTE)) is not None


def positives(*counts):
    return Hours(shown=shown(*[(1000, count) for count in counts]), reach=10 * MINUTE)


@pytest.mark.parametrize(
    ("counts", "words", "otherwise"),
    [
        ([50] * 6 + [0] * 4, "from 2026-01-01 06:00 on", "before"),
        ([0] * 4 + [50] * 6, "until 2026-01-01 04:00", "after"),
        ([50] * 3 + [0] * 2 + [50] * 5, "from 2026-01-01 03:00 to 2026-01-01 05:00", "elsewhere"),
    ],
    ids=["stop", "begin", "gap"],
)
def test_hours_without_positives_are_found(counts, words, otherwise):
    """With how many were to be expected."""
    found = lost_positives(positives(*counts), T + DAY)
    assert found is not None
    assert (found.words, found.otherwise, found.usual) == (words, otherwise, 0.05)
    assert found.expected == 50 * counts.count(0)


def test_rare_positives_need_more_hours_to_be_missed():
    """Fifty must have been expected."""
    rare = [3, 4, 5, 4] * 2
    assert lost_positives(positives(*rare, *[0] * 12), T + 2 * DAY) is None
    assert lost_positives(positives(*rare, *[0] * 13), T + 2 * DAY) is not None


def test_hours_that_are_quiet_every_day_are_no_stop():
    """Nobody takes orders at night; two outages at other hours are said, the greater one."""
    day = [50] * 12 + [0] * 8 + [50] * 4
    later = [50] * 9 + [0] * 8 + [50] * 7
    assert lost_positives(positives(*day, *day), T + 3 * DAY) is None
    found = lost_positives(positives(*day, *later), T + 3 * DAY)
    assert found is not None
    assert found.words == "from 2026-01-01 12:00 to 2026-01-01 20:00"


def test_impressions_whose_actions_have_not_come_are_not_looked_at():
    """At the end of a log that is declared complete."""
    late = Hours(shown=shown(*[(1000, 60)] * 6, *[(1000, 0)] * 4), reach=4 * HOUR)
    assert lost_positives(late, T + 10 * HOUR) is None
    assert lost_positives(late, T + 11 * HOUR) is not None
