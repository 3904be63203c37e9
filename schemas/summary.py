"""The form of ``summary.json``: what a replay read, wrote and learned."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

Interval = tuple[float, float | None]
"""A 95 % interval; its upper end is null if there is none."""


class Part(BaseModel):
    """Base of the summary's models: frozen, and other keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EndOfLog(Part):
    """Until when the log is complete; a time is null if there is none.

    Parameters
    ----------
    mode
        ``close`` if the whole log is declared complete.
    complete_until
        By stream.
    labels_complete_until
        The earliest of these: labels are those of a log that ends there.
    held_back_by
        The stream that ends first, if others are complete until later.
    """

    mode: Literal["open", "close"]
    complete_until: dict[str, AwareDatetime | None]
    labels_complete_until: AwareDatetime | None
    held_back_by: str | None


class Samples(Part):
    """Counts of the samples that were written.

    Parameters
    ----------
    rows
        All samples.
    emissions
        Samples by emission.
    positives
        Samples with a true label, by action stream.
    negatives_dropped
        Negatives that sampling dropped.
    weight_sum
        Sum of the column ``weight``.
    """

    rows: int
    emissions: dict[str, int]
    positives: dict[str, int]
    negatives_dropped: int
    weight_sum: float


class BadValues(Part):
    """Values of one column that do not fit for one cause; they are null in samples.

    Parameters
    ----------
    count
        How many.
    examples
        The first few, as text.
    """

    count: int
    examples: tuple[str, ...]


class TimeCounts(Part):
    """How many event times of a stream needed a choice.

    Parameters
    ----------
    first_pass, second_pass
        Times in an hour that the zone repeats, whose pass the order of the file told.
    unresolved
        Such times of which nothing tells the pass; they are taken as of the first.
    floored
        Times finer than a microsecond, of which the rest is cut off.
    """

    first_pass: int
    second_pass: int
    unresolved: int
    floored: int


class SourceEnd(Part):
    """How far a source was read.

    Parameters
    ----------
    name, stream
        Its name, and the stream that it is part of.
    records, rejected
        How many records it has, and how many of them were rejected.
    latest
        The greatest event time that other records confirm; null without one.
    """

    name: str
    stream: str
    records: int
    rejected: int
    latest: AwareDatetime | None


class DelayBin(Part):
    """How many first actions came before a delay, and not before that of the bin before it."""

    below_s: float
    actions: int


class LabelRates(Part):
    """How often impressions have an action.

    Parameters
    ----------
    samples, positives
        Impressions that left a sample, and those of them with an action.
    weight
        Sum of 1 / sampling rate over the samples: how many impressions they stand for.
    label_rate, label_rate_interval
        Weight of positives over `weight`, and where it is with 95 %; null without samples, or if
        positives weigh more than they: what these were at first left in a run before, or was left
        out by sampling.
    """

    samples: int
    positives: int
    weight: float
    label_rate: float | None
    label_rate_interval: Interval | None


class LabelBin(LabelRates):
    """The rates of the impressions of a time.

    Parameters
    ----------
    start
        When it begins; it is `LabelSummary.bin_s` long and open at its end.
    """

    start: AwareDatetime


class Coverage(Part):
    """Parts of the actions of known impressions that had come; null without such actions.

    Parameters
    ----------
    quarter, half, window
        Before a quarter of the window was over, before half of it, and before its end.
    """

    quarter: float | None
    half: float | None
    window: float | None


class LabelSummary(LabelRates):
    """What is known of the label of an action stream, whether or not it is learned.

    Parameters
    ----------
    window_s
        Its window, seconds.
    outside_window, orphans, late
        Actions of known impressions that came outside the window, those without an impression, and
        those that came after the label was final.
    coverage
        How many of the actions of known impressions had come by when.
    delays
        Positive samples by the delay of their first action.
    bin_s
        Length of a bin, seconds: an hour, or a day if the samples span more than three days.
    bins
        Rates by event time of the impressions, in order.
    """

    window_s: float
    outside_window: int
    orphans: int
    late: int
    coverage: Coverage
    delays: tuple[DelayBin, ...]
    bin_s: float
    bins: tuple[LabelBin, ...]


class TimeSpan(Part):
    """The least and the greatest event time; null without a valid one."""

    first: AwareDatetime | None
    last: AwareDatetime | None


class Joined(Part):
    """Counts of joined actions by stream, and of where their impressions were found."""

    actions: dict[str, int]
    found_in: dict[str, int]


class Figures(Part):
    """Progressive figures of a learner; null where undefined.

    Parameters
    ----------
    samples
        How many samples were predicted, then learned.
    log_loss, normalized_entropy, calibration
        See ``docs/glossary.md``.
    calibration_interval
        In which calibration is with 95 %; null without positives.
    """

    samples: int
    log_loss: float | None
    normalized_entropy: float | None
    calibration: float | None
    calibration_interval: Interval | None


