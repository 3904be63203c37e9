"""The replay job: logs in, samples, model and statistics out."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.joiner.samples.rows import sample_schema
from headrace.learners.snapshot import schema_fingerprint
from headrace.monitoring.report.page import render_report
from headrace.pipelines.beam.durable import CACHE
from headrace.pipelines.beam.graph import run_replay
from headrace.pipelines.beam.reading import open_source
from headrace.pipelines.jobs.checkpoint import Checkpointer, Resumed, resume
from headrace.pipelines.jobs.facts import gather_findings, read_back
from headrace.pipelines.jobs.identity import digest_of, identity_of
from headrace.pipelines.jobs.summary import summarize
from headrace.pipelines.run import runtime
from headrace.pipelines.run.disk import write_text
from headrace.pipelines.run.interrupts import noted
from headrace.pipelines.run.place import LETTERS, Place
from headrace.pipelines.run.publication import as_written, publish
from headrace.pipelines.run.seal import SUMMARY, write_seal
from headrace.pipelines.run.spill import CACHE_BYTES, Spill
from headrace.pipelines.sinks.lettersort import DEAD_LETTERS, sort_letters
from headrace.pipelines.sinks.parquet import (
    ledger_of,
    open_sinks,
)
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.training.job import Finished, TrainJob
from headrace.schemas.config.durations import SECOND
from headrace.schemas.errors import HeadraceError, OutputError


@dataclass(frozen=True)
class Replayed:
    """What a replay came to: its summary, and findings about the input."""

    summary: dict[str, Any]
    findings: list[str]


def train_job(inputs: Inputs, folder: Path) -> TrainJob:
    """Return the training step of a job."""
    config, monitor = inputs.config, inputs.config.monitor
    # Without what changes no result, for equal models have equal folders; a learner in the
    # short form is one like others.
    named = config.model_copy(update={"learner": None, "learners": config.named_learners})
    about = {
        "config": named.model_dump(
            mode="json", exclude={"replay": True, "join": {"shards"}, "learner": True}
        ),
        "schema_fingerprint": schema_fingerprint(
            sample_schema(inputs.join, inputs.sources[0].schema)
        ),
        "sources": [source.name for source in inputs.sources],
    }
    return TrainJob(
        plan=inputs.train,
        shards=inputs.join.shards,
        epoch=inputs.join.epoch,
        window=monitor.window,
        slices=monitor.slices,
        folder=str(folder),
        about=about,
        durable=False,
    )


def replay(
    inputs: Inputs,
    place: Place,
    beam_options: list[str] | None = None,
    watch: Callable[[runtime.Board], None] = lambda board: None,
    go_on: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Replayed:
    """Replay logs.

    Parameters
    ----------
    inputs
        The job.
    place
        Folder of the outputs, from `headrace.pipelines.run.folder.opened`; left as it was if the
        run fails, but for checkpoints.
    beam_options
        Further options for Beam.
    watch
        Given the live figures once, before the job starts.
    go_on
        Whether to go on from the last checkpoint of a run that broke off, if
        there is one. If it was complete, and its publication finished since, that
        is all there is to do.
    tell
        Given a line about where the run begins.

    Raises
    ------
    HeadraceError
        If the run cannot be done; also for whatever the operating system refuses.
    """
    started = time.monotonic()
    identity = identity_of(inputs)
    if go_on and place.finished is not None and place.finished.identity == digest_of(identity):
        tell("the run that broke off was complete; its publication is finished now")
        return Replayed(json.loads((place.out / SUMMARY).read_text(encoding="utf-8")), [])
    place.stage(go_on)
    checkpoint = place.checkpoint()
    if go_on:
        found = checkpoint is not None
        tell("resuming from checkpoint" if found else "no checkpoint found, starting over")
    name = uuid.uuid4().hex
    run = runtime.Run(place.partial, place.result)
    runtime.register(name, run)
    watch(run.board)
    with _failing_in_order(name, run, place):
        run.resources["spill"] = Spill(place.partial / "spill", CACHE_BYTES // inputs.join.shards)
        resumed = Resumed(0, {}, None, 0, 0.0)
        if checkpoint is not None:
            job = train_job(inputs, place.result / "model")
            resumed = resume(checkpoint, name, run, inputs, identity, job)
        run.board.events = resumed.events
        run.resources["checkpoints"] = Checkpointer(
            name, run, place, identity, inputs.config.replay.checkpoint / SECOND, resumed
        )
        open_source(run, inputs, resumed.block, resumed.readers)
        open_sinks(run, inputs.join, inputs.sources[0].schema, resumed.sinks)
        job = train_job(inputs, place.result / "model")
        run_replay(inputs, name, job, resumed.block, beam_options or [])
        result = run.resources.pop("result")
        runtime.close(name)
        finished: Finished = result.value
        budget = inputs.config.replay.sort_memory_mb << 20
        letters = sort_letters(place.partial / LETTERS, place.result / DEAD_LETTERS, budget)
        ledger = {**ledger_of(run), **letters}
        with as_written(place, ledger):
            written = read_back(place.result, inputs)
            elapsed_s = resumed.elapsed_s + time.monotonic() - started
            summary = summarize(inputs, finished, written, elapsed_s)
            findings = gather_findings(place.result, inputs, finished, summary, written)
        report = render_report(summary, finished.statistics, findings, inputs.config)
        write_text(place.result / "report.html", report)
        _keep_last_models(place.result / "model", finished)
        write_text(place.result / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
        write_seal(place.result, name, digest_of(identity), ledger)
        publish(place)
    return Replayed(summary, findings)


@contextlib.contextmanager
def _failing_in_order(name: str, run: runtime.Run, place: Place) -> Iterator[None]:
    """Clean up when the run in the block fails, and raise what a user should read of it."""
    try:
        with noted() as interrupt:
            yield
    except BaseException as error:
        _close_quietly(name, run)
        with contextlib.suppress(HeadraceError):
            if place.checkpoint() is None:
                place.retire(place.partial)
        causes = list(_behind(error))
        if interrupt.seen or any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            raise KeyboardInterrupt from error
        # Beam raises anew what it meets, with its own words added: go back to the origin.
        for cause in reversed(causes):
            if isinstance(cause, HeadraceError):
                raise cause from error
        for cause in reversed(causes):
            if isinstance(cause, OSError):
                raise OutputError.unwritable(cause.filename or place.out, cause) from error
        raise
    finally:
        CACHE.forget(f"{name}/join")
        CACHE.forget(f"{name}/train")


def _keep_last_models(folder: Path, finished: Finished) -> None:
    """Remove what a run that broke off when it wrote its models may have left."""
    for snapshot in folder.glob("*/*"):
        if snapshot.name != finished.snapshot:
            shutil.rmtree(snapshot)


def _behind(error: BaseException) -> Iterator[BaseException]:
    """List an error and those that it came from, the last ones nearest to the origin."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
    return iter(seen)


def _close_quietly(name: str, run: runtime.Run) -> None:
    """Close a failed run; the failure that ended it is the one to report."""
    with contextlib.suppress(Exception):
        # First, for a checkpoint that is being taken reads what the others have open.
        if "checkpoints" in run.resources:
            run.resources["checkpoints"].close()
        runtime.close(name)
