"""Jobs that play a script to the sinks of a run that does not end."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from headrace.pipelines.run.disk import files_under
from headrace.pipelines.sinks.completion import Completion, read_completion
from headrace.pipelines.sinks.encoding import Distinct
from headrace.pipelines.sinks.epochs import EpochFolder
from headrace.pipelines.sinks.hours import HourFolder, open_dataset
from headrace.pipelines.sinks.liveletters import LetterFolder
from headrace.pipelines.sinks.sink import Mark
from headrace.schemas.config.durations import SECOND
from headrace.schemas.records.events import EMIT, FOREVER, PLACE

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


def seconds(*numbers):
    return [START + number * SECOND for number in numbers]


def opened(out, epoch=10 * SECOND, group_rows=4, every_s=0.0):
    out.mkdir(exist_ok=True)
    files = HourFolder(out / "samples", SCHEMA, Distinct(keys=("key",)), group_rows)
    return EpochFolder(files, epoch, Completion(out, every_s), "samples")


LETTERS = pa.schema([("source", pa.string()), ("row", pa.int64()), ("reason", pa.string())])


def letters_opened(out, file_rows=3):
    out.mkdir(exist_ok=True)
    files = HourFolder(out / "dead_letters", LETTERS)
    return LetterFolder(files, Completion(out, 0.0), "dead_letters", file_rows)


def letters_at(*places):
    sources = [f"s{place}" for place in places]
    columns = [sources, [None] * len(places), ["late"] * len(places), places]
    schema = LETTERS.append(pa.field(PLACE, pa.int64()))
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema)


def tree(folder):
    return {name: path.read_bytes() for name, path in files_under(folder).items()}


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
    for merged in out.glob("samples/*/??.parquet"):
        # A folder beside it is whole too: it disappears at once.
        files = list(merged.with_suffix("").glob("[0-9]*.parquet"))
        rows = sum(pq.read_metadata(path).num_rows for path in files)
        assert rows in (0, pq.read_metadata(merged).num_rows)
    return until


def check_letters_reader(out, rows):
    """Check that a reader finds letters of whole marks, each once; return them."""
    if not (out / "dead_letters" / "_common_metadata").exists():
        return []
    shown = open_dataset(out / "dead_letters").to_table(use_threads=False)
    sources = shown.column("source").to_pylist()
    assert len(set(sources)) == len(sources)
    assert set(sources) <= set(rows.column("source").to_pylist())
    return sources


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