class RateFigures(Figures):
    """Figures with the label rate.

    Parameters
    ----------
    positives
        How many samples have a true label.
    mature
        Of how many samples the label could not change any more.
    weight
        Sum of 1 / sampling rate over the samples.
    label_rate, label_rate_interval
        Weight of positives over `weight`, and where it is with 95 %.
    """

    positives: int
    mature: int
    weight: float
    label_rate: float | None
    label_rate_interval: Interval | None


class WindowFigures(RateFigures):
    """The figures of one window of event time.

    Parameters
    ----------
    start
        Where it begins; it is `Summary.window_s` long and open at its end.
    """

    start: AwareDatetime


class AfterWarmUp(RateFigures):
    """The figures to judge a learner by: without the warm-up, of final labels.

    Parameters
    ----------
    predicted
        Whether they are of predictions just before learning (``learned``) or as ``served``, if
        labels of the former may still change.
    since, windows, left_out
        Start of the first window, how many there are, and how many came before.
    log_loss_interval, normalized_entropy_interval
        Over windows; null if there are fewer than five.
    actual, actual_interval
        By how many times positives are as many as predicted: the inverse of calibration, which
        is also defined without positives.
    """

    predicted: Literal["learned", "served"]
    since: AwareDatetime
    windows: int
    left_out: int
    log_loss_interval: Interval | None
    normalized_entropy_interval: Interval | None
    actual: float | None
    actual_interval: Interval | None


class WorstSliceFigures(Part):
    """The value of a slice column that is surest not to be as predicted.

    Parameters
    ----------
    slice, value
        Column and value.
    actual, low, high
        By how many times positives are as many as predicted, and the interval in which it is
        with 95 % for all values that were looked at together.
    samples, positives, expected
        Counts, and the weight of the positives that were predicted.
    among
        How many values were looked at: those with 20 predicted positives.
    """

    slice: str
    value: str
    actual: float
    low: float
    high: float
    samples: int
    positives: int
    expected: float
    among: int


class PublishedModel(Part):
    """The model of a learner at the end of a run.

    Parameters
    ----------
    path
        Its folder, relative to that of the result.
    samples
        How many samples had left when it was as it is, also those that a guard held back. With an
        early emission those before the last impression: what comes after it is positives alone,
        or mostly negatives.
    sha256
        Checksum of algorithm, version, bits, parameters and arrays.
    figures
        Counts that describe its size, such as ``nonzero_weights``.
    """

    path: str
    samples: int
    sha256: str
    figures: dict[str, int]


class ServedFigures(Figures):
    """Figures of predictions as a server would have made them; null where undefined.

    Impressions were predicted when they were known, with the model of that time, and scored
    with their final labels. Each weighs 1; none is left out by negative sampling.

    Parameters
    ----------
    samples
        How many impressions were scored.
    share
        Share of the keys that they were chosen from, ``monitor.served_share``.
    waiting
        Impressions that were predicted and have not settled, with copies among them.
    auc, auc_interval
        See ``docs/glossary.md``; and where the AUC is with 95 %.
    calibration_error
        Expected calibration error, over groups of log-odds of width 1.
    windows
        Figures by window of event time, in order.
    """

    share: float
    waiting: int
    auc: float | None
    auc_interval: Interval | None
    calibration_error: float | None
    windows: tuple[WindowFigures, ...]


class Compared(Part):
    """By how much a learner's log loss, as served, is above that of another on the same rows.

    Parameters
    ----------
    reference
        The other learner: the first that predicts the same of the same.
    rows
        Impressions that both were scored on.
    mean, low, high
        The difference in nats an impression, and its 95 % interval.
    windows
        How many windows of event time the interval is from; null if it is from single rows.
    """

    reference: str
    rows: int
    mean: float
    low: float
    high: float
    windows: int | None


class GateFigures(Part):
    """Figures of one model in the window that decided; null where undefined."""

    log_loss: float | None
    normalized_entropy: float | None
    calibration: float | None
    auc: float | None


class GateVerdict(Part):
    """Whether a model may take over from the one that serves.

    Parameters
    ----------
    accepted, reasons
        Whether it may, and if not, why, a sentence each.
    window, impressions, positives
        When the window of event time begins that decided, and what is in it.
    serving, candidate
        Figures of the model that serves, and of the new one, on the same impressions.
    """

    accepted: bool
    reasons: tuple[str, ...]
    window: AwareDatetime
    impressions: int
    positives: int
    serving: GateFigures
    candidate: GateFigures


