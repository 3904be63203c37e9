"""The graph of a replay, and running it in this process."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from headrace.learners.learning import Learned
from headrace.pipelines.beam import coders
from headrace.pipelines.beam.joining import DEAD, JoinShards
from headrace.pipelines.beam.reading import ReadLogs
from headrace.pipelines.beam.training import FINISHED, TrainEpochs
from headrace.pipelines.beam.writing import KeepResult, WriteBatches, WriteSamples
from headrace.pipelines.run import runtime
from headrace.pipelines.run.place import LETTERS
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.training.job import TrainJob
from headrace.schemas.records.envelope import CORRECTIONS, JOINED, EventEnvelope, SampleEnvelope


def run_replay(
    inputs: Inputs, run: str, job: TrainJob, first_block: int, options: list[str]
) -> None:
    """Run the graph until all logs are read.

    Parameters
    ----------
    inputs, job
        What to replay, and the training step.
    run
        Name of the run, see `headrace.pipelines.run.runtime`.
    first_block
        Number of the first block to read.
    options
        Further options for Beam.
    """
    # The embedded worker would weigh whole bags, element by element, at every append
    # to keep a cache that the steps, with one of their own, have no use for.
    worker_handlers.STATE_CACHE_SIZE_MB = 0
    whole = PipelineOptions([runtime.IN_PROCESS, "--no_save_main_session", *options])
    pipeline = beam.Pipeline(options=whole)
    build_replay(pipeline, inputs, run, job, first_block)
    pipeline.run().wait_until_finish()


def build_replay(
    pipeline: beam.Pipeline, inputs: Inputs, run: str, job: TrainJob, first_block: int
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
    learned = joined.samples | "TrainEpochs" >> beam.ParDo(TrainEpochs(job, run)).with_output_types(
        Learned
    ).with_outputs(FINISHED, *folders, main="learned")
    learned.learned | "WriteSamples" >> beam.ParDo(WriteSamples(run))
    learned[FINISHED] | "KeepResult" >> beam.ParDo(KeepResult(run))
    for name, folder in folders.items():
        learned[name] | f"Write {folder}" >> beam.ParDo(WriteBatches(run, folder))
    read[DEAD] | "WriteInvalid" >> beam.ParDo(WriteBatches(run, LETTERS))
    joined[DEAD] | "WriteDead" >> beam.ParDo(WriteBatches(run, LETTERS))
