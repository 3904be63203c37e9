"""Which events ahead of their source are believed, at literal times; `max_jump` is 10."""

import numpy as np
import pytest

from headrace.schemas.records.events import NEVER
from headrace.schemas.records.jumps import judge_jumps


def judge(*times, ended=True, greatest=NEVER):
    """Return how many rows were judged, the times refuted, and the greatest confirmed."""
    time = np.array(times, np.int64)
    judged = judge_jumps(time, greatest, 10, ended)
    return judged.rows, time[: judged.rows][judged.refuted].tolist(), judged.greatest


def test_an_event_far_ahead_of_all_others_is_rejected():
    """The rows after it do not agree, and later rows are still judged by those before it."""
    assert judge(0, 1, 500, *range(2, 12)) == (13, [500], 11)


def test_an_event_exactly_max_jump_ahead_is_not_a_jump():
    """An event is judged from a microsecond beyond `max_jump`; witnesses agree up to it."""
    assert judge(0, 10, 1, 2, 3) == (5, [], 10)
    assert judge(0, 11, 0, 0, 0) == (5, [11], 0)
    assert judge(0, 11, 1, 1, 0) == (5, [], 1)


@pytest.mark.parametrize(
    ("agreeing", "refuted"), [(4, [500]), (5, [])], ids=["four are too few", "five are enough"]
)
def test_at_least_half_of_the_next_nine_rows_must_agree_with_a_jump(agreeing, refuted):
    """A tenth row has no say."""
    nine = [490] * agreeing + [2] * (9 - agreeing)
    _, found, _ = judge(1, 500, *nine, 490, 490, 490, 490)
    assert [time for time in found if time == 500] == refuted


@pytest.mark.parametrize(
    ("left", "refuted"),
    [([2], [500]), ([2, 500], []), ([2, 3, 500], [500]), ([2, 3, 500, 500], [])],
    ids=["none of one", "one of two", "one of three", "two of four"],
)
def test_near_the_end_half_of_the_remaining_rows_must_agree_with_a_jump(left, refuted):
    """One of two is enough, one of three is not."""
    assert judge(0, 1, 500, *left)[1] == refuted


def test_the_last_row_is_always_believed_but_never_confirmed():
    """No row is left that could contradict it; the log is not complete until then."""
    assert judge(0, 1, 500) == (3, [], 1)
    assert judge_jumps(np.array([0, 1, 500]), NEVER, 10, True).doubtful.tolist() == [0, 0, 1]
    assert judge(500) == (1, [], 500)


@pytest.mark.parametrize(
    ("count", "greatest"),
    [(5, 1), (6, 500)],
    ids=["five rows are doubtful", "six rows are confirmed"],
)
def test_near_the_end_five_agreeing_rows_confirm_a_jump(count, greatest):
    """The first of six has five after it, which is enough in the middle of a log too."""
    assert judge(0, 1, *[500] * count) == (2 + count, [], greatest)


def test_the_first_rows_of_a_source_are_judged_too():
    """Until one is believed there is nothing to compare with, so each needs witnesses."""
    assert judge(500, 0, 1, 2, 3) == (5, [500], 3)
    assert judge(500, 501, 0, 1, 2, 3) == (6, [500, 501], 3)
    assert judge(0, 0, 500, 500) == (4, [], 0)


@pytest.mark.parametrize(
    ("count", "greatest"), [(5, 1), (6, 500)], ids=["five are jumps", "six are a gap"]
)
def test_six_agreeing_rows_in_sequence_are_a_gap(count, greatest):
    """The first of six has five witnesses; those of five have four at most."""
    _, refuted, found = judge(0, 1, *[500] * count, *[1] * 12)
    assert (refuted, found) == ([] if greatest == 500 else [500] * count, greatest)


def test_a_row_waits_for_its_witnesses():
    """While rows may follow, none is judged from the first row without nine after it."""
    assert judge(0, 1, 500, 2, 3, ended=False, greatest=0) == (2, [], 1)
    assert judge(500, *range(2, 11), ended=False, greatest=1) == (10, [500], 10)
