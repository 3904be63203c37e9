import pytest

from headrace.monitoring.diagnosis import StreamFacts, diagnose
from headrace.schemas.config.durations import DAY, MINUTE

T = 20_000 * DAY


def facts(name="click", records=1000, reasons=None, key=("string",), span=(T, T + DAY), **outcomes):
    return StreamFacts(name, records, outcomes, reasons or {}, *span, key)


SHOWN = facts("impressions", settled=1000)

CASES = [
    (facts(late=11), 'click: 1.1 % of 1,000 records are late: they came after what they touch had '
     'settled. Is the file not sorted by time? Set actions.click.order = "sort", or '
     "join.out_of_orderness to the disorder that is usual."),
    (facts(invalid=50, reasons={"null_key": 10, "wrong_type": 40}),
     "click: 5.0 % of 1,000 records are invalid, most for wrong_type. Declare the columns' types "
     "in actions.click.types."),
    (facts(invalid=900, reasons={"time_out_of_range": 900}),
     "click: 90.0 % of 1,000 records are invalid, most for time_out_of_range. Is the unit wrong "
     "(milliseconds read as seconds)? Check actions.click.time."),
    (facts(orphan=990, key=("int64",)),
     "click: 99.0 % of 1,000 records are orphans: they know no impression of their key. The key is "
     "int64 here and string in the impressions, and values of different types never match: "
     "declare one type in actions.click.types or impressions.types."),
    (facts(orphan=990, span=(T + 2 * DAY, T + 3 * DAY)),
     "click: 99.0 % of 1,000 records are orphans: they know no impression of their key. The two "
     "streams do not overlap in time: check the units (actions.click.time, impressions.time) and "
     "the zone."),
    (facts(outside_window=20),
     "click: 2.0 % of 1,000 records lie outside the window of their impression. Is "
     "actions.click.window too short, or do the clocks of the two streams disagree (join.early)? "
     "The longest window is 10m."),
]  # fmt: skip


@pytest.mark.parametrize(("stream", "said"), CASES, ids=[case[1][:40] for case in CASES])
def test_a_loss_is_named_with_its_likely_cause_and_setting(stream, said):
    """More than one in a hundred is worth a sentence."""
    assert diagnose([SHOWN, stream], 10 * MINUTE) == [said]


def test_seconds_read_as_milliseconds_land_in_1970():
    """Times that are all in 1970 are told, whatever their outcome."""
    early = facts("impressions", span=(19 * DAY, 20 * DAY), settled=1000)
    (said,) = diagnose([early], MINUTE)
    assert said == (
        "impressions: all event times lie in 1970; are seconds read as milliseconds? "
        "Check impressions.time.unit."
    )


def test_one_in_a_hundred_is_not_worth_a_word():
    """Nothing is said of a sound log."""
    sound = facts(late=10, orphan=10, outside_window=10, invalid=10, duplicate=500)
    assert diagnose([SHOWN, sound], MINUTE) == []
