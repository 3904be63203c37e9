"""The Beam graph of every run, and how it is run in this process.

A run reads, joins and trains; where it reads from and writes to differs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from headrace.learners.learning import Learned
from headrace.pipelines.beam import coders
from headrace.pipelines.beam.joining import DEAD, JoinShards
from headrace.pipelines.beam.reading import ReadLogs
from headrace.pipelines.beam.run import Run
from headrace.pipelines.beam.settings import set_for_a_run
from headrace.pipelines.beam.training import FINISHED, RELEASED, TrainEpochs
from headrace.pipelines.beam.writing import KeepResult, WriteBatches, WriteSamples
from headrace.pipelines.run.place import LETTERS
from headrace.pipelines.run.runner import IN_PROCESS
from headrace.pipelines.sinks.outputs import SAMPLES, folders_beside
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.training.job import TrainJob
from headrace.schemas.records.envelope import EventEnvelope, SampleEnvelope


@dataclass(frozen=True)
class Steps:
    """The steps of a run.

    Parameters
    ----------
    start
        The elements that `read` begins with.
    read
        Emits event envelopes keyed by shard, and dead letters under `DEAD`.
    join, train
        The stateful steps.
    samples
        Takes the learned samples.
    beside
        Takes rows beside the samples, by their name.
    letters, finished
        Take dead letters, and the results.
    """

    start: Sequence[Any]
    read: beam.DoFn
    join: JoinShards
    train: TrainEpochs
    samples: beam.DoFn
    beside: Mapping[str, beam.DoFn]
    letters: beam.DoFn
    finished: beam.DoFn


@dataclass(frozen=True)
class Ends:
    """What the graph ends in: what sinks emit, and what the training step has released."""

    written: list[beam.PCollection]
    released: beam.PCollection


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
    # This runner does not use it, and a run that is killed would leave it behind.
    with contextlib.suppress(OSError):
        os.rmdir(pipeline.local_tempdir)
    letters = WriteBatches(run, LETTERS)
    steps = Steps(
        [first_block], ReadLogs(run), JoinShards(inputs.join, inputs.origins, run.name, run=run),
        TrainEpochs(job, run.name), WriteSamples(run, SAMPLES),
        {name: WriteBatches(run, of) for name, of in folders_beside(inputs).items()},
        letters, KeepResult(run),
    )  # fmt: skip
    build_graph(pipeline, steps, folders_beside(inputs))
    with set_for_a_run():
        pipeline.run().wait_until_finish()


def build_graph(pipeline: beam.Pipeline, steps: Steps, folders: Mapping[str, str]) -> Ends:
    """Add the steps of a run to a pipeline; on the in-process runner they are one stage.

    Parameters
    ----------
    pipeline
        The pipeline.
    steps
        The steps.
    folders
        The folder of each output beside the samples, by which its step is named.
    """
    coders.register()
    read = (
        pipeline
        | "Start" >> beam.Create(steps.start, reshuffle=False)
        | "ReadLogs"
        >> beam.ParDo(steps.read)
        .with_output_types(tuple[int, EventEnvelope])
        .with_outputs(DEAD, main="events")
    )
    join = read.events | "JoinShards" >> beam.ParDo(steps.join).with_output_types(
        tuple[int, SampleEnvelope]
    ).with_outputs(DEAD, main="samples")
    training = join.samples | "TrainEpochs" >> beam.ParDo(steps.train).with_output_types(
        Learned
    ).with_outputs(FINISHED, RELEASED, *steps.beside, main="learned")
    written = [training.learned | "WriteSamples" >> beam.ParDo(steps.samples)]
    training[FINISHED] | "KeepResult" >> beam.ParDo(steps.finished)
    for name, sink in steps.beside.items():
        written.append(training[name] | f"Write {folders[name]}" >> beam.ParDo(sink))
    read[DEAD] | "WriteInvalid" >> beam.ParDo(steps.letters)
    join[DEAD] | "WriteDead" >> beam.ParDo(steps.letters)
    released = training[RELEASED]
    released.element_type = tuple[int, Any]  # of outputs with a tag Beam takes none
    return Ends(written, released)
