import numpy as np
import pyarrow as pa
import pytest

from headrace.schemas.records.decoding import Records
from headrace.schemas.records.eventing import EventBuilder, EventPlan, TimePlan, parse_times
from headrace.schemas.records.events import ARRIVAL, ID0, ID1, NEVER, OFFSET, TIME

BERLIN = {"format": "%Y-%m-%d %H:%M:%S", "zone": "Europe/Berlin"}
MAY_1 = 1_777_593_600_000_000  # 2026-05-01 00:00 UTC


@pytest.mark.parametrize(
    ("column", "config", "time"),
    [
        (pa.array([MAY_1 // 1000]), {"unit": "ms"}, MAY_1),
        (pa.array([MAY_1 / 1e6 + 0.25]), {"unit": "s"}, MAY_1 + 250_000),
        (pa.array([MAY_1 // 1000], pa.timestamp("ms")), {}, MAY_1),
        (pa.array(["2026-05-01 02:00:00"]), BERLIN, MAY_1),
        (pa.array(["2026-05-01T02:00:00.5+02:00"]), {"format": "iso8601"}, MAY_1 + 500_000),
        (pa.array(["2026-05-01T02:00:00"]), {"format": "iso8601", "zone": "Europe/Berlin"}, MAY_1),
        (pa.array(["20260501T020000"]), {"format": "iso8601", "zone": "Europe/Berlin"}, MAY_1),
        (pa.array(["2026-05-01 00:00:00Z"]), {"format": "iso8601", "zone": "Europe/Berlin"}, MAY_1),
        (pa.array(["01/May/2026:02:00:00 +0200"]), {"format": "%d/%b/%Y:%H:%M:%S %z"}, MAY_1),
        (pa.array(["2026-05-01 02:00:00,25"]),
         {"format": "%Y-%m-%d %H:%M:%S,%f", "zone": "Europe/Berlin"}, MAY_1 + 250_000),
        (pa.array(["01.05.2026 02:00:00.000001+02:00"]), {"format": "%d.%m.%Y %H:%M:%S.%f%z"},
         MAY_1 + 1),
        (pa.array([MAY_1 * 1000 + 999]), {"unit": "ns"}, MAY_1),
        (pa.array([MAY_1 * 1000 + 7_200_000_000_999], pa.timestamp("ns")),
         {"zone": "Europe/Berlin"}, MAY_1),
        # In an hour that comes twice this is the first pass, in a skipped one the gap's end.
        (pa.array(["2026-10-25 02:30:00"]), BERLIN,
         1_792_888_200_000_000),
        (pa.array(["2026-03-29 02:30:00"]), BERLIN,
         1_774_746_000_000_000),
    ],
    ids=["integers with a unit", "floats with a unit", "Arrow timestamps", "text in a zone",
         "ISO text with an offset", "ISO text in a zone", "ISO text of another form",
         "ISO text with an offset beside a zone", "text of Apache", "text of Python's logging",
         "a fraction before an offset", "nanoseconds", "Arrow timestamps in a zone",
         "the hour that a zone repeats", "the hour that a zone skips"],
)  # fmt: skip
def test_times_of_every_notation_become_microseconds_utc(column, config, time):
    """Unit, format and zone are as declared."""
    got = parse_times(column, TimePlan(column="t", **config))
    assert (got.time.tolist(), got.null.tolist(), got.bad.tolist()) == ([time], [False], [False])


@pytest.mark.parametrize(
    ("column", "config"),
    [
        (pa.array([MAY_1]), {"unit": "s"}),
        (pa.array([MAY_1]), {"unit": "ms"}),
        (pa.array([-1]), {"unit": "us"}),
        (pa.array([2**63 - 1]), {"unit": "s"}),
        (pa.array([float("nan")]), {"unit": "s"}),
        (pa.array(["yesterday"]), {"format": "%Y-%m-%d"}),
        (pa.array(["yesterday"]), {"format": "iso8601"}),
        (pa.array(["2026-05-01 02:00:00"]), {"format": "%Y-%m-%d %H:%M:%S.%f"}),
        (pa.array([-1]), {"unit": "ns"}),
    ],
    ids=[
        "microseconds read as seconds",
        "microseconds read as milliseconds",
        "before 1970",
        "beyond 64 bits once multiplied",
        "not a number",
        "text of another format",
        "text that is not ISO",
        "text without its fraction",
        "nanoseconds before 1970",
    ],
)
def test_what_is_not_a_time_of_1970_to_2099_is_bad(column, config):
    """It is marked as bad, and never wraps around."""
    got = parse_times(column, TimePlan(column="t", **config))
    assert (got.null.tolist(), got.bad.tolist()) == ([False], [True])


def test_the_repeated_hour_is_marked_whenever_a_notation_has_one():
    """Also where no time of a batch is in it: all batches of a source have the same columns."""
    plan = TimePlan(column="t", format="iso8601", zone="Europe/Berlin")
    hour = 3_600_000_000
    for text, repeated in (
        (["2026-10-25T02:30:00"], [hour]),
        (["2026-10-25T02:30:00", "2026-10-25T02:30:00Z"], [hour, 0]),
        (["2026-10-25T02:30:00Z"], [0]),
        ([], []),
    ):
        assert parse_times(pa.array(text, pa.string()), plan).repeated.tolist() == repeated
    utc = TimePlan(column="t", format="iso8601")
    assert parse_times(pa.array(["2026-10-25T02:30:00"]), utc).repeated is None


def test_integer_times_without_a_unit_are_refused():
    """The unit is never guessed."""
    with pytest.raises(TypeError, match="column t is int64 and needs a unit or a format"):
        parse_times(pa.array([1]), TimePlan(column="t"))


def build(cuts, times=(5, 3, 9, 7, 20), out_of_orderness=2):
    plan = EventPlan(1, ("k",), TimePlan(column="t", unit="us"), (), id="id")
    builder = EventBuilder(plan, out_of_orderness)
    out = []
    for begin, end in cuts:
        rows = pa.RecordBatch.from_pydict(
            {
                "k": pa.array([str(i) for i in range(begin, end)], pa.string()),
                "t": pa.array(times[begin:end], pa.int64()),
                "id": pa.array([str(i) if i else None for i in range(begin, end)], pa.string()),
            }
        )
        events = builder.check(Records(rows, np.arange(begin, end)))
        out.append(builder.finish(events.batch))
    return builder, pa.concat_batches(out)


@pytest.mark.parametrize(
    "cuts",
    [[(0, 5)], [(0, 1), (1, 2), (2, 5)], [(0, 3), (3, 3), (3, 5)]],
    ids=["one block", "three blocks", "an empty block between"],
)
def test_arrival_progress_is_the_running_maximum_before_the_row(cuts):
    """It does not depend on where blocks are cut."""
    builder, events = build(cuts)
    assert events.column(TIME).to_pylist() == [5, 3, 9, 7, 20]
    assert events.column(ARRIVAL).to_pylist() == [NEVER, 3, 3, 7, 7]
    assert events.column(OFFSET).to_pylist() == [0, 1, 2, 3, 4]
    assert builder.progress == 18


def test_a_null_action_id_has_the_digest_zero():
    """The digest (0, 0) is compared with nothing."""
    _, events = build([(0, 5)])
    assert (events.column(ID0)[0].as_py(), events.column(ID1)[0].as_py()) == (0, 0)
    assert len(set(events.column(ID0).to_pylist())) == 5


def test_records_without_key_or_valid_time_are_rejected():
    """Null and empty keys, null times and times out of range are rejects with their reason."""
    plan = EventPlan(0, ("k", "g"), TimePlan(column="t", unit="us"), ("x",))
    rows = pa.RecordBatch.from_pydict(
        {
            "k": ["a", None, "", "b", "c", "d"],
            "g": pa.array([1, 1, 1, None, 1, 1]),
            "t": pa.array([1, 1, 1, 1, None, -5]),
            "x": list("uvwxyz"),
        }
    )
    events = EventBuilder(plan, 0).check(Records(rows, np.arange(10, 16)))
    assert events.batch.column("x").to_pylist() == ["u"]
    assert [(r.number, r.reason.value) for r in events.rejects] == [
        (11, "null_key"),
        (12, "null_key"),
        (13, "null_key"),
        (14, "null_time"),
        (15, "time_out_of_range"),
    ]
    assert events.rejects[4].record == '{"k": "d", "g": 1, "t": -5, "x": "z"}'
