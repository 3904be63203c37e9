"""The graph of the live job on a distributed runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import apache_beam as beam

from headrace.pipelines.beam.clusterreading import ReadGroups, groups_of
from headrace.pipelines.beam.clusterwriting import (
    PublishMarks,
    WriteEpochs,
    WriteLetters,
    WriteResult,
)
from headrace.pipelines.beam.graph import Steps, build_graph
from headrace.pipelines.beam.joining import JoinShards
from headrace.pipelines.beam.training import TrainEpochs
from headrace.pipelines.run.store import Store
from headrace.pipelines.sinks.outputs import SAMPLES, folders_beside
from headrace.pipelines.sinks.storedfiles import StoredEpochs
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import Growing
from headrace.pipelines.training.job import TrainJob


@dataclass(frozen=True)
class ClusterJob:
    """What the steps are made of; all of it can be pickled.

    Parameters
    ----------
    name
        Name of the run.
    inputs, growing, starts
        The job, its logs, and where it begins in each of them.
    train
        The training step.
    store, files
        Where to write, and the outputs with rows by epoch.
    retried
        See `headrace.pipelines.beam.stepstates.StepStates`.
    models_every_s
        See `headrace.pipelines.beam.training.TrainEpochs`.
    """

    name: str
    inputs: Inputs
    growing: Growing
    starts: list[int]
    train: TrainJob
    store: Store
    files: Mapping[str, StoredEpochs]
    retried: bool
    models_every_s: float


def build_cluster_graph(pipeline: beam.Pipeline, job: ClusterJob) -> None:
    """Add the steps of a job to a pipeline."""
    inputs = job.inputs
    folders = folders_beside(inputs)
    readers = 1 if inputs.config.kafka is None else inputs.config.kafka.readers
    steps = Steps(
        groups_of(inputs, job.starts, readers),
        ReadGroups(inputs, job.growing, job.name),
        JoinShards(inputs.join, inputs.origins, job.name, retried=job.retried),
        TrainEpochs(job.train, job.name, job.retried, job.models_every_s),
        WriteEpochs(SAMPLES, job.files[SAMPLES]),
        {name: WriteEpochs(name, job.files[folder]) for name, folder in folders.items()},
        WriteLetters(job.store),
        WriteResult(job.store),
    )
    ends = build_graph(pipeline, steps, folders)
    (
        (*ends.written, ends.released)
        | "Told" >> beam.Flatten()
        | "PublishMarks" >> beam.ParDo(PublishMarks(job.store, tuple(job.files)))
    )
