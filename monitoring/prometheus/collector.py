"""The figures of a run as metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.monitoring.figures import GUARD_STATES, Figures, GuardScope, Predictions
from headrace.monitoring.prometheus import metrics as known
from headrace.monitoring.prometheus.metrics import BINS, label_value
from headrace.monitoring.statistics import SUMS
from headrace.schemas.records.events import Outcome

Sample = tuple[tuple[str, ...], float]


class FiguresCollector(Collector):
    """Yields a metric family for each of the figures, all of one and the same moment.

    Register it with a registry of your own, or with that of the process.

    Parameters
    ----------
    read
        Returns the latest figures; None before the first, of which only the version is shown.
    version
        Version of Headrace.
    """

    def __init__(self, read: Callable[[], Figures | None], version: str) -> None:
        self.read, self.version = read, version

    def describe(self) -> Iterable[Metric]:
        """Yield the families without samples: they are known before a run has figures."""
        for metric in known.METRICS:
            yield _family(metric, [])

    def collect(self) -> Iterable[Metric]:
        """Yield the families of which there is something to say."""
        yield _family(known.BUILD, [((self.version,), 1)])
        figures = self.read()
        if figures is None:
            return
        samples: dict[known.Metric, list[Sample]] = {}
        for metric, labels, value in _samples(figures):
            if value is not None:
                texts = tuple(label_value(text) for text in labels)
                samples.setdefault(metric, []).append((texts, value))
        for metric in known.METRICS:
            if metric in samples:
                yield _family(metric, samples[metric])


def _family(metric: known.Metric, samples: list[Sample]) -> Metric:
    kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
    family = kind(metric.name.removesuffix("_total"), metric.text, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _samples(figures: Figures) -> Iterator[tuple[known.Metric, tuple[str, ...], float | None]]:
    yield known.PUBLISHED, (), figures.published_s
    yield known.CHECKPOINT, (), figures.checkpoint_s
    yield known.MODELS, (), figures.models_s
    yield known.EVENTS, (), figures.events
    yield known.SAMPLES, (), figures.samples
    for stream, outcomes in figures.outcomes.items():
        for outcome, count in outcomes.items():
            if outcome == Outcome.OPEN:  # what waits now, so it falls
                yield known.OPEN, (stream,), count
            else:
                yield known.OUTCOMES, (stream, outcome), count
    yield known.CLOCK, (), _seconds(figures.clock)
    for source in figures.sources:
        of = (source.name, source.stream)
        yield known.SOURCE_RECORDS, of, source.records
        yield known.SOURCE_REJECTED, of, source.rejected
        yield known.SOURCE_LAG, of, source.lag
        yield known.SOURCE_EVENT_TIME, of, _seconds(source.event_time)
        yield known.SOURCE_PROGRESS, of, _seconds(source.progress)
        yield known.SOURCE_ENDED, of, int(source.ended)
    yield known.WINDOW_LENGTH, (), _seconds(figures.window)
    yield known.WINDOW_DELAY, (), _seconds(figures.delay)
    for predictions in figures.predictions:
        yield from _of_predictions(figures, predictions)
    for learner, count in figures.learned.items():
        yield known.LEARNED, (learner,), count
    yield from _of_guard(figures)
    for kind, by_name in figures.drift.items():
        for name, index in by_name.items():
            yield known.DRIFT, (kind, name), index


def _of_predictions(
    figures: Figures, of: Predictions
) -> Iterator[tuple[known.Metric, tuple[str, ...], float | None]]:
    labels = (of.learner, of.label, of.predicted)
    if not of.totals.slices:
        return  # nothing is predicted in this way
    parts = [(known.TOTALS, of.totals)]
    if of.window is not None:
        yield known.WINDOW_END, labels, _seconds(of.window.end)
        parts.append((known.WINDOW, of.window.cells))
    for metrics, cells in parts:
        limited = cells.limited(figures.shown)
        for column, value, sums in zip(
            limited.slices, limited.values, limited.sums.tolist(), strict=True
        ):
            for name, total in zip(SUMS, sums, strict=True):
                yield metrics[name], (*labels, column, value), total
    for positive, weights in enumerate(of.bins.tolist()):
        for edge, weight in zip(BINS, weights, strict=True):
            yield known.LOGITS, (*labels, str(positive), edge), weight


def _of_guard(
    figures: Figures,
) -> Iterator[tuple[known.Metric, tuple[str, ...], float | None]]:
    for scope in _shown(figures):
        of = (scope.label, scope.slice, scope.value)
        yield known.GUARD_STATE, of, GUARD_STATES.index(scope.state)
        yield known.GUARD_POSITIVES, of, scope.positives
        yield known.GUARD_EXPECTED, of, scope.expected
    for arrivals in figures.arrivals:
        yield known.ARRIVALS_STATE, (arrivals.label,), GUARD_STATES.index(arrivals.state)
        yield known.ARRIVALS, (arrivals.label,), arrivals.arrivals
        yield known.ARRIVALS_EXPECTED, (arrivals.label,), arrivals.expected
    for label, count in figures.held.items():
        yield known.GUARD_HELD, (label,), count


def _shown(figures: Figures) -> Iterator[GuardScope]:
    """Yield the scopes that are shown: all samples of a label, and values that are not at rest.

    Which values at rest are the worst changes all the time, and so would series.
    """
    for scope in figures.guard:
        if not scope.slice or scope.state not in ("young", "watching"):
            yield scope


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6
