"""The replay job: logs in, samples, model and statistics out."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from joiner.samples import sample_schema
from learners.snapshot import schema_fingerprint
from learners.trainer import Learned
from monitoring.report import render_report
from pipelines import coders, runtime, staging
from pipelines.checkpoint import Checkpointer, Resumed, latest_checkpoint, resume
from pipelines.durable import CACHE
from pipelines.facts import gather_findings, read_back
from pipelines.inputs import Inputs
from pipelines.joining import DEAD, JoinShards
from pipelines.reading import ReadLogs, open_source
from pipelines.sinks import KeepResult, WriteBatches, WriteSamples, open_sinks
from pipelines.spill import CACHE_BYTES, Spill
from pipelines.summary import summarize
from pipelines.training import FINISHED, Finished, TrainEpochs, TrainJob
from schemas.durations import SECOND
from schemas.envelope import CORRECTIONS, JOINED, EventEnvelope, SampleEnvelope


@dataclass(frozen=True)
class Replayed:
    """What a replay came to: its summary, and findings about the input."""

    summary: dict[str, Any]
    findings: list[str]


def train_job(inputs: Inputs, folder: Path) -> TrainJob:
    """Return the training step of a job."""
    monitor = inputs.config.monitor
    about = {
        # Without what changes no result, for equal models have equal folders.
        "config": inputs.config.model_dump(
            mode="json", exclude={"replay": True, "join": {"shards"}}
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


def build_replay(
    pipeline: beam.Pipeline, inputs: Inputs, run: str, models: Path, first_block: int
) -> None:
    """Put the replay graph together; on the in-process runner it is one fused stage."""
    coders.register()
    names = tuple(source.name for source in inputs.sources)
    read = (
        pipeline
        | "Start" >> beam.Create([first_block], reshuffle=False)
        | "ReadLogs"
        >> beam.ParDo(ReadLogs(inputs, run))
        .with_output_types(tuple[int, EventEnvelope])
        .with_outputs(DEAD, main="events")
    )
    joined = read.events | "JoinShards" >> beam.ParDo(
        JoinShards(inputs.join, names, run, in_process=True)
    ).with_output_types(tuple[int, SampleEnvelope]).with_outputs(DEAD, main="samples")
    folders = {CORRECTIONS: "corrections"}
    for stream, action in enumerate(inputs.join.actions):
        folders[f"{JOINED}{stream}"] = f"joined/{action.name}"
    learned = joined.samples | "TrainEpochs" >> beam.ParDo(
        TrainEpochs(train_job(inputs, models), run)
    ).with_output_types(Learned).with_outputs(FINISHED, *folders, main="learned")
    learned.learned | "WriteSamples" >> beam.ParDo(WriteSamples(run))
    learned[FINISHED] | "KeepResult" >> beam.ParDo(KeepResult(run))
    for name, folder in folders.items():
        learned[name] | f"Write {folder}" >> beam.ParDo(WriteBatches(run, folder))
    read[DEAD] | "WriteInvalid" >> beam.ParDo(WriteBatches(run, "dead_letters"))
    joined[DEAD] | "WriteDead" >> beam.ParDo(WriteBatches(run, "dead_letters"))


def replay(
    inputs: Inputs,
    out: Path,
    beam_options: list[str] | None = None,
    watch: Callable[[runtime.Board], None] = lambda board: None,
    go_on: bool = False,
) -> Replayed:
    """Replay logs.

    Parameters
    ----------
    inputs
        The job.
    out
        Folder of the outputs; left as it was if the run fails, but for checkpoints.
    beam_options
        Further options for Beam.
    watch
        Given the live figures once, before the job starts.
    go_on
        Whether to go on from the last checkpoint of a run that broke off, if
        there is one.
    """
    started = time.monotonic()
    staged = staging.stage(out, keep=go_on)
    checkpoint = latest_checkpoint(staged)
    name = uuid.uuid4().hex
    run = runtime.Run(staged)
    runtime.register(name, run)
    watch(run.board)
    try:
        spill = staged / "spill"
        shutil.rmtree(spill, ignore_errors=True)
        run.resources["spill"] = Spill(spill, CACHE_BYTES // inputs.join.shards)
        resumed = Resumed(0, {}, None, 0, 0.0)
        if checkpoint is not None:
            job = train_job(inputs, staged / "model")
            resumed = resume(checkpoint, name, run, inputs, job)
        run.board.events = resumed.events
        run.resources["checkpoints"] = Checkpointer(
            name, run, inputs, inputs.config.replay.checkpoint / SECOND, resumed
        )
        open_source(run, inputs, resumed.block, resumed.readers)
        open_sinks(run, inputs.join, inputs.sources[0].schema, resumed.sinks)
        # The embedded worker would weigh whole bags, element by element, at every append
        # to keep a cache that the steps, with one of their own, have no use for.
        worker_handlers.STATE_CACHE_SIZE_MB = 0
        options = PipelineOptions(
            [runtime.IN_PROCESS, "--no_save_main_session", *(beam_options or [])]
        )
        pipeline = beam.Pipeline(options=options)
        build_replay(pipeline, inputs, name, staged / "model", resumed.block)
        pipeline.run().wait_until_finish()
        result = run.resources.pop("result")
        runtime.close(name)
        finished: Finished = result.value
        written = read_back(staged, inputs)
        elapsed_s = resumed.elapsed_s + time.monotonic() - started
        summary = summarize(inputs, finished, written, elapsed_s)
        findings = gather_findings(staged, inputs, finished, summary, written)
        report = render_report(summary, finished.statistics, findings, inputs.config)
        (staged / "report.html").write_text(report, encoding="utf-8")
        _keep_last_model(staged / "model", finished.snapshot)
        staging.publish(out, summary)
    except BaseException as error:
        _close_quietly(name)
        if latest_checkpoint(staged) is None:
            staging.discard(out)
        if _was_interrupt(error):
            raise KeyboardInterrupt from error
        raise
    finally:
        CACHE.forget(f"{name}/join")
        CACHE.forget(f"{name}/train")
    return Replayed(summary, findings)


def _keep_last_model(folder: Path, snapshot: str | None) -> None:
    for other in folder.glob("*"):
        if other.name != snapshot:
            shutil.rmtree(other)


def _was_interrupt(error: BaseException | None) -> bool:
    """Tell whether an interrupt is behind an error; Beam wraps it like any other."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _close_quietly(name: str) -> None:
    """Close a failed run; the failure that ended it is the one to report."""
    with contextlib.suppress(Exception):
        runtime.close(name)
