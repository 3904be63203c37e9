import numpy as np
import pytest

from headrace.monitoring.shifts import Shift, Shifts, between, shift_in_words
from headrace.schemas.config.durations import DAY, HOUR, MINUTE, SECOND


def delays(count, seed=0, mean=90 * SECOND):
    return np.random.default_rng(seed).exponential(mean, count).astype(np.int64)


def shifts(met=(), unmet=()):
    found = Shifts()
    found.add_met(np.asarray(met, np.int64))
    found.add_unmet(np.asarray(unmet, np.int64))
    return found


@pytest.mark.parametrize(
    "by", [HOUR, -HOUR, -5 * HOUR - 30 * MINUTE, 5 * HOUR + 45 * MINUTE, 14 * HOUR, -12 * HOUR],
    ids=shift_in_words,
)  # fmt: skip
def test_a_wrong_zone_is_found_whichever_it_is(by):
    """Most actions lie in one place; some are anywhere."""
    anywhere = np.random.default_rng(1).integers(-10 * DAY, 10 * DAY, 40)
    found = shifts(unmet=np.concatenate([by + delays(400), anywhere])).found()
    assert found is not None
    assert (found.by, found.known) == (by, 440)
    assert found.actions >= 395


def test_a_shift_of_some_actions_is_found_among_those_that_met():
    """A tenth of all is enough."""
    assert shifts(delays(900), HOUR + delays(100)).found() == Shift(HOUR, 100, 1000)
    assert shifts(delays(901), HOUR + delays(99)).found() is None


def test_a_clock_that_is_a_moment_behind_moves_no_shift():
    """Forty seconds before the hour are of the hour."""
    found = shifts(unmet=HOUR - 40 * SECOND + delays(400)).found()
    assert found is not None
    assert found.by == HOUR


def test_few_actions_show_nothing():
    """Fifty are enough."""
    assert shifts(unmet=np.full(49, HOUR)).found() is None
    assert shifts(unmet=np.full(50, HOUR)).found() == Shift(HOUR, 50, 50)


@pytest.mark.parametrize("window", [15 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR])
@pytest.mark.parametrize("times", [0.1, 0.5, 1.0, 4.0], ids=lambda times: f"mean {times} windows")
def test_a_window_that_is_too_short_is_no_shift(window, times):
    """It cuts a curve that goes on, so as many or more come just before its end."""
    late = delays(20_000, mean=times * window)
    assert shifts(late[late < window], late[late >= window]).found() is None


def test_actions_without_a_common_place_have_no_shift():
    """Such as those of users who come back at any time of the day."""
    anywhere = np.random.default_rng(1).integers(-12 * HOUR, 12 * HOUR, 50_000)
    assert shifts(delays(1_000), anywhere).found() is None


def test_actions_that_met_are_never_shifted():
    """A video is watched to its end half an hour after it begins."""
    assert shifts(met=30 * MINUTE + delays(1_000)).found() is None


def test_logs_that_begin_and_end_apart_are_shifted():
    """The ends may be a while from those of the other log."""
    shown = (100 * DAY, 101 * DAY)
    by = -5 * HOUR - 30 * MINUTE
    assert between((shown[0] + by + MINUTE, shown[1] + by - 9 * MINUTE), shown) == by
    assert between((shown[0] + by, shown[1]), shown) is None
    assert between((shown[0] + MINUTE, shown[1] + MINUTE), shown) is None
    assert between((shown[0] + DAY, shown[1] + DAY), shown) is None
