"""The form of ``summary.json``: what a replay read, made of it, and learned."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict


class Part(BaseModel):
    """Base of the summary's models: frozen, and nothing but what is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EndOfLog(Part):
    """Until when the log is complete; times are null where there is none.

    Parameters
    ----------
    mode
        ``close`` if the whole log is known to be complete.
    complete_until
        By stream.
    labels_complete_until
        The least of them: labels are those of a log that ends there.
    held_back_by
        The stream that ends first, if others are complete for longer.
    """

    mode: Literal["open", "close"]
    complete_until: dict[str, AwareDatetime | None]
    labels_complete_until: AwareDatetime | None
    held_back_by: str | None


class Samples(Part):
    """The samples that were written.

    Parameters
    ----------
    rows
        How many.
    emissions
        How many of each kind of emission.
    positives
        How many have an action, by stream.
    negatives_dropped
        Negatives that sampling left out.
    weight_sum
        Sum of the column ``weight``.
    """

    rows: int
    emissions: dict[str, int]
    positives: dict[str, int]
    negatives_dropped: int
    weight_sum: float


class Joined(Part):
    """Joined actions by stream, and where impressions were found, by place."""

    actions: dict[str, int]
    found_in: dict[str, int]


class Figures(Part):
    """Progressive figures of a learner; null where they are not defined.

    Parameters
    ----------
    samples
        Samples that were predicted, then learned.
    log_loss, normalized_entropy, calibration
        See ``docs/glossary.md``.
    """

    samples: int
    log_loss: float | None
    normalized_entropy: float | None
    calibration: float | None


class WindowFigures(Figures):
    """The figures of one window of event time.

    Parameters
    ----------
    start
        Where it begins; it is `Summary.window_s` long and open at its end.
    positives
        Samples whose label is true.
    weight
        Samples by inverse probability of having been kept.
    label_rate
        Weight of positives over `weight`.
    """

    start: AwareDatetime
    positives: int
    weight: float
    label_rate: float | None


class PublishedModel(Part):
    """The model that a learner ended with.

    Parameters
    ----------
    path
        Its folder, from that of the result.
    sha256
        Of parameters and arrays.
    figures
        What the learner says of its size, such as ``nonzero_weights``.
    """

    path: str
    sha256: str
    figures: dict[str, int]


class LearnerSummary(Figures):
    """What one learner came to.

    Parameters
    ----------
    label, algorithm
        What it learned, and how.
    auc
        See ``docs/glossary.md``.
    running_rate_log_loss
        Log loss of always predicting the rate so far.
    windows
        By event time.
    model
        What is left of it.
    """

    label: str
    algorithm: str
    auc: float | None
    running_rate_log_loss: float | None
    windows: tuple[WindowFigures, ...]
    model: PublishedModel


class Summary(Part):
    """A whole summary.

    Parameters
    ----------
    input
        Records read, by stream.
    outcomes
        Where they ended: by stream, how many of each outcome. They add up to `input`.
    end_of_log, samples, joined
        See there; `joined` is null without ``join.joined``.
    window_s
        Length of the windows of learners' figures, seconds.
    learners
        By name.
    elapsed_s, events_per_s, peak_rss_mb
        What the run took, in MB of 10^6 bytes.
    versions
        Of Python and of packages that results depend on.
    """

    input: dict[str, int]
    outcomes: dict[str, dict[str, int]]
    end_of_log: EndOfLog
    samples: Samples
    joined: Joined | None
    window_s: float
    learners: dict[str, LearnerSummary]
    elapsed_s: float
    events_per_s: int
    peak_rss_mb: float
    versions: dict[str, str]
