"""The metrics: their names, types, labels and what they say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from headrace.monitoring.figures import LOGIT_EDGES
from headrace.monitoring.statistics import SUMS

_LONGEST = 200
_KEPT = 180


@dataclass(frozen=True)
class Metric:
    """A metric.

    Parameters
    ----------
    name
        Its name; that of a counter ends in ``_total``.
    text
        What it says.
    labels
        Names of its labels.
    """

    name: str
    text: str
    labels: tuple[str, ...] = ()

    @property
    def is_counter(self) -> bool:
        """Whether it only grows."""
        return self.name.endswith("_total")


BINS = (*(str(edge) for edge in LOGIT_EDGES), "+Inf")
"""Values of the label ``bin``."""

_SOURCE = ("source", "stream")
_LEARNER = ("learner", "label", "predicted")
_SLICE = (*_LEARNER, "slice", "value")
_SCOPE = ("label", "slice", "value")

_OF_SUMS = dict(
    zip(
        SUMS,
        (
            ("samples", "Samples"),
            ("positives", "Positive samples"),
            ("weight", "Weight of samples"),
            ("positive_weight", "Weight of positive samples"),
            ("expected", "Sum of predicted probabilities by weight: the positive weight expected"),
            ("log_loss", "Log loss by weight, nats"),
            ("weight_squares", "Squares of weights of samples: how surely ratios are known"),
            ("positive_weight_squares", "Squares of weights of positive samples"),
            ("mature_samples", "Samples whose label could not change any more"),
        ),
        strict=True,
    )
)

BUILD = Metric("headrace_build_info", "The version that runs; always 1.", ("version",))
PUBLISHED = Metric(
    "headrace_published_time_seconds", "When these figures were so, seconds since 1970."
)
CHECKPOINT = Metric(
    "headrace_checkpoint_time_seconds",
    "When this process took its last checkpoint, seconds since 1970.",
)
MODELS = Metric(
    "headrace_models_time_seconds", "When this process wrote its last models, seconds since 1970."
)
EVENTS = Metric("headrace_events_total", "Records read from all sources.")
SAMPLES = Metric("headrace_samples_total", "Samples that were put in order.")
OUTCOMES = Metric(
    "headrace_outcomes_total", "Records by what became of them.", ("stream", "outcome")
)
OPEN = Metric("headrace_open_records", "Records that wait in the join.", ("stream",))
CLOCK = Metric(
    "headrace_clock_seconds",
    "Event time up to which all sources have been read, seconds since 1970.",
)
SOURCE_RECORDS = Metric("headrace_source_records_total", "Records read from a source.", _SOURCE)
SOURCE_REJECTED = Metric(
    "headrace_source_rejected_total", "Records of a source that are invalid.", _SOURCE
)
SOURCE_LAG = Metric(
    "headrace_source_lag_records",
    "Records that wait in a source, or messages where they have several records.",
    _SOURCE,
)
SOURCE_EVENT_TIME = Metric(
    "headrace_source_event_time_seconds",
    "Greatest event time of a source, seconds since 1970.",
    _SOURCE,
)
SOURCE_PROGRESS = Metric(
    "headrace_source_progress_seconds",
    "Event time before which no record of a source is in time any more, seconds since 1970.",
    _SOURCE,
)
SOURCE_ENDED = Metric(
    "headrace_source_ended", "1 if a source has been read to its end, else 0.", _SOURCE
)
TOTALS = {
    name: Metric(f"headrace_prediction_{short}_total", f"{text}, by slice.", _SLICE)
    for name, (short, text) in _OF_SUMS.items()
}
LOGITS = Metric(
    "headrace_prediction_logits_total",
    "Weight of samples by predicted log-odds; bin is the upper edge, positive is 0 or 1.",
    (*_LEARNER, "positive", "bin"),
)
WINDOW_END = Metric(
    "headrace_window_event_time_seconds",
    "End of the latest complete window, event time, seconds since 1970.",
    _LEARNER,
)
WINDOW_LENGTH = Metric("headrace_window_length_seconds", "Length of a window, event time.")
WINDOW_DELAY = Metric(
    "headrace_window_delay_seconds",
    "Event time that passes after the end of a window until it is complete.",
)
WINDOW = {
    name: Metric(f"headrace_window_{short}", f"{text} in the latest complete window.", _SLICE)
    for name, (short, text) in _OF_SUMS.items()
}
LEARNED = Metric("headrace_learned_samples_total", "Samples that were learned.", ("learner",))
GUARD_STATE = Metric(
    "headrace_guard_state",
    "State of the guard: 0 young, 1 watching, 2 warned, 3 disconnected, 4 asking; of all samples "
    "with empty slice and value, or that of their arrivals if it is worse.",
    _SCOPE,
)
GUARD_POSITIVES = Metric(
    "headrace_guard_positives", "Positives in the guard's last complete block.", _SCOPE
)
GUARD_EXPECTED = Metric(
    "headrace_guard_expected", "Positives expected in the guard's last complete block.", _SCOPE
)
GUARD_HELD = Metric(
    "headrace_guard_held_total", "Samples that the guard kept from being learned.", ("label",)
)
ARRIVALS_STATE = Metric(
    "headrace_guard_arrivals_state",
    "State of the arrivals of actions, with the numbers of headrace_guard_state.",
    ("label",),
)
ARRIVALS = Metric(
    "headrace_guard_arrivals", "Actions that arrived in the last complete block.", ("label",)
)
ARRIVALS_EXPECTED = Metric(
    "headrace_guard_arrivals_expected",
    "Actions that were expected to arrive in the last complete block.",
    ("label",),
)
DRIFT = Metric(
    "headrace_drift_stability_index",
    "Population stability index of the last compared hour; of is feature or score.",
    ("of", "name"),
)

METRICS = (
    BUILD, PUBLISHED, CHECKPOINT, MODELS,
    EVENTS, SAMPLES, OUTCOMES, OPEN, CLOCK,
    SOURCE_RECORDS, SOURCE_REJECTED, SOURCE_LAG, SOURCE_EVENT_TIME, SOURCE_PROGRESS, SOURCE_ENDED,
    *TOTALS.values(), LOGITS, WINDOW_LENGTH, WINDOW_DELAY, WINDOW_END, *WINDOW.values(), LEARNED,
    GUARD_STATE, GUARD_POSITIVES, GUARD_EXPECTED, GUARD_HELD,
    ARRIVALS_STATE, ARRIVALS, ARRIVALS_EXPECTED, DRIFT,
)  # fmt: skip
"""All of them, in the order in which they are shown."""


def label_value(text: str) -> str:
    """Return a text as the value of a label: of a long one the beginning, and a checksum.

    Examples
    --------
    >>> label_value("app")
    'app'
    >>> len(label_value("x" * 10_000))
    197
    """
    sound = text.encode("utf-8", "replace")  # names of files may have bytes that are no text
    if len(text) <= _LONGEST:
        return sound.decode()
    return f"{sound.decode()[:_KEPT]}~{hashlib.sha256(sound).hexdigest()[:16]}"
