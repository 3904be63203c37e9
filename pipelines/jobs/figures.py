"""Publishes the figures of a run on its board, about once a second, between two bundles."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from headrace.monitoring.figures import MOST_SHOWN, Figures, Shown, SourceFigures
from headrace.pipelines.beam.run import Run
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import Partition, SourceState
from headrace.pipelines.training.state import TrainingState
from headrace.schemas.records.events import EARLIEST, FOREVER, NEVER, Outcome

_EVERY_S = 1.0
_SHARE = 50
"""A run spends at most about one part in this many of its time on figures."""


class FiguresKeeper:
    """Gathers the figures of a run.

    Parameters
    ----------
    run, inputs
        The run, and its configuration.
    partitions
        The sources, by number.
    ends
        Returns where the logs ended when somebody asked last, by number; None if nobody knows.
    written
        Returns when the last checkpoint and the last models were written, seconds since 1970.
    """

    def __init__(
        self,
        run: Run,
        inputs: Inputs,
        partitions: Sequence[Partition],
        ends: Callable[[], Mapping[int, int] | None] = lambda: None,
        written: Callable[[], tuple[float | None, float | None]] = lambda: (None, None),
    ) -> None:
        self.run, self.inputs, self.partitions = run, inputs, partitions
        self.ends, self.written = ends, written
        self.shown = Shown()
        self.due = 0.0

    def offer(self) -> None:
        """Publish new figures if they are due; called between two bundles."""
        began = time.monotonic()
        if began >= self.due:
            self.publish()
            ended = time.monotonic()
            self.due = ended + max(_EVERY_S, _SHARE * (ended - began))

    def publish(self) -> None:
        """Replace the figures on the board; called while no step is at work."""
        self.run.board.figures = self._figures()

    def _figures(self) -> Figures:
        states = dict(self.run.blocks.states)
        open_ = [number for number, of in states.items() if not of.ended]
        behind = min(open_, key=lambda number: (states[number].progress, number), default=None)
        training: TrainingState | None = next(iter(self.run.training.values().values()), None)
        predictions = training.predictions(self.inputs.join.release_delay) if training else ()
        for of in predictions:
            self.shown.admit(of.totals)
        checkpoint_s, models_s = self.written()
        ends = self.ends()
        return Figures(
            published_s=time.time(),
            events=self.run.board.events,
            samples=training.trainer.ledger.samples if training else 0,
            outcomes=self._outcomes(training, states),
            sources=tuple(self._source(number, of, ends) for number, of in sorted(states.items())),
            clock=None if behind is None else _moment(states[behind].progress),
            held_back_by=None if behind is None else self.partitions[behind].name,
            window=self.inputs.config.monitor.window,
            delay=self.inputs.join.release_delay,
            predictions=predictions,
            shown=self.shown.by_column,
            learned=dict(training.trainer.step.learned) if training else {},
            guard=training.guarded() if training else (),
            arrivals=training.arrivals() if training else (),
            decisions=tuple(training.decisions) if training else (),
            held={label: guard.counts["held"] for label, guard in training.guards.items()}
            if training
            else {},
            drift=training.drift.latest(MOST_SHOWN) if training else {},
            checkpoint_s=checkpoint_s,
            models_s=models_s,
        )

    def _outcomes(
        self, training: TrainingState | None, states: Mapping[int, SourceState]
    ) -> dict[str, dict[str, int]]:
        tally = training.trainer.ledger.tally() if training else {}
        counts = {
            name: {**{outcome.value: 0 for outcome in Outcome}, **tally.get(name, {})}
            for name in self.inputs.join.stream_names
        }
        for number, state in states.items():
            name = self.inputs.streams[self.partitions[number].stream].name
            counts[name][Outcome.INVALID.value] += state.rejected
        return counts

    def _source(
        self, number: int, state: SourceState, ends: Mapping[int, int] | None
    ) -> SourceFigures:
        partition = self.partitions[number]
        stream = self.inputs.streams[partition.stream]
        position = stream.numbering.message
        waiting = None if ends is None else position(ends[number]) - position(state.position)
        return SourceFigures(
            partition.name, stream.name, state.records, state.rejected,
            _moment(state.greatest), _moment(state.progress),
            None if waiting is None else max(waiting, 0), state.ended,
        )  # fmt: skip


def _moment(time: int) -> int | None:
    """Return microseconds; None if they stand for no time."""
    return time if EARLIEST <= time < FOREVER and time != NEVER else None
