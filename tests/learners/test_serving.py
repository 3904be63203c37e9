"""Predictions that wait until their impressions settle."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from headrace.learners.serving import Held
from headrace.schemas.records.events import EMIT, KEY0, KEY1, TIME

WAIT = 25


def served(rows):
    """Make impressions from (key, event time)."""
    keys = pa.array([key for key, _ in rows], pa.uint64())
    times = pa.array([time for _, time in rows], pa.int64())
    emit = pa.array([time + WAIT for _, time in rows], pa.int64())
    return pa.RecordBatch.from_pydict({KEY0: keys, KEY1: keys, TIME: times, EMIT: emit})


def test_an_impression_is_scored_by_what_was_predicted_when_it_was_known():
    """Of copies with one event time the first is meant; other copies are never scored."""
    serving = Held(("a", "b"), 10)
    a = np.array([0.1, 0.2, 0.3, 0.4])
    serving.hold(served([(1, 5), (1, 5), (2, 7), (1, 9)]), {"b": -a, "a": a})
    serving.hold(served([(3, 40)]), {"a": np.array([np.nan]), "b": np.array([5.0])})
    scored = serving.take(served([(1, 5), (2, 7), (4, 8)]))
    np.testing.assert_array_equal(scored["a"], [0.1, 0.3, np.nan])
    np.testing.assert_array_equal(scored["b"], [-0.1, -0.3, np.nan])
    scored = serving.take(served([(3, 40)]))
    np.testing.assert_array_equal(scored["a"], [np.nan])
    assert scored["b"] == [5.0]
    assert serving.waiting == 1  # all before the last epoch are forgotten


KEYS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 60)), min_size=1, max_size=40, unique=True
)


@given(KEYS, st.integers(1, 40), st.integers(0, 39), st.integers(1, 70))
def test_neither_cuts_nor_epochs_nor_saving_change_a_score(tmp_path_factory, rows, cut, at, epoch):
    """All are found, whatever was held in one call, and after what waits was saved and loaded."""
    rows.sort(key=lambda row: row[1])
    serving = Held(("a",), epoch)
    for begin in range(0, len(rows), cut):
        part = rows[begin : begin + cut]
        serving.hold(served(part), {"a": np.array([100.0 * key + time for key, time in part])})
    folder = tmp_path_factory.mktemp("served") / "state"
    serving.save(folder)
    found = []
    for begin in range(0, len(rows), cut):
        if begin >= at:
            serving = Held(("a",), epoch)
            serving.load(folder)
        scored = serving.take(served(rows[begin : begin + cut]))
        found += scored["a"].tolist()
    assert found == [100.0 * key + time for key, time in rows]
