import pytest

from headrace.monitoring.diagnosis import DETECTORS, diagnose
from headrace.monitoring.results import (
    LearnerResult,
    LogResult,
    SamplingResult,
    StreamResult,
)
from headrace.schemas.config.durations import DAY, MINUTE

T = 20_000 * DAY


def stream(name="click", records=1000, reasons=None, key=("text",), span=(T, T + DAY), **outcomes):
    return StreamResult(name, records, outcomes, reasons or {}, *span, key)


SHOWN = stream("impressions", settled=1000)

CASES = [
    (stream(late=11), "click: 1.1 % of 1,000 records are late: they came after what they would "
     'change had settled. If the file is not sorted by time, set actions.click.order = "sort"; '
     "else set join.out_of_orderness to the usual disorder."),
    (stream(invalid=50, reasons={"null_key": 10, "wrong_type": 40}),
     "click: 5.0 % of 1,000 records are invalid, most for wrong_type. Declare the columns' types "
     "in actions.click.types."),
    (stream(invalid=900, reasons={"time_out_of_range": 900}),
     "click: 90.0 % of 1,000 records are invalid, most for time_out_of_range. Is the unit wrong "
     "(milliseconds read as seconds)? Check actions.click.time."),
    (stream(orphan=990, key=("numbers",)),
     "click: 99.0 % of 1,000 records are orphans: they have no impression of their key. The key is "
     "numbers here and text in the impressions, and text and numbers never match: "
     "declare one type in actions.click.types or impressions.types."),
    (stream(orphan=990, span=(T + 2 * DAY, T + 3 * DAY)),
     "click: 99.0 % of 1,000 records are orphans: they have no impression of their key. The two "
     "streams do not overlap in time: check the units (actions.click.time, impressions.time) and "
     "the zone."),
    (stream(outside_window=20),
     "click: 2.0 % of 1,000 records are outside the window of their impression. Is "
     "actions.click.window too short, or do the clocks of the two streams disagree (join.early)? "
     "The longest window is 10m."),
]  # fmt: skip


IDS = [
    "late", "mistyped values", "times of another unit", "keys of different types",
    "streams that do not overlap", "outside the window",
]  # fmt: skip


@pytest.mark.parametrize(("click", "said"), CASES, ids=IDS)
def test_a_loss_is_named_with_its_likely_cause_and_setting(click, said):
    """If it is more than one record in a hundred."""
    assert diagnose(LogResult((SHOWN, click), 10 * MINUTE)) == [said]


def test_times_that_all_lie_in_1970_are_named():
    """Whatever the outcome of the records; the finding asks for the unit."""
    early = stream("impressions", span=(19 * DAY, 20 * DAY), settled=1000)
    (said,) = diagnose(LogResult((early,), MINUTE))
    assert said == (
        "impressions: all event times lie in 1970; are seconds read as milliseconds? "
        "Check impressions.time.unit."
    )


def test_repeated_keys_ask_what_the_key_is_of():
    """For impressions; actions may have ids that repeat."""
    shown = StreamResult(
        "impressions", 1000, {"settled": 968, "duplicate": 32}, {}, T, T + DAY, ("string", "int64"),
        key=("user", "page"),
    )  # fmt: skip
    assert diagnose(LogResult((shown, stream(duplicate=500)), MINUTE)) == [
        "impressions: 3.2 % of 1,000 records are duplicates: 32 have the key (user, page) of an "
        "impression shortly before. Is that the key of a user or a page, and not of an impression? "
        "Then add columns to impressions.key until it tells impressions apart. If they are copies, "
        "nothing need be done."
    ]


def test_settings_of_sampling_that_no_sample_meets_are_named():
    """Unless there is no sample at all."""
    sampling = SamplingResult(10, "device == 'TV'", 0, "device", {"tv": 5, "phnoe": 0})
    assert diagnose(LogResult((SHOWN,), MINUTE, sampling)) == [
        "sampling.keep: no sample meets device == 'TV'. Are its values written as in the log, "
        "with the same case and type?",
        "sampling.negative_rate.values: no sample has 'phnoe' in device. Is it written as in the "
        "log, or is its rate so low that all were dropped?",
    ]
    nothing = SamplingResult(0, "device == 'TV'", 0, "device", {"tv": 0})
    assert diagnose(LogResult((SHOWN,), MINUTE, nothing)) == []


def test_weights_that_spoil_what_is_learned_are_named():
    """Only if they weigh on a learner, and the rate is low."""
    learner = LearnerResult("click", "learner", 100, {}, {}, {})
    low = SamplingResult(lowest=0.001)
    assert diagnose(LogResult((SHOWN,), MINUTE, low, (learner,))) == [
        "sampling.negative_rate: at a rate of 0.001 a negative weighs 1,000, and each moves the "
        'model far. Set sampling.correction = "logit", which shifts the log-odds instead.'
    ]
    assert diagnose(LogResult((SHOWN,), MINUTE, low)) == []
    for sound in (SamplingResult(lowest=0.01), SamplingResult(lowest=0.001, correction="logit")):
        assert diagnose(LogResult((SHOWN,), MINUTE, sound, (learner,))) == []


def test_weights_that_l1_keeps_at_zero_are_counted():
    """If they are the most, and the algorithm has such a figure."""

    def said(**figures):
        learner = LearnerResult("buys", "learners.buys", 100, figures, {}, {})
        return diagnose(LogResult((SHOWN,), MINUTE, SamplingResult(), (learner,)))

    assert said(coordinates=1000, nonzero_weights=499) == [
        "learner buys: 501 of 1,000 weights are 0, as learners.buys.l1 wants it: features with "
        "little evidence are as if never seen. Where positives are rare that can cost much; l1 = 0 "
        "keeps them all, in a larger snapshot."
    ]
    assert said(coordinates=1000, nonzero_weights=500) == said() == []
    # One without L1 does not count them.
    assert said(coordinates=1000) == []


def test_a_loss_of_one_in_a_hundred_is_not_reported():
    """A sound log has no findings."""
    sound = stream(late=10, orphan=10, outside_window=10, invalid=10, duplicate=500)
    assert diagnose(LogResult((SHOWN, sound), MINUTE)) == []


def repeated(stream, log):
    """Find streams of which much came twice."""
    if stream.outcomes.get("duplicate", 0) > 0.2 * stream.records:
        yield f"{stream.name}: a fifth came twice; is a file in {stream.table}.path too many?"


def test_a_detector_can_be_added():
    """It is called after the others, for every stream."""
    log = LogResult((SHOWN, stream(duplicate=300, late=20)), MINUTE)
    late, own = diagnose(log, (*DETECTORS, repeated))
    assert "are late" in late
    assert own == "click: a fifth came twice; is a file in actions.click.path too many?"
