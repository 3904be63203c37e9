"""Statistics by window as OpenMetrics in event time, from which Prometheus makes blocks.

Counters are stamped with the end of their window, and with the begin of the first window and of
the first after a gap. So ``x - x offset WINDOW`` is exact for every window: what `increase`
extrapolates is not. Gauges of a window are there where the window has samples.

References
----------
.. [1] OpenMetrics 1.0: a family in one piece, samples of a series in order of time, ``# EOF``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.monitoring.figures import GUARD_STATES, Cells, Shown
from headrace.monitoring.leadguard import LEAD
from headrace.monitoring.prometheus import metrics as known
from headrace.monitoring.prometheus.metrics import BINS, Metric, label_value
from headrace.monitoring.statistics import OTHER, SUMS, Floats, Int64s
from headrace.schemas.records.events import Outcome

END = "# EOF\n"

_STATE_AFTER = {
    event: GUARD_STATES.index(state)
    for event, state in (
        ("accept", "young"), ("armed", "watching"), ("calm", "watching"),
        ("reconnect", "watching"), ("warn", "warned"), ("disconnect", "disconnected"),
        ("ask", "asking"),
    )
}  # fmt: skip
"""The number of the state of a guard after an event of its journal."""
_YOUNG, _WARNED = GUARD_STATES.index("young"), GUARD_STATES.index("warned")


@dataclass(frozen=True)
class Series:
    """The sums of a slice by window.

    Parameters
    ----------
    labels
        Values of the labels.
    at
        Places of its windows in the grid, in order, int64, shape (n,).
    sums
        Float64, shape (n, 6).
    """

    labels: tuple[str, ...]
    at: Int64s
    sums: Floats


@dataclass(frozen=True)
class Chart:
    """The series of a learner's predictions of one kind.

    Parameters
    ----------
    labels
        Values of their labels, without those of slices.
    grid
        Ends of windows in order, microseconds, shape (m,): of all that have samples, and of those
        before them.
    present
        Which of them have samples, bool, shape (m,).
    series
        The series.
    """

    labels: tuple[str, ...]
    grid: Int64s
    present: np.ndarray[tuple[int], np.dtype[np.bool_]]
    series: list[Series]


def charts(rows: pa.Table, window: int, labels: Mapping[str, str]) -> list[Chart]:
    """Return the series in rows of `headrace.monitoring.statistics.STATISTICS_SCHEMA`.

    Parameters
    ----------
    rows
        The rows; those of one window and slice are added up.
    window
        Length of a window, microseconds.
    labels
        The label of each learner.
    """
    keys = ["learner", "predicted", "slice", "value", "window"]
    rows = rows.set_column(
        rows.schema.get_field_index("window"), "window", rows.column("window").cast(pa.int64())
    )
    for name in ("slice", "value"):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, name, rows.column(name).fill_null(""))
    shown = Shown()
    total = rows.group_by(["slice", "value"]).aggregate([(name, "sum") for name in SUMS])
    shown.admit(_cells(total))
    found = []
    kinds = rows.group_by(["learner", "predicted"]).aggregate([]).to_pylist()
    for kind in sorted(kinds, key=lambda kind: (kind["learner"], kind["predicted"])):
        learner, predicted = kind["learner"], kind["predicted"]
        here = pc.and_(
            pc.equal(rows.column("learner"), learner), pc.equal(rows.column("predicted"), predicted)
        )
        own = rows.filter(here).group_by(keys[2:]).aggregate([(name, "sum") for name in SUMS])
        of = (learner, labels[learner], predicted)
        found.append(_chart(own, window, of, shown.by_column))
    return found


def _cells(total: pa.Table) -> Cells:
    sums = np.column_stack([total.column(f"{name}_sum").to_numpy().astype(float) for name in SUMS])
    slices, values = (tuple(total.column(name).to_pylist()) for name in ("slice", "value"))
    return Cells(slices, values, sums)


def _chart(
    rows: pa.Table, window: int, labels: tuple[str, ...], shown: Mapping[str, tuple[str, ...]]
) -> Chart:
    starts = rows.column("window").to_numpy()
    begun = np.unique(starts)
    grid = np.unique(np.concatenate([begun - window, begun]))
    place = np.searchsorted(grid, starts)
    cells = _cells(rows)
    names = list(dict.fromkeys(zip(cells.slices, cells.values, strict=True)))
    number = {name: i for i, name in enumerate(names)}
    of = np.array([number[n] for n in zip(cells.slices, cells.values, strict=True)], np.int64)
    one = Cells(
        tuple(column for column, _ in names), tuple(value for _, value in names),
        np.zeros((len(names), len(SUMS))),
    )  # fmt: skip
    limited = one.limited(shown)
    target = {name: i for i, name in enumerate(zip(limited.slices, limited.values, strict=True))}
    series = []
    to = np.array([_target(name, target) for name in names], np.int64)[of]
    order = np.lexsort((place, to))
    for part in np.split(order, np.flatnonzero(np.diff(to[order])) + 1):
        at, first = np.unique(place[part], return_inverse=True)
        sums = np.zeros((at.size, len(SUMS)))
        np.add.at(sums, first, cells.sums[part])
        i = int(to[part[0]])
        series.append(Series((*labels, limited.slices[i], limited.values[i]), at, sums))
    return Chart(labels, grid + window, np.isin(grid, begun), series)


def _target(name: tuple[str, str], target: Mapping[tuple[str, str], int]) -> int:
    return target[name] if name in target else target[name[0], OTHER]


def lines(
    found: list[Chart],
    outcomes: Mapping[str, Mapping[str, int]],
    samples: int,
    bins: Mapping[tuple[str, str], Floats],
    journal: pa.Table | None = None,
) -> Iterator[str]:
    """Yield the text, a part of a family at a time.

    Parameters
    ----------
    found
        From `charts`.
    outcomes, samples, bins
        Records by stream and outcome, samples, and weights by log-odds of each learner and kind
        of prediction; shown at the end of the last window.
    journal
        What guards decided, in order, in `headrace.monitoring.guard.GUARD_SCHEMA`.
    """
    ends = [int(chart.grid[-1]) for chart in found]
    for i, name in enumerate(SUMS):
        yield from _family(known.TOTALS[name], (_cumulative(chart, i) for chart in found))
    for i, name in enumerate(SUMS):
        yield from _family(known.WINDOW[name], (_of_windows(chart, i) for chart in found))
    yield from _family(known.WINDOW_END, (_ends(chart) for chart in found))
    if ends:
        last = np.array([max(ends)])
        counts = [
            ((stream, outcome), count) for stream, of in outcomes.items()
            for outcome, count in of.items() if outcome != Outcome.OPEN
        ]  # fmt: skip
        yield from _family(known.OUTCOMES, [
            [(labels, last, np.array([float(count)])) for labels, count in counts]
        ])  # fmt: skip
        yield from _family(known.LOGITS, (
            _by_logit(chart, last, bins[chart.labels[0], chart.labels[2]]) for chart in found
        ))  # fmt: skip
        yield from _family(known.SAMPLES, [[((), last, np.array([float(samples)]))]])
    if ends and journal is not None:
        grid = np.unique(np.concatenate([chart.grid for chart in found]))
        of_labels, of_arrivals = _changes(journal)
        states = _states(of_labels, of_arrivals, grid)
        yield from _family(known.GUARD_STATE, [states])
        yield from _family(known.ARRIVALS_STATE, [_arrivals(of_arrivals, grid)])
    yield END


Points = Iterable[tuple[tuple[str, ...], Int64s, Floats]]
"""Values of labels, times in microseconds, and values."""


def _cumulative(chart: Chart, i: int) -> Points:
    for series in chart.series:
        values = np.zeros(chart.grid.size)
        values[series.at] = series.sums[:, i]
        yield series.labels, chart.grid, np.cumsum(values)


def _of_windows(chart: Chart, i: int) -> Points:
    for series in chart.series:
        yield series.labels, chart.grid[series.at], series.sums[:, i]


_Changes = dict[tuple[str, str, str], dict[int, int]]
"""States from a time on, microseconds, by label, slice and value."""


def _changes(journal: pa.Table) -> tuple[_Changes, _Changes]:
    """Return when guards changed by their labels, and when by arrivals."""
    of_labels: _Changes = {}
    of_arrivals: _Changes = {}
    armed: set[str] = set()
    for row in journal.set_column(0, "time", journal.column("time").cast(pa.int64())).to_pylist():
        event, label = row["event"].removeprefix(LEAD), row["label"]
        if event not in _STATE_AFTER:
            continue
        scope, state = (label, row["slice"] or "", row["value"] or ""), _STATE_AFTER[event]
        # A time is written in milliseconds: of two changes in one the last counts.
        at = row["time"] // 1000 * 1000
        if event == row["event"]:
            of_labels.setdefault(scope, {})[at] = state
            continue
        if event in ("armed", "accept"):
            (armed.add if event == "armed" else armed.discard)(label)
        young = event == "reconnect" and label not in armed  # silence disconnects before it is
        of_arrivals.setdefault(scope, {})[at] = _YOUNG if young else state
    return of_labels, of_arrivals


def _at(changes: Mapping[int, int], times: Int64s) -> Int64s:
    """Return the states at times."""
    when = sorted(changes)
    states = np.array([_YOUNG, *(changes[at] for at in when)])
    found: Int64s = states[np.searchsorted(np.array(when, np.int64), times, side="right")]
    return found


def _states(of_labels: _Changes, of_arrivals: _Changes, grid: Int64s) -> Points:
    """Return the states of guards, at the ends of windows and when they changed.

    That of all samples is the one of arrivals where it is worse.
    """
    for scope in dict.fromkeys([*of_labels, *of_arrivals]):
        own, arrivals = of_labels.get(scope, {}), of_arrivals.get(scope, {})
        times = np.unique(np.concatenate([grid, np.array([*own, *arrivals], np.int64)]))
        states, worse = _at(own, times), _at(arrivals, times)
        states = np.where(worse >= _WARNED, np.maximum(states, worse), states)
        yield scope, times, states.astype(float)


def _arrivals(changes: _Changes, grid: Int64s) -> Points:
    """Return the states of arrivals, at the ends of windows and when they changed."""
    for (label, _, _), own in changes.items():
        times = np.unique(np.concatenate([grid, np.array([*own], np.int64)]))
        yield (label,), times, _at(own, times).astype(float)


def _ends(chart: Chart) -> Points:
    ends = chart.grid[chart.present]
    yield chart.labels, ends, ends / 1e6


def _by_logit(chart: Chart, last: Int64s, bins: Floats) -> Points:
    for positive, weights in enumerate(bins):
        for edge, weight in zip(BINS, weights, strict=True):
            yield (*chart.labels, str(positive), edge), last, np.array([weight])


def _family(metric: Metric, parts: Iterable[Points]) -> Iterator[str]:
    name = metric.name.removesuffix("_total")
    kind = "counter" if metric.is_counter else "gauge"
    yield f"# HELP {name} {metric.text}\n# TYPE {name} {kind}\n"
    for points in parts:
        heads, sizes, times, values = [], [], [], []
        for labels, at, numbers in points:
            heads.append(f"{metric.name}{_labels(metric.labels, labels)}")
            sizes.append(at.size)
            times.append(at)
            values.append(numbers)
        if heads:
            names = pa.array(heads).take(pa.array(np.repeat(np.arange(len(heads)), sizes)))
            yield _text(names, np.concatenate(times), np.concatenate(values))


def _text(names: pa.Array, times: Int64s, values: Floats) -> str:
    """Return a line for each sample; times are microseconds."""
    distinct, at = np.unique(times, return_inverse=True)
    stamps = pa.array([f"{t // 1_000_000}.{t // 1_000 % 1_000:03d}" for t in distinct.tolist()])
    texts = pc.binary_join_element_wise(
        names, pa.array(values).cast(pa.string()), stamps.take(pa.array(at)), " "
    )
    whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    joined: str = pc.binary_join(whole, "\n")[0].as_py()
    return joined + "\n"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    short = label_value(value)
    return short.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