class Started(Part):
    """The model that a learner began with.

    Parameters
    ----------
    path, samples
        Its folder, and how many samples it had learned.
    kept, new, gone
        Features that both have, that the learner alone has, and that the model alone has.
    """

    path: str
    samples: int
    kept: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]


class GuardedScope(Part):
    """Where a guard stands, of all samples or of those with a value.

    Parameters
    ----------
    state
        ``young`` (not armed yet), ``watching``, ``warned``, ``disconnected``, or ``asking``: so for
        longer than `guard.cap`.
    since
        Emit time since when it is so; None before the first block of a young one.
    positives, expected, ratio
        Of the last block, of at least 30 expected positives (10 of a value) and five minutes;
        None before it.
    reason
        Why it is disconnected; None if it is not.
    """

    state: Literal["young", "watching", "warned", "disconnected", "asking"]
    since: AwareDatetime | None
    positives: int | None
    expected: float | None
    ratio: float | None
    reason: str | None


class GuardedArrivals(GuardedScope):
    """Where a guard stands of the arrivals of actions, see docs/lead.md.

    Parameters
    ----------
    usual
        Arrivals for each expected positive, as usual.
    disconnected_s
        How long all samples were held back for want of arrivals, seconds of emit time.
    """

    usual: float
    disconnected_s: float


class GuardedValue(GuardedScope):
    """Where a guard stands of the samples with a value.

    Parameters
    ----------
    slice, value
        The slice column, and the value as text.
    """

    slice: str
    value: str


class GuardSummary(GuardedScope):
    """Where the guard of a label stands at the end.

    Parameters
    ----------
    judged, held
        Samples that were compared with what was predicted, and those that were held back.
    disconnected_s
        How long all samples were held back, seconds of emit time.
    worst
        The value in the worst state; of equal ones that whose last block is, in deviations of its
        count, furthest from what was predicted. None without blocks.
    slices
        Values that had a block, or are warned or disconnected.
    arrivals
        Where it stands of the arrivals of actions; None if they are not guarded.
    """

    judged: int
    held: int
    disconnected_s: float
    worst: GuardedValue | None
    slices: tuple[GuardedValue, ...]
    arrivals: GuardedArrivals | None = None


class DriftLine(Part):
    """How an hour differs from earlier ones, by one measure: the hour that differs most.

    Parameters
    ----------
    of, name, measure
        ``feature``, ``score`` or ``action``; the column, learner or action stream; and what was
        compared, see ``docs/drift.md``.
    level
        ``same``, ``shifted``, or ``much``: then there is a finding.
    value, reference
        What is compared, and what it was; of a distribution the stability index, and 0.
    rows, reference_rows
        Of how many rows of equal weight, or actions, each is.
    hour, against
        When the hour begins, and the one that it is compared with.
    latest_value, latest_hour
        Of the last hour that was compared.
    hours, much
        Hours that were compared, and those of them that differ much.
    since, until
        From when to when there are such; null without any.
    words
        The same in words.
    """

    of: Literal["feature", "score", "action"]
    name: str
    measure: Literal["distribution", "null", "unseen", "duplicates", "actions"]
    level: Literal["same", "shifted", "much"]
    value: float
    reference: float
    rows: int
    reference_rows: int
    hour: AwareDatetime
    against: AwareDatetime
    latest_value: float
    latest_hour: AwareDatetime
    hours: int
    much: int
    since: AwareDatetime | None
    until: AwareDatetime | None
    words: str


class DriftSummary(Part):
    """Whether features, scores and actions are distributed as they were.

    Parameters
    ----------
    reference
        When the day begins that is the reference; null if no hour had enough rows.
    lines
        What was compared, what differs most first: at most 100.
    """

    reference: AwareDatetime | None
    lines: tuple[DriftLine, ...]


class Clicks(Part):
    """Clicks and the rest, of which pairs are made.

    Parameters
    ----------
    positives, unclicked
        Impressions with a click, and without.
    effective_positives
        How many clicks of equal weight would say as much (Kish 1965).
    """

    positives: int
    effective_positives: float
    unclicked: int


class PairwiseValue(Clicks):
    """Pairwise accuracy of the clicks on impressions with a value.

    Parameters
    ----------
    slice, value
        The slice column, and the value as text.
    intra, inter
        How often a click is predicted higher than what was not clicked: of the value, and of all
        other values; null if there are too few effective clicks, or nothing is without a click.
    intra_interval, inter_interval
        Where they are with 95 %; null if all pairs are in order, or none.
    """

    slice: str
    value: str
    intra: float | None
    intra_interval: Interval | None
    inter: float | None
    inter_interval: Interval | None


