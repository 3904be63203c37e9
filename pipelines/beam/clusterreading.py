"""The source of a run on a cluster: groups of partitions, each a splittable element.

The restriction of a group is how far each of its partitions has been read. A decision that raised
the progress of an idle partition is a part of that, so the runner makes it durable together with
what followed from it, and nothing else needs to note it.

What is open (connections, records read ahead) belongs to one restriction alone, and is kept in
the process under it as the objects of stateful steps are (`headrace.pipelines.beam.stepstates`).
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Duration, Timestamp

from headrace.pipelines.beam.joining import DEAD
from headrace.pipelines.beam.stepstates import StepStates
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.livemerge import Keepers, LiveMerge, Patience
from headrace.pipelines.sources.source import Block, Growing, SourceState
from headrace.pipelines.sources.sourcereader import SourceReader
from headrace.schemas.config.durations import SECOND
from headrace.schemas.errors import KafkaError, StateVersionError
from headrace.schemas.records.events import EARLIEST, LATEST

READ = "read"
_LAYOUT = 2
"""Version of a restriction."""

_MOST_ROWS = 200_000
_MOST_BYTES = 64 << 20
_BUSY_S = 0.1
"""How long a call reads on after its first block."""
_IDLE_S = 1.0
"""How long a call waits for its first block: each call leaves a trace in the runner's state."""
_ASKED = 10
"""So often brokers are asked whether topics are what they were; each time they have 2 s."""

_LOG = logging.getLogger("headrace")


