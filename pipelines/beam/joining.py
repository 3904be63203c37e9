"""The join as a stateful Beam step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import Cells
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.recovery import describe_join, restore_join
from headrace.joiner.samples.output import JoinOutput
from headrace.pipelines.beam.durable import BAG_NAMES, BeamCells, with_cells
from headrace.pipelines.beam.run import JOIN, Run
from headrace.pipelines.beam.stepstates import Bundle, StepStates
from headrace.pipelines.run.spill import CACHE_BYTES
from headrace.pipelines.sources.letters import buried_letters
from headrace.pipelines.sources.numbering import Origin
from headrace.schemas.records.envelope import EventEnvelope

DEAD = "dead"


class JoinShards(beam.DoFn):
    """Apply event envelopes, keyed by shard; emit sample envelopes, keyed by 0.

    Parameters
    ----------
    plan
        Plan of the join.
    sources
        What each source is, for dead letters.
    job
        Name of the job.
    cache_bytes
        Bytes of payload held in memory, over all shards.
    run
        The run that keeps the state; payloads that do not fit into memory go to its
        journals. None if the runner keeps the state.
    retried
        See `headrace.pipelines.beam.stepstates.StepStates`.
    """

    def __init__(
        self,
        plan: JoinPlan,
        sources: tuple[Origin, ...],
        job: str,
        cache_bytes: int = CACHE_BYTES,
        run: Run | None = None,
        retried: bool = True,
    ) -> None:
        self.plan = plan
        self.sources = sources
        self.states = StepStates(job, JOIN, retried)
        self.run = run
        self.cache_bytes = cache_bytes // plan.shards

    def start_bundle(self) -> None:
        """Drop the objects that a failed bundle may have left."""
        self.bundle = Bundle(self.states)

    @with_cells(*BAG_NAMES)
    def process(self, element: tuple[int, EventEnvelope], *state: Any) -> Iterator[Any]:
        """Apply one envelope to its shard; emit what leaves the join."""
        shard, sent = element
        meta_cell, *bags = state
        cells: Cells = BeamCells(bags) if self.run is None else self.run.journals.of(shard)

        def rebuild(meta: dict[str, Any]) -> ShardJoin:
            if not meta:
                return ShardJoin(self.plan, shard, self.cache_bytes)
            return restore_join(self.plan, shard, meta, cells, self.cache_bytes)

        join = self.bundle.touch(shard, meta_cell.read, rebuild)
        output: JoinOutput = join.apply(sent, cells)
        envelope = join.emit(output)
        described = describe_join(join) if self.run is None else {}
        meta_cell.write(self.bundle.sealed(shard, described))
        for dead in output.dead:
            letters = buried_letters(dead, self.plan, self.sources)
            yield beam.pvalue.TaggedOutput(DEAD, letters)
        if envelope is not None:
            yield (0, envelope)

    def finish_bundle(self) -> None:
        """Put the shards back, for the next bundle."""
        self.bundle.finish()
