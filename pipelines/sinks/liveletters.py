"""Dead letters of a run that does not end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.pipelines.run.disk import aside, describe, flush, write_bytes, writing
from headrace.pipelines.sinks.completion import Completion
from headrace.pipelines.sinks.hours import NOT_THE_RUN, HourFolder, is_name, name_of, number_of
from headrace.pipelines.sinks.parquet import LETTER_FILE_ROWS
from headrace.pipelines.sinks.sink import Mark, Noted
from headrace.schemas.errors import CheckpointError, OutputError
from headrace.schemas.records.events import FOREVER, LETTER_ORDER, NEVER, PLACE
from headrace.schemas.records.restored import Count, Moment, Text, checked, expect, written


@written
class _Marked:
    until: Moment
    named: Count
    number: Count
    pending: dict[Text, Noted]


PENDING = ".pending"
"""Folder of files that become visible when the mark that names them is confirmed."""


class LetterFolder:
    """A `LiveSink` of dead letters, which come from all shards in no order.

    Files end at marks. Which letters are in a file depends on when that is, so a file is not
    written again after a crash: until its mark is confirmed it has a hidden name, and if that
    never comes to be it is removed. Each file is sorted by source and position, and is named
    by the emit time up to which the run was complete when it was written, with a running
    number.

    Parameters
    ----------
    files
        Where to write; its schema is that of the letters without their place.
    completion, output
        Where to publish how far the output is complete, and its name there.
    file_rows
        Rows at which a file ends before the next mark.

    Attributes
    ----------
    schema
        Schema of the rows to append: that of the files, and the place.
    """

    def __init__(
        self,
        files: HourFolder,
        completion: Completion,
        output: str,
        file_rows: int = LETTER_FILE_ROWS,
    ) -> None:
        self.files, self.file_rows = files, file_rows
        self.completion, self.output = completion, output
        self.schema = files.schema.append(pa.field(PLACE, pa.int64()))
        self.folder = files.folder / PENDING
        self.held: list[pa.Table] = []
        self.held_rows = self.number = 0
        self.until = NEVER
        self.named = 0
        self.pending: dict[str, dict[str, Any]] = {}
        self.marked = self._state()
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
        completion.publish(output, NEVER)

    def _state(self) -> dict[str, Any]:
        return {
            "until": self.until, "named": self.named, "number": self.number,
            "pending": dict(self.pending),
        }  # fmt: skip

    def resume(self, mark: Mark) -> None:
        """Continue from a mark, and show its files.

        Raises
        ------
        CheckpointError
            If files of a later mark are visible, or one of this mark has changed.
        DamagedError
            If it is no such mark.
        """
        self.marked = checked(_Marked, mark.committed, "mark")
        # A name makes a path.
        for name in self.marked["pending"]:
            expect(is_name(name), "mark", f"names no file of letters ({name!r})"[:200])
        later = self._shown_after(self.marked["number"], self.marked["named"])
        if later is not None:
            fact = "was written after this checkpoint was taken"
            raise CheckpointError(later, fact, "resume from the newest checkpoint")
        self.until, self.named = self.marked["until"], self.marked["named"]
        self.number, self.pending = self.marked["number"], dict(self.marked["pending"])
        for name, noted in self.pending.items():
            path = self.folder / name
            if path.exists() and describe(path) != noted:
                fact = "has changed since the checkpoint"
                raise CheckpointError(path, fact, "write to another folder")
        self.confirm()

    def _shown_after(self, number: int, named: int) -> Path | None:
        """Return a visible file from this number on, or a merged hour that ends after a time."""
        shown = (path for path in self.files.files() if number_of(path.name) >= number)
        return next(shown, None) or self.files.merged_after(named)

    def append(self, rows: pa.Table) -> None:
        """Add letters, in any order."""
        self.held.append(rows)
        self.held_rows += rows.num_rows
        if self.held_rows >= self.file_rows:
            self._write()

    def complete_until(self, emit: int) -> None:
        """Note that every record whose outcome was known before `emit` has been appended."""
        self.until = emit
        if emit < FOREVER:  # the end of the log is no time to name a file by
            self.named = max(self.named, emit)

    def _write(self) -> None:
        if not self.number and (shown := self._shown_after(0, 0)):
            raise OutputError(shown, "is there before this run has written any", NOT_THE_RUN)
        rows = pa.concat_tables(self.held).sort_by([(name, "ascending") for name in LETTER_ORDER])
        path = self.folder / name_of(self.named, self.number)
        with aside(path) as hidden:
            write_bytes(hidden, self.files.encode(rows.select(self.files.schema.names)))
        self.pending[path.name] = describe(path)
        self.number += 1
        self.held, self.held_rows = [], 0

    def commit(self) -> Mark:
        """Write the letters since the last mark to hidden files; remove those of no mark."""
        if self.held_rows:
            self._write()
        for path in self.folder.iterdir():
            if path.name not in self.pending:
                with writing(path):
                    path.unlink()
        flush(self.folder)
        self.marked = self._state()
        return Mark(self.marked, self.schema.empty_table())

    def confirm(self) -> None:
        """Show the files of the last mark, and merge the hours before it."""
        for name in self.marked["pending"]:
            if name in self.pending:
                self._show(name)
        self.files.flush()
        self.completion.publish(self.output, self.marked["until"])
        self.files.merge_until(self.marked["named"])

    def _show(self, name: str) -> None:
        source, target = self.folder / name, self.files.path_of(name)
        if source.exists():
            self.files.make_folder(target.parent)
            with writing(target):
                os.rename(source, target)
        elif not self.files.has(target):
            fact = "is missing, and is named by the checkpoint"
            raise CheckpointError(target, fact, "write to another folder")
        del self.pending[name]

    def close(self) -> None:
        """Do nothing: letters that no mark has come again."""
