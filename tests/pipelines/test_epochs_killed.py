"""Outputs of a run that does not end: wherever it is killed, it comes to the same files."""

from __future__ import annotations

import pytest

from headrace.schemas.config.durations import SECOND
from headrace.schemas.records.events import FOREVER
from tests.pipelines import kills
from tests.pipelines.kills import in_new_process
from tests.pipelines.livejobs import (
    START,
    Job,
    check_letters_reader,
    check_reader,
    letters_at,
    letters_opened,
    opened,
    three_hours,
    tree,
)


def letters_of_three_hours():
    """Return a script with a mark without progress, and one after the end of the log."""
    return [
        ("append", letters_at(5, 3)),
        ("mark", None),
        ("append", letters_at(9, 1, 7)),
        ("append", letters_at(2)),
        ("complete", START + 24 * SECOND),
        ("mark", None),
        ("append", letters_at(4)),
        ("mark", None),
        ("complete", START + 3_611 * SECOND),
        ("append", letters_at(8, 6)),
        ("mark", None),
        ("complete", FOREVER),
        ("append", letters_at(0)),
        ("mark", None),
    ]


KINDS = {
    "samples": (three_hours, opened, check_reader),
    "letters": (letters_of_three_hours, letters_opened, check_letters_reader),
}


def changing_stops(job, check, before=lambda: None):
    """Return the stops at which the disk differs from that at the stop before, and those near.

    Whenever it differs it is checked, too.
    """
    job.reset()
    before()
    changing, last = [], [job.state()]

    def look(stop):
        state = job.state()
        if state != last[0]:
            # System calls for memory differ a little from run to run.
            changing.extend(range(max(stop - 2, 0), stop + 2))
            last[0] = state
            check()

    code, stops = kills.run_traced(job.play, look=look)
    assert code == 0
    return sorted({0, *changing}), stops


def kill_everywhere(folder, kind, every):
    """Kill a job at stops; return how many."""
    script, open_sink, check_reader = KINDS[kind]
    job = Job(folder, script(), open_sink)
    job.play()
    whole, rows = tree(job.out), job.rows()
    assert not any(part.startswith(".") for name in whole for part in name.split("/"))
    at, stops = changing_stops(job, lambda: check_reader(job.out, rows))
    assert tree(job.out) == whole
    at = range(stops) if every else at[::7]
    for stop in at:
        job.reset()
        code, _ = kills.run_traced(job.play, kill_at=stop)
        assert code == -9 or (code == 0 and stop > stops - 40)
        check_reader(job.out, rows)
        job.play()
        assert tree(job.out) == whole
    return len(at)


def kill_resuming_everywhere(folder, kind, every):
    """Kill a job at stops, and the one that resumes; return how many pairs."""
    script, open_sink, check_reader = KINDS[kind]
    job = Job(folder, script(), open_sink)
    job.play()
    whole, rows = tree(job.out), job.rows()
    first_stops, _ = changing_stops(job, lambda: None)
    count = 0
    for first in first_stops[:: 11 if every else 61]:

        def broken(first=first):
            kills.run_traced(job.play, kill_at=first)

        second_stops, _ = changing_stops(job, lambda: check_reader(job.out, rows), broken)
        for second in second_stops[:: 7 if every else 80]:
            job.reset()
            broken()
            kills.run_traced(job.play, kill_at=second)
            check_reader(job.out, rows)
            job.play()
            assert tree(job.out) == whole
            count += 1
    return count


@pytest.fixture
def traceable():
    if not in_new_process(kills.traceable):
        pytest.skip("tracing child processes is not permitted here")


some_or_every = pytest.mark.parametrize(
    "every",
    [
        pytest.param(False, id="at some stops"),
        pytest.param(True, id="at many stops", marks=pytest.mark.slow),
    ],
)


of_each = pytest.mark.parametrize("kind", KINDS)


@of_each
@some_or_every
def test_killed_at_any_call_a_run_comes_to_the_same_files(tmp_path, traceable, kind, every, capsys):
    """Some or every one; a reader sees whole epochs in order, and all of them."""
    count = in_new_process(kill_everywhere, tmp_path, kind, every)
    assert count > 30
    with capsys.disabled():
        print(f"\n{count} kills")


@of_each
@some_or_every
def test_killed_again_while_it_resumes_it_does_too(tmp_path, traceable, kind, every, capsys):
    """At pairs of stops, where the disk changes."""
    count = in_new_process(kill_resuming_everywhere, tmp_path, kind, every)
    assert count > 10
    with capsys.disabled():
        print(f"\n{count} pairs of kills")
