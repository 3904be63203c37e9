"""Outputs of a run that does not end: wherever it is killed, it comes to the same files."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from headrace.pipelines.run.disk import files_under
from headrace.pipelines.sinks.completion import Completion, read_completion
from headrace.pipelines.sinks.epochs import EpochFolder
from headrace.pipelines.sinks.hours import HourFolder, open_dataset
from headrace.pipelines.sinks.sink import Mark
from headrace.schemas.config.durations import SECOND
from headrace.schemas.records.events import EMIT, FOREVER
from tests.pipelines import kills

START = 1_767_225_600 * SECOND
"""2026-01-01T00:00:00Z"""

SCHEMA = pa.schema([
    ("key", pa.string()),
    ("kind", pa.dictionary(pa.int8(), pa.string())),
    ("history", pa.list_(pa.string())),
    ("value", pa.float64()),
])  # fmt: skip


def rows_at(*emitted):
    """Return a row for each emit time."""
    numbers = [time // 1_000 for time in emitted]
    kinds = pa.array([number % 3 for number in numbers], pa.int8())
    return pa.table({
        "key": [f"k{number}" for number in numbers],
        "kind": pa.DictionaryArray.from_arrays(kinds, pa.array(["window", "immediate", "elapsed"])),
        "history": [None if n % 5 == 0 else [f"h{i}" for i in range(n % 4)] for n in numbers],
        "value": [float("nan") if number % 7 == 0 else number / 3 for number in numbers],
        EMIT: pa.array(emitted, pa.int64()),
    }, schema=SCHEMA.append(pa.field(EMIT, pa.int64())))  # fmt: skip


def opened(out, epoch=10 * SECOND, group_rows=4, every_s=0.0):
    out.mkdir(exist_ok=True)
    files = HourFolder(out / "samples", SCHEMA, ("key",), group_rows)
    return EpochFolder(files, epoch, Completion(out, every_s), "samples")


def tree(folder):
    return {name: path.read_bytes() for name, path in files_under(folder).items()}


def test_an_epoch_is_a_file_and_a_complete_hour_is_one(tmp_path):
    """What is not complete is in no file; an hour is merged when a mark behind it is confirmed."""
    sink = opened(tmp_path)
    at = [START + s * SECOND for s in (0, 5, 10, 11, 12, 3_599, 3_600, 3_605, 3_621)]
    sink.append(rows_at(*at[:4]))
    sink.append(rows_at(*at[4:]))
    sink.complete_until(START + 3_615 * SECOND)
    names = ["00/20260101T000000.000000Z", "00/20260101T000010.000000Z",
             "00/20260101T005950.000000Z", "01/20260101T010000.000000Z"]  # fmt: skip
    expected = ["complete.json", *(f"samples/2026-01-01/{name}.parquet" for name in names),
                "samples/_common_metadata"]  # fmt: skip
    assert list(tree(tmp_path)) == expected
    sink.confirm()
    assert list(tree(tmp_path)) == expected
    mark = sink.commit()
    assert mark.held.column(EMIT).to_pylist() == at[8:]
    sink.confirm()
    merged = "samples/2026-01-01/00.parquet"
    assert list(tree(tmp_path)) == [expected[0], merged, *expected[-2:]]
    file = pq.ParquetFile(tmp_path / merged)
    assert [file.metadata.row_group(n).num_rows for n in range(2)] == [4, 2]
    shown = open_dataset(tmp_path / "samples").to_table()
    assert shown.schema.equals(SCHEMA)
    assert str(shown.to_pylist()) == str(rows_at(*at[:8]).drop_columns([EMIT]).to_pylist())
    assert read_completion(tmp_path) == {"samples": START + 3_610 * SECOND}


class Job:
    """Plays a script to a sink, and saves its marks as a checkpoint does.

    The script is a list of verbs with what they are about: ``append`` rows, ``complete`` until
    a time, take a ``mark``.
    """

    def __init__(self, folder, script, open_sink=opened):
        self.out, self.saved = folder / "out", folder / "mark.arrow"
        self.script, self.open_sink = script, open_sink

    def reset(self):
        shutil.rmtree(self.out, ignore_errors=True)
        self.saved.unlink(missing_ok=True)

    def play(self):
        """Play what comes after the last mark that was saved."""
        sink, begin = self.open_sink(self.out), 0
        if self.saved.exists():
            begin, mark = self.load()
            sink.resume(mark)
        for at, (verb, what) in enumerate(self.script[begin:], begin + 1):
            if verb == "append":
                sink.append(what)
            elif verb == "complete":
                sink.complete_until(what)
            else:
                self.save(at, sink.commit())
                sink.confirm()
        sink.close()

    def save(self, at, mark):
        text = {"at": str(at), "committed": json.dumps(mark.committed)}
        held = mark.held.replace_schema_metadata(text)
        hidden = self.saved.with_suffix(".partial")
        with pa.OSFile(str(hidden), "wb") as file, pa.ipc.new_stream(file, held.schema) as writer:
            writer.write_table(held)
        os.replace(hidden, self.saved)

    def load(self):
        with pa.OSFile(str(self.saved)) as file:
            held = pa.ipc.open_stream(file).read_all()
        text = held.schema.metadata
        held = held.replace_schema_metadata()
        return int(text[b"at"]), Mark(json.loads(text[b"committed"]), held)

    def rows(self):
        """Return all rows of the script."""
        return pa.concat_tables(what for verb, what in self.script if verb == "append")

    def state(self):
        """Return all files by name, inode and size: cheaper than reading them."""
        found = {(str(self.saved), self.saved.exists() and os.lstat(self.saved).st_ino)}
        for where, folders, names in os.walk(self.out):
            for name in [*folders, *names]:
                stat = os.lstat(os.path.join(where, name))
                found.add((where, name, stat.st_ino, stat.st_size))
        return found


def check_reader(out, rows):
    """Check that a reader finds exactly the rows emitted before the time published."""
    try:
        until = read_completion(out)["samples"]
    except (FileNotFoundError, KeyError):
        return
    shown = open_dataset(out / "samples", until).to_table(use_threads=False)
    expected = rows.slice(0, int(np.searchsorted(rows.column(EMIT).to_numpy(), until)))
    assert shown.column("key").to_pylist() == expected.column("key").to_pylist()


def seconds(*numbers):
    return [START + number * SECOND for number in numbers]


def three_hours():
    """Return a script over three hours, one of them empty, with a mark in each."""
    return [
        ("append", rows_at(*seconds(0, 1, 2, 11))),
        ("append", rows_at(*seconds(12, 25))),
        ("complete", START + 24 * SECOND),
        ("mark", None),
        ("append", rows_at(*seconds(30, 3_590, 3_600, 3_601))),
        ("complete", START + 3_605 * SECOND),
        ("append", rows_at(*seconds(3_602))),
        ("complete", START + 3_611 * SECOND),
        ("mark", None),
        ("append", rows_at(*seconds(3_620, 3_621, 10_801))),
        ("complete", START + 10_820 * SECOND),
        ("mark", None),
        ("complete", FOREVER),
        ("mark", None),
    ]


def in_new_process(function, *arguments):
    """Call a function in a process without threads, which can fork."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def changing_stops(job, again=lambda: None):
    """Return the stops at which the disk differs from that at the stop before, and those near."""
    job.reset()
    again()
    changing, last = [], [job.state()]

    def look(stop):
        state = job.state()
        if state != last[0]:
            # System calls for memory differ a little from run to run.
            changing.extend(range(max(stop - 2, 0), stop + 2))
            last[0] = state

    code, stops = kills.run_traced(job.play, look=look)
    assert code == 0
    return sorted({0, *changing}), stops


