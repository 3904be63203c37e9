"""Additive statistics of labels and progressive predictions, by window and slice.

Only sums are kept; every ratio is computed from them when it is shown. Sums
are built sample by sample in canonical order, so they are the same in every
replay, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.monitoring.columnsums import Addends, Cells, ColumnSums
from headrace.monitoring.exported import check_version, packed, unpacked, unpacked_places
from headrace.monitoring.frequent import FrequentValues, numbered
from headrace.schemas.errors import StateVersionError
from headrace.schemas.records.restored import Count, Finite, Moment, Text, checked, expect, written
from headrace.schemas.records.slicing import as_texts

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

SUMS = (
    "samples", "positives", "weight", "positive_weight", "p_sum", "loss",
    "squares", "positive_squares", "mature",
)  # fmt: skip
"""The squares are those of weights: how surely a ratio of weighted samples is known depends on
them. Mature are samples whose label could not change any more."""

(SAMPLES, POSITIVES, WEIGHT, POSITIVE_WEIGHT, P_SUM, LOSS,
 SQUARES, POSITIVE_SQUARES, MATURE) = range(len(SUMS))  # fmt: skip
STATISTICS_VERSION = 3
"""Version of what `Statistics.export` returns."""

LOGIT_BINS = 1 << 14
LOGIT_RANGE = 16.0
"""Log-odds are counted in `LOGIT_BINS` equal bins over ``[-16, 16)``, clipped.

