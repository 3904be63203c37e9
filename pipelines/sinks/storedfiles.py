"""Outputs of a run on a cluster: each file is written at once, by whoever has its rows.

Nothing is kept between two calls, so that any process can write any file, again if need be: a
file of an epoch has the same bytes every time, and a file of dead letters has its contents in its
name. The layout is that of `headrace.pipelines.sinks.hours`, without merged hours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipelines.run.store import Store
from headrace.pipelines.sinks.encoding import RECORDS, Distinct
from headrace.pipelines.sinks.epochs import runs_of
from headrace.pipelines.sinks.hours import SCHEMA, encode, name_of, path_in_hour
from headrace.pipelines.sinks.lettersort import DEAD_LETTERS
from headrace.pipelines.sources.letters import place_of_letter
from headrace.schemas.records.events import DEAD_LETTER_SCHEMA, EMIT, LETTER_ORDER, PLACE


@dataclass(frozen=True)
class StoredEpochs:
    """Writes the rows of each epoch of emit time to a file of their own.

    Parameters
    ----------
    store, output
        Where to write, and the name of the output.
    schema
        Schema of the files.
    distinct
        How columns are written.
    epoch
        Length of an epoch, microseconds.
    """

    store: Store
    output: str
    schema: pa.Schema
    distinct: Distinct
    epoch: int

    @property
    def columns(self) -> list[str]:
        """The columns of the rows to write: those of the files, and the emit time."""
        return [*self.schema.names, EMIT]

    def write_schema(self) -> None:
        """Write the schema, by which readers know the output."""
        write_schema(self.store, self.output, self.schema)

    def write(self, rows: pa.Table) -> Iterator[int]:
        """Write rows, in order of emit time, all there are of their epochs.

        Yields
        ------
        int
            Beginning of each epoch when its file is written, microseconds.
        """
        numbers = rows.column(EMIT).to_numpy() // self.epoch
        options = self.distinct.options(self.schema)
        for begin, end in runs_of(numbers):
            time = int(numbers[begin]) * self.epoch
            epoch = rows.slice(begin, end - begin).select(self.schema.names)
            self.store.write(f"{self.output}/{path_in_hour(name_of(time))}", encode(epoch, options))
            yield time


def write_letters(store: Store, letters: pa.RecordBatch, time: int) -> None:
    """Write dead letters of one source to a file of their own.

    Its name has the number of the source, the position of the first letter, and a checksum.

    Parameters
    ----------
    store
        Where to write.
    letters
        In the schema `headrace.pipelines.sources.letters.PLACED_LETTERS`.
    time
        The time in the name, microseconds.
    """
    rows = pa.Table.from_batches([letters]).sort_by([(name, "ascending") for name in LETTER_ORDER])
    source, position = place_of_letter(rows.column(PLACE)[0].as_py())
    data = encode(rows.select(DEAD_LETTER_SCHEMA.names), RECORDS.options(DEAD_LETTER_SCHEMA))
    digest = hashlib.sha256(data).hexdigest()[:8]
    name = f"{name_of(time).removesuffix('.parquet')}-{source:04d}-{position:012d}-{digest}.parquet"
    store.write(f"{DEAD_LETTERS}/{path_in_hour(name)}", data)


def write_schema(store: Store, output: str, schema: pa.Schema) -> None:
    """Write the schema of an output, by which readers know it."""
    sink = pa.BufferOutputStream()
    pq.write_metadata(schema, sink)
    store.write(f"{output}/{SCHEMA}", sink.getvalue().to_pybytes())
