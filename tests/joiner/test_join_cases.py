"""The join as a table: events at literal times, and what becomes of them.

The window is 10, the horizon 20, unless a case says otherwise. Impressions are
(time, key), actions (time, key, id), in the order of their one source each.
"""

from random import Random

import pytest

from tests.joiner.harness import Rows, envelopes, make_plan, play

YES, NO = True, False


def outcomes_of(impressions, actions, **plan):
    settings = make_plan(**plan)
    sources = [Rows(0, impressions), Rows(1, actions)]
    played = play(settings, envelopes(settings, sources, 0, Random(0)), Random(0))
    labels = {name[1]: label[0] for name, label in played.samples.items()}
    return labels, dict(sorted(played.outcomes.items())), played


CASES = {
    "a click at the impression's own time counts": (
        [(5, "g/1")], [(5, "g/1", "")], {}, {5: (YES, 5, 1)}, {},
    ),
    "a click at the end of the window does not": (
        [(5, "g/1")], [(15, "g/1", "")], {}, {5: (NO, None, 0)}, {(1, 0): "outside_window"},
    ),
    "a click one before the end does": (
        [(5, "g/1")], [(14, "g/1", "")], {}, {5: (YES, 14, 1)}, {},
    ),
    "a click before the impression does not": (
        [(5, "g/1")], [(4, "g/1", "")], {}, {5: (NO, None, 0)}, {(1, 0): "outside_window"},
    ),
    "unless clocks may disagree": (
        [(5, "g/1")], [(4, "g/1", "")], {"early": 1}, {5: (YES, 4, 1)}, {},
    ),
    "a click of another key is an orphan": (
        [(5, "g/1")], [(6, "g/2", "")], {}, {5: (NO, None, 0)}, {(1, 0): "orphan"},
    ),
    "several clicks count, the first one has the time": (
        [(5, "g/1")], [(7, "g/1", ""), (6, "g/1", ""), (8, "g/1", "")], {}, {5: (YES, 6, 3)}, {},
    ),
    "an id counts once, the earliest in time is kept": (
        [(5, "g/1")], [(8, "g/1", "x"), (7, "g/1", "x"), (9, "g/1", "y")], {},
        {5: (YES, 7, 2)}, {(1, 0): "duplicate"},
    ),
    "no id is no duplicate": (
        [(5, "g/1")], [(8, "g/1", ""), (8, "g/1", "")], {}, {5: (YES, 8, 2)}, {},
    ),
    "an impression repeated within the horizon is a duplicate": (
        [(5, "g/1"), (24, "g/1")], [], {}, {5: (NO, None, 0)}, {(0, 1): "duplicate"},
    ),
    "and at the horizon's end it is a new one": (
        [(5, "g/1"), (25, "g/1")], [], {}, {5: (NO, None, 0), 25: (NO, None, 0)}, {},
    ),
    "the earliest of repeated impressions is kept, not the first to come": (
        [(7, "g/1"), (5, "g/1")], [], {}, {5: (NO, None, 0)}, {(0, 0): "duplicate"},
    ),
    "a duplicate does not prolong the horizon": (
        [(0, "g/1"), (15, "g/1"), (20, "g/1")], [], {},
        {0: (NO, None, 0), 20: (NO, None, 0)}, {(0, 1): "duplicate"},
    ),
    "an impression is late when its source is past its settling": (
        [(20, "g/2"), (10, "g/1")], [], {}, {20: (NO, None, 0)}, {(0, 1): "late"},
    ),
    "and disordered, not late, one before that": (
        [(20, "g/2"), (11, "g/1")], [], {}, {11: (NO, None, 0), 20: (NO, None, 0)}, {},
    ),
    "a click is late when its source is past the settling": (
        [(5, "g/1")], [(15, "g/2", ""), (6, "g/1", "")], {},
        {5: (NO, None, 0)}, {(1, 0): "orphan", (1, 1): "late"},
    ),
    "and counts one before that": (
        [(5, "g/1")], [(14, "g/2", ""), (6, "g/1", "")], {},
        {5: (YES, 6, 1)}, {(1, 0): "orphan"},
    ),
    "a click whose impression is forgotten is an orphan": (
        [(5, "g/1")], [(25, "g/2", ""), (6, "g/1", "")], {},
        {5: (NO, None, 0)}, {(1, 0): "orphan", (1, 1): "orphan"},
    ),
    "a click waits for its impression": (
        [(0, "g/9"), (8, "g/1")], [(9, "g/1", "")], {},
        {0: (NO, None, 0), 8: (YES, 9, 1)}, {},
    ),
    "but not for ever": (
        [(13, "g/9"), (8, "g/1")], [(9, "g/1", "")], {"wait_for_impression": 4},
        {8: (NO, None, 0), 13: (NO, None, 0)}, {(1, 0): "orphan"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_join(case):
    """Labels are (positive, time of the first action, count)."""
    impressions, actions, plan, labels, outcomes = case
    assert outcomes_of(impressions, actions, **plan)[:2] == (labels, outcomes)


def test_negatives_come_when_a_stream_has_ended():
    """A click stream without a single event holds no sample back."""
    labels, _, played = outcomes_of([(1, "g/1"), (2, "g/2")], [])
    assert labels == {1: (NO, None, 0), 2: (NO, None, 0)}
    assert played.counts["impressions"] == {"settled": 2}


def test_a_late_click_leaves_a_correction_while_retained():
    """The label stays as it was, and the correction names the click."""
    clicks = [(17, "g/2", ""), (6, "g/1", ""), (20, "g/3", ""), (7, "g/1", "")]
    labels, outcomes, played = outcomes_of([(5, "g/1")], clicks, retention=4)
    assert labels == {5: (NO, None, 0)}
    assert played.corrections == [("g/1", 5, 0, 6)]
    assert outcomes[1, 1] == outcomes[1, 3] == "late"


def test_emit_times_say_when_a_sample_was_known():
    """A sample is known at its settling, later by the group's span if the group decides."""
    _, _, played = outcomes_of([(5, "g/1")], [])
    assert played.rows[0]["__emit"] == 15
    _, _, played = outcomes_of([(5, "g/1")], [], group_span=4, by_group=True)
    assert played.rows[0]["__emit"] == 5 + 10 + 4 + 4


def test_two_windows_label_one_impression():
    """Each action stream has its own window and its own columns."""
    plan = make_plan(windows=(5, 30), sources=3)
    sources = [Rows(0, [(0, "g/1")]), Rows(1, [(6, "g/1", "")]), Rows(2, [(6, "g/1", "")])]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    assert played.samples == {("g/1", 0): ((NO, None, 0), (YES, 6, 1))}
    assert played.outcomes == {(1, 0): "outside_window"}
