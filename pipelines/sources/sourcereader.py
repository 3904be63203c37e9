"""The events of one source: read, checked for wrong clocks, sorted if configured, sharded."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.letters import rejected_letters
from headrace.pipelines.sources.numbering import Origin
from headrace.pipelines.sources.sorting import BY_TIME, sort_rows
from headrace.pipelines.sources.source import Block, Partition, SourceState
from headrace.schemas.records.badvalues import BadValues, Counts, counted
from headrace.schemas.records.decoding import Reject
from headrace.schemas.records.envelope import EventEnvelope
from headrace.schemas.records.eventing import EventBuilder, record_text, with_event_time
from headrace.schemas.records.events import GROUP0, KEY0, NEVER, RECORD, TIME, Reason
from headrace.schemas.records.hashing import Int64s, assign_shards, hash_columns
from headrace.schemas.records.jumps import WITNESSES, Judged, Standing, is_ahead, judge_jumps

_LEAST_CHUNK = 256
"""Least number of records to decode at a time; blocks may be smaller."""
_JUMPS = "event time is more than join.max_jump ahead of the rows before and after"


@dataclass
class _Piece:
    """Positions ``[begin, end)`` of a source: events, rejects, and the position of each.

    `doubtful` marks the events whose time no other row confirms; `levels` is what
    `headrace.schemas.records.jumps.Judged` has, of shape (2, 0) until the piece is judged.
    """

    begin: int
    end: int
    batch: pa.RecordBatch
    positions: Int64s
    rejects: list[Reject]
    reject_positions: list[int]
    doubtful: npt.NDArray[np.bool_]
    bad: list[BadValues]
    levels: Int64s = field(default_factory=lambda: np.zeros((2, 0), np.int64))

    def cut(self, at: int) -> tuple[_Piece, _Piece]:
        """Return the piece before position `at`, which lies inside, and the piece from there on."""
        row = int(np.searchsorted(self.positions, at))
        reject = bisect.bisect_left(self.reject_positions, at)
        bad = [values.cut(at) for values in self.bad]
        return (
            _Piece(
                self.begin, at, self.batch.slice(0, row), self.positions[:row],
                self.rejects[:reject], self.reject_positions[:reject], self.doubtful[:row],
                [head for head, _ in bad], self.levels[:, :row],
            ),
            _Piece(
                at, self.end, self.batch.slice(row), self.positions[row:],
                self.rejects[reject:], self.reject_positions[reject:], self.doubtful[row:],
                [tail for _, tail in bad], self.levels[:, row:],
            ),
        )  # fmt: skip

    def extended(self, after: _Piece | None) -> _Piece:
        """Return one piece of this one and the next, if there is a next one."""
        if after is None:
            return self
        return _Piece(
            self.begin, after.end,
            pa.concat_batches([b for b in (self.batch, after.batch) if b.num_rows]),
            np.concatenate([self.positions, after.positions]),
            self.rejects + after.rejects, self.reject_positions + after.reject_positions,
            np.concatenate([self.doubtful, after.doubtful]), self.bad + after.bad,
        )  # fmt: skip

    def judged(self, judged: Judged) -> _Piece:
        """Return the piece with refuted rows as rejects, and doubtful ones marked."""
        refuted = judged.refuted
        if not refuted.any():
            return replace(self, doubtful=judged.doubtful, levels=judged.levels)
        rejects = list(zip(self.reject_positions, self.rejects, strict=True))
        numbers = self.batch.column(RECORD).to_numpy()
        plain = with_event_time(self.batch)
        for row in np.flatnonzero(refuted):
            text = record_text(plain, int(row))
            reject = Reject(int(numbers[row]), Reason.TIME_JUMP, _JUMPS, text)
            rejects.append((int(self.positions[row]), reject))
        rejects.sort(key=lambda pair: pair[0])
        kept = ~refuted
        return _Piece(
            self.begin, self.end, self.batch.filter(pa.array(kept)), self.positions[kept],
            [reject for _, reject in rejects], [position for position, _ in rejects],
            judged.doubtful[kept], self.bad, judged.levels[:, kept],
        )  # fmt: skip


@dataclass(frozen=True)
class Raise:
    """A decision about a source that had no record for long: its progress was raised.

    From then on the source is as if an event of this time had come, which confirms those that
    wait for others to follow. It takes effect between the records before and after a position;
    so it is the same whenever the source is read again.

    Parameters
    ----------
    position
        Position of the first record that had not come by then.
    progress
        What the progress was raised to, microseconds.
    """

    position: int
    progress: int


class SourceReader:
    """A partition as a `Source`: its events in order, and the progress that follows from them.

    Parameters
    ----------
    inputs
        The job.
    partition
        The records.
    scratch
        Folder for sorting on disk.
    state
        Where to continue; None for the beginning.
    raises
        What was decided about the source, in order of positions.
    step
        Progress is told in steps of so many microseconds: every step of the clock costs the
        join as much as many records, and a live source would take one with each of its blocks.

    Attributes
    ----------
    read_until
        Position after the last record that has been read, though perhaps not delivered.
    """

    def __init__(
        self, inputs: Inputs, partition: Partition, scratch: str,
        state: SourceState | None = None, raises: Sequence[Raise] = (), step: int = 1,
    ) -> None:  # fmt: skip
        self.step = step
        self.inputs, self.partition, self.scratch = inputs, partition, scratch
        self.number = partition.number
        self.plan = inputs.streams[partition.stream]
        self.stream = self.plan.number
        self.builder = EventBuilder(
            self.plan.events, inputs.config.join.out_of_orderness,
            in_order=not self.plan.sorts, least=self.plan.told,
        )  # fmt: skip
        self.position = inputs.join.starts.get(self.number, 0)
        self.records = 0
        self.rejected = 0
        self.confirmed = NEVER
        self.standing = Standing()
        self.ended = False
        self.bad_values: Counts = {}
        if state is not None:
            self.position, self.records = state.position, state.records
            self.rejected, self.ended = state.rejected, state.ended
            self.builder.greatest, self.builder.anchored = state.greatest, state.anchored
            self.confirmed = state.confirmed
            recent = np.array(state.recent, np.int64).reshape(2, -1)
            self.standing = Standing(state.level, state.spent, recent)
            self.bad_values = state.bad_values
            self.builder.counts.update(state.time_counts)
        self.raises = deque(raises)
        self.exhausted = False
        self.read_until = self.position
        self.pieces: Iterator[_Piece | Raise | None] | None = None
        self.pending: deque[_Piece | Raise] = deque()
        self.unjudged: _Piece | None = None

    @property
    def reached(self) -> int:
        """Greatest event time read, less ``out_of_orderness``; microseconds."""
        return self.builder.progress

    @property
    def progress(self) -> int:
        """Progress for the join: confirmed, and at most ``complete_until``; microseconds."""
        confirmed = self.confirmed - self.builder.out_of_orderness
        return max(min(self.reached, confirmed, self.plan.most_progress), self.plan.told)

    @property
    def state(self) -> SourceState:
        """State from which another reader of the partition can continue."""
        return SourceState(
            self.position, self.records, self.rejected, self.builder.greatest, self.confirmed,
            self.standing.level, self.builder.anchored, self.progress, self.ended, self.bad_values,
            dict(self.builder.counts), self.standing.spent, self.standing.recent.tolist(),
        )  # fmt: skip

    def pause(self) -> None:
        """Close the partition, unless it is sorted: sorting it again would cost more."""
        if not self.plan.sorts:
            self.pieces = self.unjudged = None
            self.raises.extendleft(
                piece for piece in reversed(self.pending) if isinstance(piece, Raise)
            )
            self.pending.clear()

    def raise_progress(self, progress: int) -> None:
        """Raise the progress at the end of what has been read: `next` had nothing to return."""
        self.raises.appendleft(Raise(self.read_until, progress))
        self.pending += self._raised()

    def progress_block(self, progress: int, ended: bool = False) -> Block:
        """Return a block after the last record, with progress, that marks the end if `ended`."""
        self.ended |= ended
        at = (self.position, self.position)
        envelope = EventEnvelope(
            self.stream, self.number, self.inputs.join.sources, *at, progress, self.rejected,
            ended=ended, exhausted=True,
        )  # fmt: skip
        envelopes = [envelope] * self.inputs.join.shards
        return Block(self.number, self.stream, *at, envelopes, None, self.state)

    def next(self, rows: int) -> Block:
        """Read the next block; one without positions if there are no rows now."""
        if self.pieces is None and self.plan.sorts:
            self.pieces = self._believed(self._by_time(max(rows, self.inputs.config.batch_rows)))
        elif self.pieces is None:
            self.pieces = self._believed(self._in_own_order(max(rows, _LEAST_CHUNK)))
        begin = self.position
        taken: list[_Piece] = []
        while rows > 0:
            piece = self._next_piece()
            if piece is None:
                break
            if isinstance(piece, Raise):
                if taken:
                    self.pending.appendleft(piece)
                else:
                    self._raise(piece)
                break
            if piece.positions.size > rows:
                piece, rest = piece.cut(int(piece.positions[rows]))
                self.pending.appendleft(rest)
            taken.append(piece)
            self.position = piece.end
            rows -= piece.positions.size
        rejected = sum(len(piece.rejects) for piece in taken)
        records = rejected + sum(piece.batch.num_rows for piece in taken)
        self.records += records
        self.rejected += rejected
        for piece in taken:
            self.bad_values = counted(self.bad_values, piece.bad)
        envelopes = self._address(self._finished(taken), begin)
        letters = self._letters(taken)
        return Block(
            self.number, self.stream, begin, self.position, envelopes, letters, self.state, records
        )  # fmt: skip

    def _next_piece(self) -> _Piece | Raise | None:
        """Return the next piece; None if there is none now, or no more."""
        if self.pending:
            return self.pending.popleft()
        assert self.pieces is not None
        try:
            return next(self.pieces)
        except StopIteration:
            self.exhausted = True
            return None

    def _raise(self, decided: Raise) -> None:
        """Continue as if an event of the time had come."""
        greatest = decided.progress + self.builder.out_of_orderness
        self.builder.greatest = max(self.builder.greatest, greatest)
        self.confirmed = max(self.confirmed, greatest)
        self.standing = replace(self.standing, level=max(self.standing.level, greatest))

    def _believed(self, pieces: Iterator[_Piece | None]) -> Iterator[_Piece | Raise | None]:
        """Reject events whose clock is wrong, see `headrace.schemas.records.jumps`."""
        self.read_until = self.position
        self.before = self.standing
        yield from self._raised()
        for piece in pieces:
            if piece is None:
                yield None
                continue
            if piece.end <= self.read_until:
                continue  # delivered before the partition was closed
            if piece.begin < self.read_until:
                _, piece = piece.cut(self.read_until)
            while self.raises and self.raises[0].position < piece.end:
                # Not at its beginning: the decision there has taken effect.
                before, piece = piece.cut(self.raises[0].position)
                self.read_until = before.end
                yield from self._judged(before)
                yield from self._raised()
            self.read_until = piece.end
            yield from self._judged(piece)
            yield from self._raised()
        yield from self._judged(None, ended=True)

    def _raised(self) -> Iterator[_Piece | Raise]:
        """Yield the decisions at the end of what has been read, after what waited."""
        while self.raises and self.raises[0].position <= self.read_until:
            yield from self._judged(None, ended=True)
            decided = self.raises.popleft()
            greatest = decided.progress + self.builder.out_of_orderness
            self.before = replace(self.before, level=max(self.before.level, greatest))
            yield decided

    def _judged(self, piece: _Piece | None, ended: bool = False) -> Iterator[_Piece]:
        """Yield what can be judged of what waited and the next piece: all if none follows."""
        if self.unjudged is not None:
            piece = self.unjudged.extended(piece)
            self.unjudged = None
        if piece is None:
            return
        if piece.positions.size:
            time = piece.batch.column(TIME).to_numpy()
            max_jump = self.inputs.config.join.max_jump
            ahead = is_ahead(time, self.before.level, max_jump)
            key = self._keys(piece.batch) if ahead else time
            judged = judge_jumps(time, key, self.before, max_jump, ended)
            if judged.rows < time.size:
                piece, self.unjudged = piece.cut(int(piece.positions[judged.rows]))
            piece = piece.judged(judged)
            rows = self._last_rows(piece.batch, ~piece.doubtful)
            self.before = self.before.after(rows, piece.levels)
        if piece.end > piece.begin:
            yield piece

    def _keys(self, batch: pa.RecordBatch) -> Int64s:
        """Return what tells the keys of events apart, int64, shape (n,)."""
        hashes, _ = hash_columns([batch.column(name) for name in self.plan.events.key])
        return hashes.view(np.int64)

    def _last_rows(self, batch: pa.RecordBatch, believed: npt.NDArray[np.bool_]) -> Int64s:
        """Return times and keys of the last events believed, at most `WITNESSES`, shape (2, n)."""
        rows = np.flatnonzero(believed)[-WITNESSES:]
        if not rows.size:
            return np.zeros((2, 0), np.int64)
        needed = list(dict.fromkeys([*self.plan.events.key, TIME]))
        last = batch.select(needed).take(pa.array(rows))
        return np.stack([last.column(TIME).to_numpy(), self._keys(last)])

    def _in_own_order(self, rows: int) -> Iterator[_Piece | None]:
        for chunk in self.partition.chunks(rows, self.position):
            if chunk is None:
                yield None
                continue
            events = self.builder.check(chunk.records)
            yield _Piece(
                chunk.begin, chunk.end, events.batch, events.batch.column(RECORD).to_numpy(),
                events.rejects, [reject.number for reject in events.rejects],
                np.zeros(events.batch.num_rows, np.bool_), events.bad,
            )  # fmt: skip

    def _by_time(self, rows: int) -> Iterator[_Piece]:
        """Sort the partition: rejects have the first positions, events follow by time."""
        rejects: list[Reject] = []
        bad: list[BadValues] = []

        def events() -> Iterator[pa.RecordBatch]:
            for chunk in self.partition.chunks(rows):
                assert chunk is not None  # what grows is not sorted
                checked = self.builder.check(chunk.records)
                rejects.extend(checked.rejects)
                # Counted where the rejects are: positions say nothing of the file's order.
                bad.extend(replace(values, numbers=values.numbers * 0) for values in checked.bad)
                yield checked.batch

        budget = (self.inputs.config.replay.sort_memory_mb << 20) // self.inputs.join.sources
        end = 0
        for batch in sort_rows(events(), BY_TIME, budget, self.scratch):
            first = end == 0
            begin = len(rejects) if first else end
            end = begin + batch.num_rows
            positions, doubtful = np.arange(begin, end), np.zeros(batch.num_rows, np.bool_)
            if first:
                numbers = list(range(len(rejects)))
                yield _Piece(0, end, batch, positions, rejects, numbers, doubtful, bad)
            else:
                yield _Piece(begin, end, batch, positions, [], [], doubtful, [])
        if end == 0 and rejects:
            empty = pa.RecordBatch.from_pydict({RECORD: pa.array([], pa.int64())})
            count = len(rejects)
            numbers = list(range(count))
            none = np.zeros(0, np.bool_)
            yield _Piece(0, count, empty, np.arange(0), rejects, numbers, none, bad)

    def _finished(self, pieces: list[_Piece]) -> pa.RecordBatch | None:
        """Finish the next events of the source, and note how far their times are confirmed."""
        pieces = [piece for piece in pieces if piece.batch.num_rows]
        if not pieces:
            return None
        batch = pa.concat_batches([piece.batch for piece in pieces])
        positions = None
        if self.plan.sorts:
            positions = np.concatenate([piece.positions for piece in pieces])
        events = self.builder.finish(batch, positions)
        levels = np.concatenate([piece.levels for piece in pieces], axis=1)
        believed = ~np.concatenate([piece.doubtful for piece in pieces])
        self.standing = self.standing.after(self._last_rows(batch, believed), levels)
        if believed.any():
            time = events.column(TIME).to_numpy()[believed]
            self.confirmed = max(self.confirmed, int(time.max()))
        return events

    def _address(self, events: pa.RecordBatch | None, begin: int) -> list[EventEnvelope]:
        shards = self.inputs.join.shards
        parts: list[pa.RecordBatch | None] = [None] * shards
        progress = self.progress
        if progress > NEVER:
            progress = progress // self.step * self.step
        if events is not None:
            parts = partition(events, shards)
        return [
            EventEnvelope(
                self.stream, self.number, self.inputs.join.sources, begin,
                self.position, progress, self.rejected, part,
            )
            for part in parts
        ]  # fmt: skip

    def _letters(self, pieces: list[_Piece]) -> pa.RecordBatch | None:
        rejects = [reject for piece in pieces for reject in piece.rejects]
        positions = [position for piece in pieces for position in piece.reject_positions]
        if not rejects:
            return None
        origin = Origin(self.partition.name, self.plan.numbering)
        return rejected_letters(self.number, origin, self.plan.name, rejects, positions)


def partition(events: pa.RecordBatch, shards: int) -> list[pa.RecordBatch | None]:
    """Split events by shard, keeping their order; by the group's digest if there is a group.

    Returns
    -------
    list
        One entry for each shard, None for a shard without rows.
    """
    if shards == 1:
        return [events]
    routing = GROUP0 if GROUP0 in events.schema.names else KEY0
    shard = assign_shards(events.column(routing).to_numpy(), shards)
    # 16-bit integers are sorted by radix, in linear time.
    order = np.argsort(shard.astype(np.int16), kind="stable")
    counts = np.bincount(shard, minlength=shards)
    ordered = events.take(pa.array(order))
    ends = np.cumsum(counts)
    return [
        ordered.slice(int(end - count), int(count)) if count else None
        for end, count in zip(ends, counts, strict=True)
    ]
