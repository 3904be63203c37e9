"""A source and a sink from elsewhere, through the ports alone."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.learners.registry import parameter_models
from headrace.pipelines.app.cli import main
from headrace.pipelines.beam.graph import run_graph
from headrace.pipelines.beam.run import Run
from headrace.pipelines.jobs.replay import train_job
from headrace.pipelines.run.spill import Spill
from headrace.pipelines.sinks.sink import Mark, Writer
from headrace.pipelines.sources.blocks import LogBlocks
from headrace.pipelines.sources.inputs import resolve
from headrace.pipelines.sources.merge import merge_blocks
from headrace.pipelines.sources.source import Chunk
from headrace.pipelines.sources.sourcereader import SourceReader
from headrace.schemas.config.loading import load_config
from headrace.schemas.records.decoding import Records


@dataclass(frozen=True)
class InMemory:
    """Records of a table, as a partition."""

    number: int
    stream: int
    name: str
    batch: pa.RecordBatch

    def chunks(self, rows, skip=0):
        for begin in range(0, self.batch.num_rows, rows):
            part = self.batch.slice(begin, rows)
            end = begin + part.num_rows
            if end > skip:
                yield Chunk(begin, end, Records(part, np.arange(begin, end)))


class JsonLines:
    """A file of JSON lines, cut back to its mark on resuming."""

    def __init__(self, path, schema):
        self.schema = schema
        self.file = path.open("a+b")

    def append(self, rows):
        for row in rows.to_pylist():
            self.file.write(json.dumps(row, default=str).encode() + b"\n")

    def commit(self):
        self.file.flush()
        return Mark({"bytes": self.file.tell()}, self.schema.empty_table())

    def resume(self, mark):
        self.file.truncate(mark.committed["bytes"])
        self.file.seek(0, 2)

    def close(self):
        self.file.close()


def test_a_source_and_a_sink_from_elsewhere_carry_a_whole_replay(log, tmp_path):
    """Samples from tables in memory, written as JSON lines, equal those from Parquet files."""
    assert (
        main(["replay", str(log / "headrace.toml"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    )
    inputs = resolve(load_config(log / "headrace.toml", parameter_models()))
    partitions = []
    for file in inputs.logs:
        table = pq.read_table(file.path, columns=file.schema.names).cast(file.schema)
        partitions.append(
            InMemory(file.number, file.stream, file.name, table.combine_chunks().to_batches()[0])
        )

    def read(states):
        readers = [SourceReader(inputs, p, str(tmp_path), states.get(p.number)) for p in partitions]
        return merge_blocks(inputs, readers, 1_000)

    folders = {"samples": tmp_path / "out" / "samples", "letters": tmp_path / "out/dead_letters"}
    schemas = {name: pq.read_table(folder).schema for name, folder in folders.items()}
    sinks = {
        name: Writer(JsonLines(tmp_path / f"{name}.jsonl", schema))
        for name, schema in schemas.items()
    }
    run = Run(LogBlocks(read, len(partitions)), sinks, Spill(tmp_path / "spill", 1 << 20))
    run_graph(run, inputs, train_job(inputs, tmp_path / "model"))
    run.close()
    for name, folder in folders.items():
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        expected = [json.dumps(row, default=str) for row in pq.read_table(folder).to_pylist()]
        # A replay sorts dead letters when it ends.
        assert lines == expected if name == "samples" else sorted(lines) == sorted(expected)
    assert run.finished.totals.samples == len((tmp_path / "samples.jsonl").read_text().splitlines())


def test_a_sink_resumes_from_its_mark(tmp_path):
    """Rows appended after the mark are undone, and can be appended again."""
    rows = pa.table({"n": [1, 2, 3]})
    sink = JsonLines(tmp_path / "rows", rows.schema)
    sink.append(rows.slice(0, 1))
    mark = sink.commit()
    sink.append(rows.slice(1, 1))
    sink.close()
    again = JsonLines(tmp_path / "rows", rows.schema)
    again.resume(mark)
    again.append(rows.slice(1))
    again.close()
    assert (tmp_path / "rows").read_text() == '{"n": 1}\n{"n": 2}\n{"n": 3}\n'
