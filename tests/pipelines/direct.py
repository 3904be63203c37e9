"""A stand-in for Beam: the steps of a replay in a plain loop, for small ones in milliseconds.

``monkeypatch.setattr(headrace.pipelines.jobs.replay, "run_graph", run_directly)`` leaves
everything else of a replay as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam

from headrace.pipelines.beam.durable import BAG_NAMES
from headrace.pipelines.beam.joining import DEAD, JoinShards
from headrace.pipelines.beam.reading import ReadLogs
from headrace.pipelines.beam.run import Run
from headrace.pipelines.beam.training import FINISHED, TrainEpochs
from headrace.pipelines.beam.writing import KeepResult, WriteBatches, WriteSamples
from headrace.pipelines.run.place import LETTERS
from headrace.pipelines.sinks.outputs import SAMPLES, folders_beside
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.training.job import TrainJob
from tests.pipelines.cells import Bag, Value

Consumer = Callable[[Any], None]


class Claims:
    """What ``ReadLogs`` asks of a restriction: blocks from a number on, a bundle at a time."""

    def __init__(self, start: int) -> None:
        self.start = self.next = start
        self.deferred = False

    def current_restriction(self) -> Claims:
        return self

    def try_claim(self, position: int) -> bool:
        self.next = position + 1
        return True

    def defer_remainder(self, delay: Any) -> None:
        self.start, self.deferred = self.next, True


def pass_on(outputs: Iterable[Any] | None, consumers: dict[str | None, Consumer]) -> None:
    """Give each output to the consumer of its tag, as a fused stage does: before the next one."""
    for output in outputs or ():
        if isinstance(output, beam.pvalue.TaggedOutput):
            consumers[output.tag](output.value)
        else:
            consumers[None](output)


def without_window(output: Any) -> Any:
    """Return what a step emits at the end of a bundle as it would emit it before."""
    if isinstance(output, beam.pvalue.TaggedOutput):
        return beam.pvalue.TaggedOutput(output.tag, without_window(output.value))
    return output.value


def run_directly(
    run: Run, inputs: Inputs, job: TrainJob, first_block: int = 0, options: tuple[str, ...] = ()
) -> None:
    """Do what ``headrace.pipelines.beam.graph.run_graph`` does, without Beam."""
    read, join = ReadLogs(run), JoinShards(inputs.join, inputs.origins, run.name, run=run)
    train = TrainEpochs(job, run.name)
    cells: dict[Any, list[Any]] = {}

    def sink(step: Any) -> Consumer:
        return lambda value: pass_on(step.process(value), {})

    def stateful(step: Any, bags: int, consumers: dict[str | None, Consumer]) -> Consumer:
        def consume(element: Any) -> None:
            new = [Value(), *(Bag() for _ in range(bags))]
            state = cells.setdefault((step, element[0]), new)
            pass_on(step.process(element, *state), consumers)

        return consume

    dead = sink(WriteBatches(run, LETTERS))
    learned: dict[str | None, Consumer] = {
        None: sink(WriteSamples(run, SAMPLES)),
        FINISHED: sink(KeepResult(run)),
    }
    for name, folder in folders_beside(inputs).items():
        learned[name] = sink(WriteBatches(run, folder))
    training = stateful(train, 2, learned)
    joining = stateful(join, len(BAG_NAMES), {DEAD: dead, None: training})
    claims = Claims(first_block)
    while True:
        claims.deferred = False
        join.start_bundle()
        train.start_bundle()
        pass_on(read.process(0, claims), {DEAD: dead, None: joining})
        join.finish_bundle()
        pass_on(map(without_window, train.finish_bundle()), learned)
        if not claims.deferred:
            return
