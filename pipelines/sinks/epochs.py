"""Rows in order of emit time as one Parquet file an epoch: the sink of a run that does not end."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from headrace.pipelines.run.disk import writing
from headrace.pipelines.sinks.completion import Completion
from headrace.pipelines.sinks.hours import NOT_THE_RUN, HourFolder, name_of, time_of
from headrace.pipelines.sinks.sink import Mark, expect_held
from headrace.schemas.errors import CheckpointError, OutputError
from headrace.schemas.records.events import EMIT, FOREVER, NEVER
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.restored import Moment, checked, written


@written
class _Until:
    until: Moment


class EpochFolder:
    """A `LiveSink` that writes the rows of each epoch of emit time to a file of their own.

    A file is written when its epoch is complete, so its bytes are a function of the log: after
    a crash they are written again and found to be there. An hour is merged into one file
    when a mark that lies behind it is confirmed; so no run that resumes writes into it.

    Parameters
    ----------
    files
        Where to write; its schema is that of the rows without emit time.
    epoch
        Length of an epoch, microseconds. An epoch belongs to the hour in which it begins.
    completion, output
        Where to publish how far the output is complete, and its name there.

    Attributes
    ----------
    schema
        Schema of the rows to append: that of the files, and the emit time.
    until
        Everything emitted before this time is written, microseconds.
    """

    def __init__(self, files: HourFolder, epoch: int, completion: Completion, output: str) -> None:
        self.files, self.epoch = files, epoch
        self.completion, self.output = completion, output
        self.schema = files.schema.append(pa.field(EMIT, pa.int64()))
        self.until = self.marked = NEVER
        self.held: list[pa.Table] = []
        # Written by a run that was killed: this one must come to the same.
        self.found = {time_of(path.name): path for path in files.files()}
        completion.publish(output, NEVER)

    def resume(self, mark: Mark) -> None:
        """Continue from a mark; files beyond it stay, and are compared when their epoch comes.

        Raises
        ------
        CheckpointError
            If an hour was merged that ends after the mark.
        DamagedError
            If it is no such mark.
        """
        checked(_Until, mark.committed, "mark")
        expect_held(mark, self.schema)
        self.until = self.marked = mark.committed["until"]
        merged = self.files.merged_after(self.until)
        if merged is not None:
            fact = "was merged after this checkpoint was taken"
            raise CheckpointError(merged, fact, "resume from the newest checkpoint")
        self.found = {time: path for time, path in self.found.items() if time >= self.until}
        if mark.held.num_rows:
            self.append(mark.held)
        self.confirm()

    def append(self, rows: pa.Table) -> None:
        """Add rows; they must be in order of emit time, and of no epoch that is complete.

        Raises
        ------
        ValueError
            If they are of an epoch that is complete.
        """
        if rows.num_rows and (first := rows.column(EMIT)[0].as_py()) < self.until:
            raise ValueError(f"a row emitted at {first} came after {self.until} was complete")
        self.held.append(rows)

    def complete_until(self, emit: int) -> None:
        """Write the epochs that end at `emit` or before.

        Raises
        ------
        OutputError
            If the file of an epoch is there with other contents, or cannot be written.
        """
        until = FOREVER if emit >= FOREVER else emit // self.epoch * self.epoch
        if until <= self.until:
            return
        rows = self._rows_held()
        emitted = rows.column(EMIT).to_numpy()
        count = int(np.searchsorted(emitted, until))
        numbers = emitted[:count] // self.epoch
        for begin, end in runs_of(numbers):
            epoch = rows.slice(begin, end - begin).select(self.files.schema.names)
            self._write(int(numbers[begin]) * self.epoch, epoch)
        self.held = [rows.slice(count)]
        self.until = until
        for time in sorted(self.found):
            if time < until:
                fact = "has rows of an epoch that has none in this run"
                raise OutputError(self.found[time], fact, NOT_THE_RUN)
        if self.completion.due(self.output):
            self._publish()

    def _write(self, time: int, rows: pa.Table) -> None:
        path, data = self.files.path_of(name_of(time)), self.files.encode(rows)
        if self.found.pop(time, None) is None:
            self.files.write(path, data)
            return
        with writing(path):
            there = path.read_bytes()
        if there != data:
            fact = (
                "differs from the file that this run would write "
                f"(got {_described(there)}, expected {_described(data)})"
            )
            raise OutputError(path, fact, NOT_THE_RUN)

    def _rows_held(self) -> pa.Table:
        return pa.concat_tables([self.schema.empty_table(), *self.held])

    def _publish(self) -> None:
        self.files.flush()
        self.completion.publish(self.output, self.until)

    def commit(self) -> Mark:
        """Flush the names of all files to disk; return the rows of incomplete epochs."""
        self._publish()
        self.marked = self.until
        return Mark(
            {"until": self.until}, pa.concat_tables([self.schema.empty_table(), *self.held])
        )

    def confirm(self) -> None:
        """Merge the hours that end before the last mark."""
        self.files.merge_until(self.marked)

    def close(self) -> None:
        """Publish what is complete; the rows of incomplete epochs are in the last mark."""
        self._publish()


def runs_of(numbers: Int64s) -> Iterator[tuple[int, int]]:
    """Return begin and end of each run of equal numbers of an array of shape (n,)."""
    cuts = np.flatnonzero(np.diff(numbers)) + 1
    return itertools.pairwise([0, *cuts.tolist(), numbers.size] if numbers.size else [])


def _described(data: bytes) -> str:
    return f"{len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()[:12]}"
