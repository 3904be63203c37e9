"""The state that a finished replay leaves, and how another goes on from it.

It is taken when all records have passed through every step and the clock stands where it stops,
before the end of the log is told: what waits then for its epoch leaves with the end, and is
learned again, in one order with what follows, by the run that goes on. So that one learns what a
single run over all files would learn, and leaves out of its outputs what has left before.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.joiner.join import ShardJoin
from headrace.joiner.tally import Tally, received
from headrace.pipelines.beam.run import Run
from headrace.pipelines.jobs.checkpoint import Resumed
from headrace.pipelines.jobs.past import HINT, VERSION
from headrace.pipelines.jobs.runstate import (
    expect_whole,
    read_joins,
    read_training,
    write_join,
    write_training,
)
from headrace.pipelines.run.disk import describe, files_under, writing
from headrace.pipelines.run.manifest import MANIFEST, read_manifest, refusing
from headrace.pipelines.run.place import STATE, Place
from headrace.pipelines.run.signing import write_signed
from headrace.pipelines.run.spill import Spill
from headrace.pipelines.sources.continued import Past, PastFile, PastLog, PastStream
from headrace.pipelines.sources.files import LogFile
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import SourceState
from headrace.pipelines.training.job import TrainJob
from headrace.schemas.records.events import FOREVER, NEVER, Outcome
from headrace.schemas.records.restored import expect
from headrace.schemas.records.signatures import Sign


def keep_state(
    run: Run, place: Place, inputs: Inputs, identity: Mapping[str, Any],
    states: Mapping[int, SourceState], sign: Sign | None = None,
) -> None:  # fmt: skip
    """Write the state of a run whose records have all been read, for another to go on from.

    Parameters
    ----------
    run, place, inputs
        The run.
    identity
        Its identity, from before it read anything.
    states
        How far each source was read, by its number.
    sign
        Signs it; None for no signature.
    """
    folder = place.result / STATE
    with writing(folder):
        if folder.exists():
            shutil.rmtree(folder)  # of an attempt that ended here
        folder.mkdir()
        described = write_join(run, folder)
        write_training(run, folder)
        joins: dict[int, ShardJoin] = run.joins.values()
        tallies = [join.tally for join in joins.values()]
        (training,) = run.training.values().values()
        manifest = {
            "version": VERSION,
            "identity": identity,
            "streams": {
                table: stream.as_json()
                for table, stream in _streams(inputs, identity, states, tallies[0].progress)
            },
            "clock": tallies[0].clock,  # that of every shard, as is the progress
            "samples": training.trainer.put_in_order,
            "carried": _open_records(tallies, inputs.join.stream_names),
            "join": described,
            "files": {name: describe(path) for name, path in files_under(folder).items()},
        }
        write_signed(folder / MANIFEST, manifest, sign)


def _streams(
    inputs: Inputs, identity: Mapping[str, Any], states: Mapping[int, SourceState],
    progress: Sequence[int],
) -> Iterator[tuple[str, PastStream]]:  # fmt: skip
    """Yield each stream as it was read, by its table."""
    for stream, head in zip(inputs.streams, inputs.heads, strict=True):
        logs = inputs.logs_of(stream.number)
        # Only the last source of a stream to end tells until when it is complete.
        told = [progress[log.number] for log in logs if progress[log.number] < FOREVER]
        files = []
        for log in logs:
            assert isinstance(log, LogFile | PastLog)  # of topics no state is kept
            version, state = identity["files"][log.key], states[log.number]
            if head.format == "parquet":
                # Such a file never grows: no row follows for which its last ones could vouch.
                state = replace(state, recent=[[], []])
            files.append(PastFile(log.number, log.name, log.key, version, state))
        yield (
            stream.table,
            PastStream(
                head.format, pa.schema(list(head.found.items())), frozenset(head.nested),
                inputs.schema_of(stream.number), max(told, default=NEVER), tuple(files),
            ),
        )  # fmt: skip


def _open_records(tallies: Sequence[Tally], names: tuple[str, ...]) -> dict[str, int]:
    counts = [tally.outcome_counts(names) for tally in tallies]
    return {name: sum(of[name][Outcome.OPEN.value] for of in counts) for name in names}


def state_bytes(result: Path) -> int | None:
    """Return the size of the state that a run has left in its result; None if it left none."""
    files = files_under(result / STATE).values()
    return sum(file.stat().st_size for file in files) if files else None


def go_on(past: Past, inputs: Inputs, job: TrainJob, journals: Spill) -> Resumed:
    """Return the state in which a run begins that continues another.

    Parameters
    ----------
    past, inputs, job
        The run that begins.
    journals
        Its journals, still empty; they are filled.

    Raises
    ------
    CheckpointError
        If the state is not what is written, although its checksums are right.
    """
    folder = past.folder / STATE
    manifest = read_manifest(folder, HINT, job.sign)
    reopened = _reopened(past, inputs)
    states = {
        file.number: file.left(ended=file.number not in reopened)
        for stream in past.streams.values()
        for file in stream.files
    }
    with refusing(folder, HINT):
        joins = read_joins(folder, manifest["join"], inputs.join, journals)
        training = read_training(folder, inputs.join, job)
        expect(training is not None, "train", "is missing")
        assert training is not None
        expect_whole(joins, training)
        positions = [states[number].position for number in sorted(states)]
        expect(joins[0].tally.position == positions, "files", "were read to elsewhere")
        for join in joins.values():
            expect(join.clock == past.clock, "join", f"its clock is not {past.clock}")
            join.tally.go_on(inputs.join, reopened)
        counted = received([join.tally for join in joins.values()], inputs.join.stream_names)
        expect(counted == past.carried, "carried", "does not agree with the join")
        training.go_on(past.clock)
    return Resumed(states=states, joins=joins, training=training)


def _reopened(past: Past, inputs: Inputs) -> dict[int, int]:
    """Return the sources that have not ended, and their progress.

    A stream without new records still tells until when it is complete, by its last source.
    """
    reopened: dict[int, int] = {}
    for stream in inputs.streams:
        told = past.streams[stream.table].told
        logs = inputs.logs_of(stream.number)
        own = [log for log in inputs.own_logs if log.stream == stream.number] or logs[-1:]
        reopened |= {log.number: told for log in own}
    return reopened