@dataclass(frozen=True)
class Group:
    """Partitions that are read together, by one worker at a time.

    Parameters
    ----------
    number
        Number of the group.
    partitions
        Numbers of the partitions.
    starts
        Where the run begins in each, as positions.
    """

    number: int
    partitions: tuple[int, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Spots:
    """How far the partitions of a group have been read; `done` if no more is to be read."""

    states: tuple[SourceState, ...]
    done: bool = False

    def after(self, group: Group, block: Block) -> Spots:
        """Return how far they have been read with one more block."""
        states = list(self.states)
        states[group.partitions.index(block.source)] = block.state
        return Spots(tuple(states))

    @property
    def progress(self) -> int:
        """The least progress of the partitions, microseconds."""
        return min(state.progress for state in self.states)


class SpotsCoder(Coder):
    """Codes `Spots` as JSON, with a version: runners keep it for as long as the job lives."""

    def encode(self, value: Spots) -> bytes:
        """Return the bytes; equal spots have equal bytes."""
        states = [asdict(state) for state in value.states]
        content = {"layout": _LAYOUT, "done": value.done, "states": states}
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    def decode(self, encoded: bytes) -> Spots:
        """Return the spots.

        Raises
        ------
        StateVersionError
            If they are of another version.
        """
        content = json.loads(encoded)
        if content["layout"] != _LAYOUT:
            raise StateVersionError(
                f"the source's state has layout {content['layout']}, this version reads {_LAYOUT}; "
                "begin anew from offsets that are a horizon back"
            )
        states = tuple(SourceState(**state) for state in content["states"])
        return Spots(states, content["done"])

    def is_deterministic(self) -> bool:
        """Equal spots have equal bytes."""
        return True


class SpotsTracker(RestrictionTracker):
    """Claims are the spots after a block. It splits at the current place alone."""

    def __init__(self, spots: Spots) -> None:
        self.spots = spots
        self.stopped = False

    def current_restriction(self) -> Spots:
        """Return what has been claimed."""
        return self.spots

    def current_progress(self) -> RestrictionProgress:
        """Return that there is always as much to do."""
        return RestrictionProgress(completed=0, remaining=0 if self.spots.done else 1)

    def try_claim(self, spots: Spots) -> bool:
        """Claim the block that leads to these spots."""
        if not self.stopped:
            self.spots = spots
        return not self.stopped

    def try_split(self, fraction_of_remainder: float) -> tuple[Spots, Spots] | None:
        """Leave all the rest to the next call; no part of it can be read beside this one."""
        if fraction_of_remainder != 0 or self.stopped or self.spots.done:
            return None
        self.stopped = True
        rest, self.spots = self.spots, replace(self.spots, done=True)
        return self.spots, rest

    def check_done(self) -> bool:
        """Return whether the call did what it claimed."""
        if not (self.stopped or self.spots.done):
            raise ValueError("the source ended without a word about the rest")
        return True

    def is_bounded(self) -> bool:
        """Return whether it ends."""
        return False


class _Groups(RestrictionProvider):
    def initial_restriction(self, element: Group) -> Spots:
        return Spots(tuple(SourceState.at(start) for start in element.starts))

    def create_tracker(self, restriction: Spots) -> SpotsTracker:
        return SpotsTracker(restriction)

    def restriction_size(self, element: Group, restriction: Spots) -> int:
        return 1

    def restriction_coder(self) -> Coder:
        return SpotsCoder()

    def split(self, element: Group, restriction: Spots) -> Iterator[Spots]:
        yield restriction


def groups_of(inputs: Inputs, starts: Sequence[int], readers: int) -> list[Group]:
    """Spread the partitions of a job over groups, those of each stream evenly.

    Parameters
    ----------
    inputs
        The job.
    starts
        Where the run begins in each partition, by number.
    readers
        How many groups there are, at most.
    """
    taken: list[list[int]] = [[] for _ in range(readers)]
    for stream in inputs.streams:
        for at, log in enumerate(inputs.logs_of(stream.number)):
            taken[at % readers].append(log.number)
    found = [tuple(sorted(numbers)) for numbers in taken if numbers]
    return [
        Group(number, numbers, tuple(starts[of] for of in numbers))
        for number, numbers in enumerate(found)
    ]


@beam.DoFn.unbounded_per_element()
class ReadGroups(beam.DoFn):
    """Read groups of partitions; emit event envelopes keyed by shard, and dead letters.

    Parameters
    ----------
    inputs
        The job.
    growing
        Its logs, which can be pickled.
    job
        Name of the job.
    """

    def __init__(self, inputs: Inputs, growing: Growing, job: str) -> None:
        # What only planning needs stays where the job is submitted.
        self.inputs = replace(inputs, heads=(), algorithms={})
        self.growing = growing
        self.open = StepStates(job, READ)

    def setup(self) -> None:
        """Make a folder for what does not fit into memory."""
        self.scratch = tempfile.TemporaryDirectory(prefix="headrace-")

    def teardown(self) -> None:
        """Remove it."""
        self.scratch.cleanup()

    def process(
        self,
        element: Group,
        tracker: Any = beam.DoFn.RestrictionParam(_Groups()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(
            ManualWatermarkEstimator.default_provider()
        ),
    ) -> Iterator[Any]:
        """Emit some blocks, and defer the rest."""
        spots: Spots = tracker.current_restriction()
        if spots.done:
            return
        blocks = self.open.pop(element.number, _token(spots))
        if blocks is None:
            blocks = iter(self._merge(element, spots))
        rows = size = 0
        until = time.monotonic() + _IDLE_S
        for block in blocks:
            if block is not None:
                spots = spots.after(element, block)
                if not tracker.try_claim(spots):
                    return
                if not rows:
                    until = min(until, time.monotonic() + _BUSY_S)
                yield from _stamped(block)
                rows += max(block.records, 1)
                size += sum(of.batch.nbytes for of in block.envelopes if of.batch is not None)
            if rows >= _MOST_ROWS or size >= _MOST_BYTES or time.monotonic() >= until:
                break
        else:
            tracker.try_claim(replace(spots, done=True))
            watermark.set_watermark(MAX_TIMESTAMP)
            return
        if rows:
            self._verify()
            watermark.set_watermark(_timestamp(spots.progress))
        self.open.put(element.number, _token(spots), blocks)
        tracker.defer_remainder(Duration(0))

    def _verify(self) -> None:
        """Make sure that what was read is of the topics of this job, before it is committed."""
        if not any(self.growing.verify() for _ in range(_ASKED)):
            raise KafkaError.unverified(self.growing.partitions[0].name)

    def _merge(self, group: Group, spots: Spots) -> LiveMerge:
        live = self.inputs.config.live
        patience = Patience(live.idle_after / SECOND, live.stall_after / SECOND, live.max_skew)
        keepers = Keepers(self.growing.ends, lambda raised: None, _stalled)
        readers = [
            SourceReader(self.inputs, self.growing.partitions[number], self.scratch.name, state)
            for number, state in zip(group.partitions, spots.states, strict=True)
        ]
        return LiveMerge(self.inputs, readers, self.inputs.config.batch_rows, patience, keepers)


def _token(spots: Spots) -> str:
    return SpotsCoder().encode(spots).decode()


def _stamped(block: Block) -> Iterator[Any]:
    # Runners that keep no order take the elements of a key by their times.
    stamp = _timestamp(block.state.greatest)
    for keyed in enumerate(block.envelopes):
        yield TimestampedValue(keyed, stamp)
    if block.letters is not None:
        yield beam.pvalue.TaggedOutput(DEAD, TimestampedValue(block.letters, stamp))


def _timestamp(time: int) -> Timestamp:
    if time < EARLIEST:
        return MIN_TIMESTAMP
    return Timestamp(micros=time) if time < LATEST else MAX_TIMESTAMP


def _stalled(source: SourceReader, end: int | None) -> None:
    name = source.partition.name
    if end is None:
        _LOG.warning("%s: no records, and brokers do not answer", name)
        return
    numbering = source.plan.numbering
    _LOG.warning(
        "%s: no records come from %s on, although the log ends at %s (a transaction may be open); "
        "connecting again", name, numbering.text(source.read_until), numbering.text(end),
    )  # fmt: skip
    source.pause()
