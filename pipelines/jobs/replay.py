"""The replay job: logs in, samples, model and statistics out."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from headrace.joiner.samples.rows import sample_schema
from headrace.learners.snapshot import schema_fingerprint
from headrace.monitoring.gate import GatePlan
from headrace.monitoring.guard import GUARD
from headrace.monitoring.report.page import render_report
from headrace.monitoring.results import LogResult
from headrace.pipelines.beam.inprocess import run_graph
from headrace.pipelines.beam.run import Run
from headrace.pipelines.jobs.checkpoint import Checkpointer, Resumed, resume
from headrace.pipelines.jobs.continuing import go_on, keep_state, state_bytes
from headrace.pipelines.jobs.failures import raise_origin, was_interrupted
from headrace.pipelines.jobs.figures import FiguresKeeper
from headrace.pipelines.jobs.identity import configuration_of, digest_of, identity_of
from headrace.pipelines.jobs.nearmisses import NearMisses, near_misses
from headrace.pipelines.jobs.readback import gather_findings, log_result, read_back
from headrace.pipelines.jobs.statisticsfile import write_statistics
from headrace.pipelines.jobs.status import ReplayStatus, note_end
from headrace.pipelines.jobs.summary import summarize
from headrace.pipelines.run.board import Board
from headrace.pipelines.run.disk import write_text
from headrace.pipelines.run.interrupts import noted
from headrace.pipelines.run.manifest import refusing
from headrace.pipelines.run.place import LETTERS, STATISTICS_FILE, Place
from headrace.pipelines.run.publication import as_written, publish
from headrace.pipelines.run.seal import SUMMARY, write_seal
from headrace.pipelines.run.signing import SigningKey
from headrace.pipelines.run.spill import CACHE_BYTES, Spill
from headrace.pipelines.sinks.lettersort import DEAD_LETTERS, sort_letters
from headrace.pipelines.sinks.outputs import inventory_of, open_outputs
from headrace.pipelines.sinks.parquet import ParquetFolder
from headrace.pipelines.sinks.sink import Writer
from headrace.pipelines.sources.blocks import LogBlocks
from headrace.pipelines.sources.continued import Past
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.merge import read_blocks
from headrace.pipelines.sources.source import Block, SourceState
from headrace.pipelines.training.drifting import drift_plan
from headrace.pipelines.training.handover import Threaded
from headrace.pipelines.training.job import Finished, TrainJob
from headrace.schemas.config.durations import SECOND
from headrace.schemas.config.models import Config
from headrace.schemas.errors import HeadraceError
from headrace.schemas.records.events import IMPRESSIONS
from headrace.schemas.types import type_name


@dataclass(frozen=True)
class Replayed:
    """The results of a replay: its summary, findings about the input, and what they are from.

    Parameters
    ----------
    summary
        Contents of ``summary.json``.
    findings
        A sentence each.
    log
        What detectors looked at; None if an earlier run was complete.
    """

    summary: dict[str, Any]
    findings: list[str]
    log: LogResult | None = None


def train_job(inputs: Inputs, folder: Path | str) -> TrainJob:
    """Return the training step of a run, which writes models to `folder`."""
    config, monitor = inputs.config, inputs.config.monitor
    types = inputs.schema_of(IMPRESSIONS)
    # Of these columns a prediction takes the rate that it is corrected for.
    corrected = inputs.join.sampling.columns if config.sampling.correction == "recalibrate" else ()
    # Without settings that change no result, so that equal models have equal manifests; a
    # learner in the short form is named like the others.
    named = config.model_copy(update={"learner": None, "learners": config.named_learners})
    about: dict[str, Any] = {
        "config": named.model_dump(
            mode="json",
            exclude={
                "replay": True,
                "state": True,
                "live": True,
                "outputs": True,
                "publish": True,
                "join": {"shards"},
                "learner": True,
                "features": True,  # learners have them
            },
        ),
        "schema_fingerprint": schema_fingerprint(sample_schema(inputs.join, types)),
        "columns": {
            name: type_name(types.field(name).type)
            for learner in inputs.train.learners.values()
            for name in (*learner.features.columns, *corrected, *learner.told_by)
        },
        "sources": [log.name for log in inputs.logs],
    }
    about["config"]["join"]["secret"] = inputs.secret.mark
    return TrainJob(
        plan=inputs.train,
        shards=inputs.join.shards,
        epoch=inputs.join.epoch,
        window=monitor.window,
        slices=monitor.slices,
        folder=str(folder),
        about=about,
        guard=inputs.guard,
        leads=inputs.leads,
        gate=None if config.publish is None else GatePlan(**config.publish.model_dump()),
        history=config.monitor.history,
        sign=SigningKey.of(config),
        drift=drift_plan(inputs.train, types, inputs.join.release_delay + inputs.join.early),
    )


def _continues(past: Past, inputs: Inputs) -> str:
    """Return a line about what a run continues."""
    opened = ", ".join(f"{count:,} {name}" for name, count in past.carried.items())
    files, grown = len(inputs.own_logs), sum(head.reread for head in inputs.heads)
    new = f"{files - grown:,} new files" + (f", {grown:,} that grew" if grown else "")
    return f"continuing {past.folder}, where {opened} are open; {new}"


def _ranked(config: Config) -> dict[str, str]:
    """Return the learners of which pairwise accuracy is kept, with the column of propensities.

    What a learner with a position is scored by has the position in it, for which clicks are to
    be corrected.
    """
    if (propensity := config.monitor.propensity) is None:
        return {}
    learners = config.named_learners.items()
    return {name: propensity for name, learner in learners if learner.position is None}


def replay(
    inputs: Inputs,
    place: Place,
    beam_options: Sequence[str] = (),
    watch: Callable[[Board], None] = lambda board: None,
    resuming: bool = False,
    announce: Callable[[str], None] = lambda line: None,
) -> Replayed:
    """Replay logs into samples, models and a report.

    Parameters
    ----------
    inputs
        Configuration and log files.
    place
        Folder of the outputs, from `headrace.pipelines.run.folder.opened`. If the run fails,
        only checkpoints are left in it.
    beam_options
        More options for Beam.
    watch
        Called once with the live figures, before the job starts.
    resuming
        Whether to continue from the last checkpoint of an unfinished run, if there is
        one. If that run was complete and only its publication was finished now, nothing
        is left to do.
    announce
        Called with a line about where the run begins.

    Raises
    ------
    HeadraceError
        If the run fails, also if the operating system refuses something.
    """
    started = time.monotonic()
    identity = identity_of(inputs)
    if resuming and place.finished is not None and place.finished.identity == digest_of(identity):
        announce("the earlier run was complete; its publication is now finished")
        return Replayed(json.loads((place.out / SUMMARY).read_text(encoding="utf-8")), [])
    place.stage(resuming)
    checkpoint = place.checkpoint()
    if resuming:
        found = checkpoint is not None
        announce("resuming from checkpoint" if found else "no checkpoint found, starting over")
    elif inputs.past is not None:
        announce(_continues(inputs.past, inputs))
    board = Board()
    watch(board)
    job = train_job(inputs, place.result / "model")
    # Ranks are for the summary, which no other run has.
    job = replace(job, ranked=_ranked(inputs.config), handover=Threaded)
    with _clean_failure(place):
        outputs = open_outputs(place, inputs)
        with _started(inputs, place, identity, job, outputs, board, checkpoint) as (run, resumed):
            figures = FiguresKeeper(run, inputs, inputs.logs)
            status = ReplayStatus(place, run, figures)
            run.between = status.offer
            run_graph(run, inputs, job, resumed.block, tuple(beam_options))
            figures.publish()
            status.write()
        finished = run.finished
        assert finished is not None  # the training step ends with the log
        budget = inputs.config.replay.sort_memory_mb << 20
        near = NearMisses()
        if inputs.config.monitor.near_misses:
            near = near_misses(place.partial / LETTERS, inputs, budget)
        letters = sort_letters(
            place.partial / LETTERS, place.result / DEAD_LETTERS, budget, near.amended
        )
        inventory = {**inventory_of(outputs), **letters}
        with as_written(place, inventory):
            written = read_back(place.result, inputs)
            elapsed_s = resumed.elapsed_s + time.monotonic() - started
            state = state_bytes(place.result)
            summary = summarize(inputs, finished, written, run.blocks.states, elapsed_s, state)
            log = log_result(inputs, finished, summary, written)
            findings = gather_findings(inputs, finished, summary, log) + near.findings
        journal = None if inputs.guard is None else pq.read_table(place.result / GUARD)
        report = render_report(summary, finished.statistics, findings, finished.served, journal)
        write_text(place.result / "report.html", report)
        inventory[STATISTICS_FILE] = write_statistics(place.result / STATISTICS_FILE, finished)
        _keep_last_models(place.result / "model", finished)
        write_text(place.result / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
        where = configuration_of(inputs)
        write_seal(place.result, run.name, digest_of(identity), inventory, where)
        publish(place)
    return Replayed(summary, findings, log)


@contextlib.contextmanager
def _started(
    inputs: Inputs,
    place: Place,
    identity: dict[str, Any],
    job: TrainJob,
    outputs: dict[str, ParquetFolder],
    board: Board,
    checkpoint: Path | None,
) -> Iterator[tuple[Run, Resumed]]:
    """Open all parts of a run, in the state of a checkpoint, and close them after the block."""
    journals = Spill(place.partial / "spill", CACHE_BYTES // inputs.join.shards)
    resumed = Resumed()
    if checkpoint is not None:
        resumed = resume(checkpoint, place, inputs, identity, job, outputs, journals)
    elif inputs.past is not None:
        resumed = go_on(inputs.past, inputs, job, journals)
    for name, mark in resumed.marks.items():
        with refusing(checkpoint or place.out, "run without --resume to start over"):
            outputs[name].resume(mark)
    board.events = resumed.events

    def read(states: Mapping[int, SourceState]) -> Iterator[Block]:
        return read_blocks(inputs, inputs.config.batch_rows, str(place.partial), states)

    blocks = LogBlocks(read, len(inputs.logs), resumed.block, resumed.states)
    run = Run(blocks, {name: Writer(files) for name, files in outputs.items()}, journals, board)
    for shard, join in resumed.joins.items():
        run.joins.begin_with(shard, join)
    if resumed.training is not None:
        run.training.begin_with(0, resumed.training)
    if inputs.config.replay.state and not inputs.config.topics:
        run.complete = partial(keep_state, run, place, inputs, identity, sign=job.sign)
    every_s = inputs.config.replay.checkpoint / SECOND
    run.checkpoints = Checkpointer(run, place, identity, every_s, resumed, sign=job.sign)
    with run.closing():
        yield run, resumed


@contextlib.contextmanager
def _clean_failure(place: Place) -> Iterator[None]:
    """Clean up if the run in the block fails, and raise the error that a user should read."""
    try:
        with noted() as interrupt:
            yield
    except BaseException as error:
        with contextlib.suppress(HeadraceError):
            if place.checkpoint() is None:
                place.retire(place.partial)
        interrupted = interrupt.interrupted or was_interrupted(error)
        note_end(place, "stopped" if interrupted else "failed")
        if interrupted:
            raise KeyboardInterrupt from error
        raise_origin(error, place.out)


def _keep_last_models(folder: Path, finished: Finished) -> None:
    """Remove models that an earlier, interrupted attempt of this run may have left."""
    for snapshot in folder.glob("*/*"):
        if snapshot.name != finished.snapshots[snapshot.parent.name]:
            shutil.rmtree(snapshot)
