"""What detectors look at: the results of a run that tell of its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.monitoring.numbers import Looks
from headrace.monitoring.origins import SourceResult
from headrace.monitoring.shifts import Shift
from headrace.monitoring.stops import Hours
from headrace.schemas.records.badvalues import Counts

WORTH_SAYING = 0.01
"""A loss is reported if its share of a stream is greater than this."""


@dataclass(frozen=True)
class Meeting:
    """How the actions of a stream met impressions.

    Parameters
    ----------
    hours
        Those that did and those that did not, by hour.
    shift
        By how much many of the latter lie beside their impression; None if there is no such time.
    notations
        Where keys are written otherwise than those of impressions: an example of each, by column
        of the impressions.
    """

    hours: Hours = field(default_factory=Hours)
    shift: Shift | None = None
    notations: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamResult:
    """What detectors look at, for one stream.

    Parameters
    ----------
    name
        ``impressions`` or the action's name.
    records
        Records read.
    outcomes
        Records by outcome.
    reasons
        Invalid records by reason.
    first_time, last_time
        Least and greatest event time, microseconds; None without a valid one.
    key_types
        What the key columns match, ``text`` or ``numbers``.
    bad_values
        Values that do not fit, by column and cause: ``count`` and ``examples``.
    time_column, zone
        Column of the event time, and the zone of times without an offset.
    time_counts
        Event times that needed a choice, see `headrace.schemas.summary.TimeCounts`.
    key
        Names of the key columns.
    sources
        Its files or partitions, and what was lost of each.
    meeting
        How its actions met impressions; None of the impressions.
    """

    name: str
    records: int
    outcomes: dict[str, int]
    reasons: dict[str, int]
    first_time: int | None
    last_time: int | None
    key_types: tuple[str, ...]
    bad_values: Counts = field(default_factory=dict)
    time_column: str = ""
    zone: str = "UTC"
    time_counts: Mapping[str, int] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    sources: tuple[SourceResult, ...] = ()
    meeting: Meeting | None = None

    @property
    def table(self) -> str:
        """Name of the stream's table in the configuration."""
        return "impressions" if self.name == "impressions" else f"actions.{self.name}"


@dataclass(frozen=True)
class SamplingResult:
    """The samples that the settings of sampling are about.

    Parameters
    ----------
    samples
        All samples.
    keep, kept
        The condition ``sampling.keep``, and how many samples meet it; None without one.
    column, found
        The column that has rates of its own for some values, and how many samples have
        each of these values.
    lowest, correction
        The lowest negative rate, and how it is corrected.
    """

    samples: int = 0
    keep: str | None = None
    kept: int = 0
    column: str | None = None
    found: Mapping[str, int] = field(default_factory=dict)
    lowest: float = 1.0
    correction: str = "weight"


@dataclass(frozen=True)
class LearnerResult:
    """What detectors look at, for one learner.

    Parameters
    ----------
    name, table
        The learner, and its table in the configuration.
    samples
        Samples that it learned.
    figures
        Its model's figures, as its algorithm has them.
    clipped
        How many values of numeric features were clipped, by column.
    suspicions
        What numeric features look like that are no quantities, by column.
    refused
        Samples that it did not learn for want of a weight, an offset or a theta.
    outliers
        Samples that it did not learn for a number far beyond the others, by column.
    """

    name: str
    table: str
    samples: int
    figures: Mapping[str, int]
    clipped: Mapping[str, int]
    suspicions: Mapping[str, Looks]
    refused: int = 0
    outliers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LogResult:
    """What detectors look at, for a whole log.

    Parameters
    ----------
    streams
        The impressions, then the actions.
    longest_window
        The longest action window, microseconds.
    sampling
        What the samples show of sampling.
    learners
        The learners.
    """

    streams: tuple[StreamResult, ...]
    longest_window: int
    sampling: SamplingResult = SamplingResult()
    learners: tuple[LearnerResult, ...] = ()

    @property
    def impressions(self) -> StreamResult:
        """The impression stream, always the first."""
        return self.streams[0]
