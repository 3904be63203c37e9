"""The training step of a run as a stateful Beam step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from headrace.pipelines.beam.durable import Bundle, StepStates, with_cells
from headrace.pipelines.beam.run import TRAIN
from headrace.pipelines.training.job import TrainJob
from headrace.pipelines.training.state import TrainingState
from headrace.schemas.records.envelope import SampleEnvelope

FINISHED = "finished"


class TrainEpochs(beam.DoFn):
    """Learn sample envelopes, all under one key; emit learned samples and the rows beside them.

    Parameters
    ----------
    job
        What to train.
    name
        Name of the job.
    """

    def __init__(self, job: TrainJob, name: str) -> None:
        self.job = job
        self.states = StepStates(name, TRAIN)

    def start_bundle(self) -> None:
        """Drop the objects that a failed bundle may have left."""
        self.bundle = Bundle(self.states)

    @with_cells("envelopes", "waiting")
    def process(self, element: tuple[int, SampleEnvelope], *cells: Any) -> Iterator[Any]:
        """Receive one envelope; emit what it completes, and the results after the last one."""
        key, envelope = element
        meta_cell, envelopes, waiting = cells

        def rebuild(meta: dict[str, Any]) -> TrainingState:
            state = TrainingState(self.job)
            if meta:
                state.take_up(meta, list(waiting.read()), list(envelopes.read()))
            return state

        state: TrainingState = self.bundle.touch(key, meta_cell.read, rebuild)
        received = state.receive(envelope)
        yield from received.samples
        if self.job.durable:
            data = envelope.encode()
            envelopes.add(data)
            state.journaled += len(data)
        if state.journaled > self.job.journal_bytes:
            yield from state.flush()
            state.checkpoint()
            envelopes.clear()
            waiting.clear()
            waiting.add(state.trainer.unlearned().encode())
        meta_cell.write(self.bundle.sealed(key, state.meta()))
        for name, rows in received.beside.items():
            yield beam.pvalue.TaggedOutput(name, rows)
        if state.ended:
            yield from state.flush()
            yield beam.pvalue.TaggedOutput(FINISHED, state.finish())

    def finish_bundle(self) -> list[WindowedValue]:
        """Learn all complete epochs, and put the state back for the next bundle."""
        samples = [learned for _, state in self.bundle.live.values() for learned in state.flush()]
        self.bundle.finish()
        return [WindowedValue(learned, MIN_TIMESTAMP, (GlobalWindow(),)) for learned in samples]
