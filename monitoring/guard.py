"""Whether labels still come as they are predicted: learning is disconnected when they do not.

A broken click stream turns every impression into a negative, and a learner that goes on learning
forgets in minutes what took it days [1]_. So the positives of a label are compared with what was
predicted, row by row, before anything is learned from them: the model knows night, weekend and
campaign, so no season must be modelled.

The test is sequential: an e-detector [2]_, the sum of Shiryaev and Roberts over likelihood ratios,
for a change to any of twelve alternatives. Each row has odds s to be positive, as predicted before
it was learned; the null hypothesis is that true odds are in a band around those, from s / b to s b.
With the likelihood ratio L of a row, of an alternative to the edge of the band next to it, and
q = s / (1 + s)::

    R <- (R + q) L

and the mean of R over alternatives exceeds A, on average, no sooner than after A expected positives
as long as the odds are in the band. Significance is not relevance: without the band every large
log would alarm, because no model is exact. All is in the space of samples, where odds are higher by
the rate at which negatives were kept, so that sampling changes nothing of this.

Expected positives, not minutes, are the time of this test: it needs about as many of them to see a
fault whatever the traffic.

References
----------
.. [1] He et al. 2014, Practical lessons from predicting clicks on ads at Facebook, section 4.
.. [2] Shin, Ramdas and Rinaldo 2022, E-detectors: a nonparametric framework for sequential change
   detection, sections 2 and 3.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.monitoring.exported import packed, unpacked
from headrace.monitoring.statistics import MOST_VALUES, OTHER, Floats, Int64s
from headrace.schemas.config.durations import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    format_duration,
    format_moment,
    iso_moment,
)
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.restored import (
    Count,
    Flag,
    Moment,
    Sum,
    Text,
    checked,
    expect,
    expect_moments,
    expect_within,
    written,
)
from headrace.schemas.records.slicing import as_texts

if TYPE_CHECKING:
    from headrace.monitoring.lead import Lead

Bools = npt.NDArray[np.bool_]
Int32s = npt.NDArray[np.int32]

YOUNG, WATCHING, WARNED, DISCONNECTED, ASKING = range(5)
STATES = ("young", "watching", "warned", "disconnected", "asking")
"""Names of the states: not armed yet; armed; beyond the narrow band; beyond the wide one, so that
nothing is learned; and so for longer than a user allowed without being asked."""

GUARD_SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", "UTC")),
        ("label", pa.string()),
        ("slice", pa.string()),
        ("value", pa.string()),
        ("event", pa.string()),
        ("direction", pa.string()),
        ("positives", pa.int64()),
        ("expected", pa.float64()),
        ("evidence", pa.float64()),
        ("reason", pa.string()),
    ]
)
"""The journal: what the guard decided. `time` is the emit time of the row that decided; `slice` and
`value` are null where it is about all samples; `positives` and `expected` are those since a change
has probably begun, or of the last block where the event is none of an alarm; `evidence` is the
natural logarithm of the mean of R."""

GUARD, QUARANTINE = "guard", "quarantine"
"""Names of the outputs of a run: the journal, and samples that were not learned."""

HELD_FOR, HELD_WHY = "quarantine_label", "quarantine_reason"
"""Columns of the quarantine beside those of the samples: whose guard held a row back, and why."""

UP = np.array([1.2, 1.5, 2.5, 6.0, 20.0, 60.0])
DOWN = np.array([0.8, 0.6, 0.4, 0.2, 0.1, 0.001])
"""Alternatives, as factors of the odds at the edge of the band."""

_FACTORS = np.concatenate([UP, DOWN, UP, DOWN])
_MORE = _FACTORS > 1

RARER = 10.0
"""A warning is false so many times more seldom than a disconnect, because its band is narrow: a log
that is a little off all the time would be warned of all the time."""

_BIN_BITS = 4
_FIRST_BIN = (1023 - 30) << _BIN_BITS
_BINS = 50 << _BIN_BITS
_BIN_SHIFT = 52 - _BIN_BITS
"""Ratios are looked up by the odds, from 2^-30 to 2^20, to a sixteenth of a power of two."""

CALM_BLOCKS = 3
"""So many blocks in a row within the band end a warning or a disconnect."""
BLOCK_POSITIVES, VALUE_BLOCK_POSITIVES = 30.0, 10.0
"""A block has so many expected positives, one of a value that many: its band is wider."""
BLOCK_LENGTH = 5 * MINUTE
"""And is at least so long, microseconds."""

_CHUNK_POSITIVES = 32.0
_LEAST_CHUNK, _MOST_CHUNK = 32, 4096
_FORGET = DAY
"""A value not seen for so long makes room for another, microseconds."""

OVERALL = 0
_SLACK = 2.0
"""A block is evidently outside of a band by so many standard deviations."""

# Columns of the sums of a block.
_POSITIVES, _EXPECTED, _MOST_WARN, _LEAST_WARN, _MOST_HOLD, _LEAST_HOLD = range(6)
_WARN, _HOLD = range(2)
# What comes of a block.
_QUIET, _ARMED, _CALM = range(3)


def quarantine_schema(samples: pa.Schema) -> pa.Schema:
    """Return the schema of the quarantine: that of the samples, and why they are there."""
    return samples.append(pa.field(HELD_FOR, pa.string())).append(pa.field(HELD_WHY, pa.string()))


@dataclass(frozen=True)
class GuardPlan:
    """When labels are taken to be broken, and what is done then.

    Parameters
    ----------
    warn, disconnect
        Bands of all samples together: true odds may be so many times the predicted ones, or
        that part of them.
    slice_warn, slice_disconnect
        Bands of the values of slices.
    alarm
        Expected positives from one false disconnect to the next, at the edge of the band.
    settle
        So long must labels have been within the band before they are guarded, microseconds.
    cap
        After so long a disconnect asks for a decision, microseconds.
    holds
        Whether samples are held back; otherwise it is only said what would have been.
    accepted
        Emit times from which on labels are taken as they are, microseconds, ascending.
    """

    warn: float = 1.25
    disconnect: float = 1.5
    slice_warn: float = 1.5
    slice_disconnect: float = 2.0
    alarm: float = 1e5
    settle: int = DAY
    cap: int = 6 * HOUR
    holds: bool = True
    accepted: tuple[int, ...] = ()

    @property
    def bands(self) -> Floats:
        """Bands by kind (all samples, a value) and level (warn, disconnect), shape (2, 2)."""
        return np.array(
            [[self.warn, self.disconnect], [self.slice_warn, self.slice_disconnect]], np.float64
        )


class _Arrays(NamedTuple):
    """What is known of each scope, on the first axis: all samples together, then values."""

    state: npt.NDArray[np.int8]
    entered: Int64s
    """When it came into its state; of a young one when it was in the band first."""
    seen: Int64s
    """Emit time of its last row."""
    total: Floats
    """Positives and expected positives while it was armed, shape (n, 2)."""
    evidence: Floats
    """R by level and alternative, shape (n, 2 * 12)."""
    mean: Floats
    """Mean of R by level, shape (n, 2)."""
    begun: Floats
    """Emit time and totals when R was last no higher than it is usually, shape (n, 2 * 12, 3): the
    change has begun after them, if there is one. To a whole expected positive."""
    looked: Floats
    """Total of expected positives when that was looked at last."""
    crossed: Int64s
    """Emit time of the first row at which the alarm was due, by level, shape (n, 2)."""
    block: Floats
    """Positives and expected ones of the block under way, and those expected at the edges of the
    narrow and of the wide band, that above first, shape (n, 6)."""
    opened: Int64s
    """Emit time of its first row."""
    calm: Int64s
    """Blocks in a row within the band."""
    last: Floats
    """Positives and expected ones of the last block, shape (n, 2)."""

    @classmethod
    def new(cls, scopes: int) -> _Arrays:
        """Return new scopes."""
        return cls(
            state=np.full(scopes, YOUNG, np.int8),
            entered=np.full(scopes, NEVER, np.int64),
            seen=np.full(scopes, NEVER, np.int64),
            total=np.zeros((scopes, 2)),
            evidence=np.zeros((scopes, _FACTORS.size)),
            mean=np.zeros((scopes, 2)),
            begun=np.zeros((scopes, _FACTORS.size, 3)),
            looked=np.zeros(scopes),
            crossed=np.full((scopes, 2), NEVER, np.int64),
            block=np.zeros((scopes, 6)),
            opened=np.full(scopes, NEVER, np.int64),
            calm=np.zeros(scopes, np.int64),
            last=np.zeros((scopes, 2)),
        )

    def enlarged(self) -> _Arrays:
        """Return twice as many scopes, the second half of them new."""
        new = _Arrays.new(self.state.size)._asdict()
        return _Arrays(*(np.concatenate([of, new[name]]) for name, of in self._asdict().items()))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _observe(a, whole, emit, positive, odds, bits, scopes, ratios, expected, usual, alarm, least):
    """Add rows to all samples and to the values that they have; not those without finite odds.

    Returns `whole`, to which what was expected is added, and whether there is something to
    decide: an alarm is due, or a block has at least ``least[0]`` expected positives and is at least
    ``least[1]`` microseconds long.

    A row of a value that is disconnected tells of this value alone; and while all samples are
    disconnected, no other value is judged.
    """
    columns, size = scopes.shape[1], ratios.shape[3]
    half = size // 2
    due = False
    state, seen, opened, block, total = a.state, a.seen, a.opened, a.block, a.total
    evidence, mean, crossed, looked, begun = a.evidence, a.mean, a.crossed, a.looked, a.begun
    for i in range(emit.size):
        if not math.isfinite(odds[i]):
            continue
        y, now = positive[i], emit[i]
        # The exponent and four bits of the mantissa.
        at_bin = min(max((bits[i] >> _BIN_SHIFT) - _FIRST_BIN, 0), _BINS - 1)
        q = odds[i] / (1.0 + odds[i])
        whole += q
        off = False
        for c in range(columns):
            seen[scopes[i, c]] = now
            off = off or state[scopes[i, c]] >= DISCONNECTED
        armed = WATCHING <= state[0] < DISCONNECTED
        for c in range(-1, columns):
            at = 0 if c < 0 else scopes[i, c]
            kind = 0 if c < 0 else 1
            if off != (c >= 0 and state[at] >= DISCONNECTED):
                continue
            if c >= 0 and not off and state[0] >= DISCONNECTED:
                break
            if opened[at] == NEVER:
                opened[at] = now
            block[at, 0] += y
            block[at, 1] += q
            for side in range(4):
                block[at, 2 + side] += expected[kind, at_bin, side]
            due = due or (block[at, 1] >= least[0] and now - opened[at] >= least[1])
            if off or not armed or state[at] == YOUNG:
                continue
            total[at, 0] += y
            total[at, 1] += q
            for j in range(size):
                evidence[at, j] = (evidence[at, j] + q) * ratios[kind, y, at_bin, j]
            # Positives let it jump; without them it grows slowly, and is looked at seldom.
            often = total[at, 1] - looked[at] >= 1.0
            if not often and not y:
                continue
            for level in range(2):
                summed = 0.0
                for j in range(half * level, half * (level + 1)):
                    summed += evidence[at, j]
                mean[at, level] = summed / half
                if summed / half >= alarm[kind, level] and crossed[at, level] == NEVER:
                    crossed[at, level] = now
                    due = True
            if often:
                looked[at] = total[at, 1]
                for j in range(size):
                    if evidence[at, j] < usual[kind, j]:
                        begun[at, j, 0] = now
                        begun[at, j, 1] = total[at, 0]
                        begun[at, j, 2] = total[at, 1]
    return whole, due


@nb.njit(cache=True, nogil=True)
def _take_block(a, at, now, calm_blocks, settle):
    """Judge a complete block: whether labels are in the band (again).

    Returns `_ARMED` or `_CALM` if they have been for so many blocks that the state is to change.
    """
    state, began = a.state[at], a.opened[at]
    positives, expected = a.block[at, _POSITIVES], a.block[at, _EXPECTED]
    most_warn, least_warn = a.block[at, _MOST_WARN], a.block[at, _LEAST_WARN]
    most_hold, least_hold = a.block[at, _MOST_HOLD], a.block[at, _LEAST_HOLD]
    a.last[at, 0], a.last[at, 1] = positives, expected
    a.block[at] = 0.0
    a.opened[at] = NEVER
    if state == YOUNG:
        low = least_hold - _SLACK * math.sqrt(least_hold)
        high = most_hold + _SLACK * math.sqrt(most_hold)
        if not low <= positives <= high:
            a.entered[at] = NEVER
            a.calm[at] = 0
            return _QUIET
        if a.entered[at] == NEVER:
            a.entered[at] = began
        a.calm[at] += 1
        if a.calm[at] < calm_blocks:
            return _QUIET
        settled = now - a.entered[at] >= settle if at == OVERALL else a.state[OVERALL] != YOUNG
        return _ARMED if settled else _QUIET
    if state >= DISCONNECTED:
        calm = least_hold <= positives <= most_hold
    else:
        calm = least_warn <= positives <= most_warn
    a.calm[at] = a.calm[at] + 1 if calm else 0
    return _CALM if a.calm[at] >= calm_blocks and state != WATCHING else _QUIET


@nb.njit(cache=True, nogil=True)
def _next_decision(a, complete, begin, now, least, calm_blocks, settle, cap, trial):
    """Take complete blocks of scopes, from `begin` on, until one is to be decided about.

    Blocks are complete that are when it begins with all samples: a decision may clear others.
    They have as many expected positives as `least` says of all samples, then of a value, and are
    as long as it says last; on trial, one of all samples has as much as all that are needed
    otherwise, however short it is, and is enough. Returns the scope, -1 for none, and what came of
    its block.
    """
    if begin == OVERALL:
        for at in range(complete.size):
            enough = a.block[at, _EXPECTED] >= (least[0] if at == OVERALL else least[1])
            complete[at] = enough and now - a.opened[at] >= least[2]
        if trial:
            complete[OVERALL] = a.block[OVERALL, _EXPECTED] >= calm_blocks * least[0]
    for at in range(begin, complete.size):
        if at > OVERALL and a.state[OVERALL] >= DISCONNECTED and a.state[at] < DISCONNECTED:
            continue  # what is seen in one value is the fault that is seen in all
        found = _QUIET
        if complete[at]:
            needed = 1 if trial and at == OVERALL else calm_blocks
            found = _take_block(a, at, now, needed, settle)
        crossed = a.crossed[at, _WARN] != NEVER or a.crossed[at, _HOLD] != NEVER
        late = a.state[at] == DISCONNECTED and now - a.entered[at] >= cap
        if found != _QUIET or crossed or late:
            return at, found
    return -1, _QUIET


def _tables(edges: Floats) -> tuple[Floats, Floats]:
    """Return likelihood ratios, and what is expected at the edges, by the bin of the odds.

    Parameters
    ----------
    edges
        By kind the edge of the band of each alternative, shape (2, 24).

    Returns
    -------
    tuple
        Ratios by kind, label, bin and alternative, shape (2, 2, bins, 24); expected positives of a
        row by kind and bin, by level at the edge above, then below, shape (2, bins, 4).
    """
    whole = np.arange(_BINS) + _FIRST_BIN << 52 - _BIN_BITS
    # In the middle of the bin, so that errors of up to 3 % cancel.
    odds = (whole + (1 << 51 - _BIN_BITS)).view(np.float64)[:, np.newaxis]
    null = edges[:, np.newaxis] * odds
    negative = (1.0 + null) / (1.0 + _FACTORS * null)
    at_edge = null[:, :, :: UP.size]
    return np.stack([negative, negative * _FACTORS], axis=1), at_edge / (1.0 + at_edge)


@nb.njit(cache=True, nogil=True)
def _places(codes, tables, found):
    """Look up codes, shape (m, columns), in tables of the columns; return whether all are known."""
    known = True
    for i in range(codes.shape[0]):
        for c in range(codes.shape[1]):
            at = tables[c, codes[i, c]]
            found[i, c] = at
            known = known and at >= 0
    return known


class Scopes:
    """The values of rows in the slice columns, to be looked up by a `LabelGuard`.

    Parameters
    ----------
    columns
        The columns, each of shape (n,).
    order
        Canonical order of the rows, shape (n,).

    Attributes
    ----------
    values
        The values of each column.
    codes
        Which of them each row has, in canonical order, int32, shape (n, columns).
    tables
        Scopes by column and code, int32, -1 for those not looked up yet.
    version
        That of the guard's table of values to which `tables` belong.
    found
        The scopes of all rows, if all values had been looked up before; else None.
    """

    def __init__(self, columns: Mapping[str, pa.Array], order: Int64s) -> None:
        self.codes = np.empty((order.size, len(columns)), np.int32)
        self.values: list[list[str]] = []
        for at, column in enumerate(columns.values()):
            texts = as_texts(column)
            self.codes[:, at] = texts.indices.to_numpy()[order]
            self.values.append(texts.dictionary.to_numpy(zero_copy_only=False).tolist())
        most = max(map(len, self.values), default=0)
        self.tables = np.full((len(columns), most), -1, np.int32)
        self.version = -1
        self.found: Int32s | None = None


@written
class _Written:
    arrays: dict[Text, Text]
    names: list[tuple[Text, Text] | None]
    free: list[Count]
    found: list[list[tuple[Text, Count]]]
    columns: list[Text]
    reasons: list[tuple[Count, Text]]
    chunk: Count
    rows: Count
    whole: Sum
    now: Moment
    forgot: Moment
    accepted: Count
    counts: dict[Text, Count]
    off_us: Count
    due: Flag
    trial: Flag


class LabelGuard:
    """Guards one label.

    Samples come in canonical order, cut in any way; decisions are taken at the ends of chunks, of
    some rows each, so that they are a function of the log. Emit times are microseconds.

    Parameters
    ----------
    label
        Its name.
    plan
        When to warn, and when to disconnect.
    columns
        The slice columns.
    armed
        Whether it is armed from the first row on, because the model has served before.
    """

    def __init__(
        self, label: str, plan: GuardPlan, columns: tuple[str, ...], armed: bool = False
    ) -> None:
        self.label, self.plan, self.columns = label, plan, columns
        bands = plan.bands.repeat(UP.size, axis=1).reshape(2, 2, UP.size)
        edges = np.concatenate([bands, 1 / bands], axis=2).reshape(2, -1)
        self.ratios, self.expected = _tables(edges)
        # The mean of R, as far as it is above 1, where labels are as predicted and rare.
        self.usual = np.maximum(1.0, 1.0 / ((_FACTORS - 1.0) * (edges - 1.0)))
        values = max(len(columns), 1) * (MOST_VALUES + 1)
        self.alarm = plan.alarm * np.outer([1.0, values], [RARER, 1.0])
        self.arrays = _Arrays.new(len(columns) + 1)
        self.names: list[tuple[str, str] | None] = [None, *((name, OTHER) for name in columns)]
        self.found: list[dict[str, int]] = [{} for _ in columns]
        self.free: list[int] = []
        self.reasons: dict[int, str] = {}
        self.chunk, self.rows, self.whole, self.due = _MOST_CHUNK, 0, 0.0, False
        self.off = False
        """Whether anything is disconnected."""
        self.trial = False
        """Whether the next block of all samples has as much as three, however short it is, and is
        enough to connect again."""
        self.now = self.forgot = NEVER
        self.accepted = self.version = 0
        self.counts = {"judged": 0, "held": 0}
        self.off_us = 0
        self.journal: list[dict[str, Any]] = []
        self.changes: list[tuple[int, int, bool]] = []
        if armed:
            self.arrays.state[OVERALL] = WATCHING

    @property
    def remaining(self) -> int:
        """How many rows the chunk lacks; decisions are taken after the last of them."""
        return self.chunk - self.rows

    @property
    def state(self) -> int:
        """The state of all samples together."""
        return int(self.arrays.state[OVERALL])

    @property
    def holding(self) -> bool:
        """Whether it holds back any rows now: those of a value, or all."""
        return self.plan.holds and self.off

    @property
    def lead(self) -> Lead | None:
        """What is to be told of the arrivals of actions; None if they are not looked at."""
        return None

    def begin(self) -> None:
        """Begin an epoch; `held_at` is about the times from here on."""
        off = np.flatnonzero(self.arrays.state >= DISCONNECTED)
        self.changes = [(NEVER, int(at), True) for at in off]

    def encode(self, columns: Mapping[str, pa.Array], order: Int64s) -> Scopes:
        """Encode the slice columns of an epoch, each of shape (n,), and put them in order."""
        return Scopes(columns, order)

    def reason(self, holder: int) -> str:
        """Return why a scope is disconnected."""
        return self.reasons[holder]

    def look_up(self, scopes: Scopes, some: slice) -> Int32s:
        """Return the scopes of rows, int32, shape (m, columns); new values get one if they can.

        The rows must be the next ones in canonical order.
        """
        if scopes.version != self.version:
            self._tabulate(scopes)
        if scopes.found is not None:
            return scopes.found[some]
        codes = scopes.codes[some]
        found = np.empty_like(codes)
        if _places(codes, scopes.tables, found):
            return found
        for c, (table, values) in enumerate(zip(scopes.tables, scopes.values, strict=False)):
            known = self.found[c]
            for code in dict.fromkeys(codes[found[:, c] < 0, c].tolist()):
                if len(known) < MOST_VALUES:
                    known[values[code]] = table[code] = self._new((self.columns[c], values[code]))
                else:
                    table[code] = 1 + c
        _places(codes, scopes.tables, found)
        return found

    def _tabulate(self, scopes: Scopes) -> None:
        """Look up all values of an epoch; those that are not known, but might be, get -1."""
        scopes.version = self.version
        for c, values in enumerate(scopes.values):
            known = self.found[c]
            unknown = -1 if len(known) < MOST_VALUES else 1 + c
            scopes.tables[c, : len(values)] = [known.get(value, unknown) for value in values]
        found = np.empty_like(scopes.codes)
        scopes.found = found if _places(scopes.codes, scopes.tables, found) else None

    def _new(self, name: tuple[str, str]) -> int:
        if self.free:
            at = self.free.pop()
            self.names[at] = name
            return at
        self.names.append(name)
        if len(self.names) > self.arrays.state.size:
            self.arrays = self.arrays.enlarged()
        return len(self.names) - 1

    def holder(self, scopes: Int32s) -> Int32s:
        """Return the scope that holds each row back now, -1 for none, shape (m,)."""
        held = np.full(len(scopes), -1, np.int32)
        if not self.plan.holds or not self.off:
            return held
        if self.state >= DISCONNECTED:
            held[:] = OVERALL
        else:
            off = self.arrays.state[scopes] >= DISCONNECTED
            for c in reversed(range(off.shape[1])):
                held[off[:, c]] = scopes[off[:, c], c]
        self.counts["held"] += int(np.count_nonzero(held >= 0))
        return held

    def observe(self, emit: Int64s, positive: Bools, odds: Floats, scopes: Int32s) -> None:
        """Add rows, at most `remaining` of them, and decide if they end the chunk.

        Parameters
        ----------
        emit
            Emit times, ascending, shape (m,).
        positive
            Their labels, shape (m,).
        odds
            Odds of each to be positive, among samples, as predicted before it is learned,
            float64, shape (m,); one that is not finite says nothing.
        scopes
            From `look_up`, shape (m, columns).
        """
        if not emit.size:
            return
        odds = np.ascontiguousarray(odds)
        self.whole, due = _observe(
            self.arrays, self.whole, emit, positive.view(np.uint8), odds, odds.view(np.int64),
            scopes, self.ratios, self.expected, self.usual, self.alarm,
            (min(BLOCK_POSITIVES, VALUE_BLOCK_POSITIVES), BLOCK_LENGTH),
        )  # fmt: skip
        self.due = self.due or due
        self.rows += emit.size
        self.counts["judged"] += emit.size
        if self.rows >= self.chunk:
            self._decide(int(emit[-1]))

    def _decide(self, now: int) -> None:
        """Change states after a chunk, and set the length of the next one."""
        a = self.arrays
        self.now = now
        while self.accepted < len(self.plan.accepted) and self.plan.accepted[self.accepted] <= now:
            self.accepted += 1
            for at in np.flatnonzero(a.state >= DISCONNECTED).tolist():
                self._accept(at, now)
            self.off = False
        if self.due or self.off:
            self._judge(now)
        self._forget(now)
        mean = self.whole / self.rows
        self.rows, self.whole, self.due = 0, 0.0, False
        self.chunk = _MOST_CHUNK
        if mean > 0:
            wished = 2 ** round(math.log2(_CHUNK_POSITIVES / mean))
            self.chunk = int(min(max(wished, _LEAST_CHUNK), _MOST_CHUNK))

    def _judge(self, now: int) -> None:
        """Change the states of the scopes of which there is something to decide."""
        a = self.arrays
        complete = np.empty(a.state.size, np.bool_)
        least = BLOCK_POSITIVES, VALUE_BLOCK_POSITIVES, BLOCK_LENGTH
        rules = now, least, CALM_BLOCKS, self.plan.settle, self.plan.cap, self.trial
        at = -1
        while True:
            at, found = _next_decision(a, complete, at + 1, *rules)
            if at < 0:
                break
            if found == _ARMED:
                self._arm(at, now)
            elif found == _CALM:
                self._connect(at, now)
            self._alarm(at, now)
            if a.state[at] == DISCONNECTED and now - a.entered[at] >= self.plan.cap:
                a.state[at] = ASKING
                asked = f"so for {format_duration(self.plan.cap)}: is this how it is now?"
                self._note(at, now, "ask", f"{self.reasons[at]}; {asked}", self._last(at))
        self.trial = self.trial and not bool(complete[OVERALL])
        self.off = bool((a.state >= DISCONNECTED).any())

    def _alarm(self, at: int, now: int) -> None:
        a = self.arrays
        state, crossed = a.state[at], a.crossed[at]
        if crossed[_HOLD] != NEVER and state in (WATCHING, WARNED):
            self._enter(at, DISCONNECTED, now)
            self.reasons[at] = self._alarmed(at, int(crossed[_HOLD]), "disconnect", _HOLD)
            self._clear_block(at)
            self.changes.append((now, at, True))
        elif crossed[_WARN] != NEVER and state == WATCHING:
            self._enter(at, WARNED, now)
            self._alarmed(at, int(crossed[_WARN]), "warn", _WARN)

    def _connect(self, at: int, now: int) -> None:
        """End a warning or a disconnect."""
        a = self.arrays
        event = "calm" if a.state[at] == WARNED else "reconnect"
        said = f"{CALM_BLOCKS} blocks in a row within the band; in the last"
        if self.trial and at == OVERALL:
            said = "arrivals are right again, and labels within the band; of these"
        self._enter(at, WATCHING, now)
        self._reset(at)
        positives, expected = self._last(at)
        reason = f"{self._scope(at)}: {said} {positives:,.0f} positives, {expected:,.1f} expected"
        self._note(at, now, event, reason, self._last(at))
        if event == "reconnect":
            self.reasons.pop(at, None)
            self.changes.append((now, at, False))
            if at == OVERALL:
                for other in range(1, len(self.names)):
                    if a.state[other] < DISCONNECTED:
                        self._reset(other)
                        self._clear_block(other)

    def _arm(self, at: int, now: int) -> None:
        """Watch what has stayed within the band for long enough."""
        self._enter(at, WATCHING, now)
        self._reset(at)
        if at == OVERALL:
            settled_for = format_duration(self.plan.settle)
            reason = f"{self.label}: within the band for {settled_for}"
            self._note(at, now, "armed", reason, self._last(at))

    def _accept(self, at: int, now: int) -> None:
        self._enter(at, YOUNG, now)
        self.arrays.entered[at] = NEVER
        self._reset(at)
        self._clear_block(at)
        self.reasons.pop(at, None)
        reason = f"{self._scope(at)}: accepted as it is by guard.accept"
        self._note(at, now, "accept", reason, self._last(at))
        self.changes.append((now, at, False))

    def _try_labels(self) -> None:
        """Let one block from here on decide whether all samples are connected again."""
        self._clear_block(OVERALL)
        self.trial = True

    def _enter(self, at: int, state: int, now: int) -> None:
        a = self.arrays
        if at == OVERALL:
            self.trial = False
        if at == OVERALL and a.state[at] >= DISCONNECTED and state < DISCONNECTED:
            self.off_us += now - int(a.entered[at])
        a.state[at] = state
        a.entered[at] = now
        a.calm[at] = 0

    def _reset(self, at: int) -> None:
        """Forget the evidence against a scope."""
        a = self.arrays
        a.evidence[at] = a.mean[at] = 0.0
        a.begun[at] = [self.now, *a.total[at]]
        a.crossed[at] = NEVER
        a.calm[at] = 0

    def _clear_block(self, at: int) -> None:
        self.arrays.block[at] = 0.0
        self.arrays.opened[at] = NEVER

    def _forget(self, now: int) -> None:
        """Make room where a column is full, from time to time."""
        a = self.arrays
        if now - HOUR < self.forgot or all(len(of) < MOST_VALUES for of in self.found):
            return
        self.forgot = now
        self.version += 1
        old = (a.seen < now - _FORGET) & (a.state < DISCONNECTED)
        for known in self.found:
            if len(known) == MOST_VALUES:
                for value, at in [(v, at) for v, at in known.items() if old[at]]:
                    del known[value]
                    self._reset(at)
                    self._clear_block(at)
                    a.state[at], a.entered[at], a.last[at] = YOUNG, NEVER, 0.0
                    self.names[at] = None
                    self.free.append(at)

    def _scope(self, at: int) -> str:
        name = self.names[at]
        return self.label if name is None else f"{self.label}, {name[0]} = {name[1]}"

    def _suspected(self, at: int, level: int) -> tuple[int, float, int, str]:
        """Return positives and expected ones since a change probably began, when, and its way."""
        a = self.arrays
        half = _FACTORS.size // 2
        likely = half * level + int(np.argmax(a.evidence[at, half * level : half * (level + 1)]))
        since, positives, expected = a.begun[at, likely].tolist()
        return (
            int(a.total[at, _POSITIVES] - positives),
            float(a.total[at, _EXPECTED] - expected),
            int(since),
            "more" if _MORE[likely] else "fewer",
        )

    def _alarmed(self, at: int, time: int, event: str, level: int) -> str:
        """Note that labels left a band; return the reason."""
        positives, expected, since, direction = self._suspected(at, level)
        reason = (
            f"{self._scope(at)}: {positives:,} positives since {format_moment(since)}, where "
            f"{expected:,.1f} were expected"
        )
        evidence = math.log(min(float(self.arrays.mean[at, level]), sys.float_info.max))
        self._note(at, time, event, reason, (positives, expected), direction, evidence)
        return reason

    def _note(
        self,
        at: int,
        time: int,
        event: str,
        reason: str,
        sums: tuple[int, float],
        direction: str | None = None,
        evidence: float | None = None,
    ) -> None:
        name = self.names[at] or (None, None)
        self.journal.append({
            "time": time, "label": self.label, "slice": name[0], "value": name[1],
            "event": event, "direction": direction, "positives": sums[0], "expected": sums[1],
            "evidence": evidence, "reason": reason, "decided": self.now,
        })  # fmt: skip

    def _last(self, at: int) -> tuple[int, float]:
        positives, expected = self.arrays.last[at].tolist()
        return int(positives), expected

    def held_at(self, emit: Int64s, columns: Mapping[str, pa.Array]) -> Bools:
        """Return which rows beside the samples of this epoch fell into a disconnect, shape (m,).

        Parameters
        ----------
        emit
            Their emit times, shape (m,).
        columns
            Their slice columns, each of shape (m,).
        """
        held = np.zeros(emit.size, np.bool_)
        if not self.plan.holds:
            return held
        for at in {scope for _, scope, _ in self.changes}:
            own = [(time, off) for time, scope, off in self.changes if scope == at]
            times = np.array([time for time, _ in own])
            states = np.array([False, *(off for _, off in own)])
            off = states[np.searchsorted(times, emit, side="left")]
            name = self.names[at]
            if name is not None and off.any():
                text = as_texts(columns[name[0]]).dictionary_decode()
                off &= pc.equal(text, name[1]).to_numpy(zero_copy_only=False)
            held |= off
        return held

    def take_journal(self) -> list[dict[str, Any]]:
        """Take out what was decided since the last call: rows of `GUARD_SCHEMA` as Python values.

        ``decided`` is the emit time of the last row of the chunk at whose end it was.
        """
        taken, self.journal = self.journal, []
        return taken

    def summary(self) -> dict[str, Any]:
        """Return where the guard stands, as JSON types."""
        a = self.arrays
        off_us = self.off_us
        if self.state >= DISCONNECTED:
            off_us += self.now - int(a.entered[OVERALL])
        named = {name: at for at, name in enumerate(self.names) if name is not None}
        slices = [
            {"slice": name[0], "value": name[1], **self._standing(at)}
            for name, at in sorted(named.items())
            if a.last[at, 1] > 0 or a.state[at] >= WARNED
        ]
        judged = [of for of in slices if of["positives"] is not None]
        worst = max(judged, key=_badness, default=None)
        held = self.counts["held"]
        return {
            **self._standing(OVERALL), "judged": self.counts["judged"], "held": held,
            "disconnected_s": off_us / SECOND, "worst": worst, "slices": slices,
        }  # fmt: skip

    def standings(self, most: int) -> list[dict[str, Any]]:
        """Return where all samples stand, then the worst values, as JSON types.

        Those that are asking, disconnected or warned come first, and of each state those whose
        last block is the furthest from what was predicted.

        Parameters
        ----------
        most
            How many there are at most.
        """
        a = self.arrays
        scopes = np.array([at for at, name in enumerate(self.names) if name is not None], np.int64)
        scopes = scopes[(a.last[scopes, 1] > 0) | (a.state[scopes] >= WARNED)]
        positives, expected = (a.last[scopes, side] + 0.5 for side in range(2))
        rest = np.where(a.state[scopes] >= WARNED, -a.state[scopes].astype(np.int64), 0)
        order = np.lexsort((-np.abs(np.log(positives / expected)), rest))
        worst = [(self.names[at] or ("", ""), at) for at in scopes[order[: most - 1]].tolist()]
        return [
            {"slice": column, "value": value, **self._standing(at)}
            for (column, value), at in [(("", ""), OVERALL), *worst]
        ]

    def _standing(self, at: int) -> dict[str, Any]:
        """Return a scope's state, and its last complete block."""
        a = self.arrays
        positives, expected = a.last[at].tolist()
        known = expected > 0
        entered = int(a.entered[at])
        return {
            "state": STATES[a.state[at]],
            "since": None if entered == NEVER else iso_moment(entered),
            "positives": int(positives) if known else None,
            "expected": expected if known else None,
            "ratio": positives / expected if known else None,
            "reason": self.reasons.get(at),
        }

    def export(self) -> dict[str, Any]:
        """Return the whole state as JSON types."""
        return {
            "arrays": {name: packed(of) for name, of in self.arrays._asdict().items()},
            "names": self.names, "free": self.free,
            "found": [list(known.items()) for known in self.found],
            "columns": list(self.columns),
            "reasons": list(self.reasons.items()),
            "chunk": self.chunk, "rows": self.rows, "whole": self.whole,
            "now": self.now, "forgot": self.forgot, "accepted": self.accepted,
            "counts": dict(self.counts), "off_us": self.off_us, "due": self.due,
            "trial": self.trial,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the state by what `export` returned.

        If that is of other slice columns, values of all of them begin anew.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        checked(_Written, state, "guard")
        arrays = _Arrays(*(
            unpacked(state["arrays"].get(name), of.dtype, (-1, *of.shape[1:]))
            for name, of in _Arrays.new(0)._asdict().items()
        ))  # fmt: skip
        _expect_scopes(arrays, state)
        self.reasons = dict(state["reasons"])
        if state["columns"] == list(self.columns):
            self.arrays = arrays
            self.names = [None if name is None else (name[0], name[1]) for name in state["names"]]
            self.free = list(state["free"])
            self.found = [dict(known) for known in state["found"]]
        else:
            for name, of in arrays._asdict().items():
                getattr(self.arrays, name)[0] = of[0]
            self.reasons = {at: why for at, why in self.reasons.items() if at == 0}
        self.chunk, self.rows, self.whole = state["chunk"], state["rows"], state["whole"]
        self.now, self.forgot, self.accepted = state["now"], state["forgot"], state["accepted"]
        self.counts, self.off_us = dict(state["counts"]), state["off_us"]
        self.due, self.trial = state["due"], state["trial"]
        self.off = bool((self.arrays.state >= DISCONNECTED).any())


def _expect_scopes(arrays: _Arrays, state: Mapping[str, Any]) -> None:
    """Go on if what is known of scopes is of those that there are: kernels do not look."""
    size, named, columns = arrays.state.size, len(state["names"]), len(state["columns"])
    expect(all(len(of) == size for of in arrays), "guard", "is of other numbers of scopes")
    expect(1 + columns <= named <= size, "guard", f"names {named} of {size} scopes")
    expect_within(arrays.state, 0, len(STATES), "states")
    for times in (arrays.entered, arrays.seen, arrays.crossed, arrays.opened, arrays.calm):
        expect_moments(times, "times of scopes")
    expect(len(state["found"]) == columns, "guard", "has values of other columns")
    numbers = [at for known in state["found"] for _, at in known]
    expect(all(1 + columns <= at < named for at in (*numbers, *state["free"])), "guard",
           "has a value without a scope")  # fmt: skip
    expect(len({*numbers, *state["free"]}) == len(numbers) + len(state["free"]), "guard",
           "has a scope of two values")  # fmt: skip
    off = set(np.flatnonzero(arrays.state >= DISCONNECTED).tolist())
    expect(off <= {at for at, _ in state["reasons"]}, "guard", "disconnects without a reason")
    expect(state["counts"].keys() == {"judged", "held"}, "guard", "counts something else")
    expect(state["rows"] < state["chunk"] <= _MOST_CHUNK, "guard", "is beyond its chunk")


def _badness(scope: Mapping[str, Any]) -> tuple[int, float]:
    """Return how bad a scope is: its state, then by how many deviations of a count it is off."""
    off = abs(scope["positives"] - scope["expected"]) / math.sqrt(scope["expected"])
    return max(STATES.index(scope["state"]), WATCHING), off
