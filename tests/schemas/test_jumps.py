"""Which events ahead of their source are believed, at literal times; `max_jump` is 10."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.records.events import NEVER
from headrace.schemas.records.jumps import FEW_JUMPS, WITNESSES, Standing, judge_jumps

HALF = (WITNESSES + 1) // 2


def judge(*times, ended=True, level=NEVER, keys=None):
    """Return how many rows were judged, the times refuted, those in doubt, and the level."""
    time = np.array(times, np.int64)
    key = np.arange(time.size) if keys is None else np.array(keys, np.int64)
    judged = judge_jumps(time, key, Standing(level), 10, ended)
    some = time[: judged.rows]
    levels = judged.levels[0, -1:].tolist() or [level]
    return judged.rows, some[judged.refuted].tolist(), some[judged.doubtful].tolist(), *levels


def test_an_event_far_ahead_of_all_others_is_rejected():
    """The rows after it do not agree, and later rows are still judged by those before it."""
    assert judge(0, 1, 500, *range(2, 10)) == (11, [500], [], 0)


def test_an_event_exactly_max_jump_ahead_is_not_a_jump():
    """An event is judged from a microsecond beyond `max_jump`; witnesses agree up to it."""
    assert judge(0, 10, 1, 2, 3)[1] == []
    assert judge(0, 11, 0, 0, 0)[1] == [11]
    assert judge(0, 11, 1, 1, 0)[1] == []


@pytest.mark.parametrize(
    ("agreeing", "refuted"),
    [(HALF - 1, [500]), (HALF, [])],
    ids=["fewer are too few", "half are enough"],
)
def test_at_least_half_of_the_next_rows_must_agree_with_a_jump(agreeing, refuted):
    """Those beyond have no say."""
    asked = [490] * agreeing + [2] * (WITNESSES - agreeing)
    found = judge(1, 500, *asked, *[490] * 100)[1]
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
    assert judge(0, 1, 15) == (3, [], [15], 0)
    assert judge(500) == (1, [], [], 500)


def test_six_rows_fifty_years_ahead_do_not_vouch_for_each_other():
    """Whether others follow, or the log ends with them."""
    assert judge(0, 1, *[5_000] * 6, *[2] * 100)[1:] == ([5_000] * 6, [], 0)
    _, refuted, doubtful, level = judge(0, 1, *[5_000] * 6)
    assert (refuted, doubtful, level) == ([], [5_000] * 6, 0)


def test_a_key_votes_once():
    """And not for itself: one that is repeated vouches for nothing."""
    times = [*[0] * 20, *[500] * 60, *[1] * 100]
    others = [*range(20), *range(100, 200)]
    assert judge(*times, keys=[*others[:20], *[20] * 60, *others[20:]])[1] == [500] * 60
    assert judge(*times)[1] == []


def test_where_there_are_few_keys_rows_vote():
    """So a log of one key has gaps too."""
    times = [*range(50), *range(500, 550)]
    assert judge(*times, keys=[7] * 100)[1:3] == ([], [])


def test_many_rows_that_are_each_a_little_ahead_get_no_further_than_one():
    """Thirty steps of `max_jump` between the rows of a log: all beyond the first are rejected."""
    steps = [time for n in range(1, 31) for time in (n // 10, 10 * n)]
    _, refuted, doubtful, level = judge(0, *steps, *[3] * 100)
    assert refuted == [10 * n for n in range(2, 31)]
    assert (doubtful, level) == ([], 0)


def test_a_log_that_goes_on_is_judged_by_the_rows_before():
    """Then no row waits for others to follow, however long the log is."""
    times = np.arange(250).repeat(4)
    rows, refuted, doubtful, level = judge(*times, ended=False, level=0)
    assert (rows, refuted, doubtful) == (1_000, [], [])
    assert level >= 230


@pytest.mark.parametrize("gap", [11, 500, 10**9], ids=["small", "large", "years"])
def test_a_night_without_rows_loses_none(gap):
    """Nor do batches whose rows are in no order, if `max_jump` covers one."""
    night = np.concatenate([np.arange(20), gap + np.arange(100)]).repeat(2)
    assert judge(*night)[1:3] == ([], [])
    random = np.random.default_rng(1)
    batches = [hour * 10 + random.permutation(10).repeat(20) for hour in range(50)]
    assert judge(*np.concatenate(batches))[1:3] == ([], [])


def test_jumps_for_which_few_rows_vouch_are_bounded_together():
    """As at the end of a log of which each row is a gap."""
    sparse = [11 * n for n in range(200)]
    _, refuted, doubtful, level = judge(*sparse)
    assert (refuted, doubtful) == ([], sparse[-len(doubtful) :])
    certain = 200 - HALF
    assert level - 11 * certain <= FEW_JUMPS * 10 < level + 11 - 11 * (certain - 1)


def test_the_first_rows_of_a_source_are_judged_too():
    """Until one is believed there is nothing to compare with, so each needs witnesses."""
    assert judge(500, 0, 1, 2, 3) == (5, [500], [], 0)
    assert judge(500, 501, 0, 1, 2, 3) == (6, [500, 501], [], 0)


def test_a_row_waits_for_its_witnesses():
    """Until it is certain what they say: none is judged from the first that waits."""
    assert judge(0, 1, 500, 2, 3, ended=False, level=0)[0] == 2
    assert judge(500, *[2] * (HALF - 1), ended=False, level=1)[0] == 0
    assert judge(500, *[2] * HALF, ended=False, level=1)[:2] == (HALF + 1, [500])
    assert judge(500, *[500] * HALF, ended=False, level=1)[0] == HALF + 1


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=150),
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_the_verdict_does_not_depend_on_how_rows_are_cut(rows, cuts):
    """Of what comes before a cut only its standing is kept."""
    time, key = np.array(rows, np.int64).reshape(-1, 2).T
    whole = judge_jumps(time, key, Standing(), 10, ended=True)
    before, begin, known = Standing(), 0, 0
    refuted, doubtful = [], []
    for cut in [*cuts * 150, 0]:
        known = min(known + cut, time.size)
        some = slice(begin, known)
        judged = judge_jumps(time[some], key[some], before, 10, ended=known == time.size)
        refuted += judged.refuted.tolist()
        doubtful += judged.doubtful.tolist()
        done = slice(begin, begin + judged.rows)
        sure = ~(judged.refuted | judged.doubtful)
        vouch = np.stack([time[done], key[done]])[:, sure]
        before = before.after(vouch, judged.levels[:, ~judged.refuted])
        begin += judged.rows
        if begin == time.size:
            break
    assert (refuted, doubtful) == (whole.refuted.tolist(), whole.doubtful.tolist())