def kill_everywhere(folder, every):
    """Kill a job at stops; return how many."""
    job = Job(folder, three_hours())
    job.play()
    whole, rows = tree(job.out), job.rows()
    at, stops = changing_stops(job)
    assert tree(job.out) == whole
    at = range(stops) if every else at[::4]
    for stop in at:
        job.reset()
        code, _ = kills.run_traced(job.play, kill_at=stop)
        assert code == -9 or (code == 0 and stop > stops - 5)
        check_reader(job.out, rows)
        job.play()
        assert tree(job.out) == whole
    return len(at)


def kill_resuming_everywhere(folder, every):
    """Kill a job at stops, and the one that resumes; return how many pairs."""
    job = Job(folder, three_hours())
    job.play()
    whole, rows = tree(job.out), job.rows()
    first_stops, _ = changing_stops(job)
    count = 0
    for first in first_stops[:: 1 if every else 61]:

        def broken(first=first):
            kills.run_traced(job.play, kill_at=first)

        second_stops, _ = changing_stops(job, broken)
        for second in second_stops[:: 1 if every else 40]:
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
        pytest.param(True, id="at every stop", marks=pytest.mark.slow),
    ],
)


@some_or_every
def test_killed_at_any_call_a_run_comes_to_the_same_files(tmp_path, traceable, every, capsys):
    """While it writes, commits and merges; a reader sees whole epochs in order, and all of them."""
    count = in_new_process(kill_everywhere, tmp_path, every)
    assert count > 100
    with capsys.disabled():
        print(f"\n{count} kills")


@some_or_every
def test_killed_again_while_it_resumes_it_does_too(tmp_path, traceable, every, capsys):
    """At any two stops."""
    count = in_new_process(kill_resuming_everywhere, tmp_path, every)
    assert count > 100
    with capsys.disabled():
        print(f"\n{count} pairs of kills")
