"""The training step of a run as a stateful Beam step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from headrace.learners.learning import Learned
from headrace.monitoring.guard import GUARD, QUARANTINE
from headrace.pipelines.beam.durable import with_cells
from headrace.pipelines.beam.run import TRAIN
from headrace.pipelines.beam.stepstates import Bundle, StepStates
from headrace.pipelines.sinks.marks import Released
from headrace.pipelines.sinks.outputs import SAMPLES
from headrace.pipelines.training.guarding import journal_of, quarantined
from headrace.pipelines.training.job import TrainJob
from headrace.pipelines.training.state import TrainingState
from headrace.schemas.records.envelope import SampleEnvelope
from headrace.schemas.records.events import EMIT
from headrace.schemas.records.hashing import Int64s

FINISHED, RELEASED = "finished", "released"


class TrainEpochs(beam.DoFn):
    """Learn sample envelopes, all under one key; emit learned samples and the rows beside them.

    Parameters
    ----------
    job
        What to train.
    name
        Name of the job.
    retried
        See `headrace.pipelines.beam.stepstates.StepStates`.
    models_every_s
        How long from one to the next snapshot of the models, seconds, on a runner that keeps
        the state.
    """

    def __init__(
        self, job: TrainJob, name: str, retried: bool = True, models_every_s: float = 60.0
    ) -> None:
        self.job = job
        self.states = StepStates(name, TRAIN, retried)
        self.models_every_s = models_every_s
        self.models_due = 0.0

    def start_bundle(self) -> None:
        """Drop the objects that a failed bundle may have left."""
        self.bundle = Bundle(self.states)
        self.since: int | None = None
        self.left: set[tuple[str, int]] = set()

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
        if self.since is None:
            self.since = state.trainer.order.released
        received = state.receive(envelope)
        yield from self._noted(received.samples)
        if self.job.store is not None:
            data = envelope.encode()
            envelopes.add(data)
            state.journaled += len(data)
        if state.journaled > self.job.journal_bytes:
            yield from self._noted(state.flush())
            state.checkpoint()
            envelopes.clear()
            waiting.clear()
            waiting.add(state.trainer.unlearned().encode())
        meta_cell.write(self.bundle.sealed(key, state.meta()))
        for name, rows in received.beside.items():
            self._note(name, rows.column(EMIT).to_numpy())
            yield beam.pvalue.TaggedOutput(name, rows)
        if state.ended and not received.repeated:
            yield from self._noted(state.flush())
            yield beam.pvalue.TaggedOutput(FINISHED, state.finish())

    def finish_bundle(self) -> list[WindowedValue]:
        """Learn all complete epochs, and put the state back for the next bundle."""
        outputs: list[Any] = []
        for state in [state for _, state in self.bundle.live.values()]:
            outputs += self._noted(state.flush())
            if self.job.store is not None:
                outputs += self._released(state.trainer.order.released)
                self._write_models(state)
        self.bundle.finish()
        return [_windowed(output) for output in outputs]

    def _noted(self, samples: list[Learned]) -> Iterator[Any]:
        for learned in samples:
            self._note(SAMPLES, learned.epoch.column(EMIT))
            yield learned
            for name, rows in ((GUARD, journal_of(learned)), (QUARANTINE, quarantined(learned))):
                if rows is not None:
                    self._note(name, rows.column(EMIT).to_numpy())
                    yield beam.pvalue.TaggedOutput(name, rows)

    def _note(self, output: str, emitted: Int64s) -> None:
        if self.job.store is not None:
            epochs = np.unique(emitted // self.job.epoch) * self.job.epoch
            self.left |= {(output, int(epoch)) for epoch in epochs}

    def _released(self, until: int) -> Iterator[Any]:
        """Yield what this bundle has released, if it has: of which epochs rows have left."""
        if self.since is not None and until > self.since:
            released = Released(self.since, until, sorted(self.left))
            yield beam.pvalue.TaggedOutput(RELEASED, (0, released))

    def _write_models(self, state: TrainingState) -> None:
        # How often models are written depends on a clock; what is in each of them does not.
        if time.monotonic() >= self.models_due:
            self.models_due = time.monotonic() + self.models_every_s
            state.write_models()


def _windowed(output: Any) -> Any:
    if isinstance(output, beam.pvalue.TaggedOutput):
        return beam.pvalue.TaggedOutput(output.tag, _windowed(output.value))
    return WindowedValue(output, MIN_TIMESTAMP, (GlobalWindow(),))
