"""The Beam graph of a run, and how it is run in this process."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from headrace.learners.learning import Learned
from headrace.pipelines.beam import coders
from headrace.pipelines.beam.joining import DEAD, JoinShards
from headrace.pipelines.beam.reading import ReadLogs
from headrace.pipelines.beam.run import Run
from headrace.pipelines.beam.settings import set_for_a_run
from headrace.pipelines.beam.training import FINISHED, TrainEpochs
from headrace.pipelines.beam.writing import KeepResult, WriteBatches, WriteSamples
from headrace.pipelines.run.place import LETTERS
from headrace.pipelines.run.runner import IN_PROCESS
from headrace.pipelines.sinks.outputs import SAMPLES, folders_beside
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.training.job import TrainJob
from headrace.schemas.records.envelope import EventEnvelope, SampleEnvelope


def run_graph(
    run: Run, inputs: Inputs, job: TrainJob, first_block: int = 0, options: tuple[str, ...] = ()
) -> None:
    """Run the graph until all blocks are read; then ``run.finished`` has the results.

    It ends earlier, without results, if `headrace.pipelines.beam.run.Checkpoints` says so.

    Parameters
    ----------
    run
        Where to read and write.
    inputs, job
        The join, and the training step.
    first_block
        Number of the first block to read.
    options
        More options for Beam.
    """
    whole = PipelineOptions([IN_PROCESS, "--no_save_main_session", *options])
    pipeline = beam.Pipeline(options=whole)
    build_graph(pipeline, run, inputs, job, first_block)
    with set_for_a_run():
        pipeline.run().wait_until_finish()


def build_graph(
    pipeline: beam.Pipeline, run: Run, inputs: Inputs, job: TrainJob, first_block: int
) -> None:
    """Add the steps of a run to a pipeline; on the in-process runner they are one stage."""
    coders.register()
    names = tuple(log.name for log in inputs.logs)
    read = (
        pipeline
        | "Start" >> beam.Create([first_block], reshuffle=False)
        | "ReadLogs"
        >> beam.ParDo(ReadLogs(run))
        .with_output_types(tuple[int, EventEnvelope])
        .with_outputs(DEAD, main="events")
    )
    join = read.events | "JoinShards" >> beam.ParDo(
        JoinShards(inputs.join, names, run.name, run=run)
    ).with_output_types(tuple[int, SampleEnvelope]).with_outputs(DEAD, main="samples")
    beside = folders_beside(inputs.join)
    training = join.samples | "TrainEpochs" >> beam.ParDo(
        TrainEpochs(job, run.name)
    ).with_output_types(Learned).with_outputs(FINISHED, *beside, main="learned")
    training.learned | "WriteSamples" >> beam.ParDo(WriteSamples(run, SAMPLES))
    training[FINISHED] | "KeepResult" >> beam.ParDo(KeepResult(run))
    for name, folder in beside.items():
        training[name] | f"Write {folder}" >> beam.ParDo(WriteBatches(run, folder))
    read[DEAD] | "WriteInvalid" >> beam.ParDo(WriteBatches(run, LETTERS))
    join[DEAD] | "WriteDead" >> beam.ParDo(WriteBatches(run, LETTERS))