They take 240 kB and 5 ms of a checkpoint. With 1,024 bins the AUC of predictions
that differ little was off by as much as 0.004.
"""

MOST_VALUES = 1000
OTHER = "(other)"

STATISTICS_SCHEMA = pa.schema(
    [
        ("learner", pa.string()),
        ("predicted", pa.string()),
        ("window", pa.timestamp("us", "UTC")),
        ("slice", pa.string()),
        ("value", pa.string()),
        ("samples", pa.int64()),
        ("positives", pa.int64()),
        *((name, pa.float64()) for name in SUMS[WEIGHT:MATURE]),
        ("mature", pa.int64()),
    ]
)
"""Sums as rows: of what a learner predicted just before it ``learned`` a sample, or as a server
would have ``served`` an impression; of a window, which begins at its time, all samples if
`slice` is null, or those with a value of a column. Rows of one window may be added up."""

_CLIP = 1e-15


@nb.njit(cache=True, nogil=True)
def _log_loss(label, p, out):
    for i in range(p.size):
        q = min(max(p[i], _CLIP), 1.0 - _CLIP)
        out[i] = -np.log(q if label[i] > 0 else 1.0 - q)


@nb.njit(cache=True, nogil=True)
def _count_bins(label, weight, margin, bins):
    size = bins.shape[1]
    for i in range(margin.size):
        at = int((margin[i] + LOGIT_RANGE) * (size / (2 * LOGIT_RANGE)))
        bins[1 if label[i] > 0 else 0, min(max(at, 0), size - 1)] += weight[i]


@nb.njit(cache=True, nogil=True)
def _running_rate_loss(label, weight, state):
    """Add the log loss of always predicting the rate so far (Laplace's rule at the start)."""
    for i in range(label.size):
        p = (state[1] + 1.0) / (state[0] + 2.0)
        state[2] -= weight[i] * (np.log(p) if label[i] > 0 else np.log(1.0 - p))
        state[0] += weight[i]
        state[1] += weight[i] * label[i]


@dataclass(frozen=True)
class Observation:
    """Samples with their progressive predictions, in canonical order.

    Parameters
    ----------
    event_time
        int64 microseconds, shape (n,).
    label, weight, margin
        Label 0 or 1, inverse probability of having been kept, log-odds
        corrected for sampling; float64, shape (n,).
    slices
        Columns to slice by, each of shape (n,); those that are texts already
        (`headrace.schemas.records.slicing.as_texts`) are not encoded again.
    mature
        Whether the label cannot change any more, shape (n,); None if no label can.
    """

    event_time: Int64s
    label: Floats
    weight: Floats
    margin: Floats
    slices: dict[str, pa.Array]
    mature: Bools | None = None


@written
class _Written:
    version: Count
    windows: dict[Text, Any]
    forgotten: dict[Text, Any]
    bin_count: Count
    filled: Text
    bins: Text
    baseline: list[Finite]
    values: dict[Text, dict[Text, Any]]


@written
class _WrittenCells:
    keys: list[tuple[Moment, Text, Text]]
    sums: Text


class Statistics:
    """Sums by (window, slice column, value); the column ``""`` stands for all samples.

    Sums of statistics of other samples may be added (`merge`). Of a slice column the
    `MOST_VALUES` most frequent values have sums of their own
    (`headrace.monitoring.frequent`), and all others are summed as `OTHER`: what becomes frequent
    late has its own from then on, and what no longer is goes to `OTHER` with all it had. So the
    sums over the values of a column are those of all samples.

    Parameters
    ----------
    window
        Length of a window, microseconds; windows begin at multiples of it.
    slices
        Names of the slice columns.
    """

    def __init__(self, window: int, slices: tuple[str, ...]) -> None:
        self.window = window
        self.slices = slices
        self.columns = {name: ColumnSums(len(SUMS)) for name in ("", *slices)}
        self.forgotten = {name: ColumnSums(len(SUMS)) for name in ("", *slices)}
        """Sums over windows that are not told apart any more, each as one window."""
        self.bins = np.zeros((2, LOGIT_BINS))
        self.baseline = np.zeros(3)
        self.values = {name: FrequentValues(MOST_VALUES) for name in slices}

    @property
    def empty(self) -> bool:
        """Whether there are no sums."""
        return not self.columns[""].windows

    def observe(self, observed: Observation) -> None:
        """Add samples, which must come in canonical order over all calls."""
        with np.errstate(over="ignore"):
            p = 1.0 / (1.0 + np.exp(-observed.margin))
        loss = np.empty(p.size)
        _log_loss(observed.label, p, loss)
        mature = np.ones(p.size, np.bool_) if observed.mature is None else observed.mature
        addends = Addends(observed.label, observed.weight, p, loss, mature)
        number = pa.array(observed.event_time // self.window).dictionary_encode()
        starts = [n * self.window for n in number.dictionary.to_pylist()]
        window = number.indices.to_numpy()
        self.columns[""].add(starts, window, [""], np.zeros(p.size, np.int32), addends)
        for name, frequent in self.values.items():
            texts, column = as_texts(observed.slices[name]), self.columns[name]
            for begin, end in frequent.parts(p.size):
                here = slice(begin, end)
                values, counts, code = numbered(texts.slice(begin, end - begin))
                kept = frequent.count(values, counts)
                own = [value if has else OTHER for value, has in zip(values, kept, strict=True)]
                column.add(starts, window[here], own, code, addends.part(here))
                self._give_up(name, frequent.advance(end - begin))
        _count_bins(observed.label, observed.weight, observed.margin, self.bins)
        _running_rate_loss(observed.label, observed.weight, self.baseline)

    def _give_up(self, name: str, values: list[str]) -> None:
        """Add the sums of values of a column to those of `OTHER`."""
        # A value that is called so was summed there.
        given_up = [value for value in values if value != OTHER]
        for of in (self.columns, self.forgotten):
            of[name].give_up(given_up, OTHER)

    def merge(self, other: Statistics) -> None:
        """Add the sums of other samples.

        Merging is commutative to the bit. It is associative but for the rounding of sums, and
        in columns of more than `MOST_VALUES` values for which of them have sums of their own.

        Raises
        ------
        ValueError
            If windows or slice columns differ.
        """
        ours, theirs = (self.window, self.slices), (other.window, other.slices)
        if ours != theirs:
            raise ValueError(f"windows and slices must be {ours} (got {theirs})")
        for of, more in ((self.columns, other.columns), (self.forgotten, other.forgotten)):
            for name, column in of.items():
                column.add_all(more[name])
        self.bins += other.bins
        self.baseline += other.baseline
        for name, frequent in self.values.items():
            self._give_up(name, frequent.merge(other.values[name]))

    def windows(self, column: str = "", value: str = "") -> list[tuple[int, Floats]]:
        """Return (start, sums) of every window of a slice, by time; sums have shape (9,)."""
        return list(self.columns[column].of_value(value)) if column in self.columns else []

    def totals(self, column: str = "", since: int | None = None) -> dict[str, Floats]:
        """Return the sums over the windows from a time on, or all, of each value of a column."""
        if column not in self.columns:
            return {}
        totals = self.columns[column].totals(since)
        for value, sums in self.forgotten[column].totals().items() if since is None else ():
            totals[value] = totals[value] + sums if value in totals else sums
        return totals

    def all_totals(
        self, first: int | None = None, last: int | None = None
    ) -> dict[tuple[str, str], Floats]:
        """Return sums by column and value over the windows that begin in ``[first, last]``."""
        return {
            (name, value): sums
            for name, column in self.columns.items()
            for value, sums in column.totals(first, last).items()
        }

    def last_window(self, until: int) -> int | None:
        """Return when the last window begins that ends at `until` or before; None if none does."""
        ended = [start for start in self.columns[""].windows if start + self.window <= until]
        return max(ended, default=None)

    def take_before(self, time: int, learner: str, predicted: str) -> pa.Table:
        """Take out the sums of the windows that end at `time` or before, as rows.

        Parameters
        ----------
        time
            Microseconds.
        learner, predicted
            The learner's name and ``learned`` or ``served``, for the rows.

        Returns
        -------
        pa.Table
            In `STATISTICS_SCHEMA`, in order of window, slice and value, all samples first.
        """
        first_kept = time - self.window + 1
        taken = {name: column.take_before(first_kept) for name, column in self.columns.items()}
        return _table(taken, learner, predicted)

    def forget_before(self, time: int) -> None:
        """Tell the windows that end at `time` or before, microseconds, apart no more."""
        for name, column in self.columns.items():
            cells = column.take_before(time - self.window + 1)
            values = [cells.values[code] for code in cells.codes.tolist()]
            old = ColumnSums.of_cells(cells.starts.tolist(), values, cells.sums).totals()
            if old:
                sums = np.stack(list(old.values()))
                whole = ColumnSums.of_cells([0] * len(old), list(old), sums)
                self.forgotten[name].add_all(whole)

    def table(self, learner: str, predicted: str) -> pa.Table:
        """Return the sums of all windows as rows, see `take_before`."""
        cells = {name: column.cells() for name, column in self.columns.items()}
        return _table(cells, learner, predicted)

    def export(self) -> dict[str, Any]:
        """Return the whole state as JSON types; arrays are bytes in base 64."""
        filled = np.flatnonzero(self.bins.any(axis=0))
        return {
            "version": STATISTICS_VERSION,
            "windows": _exported(self.columns),
            "forgotten": _exported(self.forgotten),
            "bin_count": LOGIT_BINS,
            "filled": packed(filled),
            "bins": packed(self.bins[:, filled]),
            "baseline": self.baseline.tolist(),
            "values": {name: frequent.export() for name, frequent in self.values.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `export` returned; of other slice columns there is nothing.

        Raises
        ------
        StateVersionError
            If the state has another version, or log-odds were counted in another number of bins.
        DamagedError
            If it is not what `export` returns.
        """
        check_version(state, STATISTICS_VERSION, "statistics")
        checked(_Written, state, "statistics")
        if (bins := state["bin_count"]) != LOGIT_BINS:
            raise StateVersionError(
                f"log-odds must be counted in {LOGIT_BINS} bins (got {bins}); "
                "continue with the version that wrote the state, or start over"
            )
        self.columns = _restored(state["windows"], self.columns)
        self.forgotten = _restored(state["forgotten"], self.forgotten)
        filled = unpacked_places(state["filled"], LOGIT_BINS)
        self.bins = np.zeros((2, LOGIT_BINS))
        self.bins[:, filled] = unpacked(state["bins"], np.float64, (2, filled.size))
        expect(len(state["baseline"]) == self.baseline.size, "statistics", "has another baseline")
        self.baseline = np.array(state["baseline"], np.float64)
        for name, frequent in self.values.items():
            if name in state["values"]:
                frequent.restore(state["values"][name])


def _exported(columns: Mapping[str, ColumnSums]) -> dict[str, Any]:
    cells = {name: column.cells() for name, column in columns.items()}
    keys = [
        [start, name, of.values[code]]
        for name, of in cells.items()
        for start, code in zip(of.starts.tolist(), of.codes.tolist(), strict=True)
    ]
    return {"keys": keys, "sums": packed(np.concatenate([of.sums for of in cells.values()]))}


def _restored(state: Mapping[str, Any], columns: Iterable[str]) -> dict[str, ColumnSums]:
    checked(_WrittenCells, state, "cells")
    known = {(start, name, value) for start, name, value in state["keys"]}
    expect(len(known) == len(state["keys"]), "cells", "has one twice")
    names = np.array([name for _, name, _ in state["keys"]], object)
    sums = unpacked(state["sums"], np.float64, (len(names), len(SUMS)))
    expect((sums[:, SAMPLES] >= 1).all(), "cells", "has one without samples")
    restored = {}
    for name in columns:
        own = np.flatnonzero(names == name)
        keys = [state["keys"][at] for at in own.tolist()]
        starts, values = [start for start, _, _ in keys], [value for _, _, value in keys]
        restored[name] = ColumnSums.of_cells(starts, values, sums[own])
    return restored


def _table(columns: dict[str, Cells], learner: str, predicted: str) -> pa.Table:
    """Return the cells of columns as rows of `STATISTICS_SCHEMA`, in their order."""
    names = sorted(columns)
    found = [columns[name] for name in names]
    sizes = [of.starts.size for of in found]
    starts = np.concatenate([of.starts for of in found])
    # Stable: within a window and a column cells are in order of values already.
    order = np.argsort(starts, kind="stable")
    firsts = np.cumsum([0, *(len(of.values) for of in found[:-1])])
    texts = pa.array([value for of in found for value in of.values], pa.string())
    code = np.concatenate([of.codes + first for of, first in zip(found, firsts, strict=True)])
    column = np.repeat(np.arange(len(names)), sizes)[order]
    total = column == names.index("")
    value = pa.array(code[order], mask=total)
    sums = np.concatenate([of.sums for of in found])[order].T
    rows = starts.size
    return pa.Table.from_arrays(
        [
            pa.repeat(learner, rows),
            pa.repeat(predicted, rows),
            pa.array(starts[order]).cast(pa.timestamp("us", "UTC")),
            pa.array(names).take(pa.array(column, mask=total)),
            texts.take(value),
            *(pa.array(sums[at].astype(np.int64)) for at in (SAMPLES, POSITIVES)),
            *(pa.array(sums[at]) for at in range(WEIGHT, MATURE)),
            pa.array(sums[MATURE].astype(np.int64)),
        ],
        schema=STATISTICS_SCHEMA,
    )