class PairwiseSummary(Clicks):
    """Whether clicks rank above the rest alike in every slice, see ``docs/report.md``.

    Parameters
    ----------
    propensity
        The column by whose inverse clicks weigh.
    samples, left_out
        Impressions that are compared, and those without a propensity above 0 and at most 1.
    clipped
        Clicks whose weight would have been greater than the greatest.
    accuracy, accuracy_interval
        Of all impressions together.
    slices
        By value, those of a column with most impressions first.
    """

    propensity: str
    samples: int
    left_out: int
    clipped: int
    accuracy: float | None
    accuracy_interval: Interval | None
    slices: tuple[PairwiseValue, ...]


class LearnerSummary(Figures):
    """The results of one learner.

    Parameters
    ----------
    label, algorithm
        What it learned, and how.
    auc, auc_interval
        See ``docs/glossary.md``; and where the AUC is with 95 %.
    calibration_error
        Expected calibration error, over groups of log-odds of width 1.
    after_warm_up, worst_slice
        What to judge the learner by; null if no label is final, or no slice is large enough.
    running_rate_log_loss
        Log loss of always predicting the rate so far.
    start
        The model that it began with; null for none.
    compared
        With another learner; null if there is none like it, or nothing was scored.
    clipped
        How many values of numeric features were clipped to ±1e9, by column.
    refused
        How many samples were not learned because the learner's weight is missing or below zero,
        or its offset, or theta of the position, missing.
    outliers
        How many samples were not learned for a number far beyond the others of its column, by
        column.
    mature_share
        Share of these samples whose label could not change any more.
    effective_samples
        How many samples of equal weight would say as much: the square of the sum of weights over
        the sum of their squares (Kish 1965).
    windows
        Figures by window of event time, in order.
    served
        Figures as a server's; null if ``monitor.served_share`` is 0.
    calibrated
        The same of calibrated predictions; null for a learner without calibration.
    pairwise
        Pairwise accuracy by slice; null without ``monitor.propensity``, and of a learner with a
        position, whose predictions as served have the position in them.
    gate
        Whether the model may take over; null without ``[publish]``, or if nothing could be said.
    model
        The model as published, or refused.
    """

    label: str
    algorithm: str
    auc: float | None
    auc_interval: Interval | None
    calibration_error: float | None
    after_warm_up: AfterWarmUp | None
    worst_slice: WorstSliceFigures | None
    running_rate_log_loss: float | None
    start: Started | None
    compared: Compared | None
    clipped: dict[str, int]
    refused: int
    outliers: dict[str, int] = {}
    mature_share: float
    effective_samples: float
    windows: tuple[WindowFigures, ...]
    served: ServedFigures | None
    calibrated: ServedFigures | None
    pairwise: PairwiseSummary | None
    gate: GateVerdict | None
    model: PublishedModel


class Summary(Part):
    """The whole of ``summary.json``.

    Parameters
    ----------
    config
        The configuration with all defaults, durations as text, without secrets and without what
        changes no result.
    spans
        From when to when the records of each stream are, with those of runs that are continued.
    input
        Records read, by stream.
    carried
        Records without an outcome that were taken over from the run that this one continues, by
        stream.
    continues
        The folder of that run; null if there is none.
    state_bytes
        Size of what is kept for another run to continue from, bytes; null if nothing is.
    outcomes
        Records by stream and outcome; they add up to `input` and `carried`.
    bad_values
        Values that do not fit: by stream, column and cause, such as ``not float64``.
    times
        Event times that needed a choice, by stream.
    end_of_log, samples, joined
        See their classes; `joined` is null without ``join.joined``.
    guard
        Where the guard stands, by label; empty if nothing is guarded.
    drift
        How features, scores and actions differ from what they were; null without learners.
    sources
        How far each source was read.
    labels
        By action stream.
    window_s
        Length of the windows of learners' figures, seconds.
    learners
        Results by name of the learner.
    elapsed_s, events_per_s, peak_rss_mb
        Time and memory of the run; an MB is 10^6 bytes.
    versions
        Versions of Python and of the packages that results depend on.
    """

    config: dict[str, Any]
    spans: dict[str, TimeSpan]
    input: dict[str, int]
    carried: dict[str, int]
    continues: str | None
    state_bytes: int | None
    outcomes: dict[str, dict[str, int]]
    bad_values: dict[str, dict[str, dict[str, BadValues]]]
    times: dict[str, TimeCounts]
    end_of_log: EndOfLog
    sources: tuple[SourceEnd, ...]
    samples: Samples
    labels: dict[str, LabelSummary]
    joined: Joined | None
    window_s: float
    guard: dict[str, GuardSummary]
    drift: DriftSummary | None
    learners: dict[str, LearnerSummary]
    elapsed_s: float
    events_per_s: int
    peak_rss_mb: float
    versions: dict[str, str]
