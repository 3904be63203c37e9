"""Outputs of a run that does not end: wherever it is killed, it comes to the same files."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headrace
from headrace.pipelines.run.disk import files_under
from headrace.pipelines.sinks.completion import Completion, read_completion
from headrace.pipelines.sinks.epochs import EpochFolder
from headrace.pipelines.sinks.hours import HourFolder, microseconds, open_dataset
from headrace.pipelines.sinks.liveletters import LetterFolder
from headrace.pipelines.sinks.sink import LiveWriter, Mark
from headrace.schemas.config.durations import HOUR, MINUTE, SECOND
from headrace.schemas.errors import CheckpointError, FolderError, OutputError
from headrace.schemas.records.events import EMIT, FOREVER, NEVER, PLACE
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
        return None
    shown = open_dataset(out / "samples", until).to_table(use_threads=False)
    expected = rows.slice(0, int(np.searchsorted(rows.column(EMIT).to_numpy(), until)))
    assert shown.column("key").to_pylist() == expected.column("key").to_pylist()
    return until


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


LETTERS = pa.schema([("source", pa.string()), ("reason", pa.string())])


def letters_opened(out, file_rows=3):
    out.mkdir(exist_ok=True)
    files = HourFolder(out / "dead_letters", LETTERS)
    return LetterFolder(files, Completion(out, 0.0), "dead_letters", file_rows)


def letters_at(*places):
    sources = [f"s{place}" for place in places]
    reasons = ["late"] * len(places)
    return pa.table({"source": sources, "reason": reasons, PLACE: pa.array(places, pa.int64())})


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


def check_letters_reader(out, rows):
    """Check that a reader finds letters of whole marks, each once; return them."""
    if not (out / "dead_letters" / "_common_metadata").exists():
        return []
    shown = open_dataset(out / "dead_letters").to_table(use_threads=False)
    sources = shown.column("source").to_pylist()
    assert len(set(sources)) == len(sources)
    assert set(sources) <= set(rows.column("source").to_pylist())
    return sources


KINDS = {
    "samples": (three_hours, opened, check_reader),
    "letters": (letters_of_three_hours, letters_opened, check_letters_reader),
}


def kill_everywhere(folder, kind, every):
    """Kill a job at stops; return how many."""
    script, open_sink, check_reader = KINDS[kind]
    job = Job(folder, script(), open_sink)
    job.play()
    whole, rows = tree(job.out), job.rows()
    assert not any(part.startswith(".") for name in whole for part in name.split("/"))
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


def kill_resuming_everywhere(folder, kind, every):
    """Kill a job at stops, and the one that resumes; return how many pairs."""
    script, open_sink, check_reader = KINDS[kind]
    job = Job(folder, script(), open_sink)
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


of_each = pytest.mark.parametrize("kind", KINDS)


@of_each
@some_or_every
def test_killed_at_any_call_a_run_comes_to_the_same_files(tmp_path, traceable, kind, every, capsys):
    """While it writes, commits and merges; a reader sees whole epochs in order, and all of them."""
    count = in_new_process(kill_everywhere, tmp_path, kind, every)
    assert count > 50
    with capsys.disabled():
        print(f"\n{count} kills")


@of_each
@some_or_every
def test_killed_again_while_it_resumes_it_does_too(tmp_path, traceable, kind, every, capsys):
    """At any two stops."""
    count = in_new_process(kill_resuming_everywhere, tmp_path, kind, every)
    assert count > 20
    with capsys.disabled():
        print(f"\n{count} pairs of kills")


class CrashError(Exception):
    """Stands for the end of the process between two calls of the sink."""


class CrashingJob(Job):
    """A job that crashes at given steps, before or after its mark is saved, once at each."""

    def __init__(self, folder, script, open_sink, crashes):
        super().__init__(folder, script, open_sink)
        self.crashes = set(crashes)

    def save(self, at, mark):
        self._crash(at, "before")
        super().save(at, mark)
        self._crash(at, "after")

    def _crash(self, at, when):
        if (at, when) in self.crashes:
            self.crashes.remove((at, when))
            raise CrashError

    def play_through(self):
        while True:
            try:
                return self.play()
            except CrashError:
                continue


def random_script(random, emitted):
    """Return a script of these emit times, cut at random, that ends with everything complete."""
    script, begin = [], 0
    while begin < len(emitted):
        end = random.randint(begin + 1, len(emitted))
        script.append(("append", rows_at(*emitted[begin:end])))
        begin = end
        if random.random() < 0.6:
            last = emitted[end] if end < len(emitted) else emitted[-1]
            script.append(("complete", last - random.choice((0, 0, 1, HOUR))))
        if random.random() < 0.5:
            script.append(("mark", None))
    return [*script, ("complete", FOREVER), ("mark", None)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 5 * 3_600 * 4).map(lambda n: START + n * SECOND // 4), max_size=30),
    st.sampled_from([SECOND, 7 * SECOND, 10 * SECOND, 90 * MINUTE]),
    st.randoms(use_true_random=False),
)
def test_no_cut_and_no_crash_changes_a_byte(emitted, epoch, random):
    """Also of epochs that no hour is a multiple of, and of those longer than an hour."""
    emitted.sort()
    with tempfile.TemporaryDirectory() as folder:
        whole = Job(Path(folder) / "whole", [("append", rows_at(*emitted)), ("complete", FOREVER),
                    ("mark", None)], lambda out: opened(out, epoch))  # fmt: skip
        whole.out.parent.mkdir()
        whole.play()
        script = random_script(random, emitted)
        marks = [at for at, (verb, _) in enumerate(script, 1) if verb == "mark"]
        crashes = {
            (at, random.choice(("before", "after"))) for at in marks if random.random() < 0.7
        }
        every_s = random.choice((0.0, 1e9))
        job = CrashingJob(Path(folder) / "cut", script,
                          lambda out: opened(out, epoch, every_s=every_s), crashes)  # fmt: skip
        job.out.parent.mkdir()
        job.play_through()
        assert not job.crashes
        assert tree(job.out) == tree(whole.out)
        check_reader(job.out, rows_at(*emitted))
        expected = {time // epoch * epoch // HOUR for time in emitted}
        assert len(tree(job.out)) == len(expected) + 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_letters_are_neither_lost_nor_doubled_by_crashes(seed):
    """Other marks after a crash put them into other files; what a reader saw before stays."""
    random = Random(seed)
    places = random.sample(range(20), 20)
    every = letters_at(*places)
    with tempfile.TemporaryDirectory() as folder:
        out, mark, begin, seen, done = Path(folder) / "out", None, 0, set(), False
        while not done:
            sink = letters_opened(out)
            if mark is not None:
                sink.resume(mark)
            for at in range(begin, len(places)):
                sink.append(letters_at(places[at]))
                sink.complete_until(START + at * 25 * MINUTE)
                if random.random() < 0.4:
                    taken = sink.commit()
                    if random.random() < 0.3:
                        break  # before it was saved
                    mark, begin = taken, at + 1
                    if random.random() < 0.7:
                        sink.confirm()
                shown = set(check_letters_reader(out, every))
                assert seen <= shown
                seen = shown
                if random.random() < 0.2:
                    break
            else:
                sink.commit()
                sink.confirm()
                done = True
        assert set(check_letters_reader(out, every)) == {f"s{place}" for place in places}


def test_a_reader_beside_the_run_always_finds_a_prefix(tmp_path):
    """It never fails, and sees no row twice or out of order; times only grow."""
    emitted = seconds(*range(0, 4 * 3_600, 31))
    rows = rows_at(*emitted)
    opened(tmp_path)
    ended = []

    def read():
        untils, kept = [], []
        while not ended or len(untils) < 3:
            done = bool(ended)
            live = headrace.load_live(tmp_path)
            until = live.complete["samples"]
            count = 0 if until is None else int(np.searchsorted(emitted, microseconds(until)))
            kept.append((live.samples, count))
            # The newest, and one from before the last merges.
            for dataset, count in (kept[-1], kept[len(kept) // 2]):
                keys = dataset.to_table(columns=["key"]).column("key").to_pylist()
                assert keys == rows.column("key").to_pylist()[:count]
            untils.append(kept[-1][1])
            del kept[:-40]
            if done:
                break
        assert untils == sorted(untils)
        return untils

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read), pool.submit(read)]
        writer = LiveWriter(opened(tmp_path, epoch=30 * SECOND))
        for begin in range(0, len(emitted), 5):
            writer.put(lambda begin=begin: rows.slice(begin, 5))
            writer.complete_until(emitted[min(begin + 5, len(emitted) - 1)])
            if begin % 40 == 0:
                writer.commit()
                writer.confirm()
        writer.complete_until(FOREVER)
        writer.commit()
        writer.confirm()
        writer.close()
        ended.append(True)
        for one in reading:
            untils = one.result()
            assert untils[-1] == len(emitted)
            assert len(set(untils)) > 5
    names = [f"2026-01-01/0{hour}.parquet" for hour in range(4)]
    assert [*tree(tmp_path / "samples")] == [*names, "_common_metadata"]


def test_an_old_dataset_survives_the_merge_of_its_files(tmp_path):
    """Files that were removed since are still open in it."""
    sink = opened(tmp_path)
    sink.append(rows_at(*seconds(1, 20, 3_700)))
    sink.complete_until(START + 2 * HOUR)
    before = headrace.load_live(tmp_path).samples
    sink.commit()
    sink.confirm()
    after = headrace.load_live(tmp_path).samples
    assert [before.to_table().num_rows, before.count_rows(), after.count_rows()] == [3, 3, 3]
    assert str(before.to_table().to_pylist()) == str(after.to_table().to_pylist())
    assert [Path(path).name for path in after.files] == ["00.parquet", "01.parquet"]


def test_load_live_offers_each_output(tmp_path):
    """With the time until which it is complete; before the first there are no rows."""
    with pytest.raises(FolderError, match=r"has no complete\.json; name the --out folder"):
        headrace.load_live(tmp_path)
    completion = Completion(tmp_path, 0.0)
    for output in ("samples", "corrections", "joined/click"):
        sink = EpochFolder(HourFolder(tmp_path / output, SCHEMA), SECOND, completion, output)
        if output != "corrections":
            sink.append(rows_at(*seconds(1)))
            sink.complete_until(FOREVER if output == "samples" else START + 5 * SECOND)
    sink = letters_opened(tmp_path)
    sink.append(letters_at(4, 2))
    sink.commit()
    live = headrace.load_live(tmp_path)
    assert live.complete == {
        "corrections": None,
        "dead_letters": None,
        "joined/click": datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC),
        "samples": datetime.max.replace(tzinfo=UTC),
    }
    assert live.samples.count_rows() == live.joined["click"].count_rows() == 1
    assert live.corrections is not None
    assert live.corrections.to_table().schema.equals(SCHEMA)
    assert live.corrections.count_rows() == live.dead_letters.count_rows() == 0
    sink.confirm()
    assert live.dead_letters.to_table().column("source").to_pylist() == ["s2", "s4"]


# What is refused.


def test_another_run_is_noticed_by_its_first_epoch_that_differs(tmp_path):
    """Equal files are left; other bytes, other epochs and merged hours are an error."""
    sink = opened(tmp_path)
    sink.append(rows_at(*seconds(1, 11, 12)))
    sink.complete_until(START + 20 * SECOND)
    before = {path: path.stat() for path in files_under(tmp_path / "samples").values()}
    again = opened(tmp_path)
    again.append(rows_at(*seconds(1)))
    again.complete_until(START + 10 * SECOND)
    assert {path: path.stat() for path in before} == before
    for other, said in (
        (seconds(12), r"000010\.000000Z\.parquet: differs from the file that this run would write "
                      r"\(got [\d,]+ bytes, sha256 \w{12}, expected [\d,]+ bytes, sha256 \w{12}\); "
                      "this run is not the one that wrote it: write to another folder"),
        ([], r"000010\.000000Z\.parquet: has rows of an epoch that has none in this run; this"),
    ):  # fmt: skip
        strange = opened(tmp_path)
        strange.append(rows_at(*seconds(1), *other))
        with pytest.raises(OutputError, match=said):
            strange.complete_until(START + 20 * SECOND)
    again.append(rows_at(*seconds(11, 12)))
    again.complete_until(START + HOUR)
    mark = again.commit()
    again.confirm()
    fresh = opened(tmp_path)
    fresh.append(rows_at(*seconds(1)))
    with pytest.raises(OutputError, match=r"00\.parquet: holds an hour that this run is only"):
        fresh.complete_until(START + 20 * SECOND)
    opened(tmp_path).resume(mark)
    with pytest.raises(CheckpointError, match=r"00\.parquet: was merged after this checkpoint"):
        opened(tmp_path).resume(Mark({"until": START + 10 * SECOND}, mark.held))


def test_letters_of_another_run_or_a_later_mark_are_refused(tmp_path):
    """They would be doubled."""
    sink = letters_opened(tmp_path)
    sink.append(letters_at(1))
    first = sink.commit()
    sink.confirm()
    sink.append(letters_at(2))
    second = sink.commit()
    (pending,) = (tmp_path / "dead_letters" / ".pending").iterdir()
    data = pending.read_bytes()
    pending.write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match="has changed since the checkpoint"):
        letters_opened(tmp_path).resume(second)
    pending.write_bytes(data)
    letters_opened(tmp_path).resume(second)
    with pytest.raises(CheckpointError, match="was written after this checkpoint was taken"):
        letters_opened(tmp_path).resume(first)
    fresh = letters_opened(tmp_path)
    fresh.append(letters_at(3))
    with pytest.raises(OutputError, match="is there before this run has written any"):
        fresh.commit()


def test_a_row_of_a_complete_epoch_is_a_defect(tmp_path):
    """Not of the log, so it is no error that a user should meet."""
    sink = opened(tmp_path)
    sink.complete_until(START + 25 * SECOND)
    sink.append(rows_at(*seconds(20)))
    with pytest.raises(ValueError, match="came after"):
        sink.append(rows_at(*seconds(19)))


def test_a_folder_of_other_columns_and_a_damaged_manifest_are_refused(tmp_path):
    """In one line each."""
    opened(tmp_path)
    with pytest.raises(FolderError, match="holds files with other columns or types"):
        HourFolder(tmp_path / "samples", LETTERS)
    path = tmp_path / "complete.json"
    path.write_text(path.read_text().replace("samples", "sample"))
    for read in (headrace.load_live, Completion):
        with pytest.raises(FolderError, match=r"is damaged \(its checksum does not match\)"):
            read(tmp_path)


def test_a_time_is_published_at_most_once_in_a_while_or_at_a_mark(tmp_path):
    """By the clock that is passed in; it never goes back."""
    now = [0.0]
    completion = Completion(tmp_path, 1.0, lambda: now[0])
    sink = EpochFolder(HourFolder(tmp_path / "samples", SCHEMA), SECOND, completion, "samples")
    published = []
    for at, second in ((0.0, 1), (0.9, 2), (1.0, 3), (1.5, 4)):
        now[0] = at
        sink.complete_until(START + second * SECOND)
        published.append(read_completion(tmp_path)["samples"])
    sink.commit()
    published.append(read_completion(tmp_path)["samples"])
    assert published == [NEVER, NEVER, *seconds(3, 3, 4)]
    completion.publish("samples", START)
    assert read_completion(tmp_path)["samples"] == START + 4 * SECOND


def test_a_full_disk_ends_the_run_with_a_line_and_leaves_nothing_half_written(
    tmp_path, monkeypatch
):
    """At any flush or write of a merge; the run comes to the same files when it resumes."""
    whole = Job(tmp_path / "whole", three_hours())
    whole.out.parent.mkdir()
    whole.play()
    job = Job(tmp_path / "full", three_hours())
    job.out.parent.mkdir()
    calls = [0]

    def failing(call):
        def run(*arguments, **named):
            calls[0] -= 1
            if calls[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*arguments, **named)

        return run

    for where, name in ((os, "fsync"), (HourFolder, "_write_merged"), (Path, "write_bytes")):
        monkeypatch.setattr(where, name, failing(getattr(where, name)))
    failed = 0
    while True:
        job.reset()
        failed += 1
        calls[0] = failed
        try:
            job.play()
            break
        except OutputError as error:
            said = str(error)
        assert "cannot be written (No space left on device); free some space and run" in said
        calls[0] = 0
        check_reader(job.out, job.rows())
        assert not any(Path(name).name.startswith(".") for name in tree(job.out))
        job.play()
        assert tree(job.out) == tree(whole.out)
    assert failed > 50
