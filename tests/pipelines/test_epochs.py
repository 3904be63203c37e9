"""Outputs of a run that does not end are a function of its rows."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headrace
from headrace.pipelines.run import disk
from headrace.pipelines.run.disk import files_under
from headrace.pipelines.sinks.completion import Completion, read_completion
from headrace.pipelines.sinks.encoding import Distinct
from headrace.pipelines.sinks.epochs import EpochFolder
from headrace.pipelines.sinks.hours import HourFolder, open_dataset
from headrace.pipelines.sinks.sink import Mark
from headrace.schemas.config.durations import HOUR, MINUTE, SECOND
from headrace.schemas.errors import CheckpointError, FolderError, OutputError
from headrace.schemas.records.events import EMIT, FOREVER, NEVER
from tests.pipelines.livejobs import (
    LETTERS,
    SCHEMA,
    START,
    Job,
    check_letters_reader,
    check_reader,
    letters_at,
    letters_opened,
    opened,
    rows_at,
    seconds,
    three_hours,
    tree,
)


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


@settings(max_examples=25, deadline=None, derandomize=True)
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
        assert list((out / "dead_letters" / ".pending").iterdir()) == []


@pytest.mark.parametrize("cuts", [[7], list(range(1_000, 30_000, 1_000)), [1, 2, 3, 29_000]])
def test_cuts_change_no_byte_of_wide_rows(tmp_path, cuts):
    """Long lists fill many pages, which end where they would without cuts."""
    random = Random(1)
    lists = pa.array([[f"N{random.random()}"] * random.randint(0, 20) for _ in range(30_000)])
    rows = pa.table({"history": lists, EMIT: [START + row * 1_000 for row in range(30_000)]})
    for name, at in (("whole", []), ("cut", cuts)):
        files = HourFolder(
            tmp_path / name, rows.select(["history"]).schema, Distinct(texts=("history",)), 15_000
        )
        sink = EpochFolder(files, 20 * SECOND, Completion(tmp_path), name)
        for begin, end in itertools.pairwise([0, *at, 30_000]):
            sink.append(rows.slice(begin, end - begin))
        sink.complete_until(FOREVER)
    assert len(tree(tmp_path / "whole")) == 3
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_a_row_of_a_complete_epoch_is_a_defect(tmp_path):
    """Not of the log, so it is no error that a user should meet."""
    sink = opened(tmp_path)
    sink.complete_until(START + 25 * SECOND)
    sink.append(rows_at(*seconds(20)))
    with pytest.raises(ValueError, match="came after"):
        sink.append(rows_at(*seconds(19)))


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
    with pytest.raises(OutputError, match=r"00\.parquet: was merged by a run that was further"):
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

    for where, name in ((os, "fsync"), (HourFolder, "_write_merged"), (disk, "unlinked")):
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
