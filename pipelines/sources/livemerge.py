"""One sequence of blocks from sources that grow, read by progress.

Of the sources that have records, the one furthest behind is read next. One that has none holds
the join back, since records of any time may come; unless it has had none for `idle_after`, and
those who keep its log say that there is none. Then its progress is raised with that of the
others, to the least of those that are not idle: so it is where the join would be without it.
When it is raised depends on a clock and on what had come by then, so each decision is noted
before it takes effect, for a run that reads the source again. If all sources are idle none is
raised: that nothing comes at all is no sign that all has come.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.merge import Ends
from headrace.pipelines.sources.source import Block
from headrace.pipelines.sources.sourcereader import Raise, SourceReader
from headrace.schemas.records.events import FOREVER, NEVER

_PAUSE_S = 0.01
_GATHERED_S = 0.1
"""How long records of a source gather before it is read again: a block costs the same for a few
as for thousands."""
_JUDGED_EVERY_S, _ASKED_EVERY_S = 0.05, 1.0


@dataclass(frozen=True)
class Patience:
    """How long sources are waited for.

    Parameters
    ----------
    idle_after_s
        After so many seconds without a record a source may be idle.
    stalled_after_s
        After so many seconds without a record, though there are some, a source is stalled.
    max_skew
        How far the time of what is read may be ahead of the source furthest behind,
        microseconds.
    """

    idle_after_s: float
    stalled_after_s: float
    max_skew: int


@dataclass(frozen=True)
class Keepers:
    """What a merge asks and tells others.

    Parameters
    ----------
    ends
        Returns the positions after the last records of sources, by number, as they are now;
        or None if nobody answers.
    note
        Makes decisions durable, by number of the source, before it returns.
    stalled
        Called for a stalled source: with it, and where its log ends, None if nobody answers.
    """

    ends: Callable[[Collection[int]], Mapping[int, int] | None]
    note: Callable[[Mapping[int, Raise]], None]
    stalled: Callable[[SourceReader, int | None], None]


class LiveMerge:
    """The blocks of sources that grow, and None where there is nothing yet.

    Parameters
    ----------
    inputs
        The job.
    sources
        Its sources, in order of their numbers; some may have been read in part.
    rows
        Most rows of a block.
    patience, keepers
        How long sources are waited for, and who decides.
    clock, sleep
        Return seconds, and wait for some.
    """

    def __init__(
        self,
        inputs: Inputs,
        sources: Sequence[SourceReader],
        rows: int,
        patience: Patience,
        keepers: Keepers,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.patience, self.keepers, self.rows = patience, keepers, rows
        self.clock, self.sleep = clock, sleep
        self.epoch = inputs.join.epoch
        self.ends = Ends(inputs, sources, rows)
        self.sources = [source for source in sources if not source.state.ended]
        self.quiet: dict[int, float] = {}
        """Since when sources have had no record, by number."""
        self.asked: dict[int, float] = {}
        """When it was asked last where sources end that nevertheless were not idle, by number."""
        self.rested: dict[int, float] = {}
        """When sources that had only a few records may be read again, by number."""
        self.idle: set[int] = set()
        self.origin = NEVER
        self.judged = clock()

    def __iter__(self) -> Iterator[Block | None]:
        while self.sources:
            block = self._next()
            if block is None:
                yield None
                self.sleep(_PAUSE_S)
            elif block.end == block.begin and self._source(block).exhausted:
                source = self._source(block)
                self.sources.remove(source)
                yield from self.ends.of(source)
            else:
                yield block
            now = self.clock()
            if now >= self.judged + _JUDGED_EVERY_S:
                self.judged = now
                self._judge(now)

    def _source(self, block: Block) -> SourceReader:
        return next(source for source in self.sources if source.number == block.source)

    def _next(self) -> Block | None:
        """Read the source furthest behind that has anything, an end or a raised progress too."""
        most = self._most()
        for source in sorted(self.sources, key=lambda source: (source.reached, source.number)):
            if source.reached > most:
                break
            now = self.clock()
            if now < self.rested.get(source.number, 0):
                continue
            before = source.progress
            block = source.next(self.rows)
            if block.records < self.rows:
                self.rested[source.number] = now + _GATHERED_S
            if block.end > block.begin:
                self.quiet.pop(source.number, None)
                self.idle.discard(source.number)
                if self.origin == NEVER:
                    self.origin = source.reached
                return block
            if block.state.progress > before or source.exhausted:
                return block
            self.quiet.setdefault(source.number, now)
        return None

    def _most(self) -> int:
        """Return until when sources are read: not far ahead of those that hold the join back."""
        reached = [source.reached for source in self.sources if source.number not in self.idle]
        if not reached:  # those that wake up wait for nobody
            return FOREVER
        least = min(reached)
        # One without any event says nothing yet; but neither may the others run away.
        return max(least, self.origin) + self.patience.max_skew

    def _judge(self, now: float) -> None:
        """Raise the progress of idle sources, and tell of stalled ones."""
        due = self._quiet_for(self.patience.idle_after_s, now)
        awake = [source.progress for source in self.sources if source not in due]
        progress = min(awake, default=NEVER)
        # Until it is idle, one stops also those that are ahead of it within an epoch.
        behind = [
            source for source in due
            if (source.number not in self.idle or self._is_behind(source, progress))
            and now >= self.asked.get(source.number, -math.inf) + _ASKED_EVERY_S
        ]  # fmt: skip
        stalled = [
            source for source in self._quiet_for(self.patience.stalled_after_s, now)
            if now >= self.asked.get(source.number, -math.inf) + self.patience.stalled_after_s
        ]  # fmt: skip
        if not behind and not stalled:
            return
        ends = self.keepers.ends({source.number for source in (*behind, *stalled)})
        for source in stalled:
            self.asked[source.number] = now
            if ends is None or ends[source.number] > source.read_until:
                self.keepers.stalled(source, None if ends is None else ends[source.number])
        if ends is None:
            self.idle.clear()
            self.asked.update({source.number: now for source in behind})
            return
        for source in behind:
            if ends[source.number] > source.read_until:
                self.asked[source.number] = now
                self.idle.discard(source.number)
        idle = [source for source in behind if ends[source.number] <= source.read_until]
        raised = [source for source in idle if self._is_behind(source, progress)]
        if raised:
            self.keepers.note({s.number: Raise(s.read_until, progress) for s in raised})
        for source in raised:
            source.raise_progress(progress)
        self.idle.update(source.number for source in idle)

    def _is_behind(self, source: SourceReader, progress: int) -> bool:
        return progress // self.epoch > source.progress // self.epoch

    def _quiet_for(self, least_s: float, now: float) -> list[SourceReader]:
        """List the sources that have had no record for so long."""
        return [s for s in self.sources if now - self.quiet.get(s.number, now) >= least_s]
