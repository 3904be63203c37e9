"""Event times and carried times as logs write them."""

from __future__ import annotations

import json
from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from tests.pipelines.rows import START as S


def tables(folder, path, unit="s"):
    (folder / "clicks.csv").write_text(f"id,t\na,{S + 3}\n")
    return {
        "impressions": {"path": str(path), "key": ["id"],
                        "time": {"column": "t", **({"unit": unit} if unit else {})}},
        "actions": {
            "click": {"path": str(folder / "clicks.csv"), "key": "id",
                      "time": {"column": "t", "unit": "s"}, "window": "10m"},
        },
        "join": {"end_of_log": "close"},
    }  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_epoch_numbers_in_text_are_times(tmp_path, form):
    """With fractions and exponents; what is no number is a reject, an empty one has no time."""
    texts = {"a": f"{S}.25", "b": f" {S} ", "c": "1.7672256e9", "d": "soon", "e": ""}
    if form == "csv":
        lines = ["id,t", *(f"{name},{text}" for name, text in texts.items())]
    else:
        lines = [json.dumps({"id": name, "t": text}) for name, text in texts.items()]
    (tmp_path / f"shown.{form}").write_text("\n".join(lines) + "\n")
    result = headrace.replay(tables(tmp_path, tmp_path / f"shown.{form}"), tmp_path / "out")
    samples = result.samples.to_table(columns=["id", "event_time"]).to_pydict()
    moments = dict(
        zip(samples["id"], (time.timestamp() for time in samples["event_time"]), strict=True)
    )
    assert moments == {"a": S + 0.25, "b": S, "c": S}
    letters = result.dead_letters.to_table().to_pylist()
    said = {json.loads(row["record"])["id"]: (row["reason"], row["detail"]) for row in letters}
    assert said == {
        "d": ("wrong_type", "column t is not a number"), "e": ("null_time", "column t is null"),
    }  # fmt: skip


def test_text_that_is_no_number_is_refused_where_a_unit_is_given(tmp_path):
    """If most first times are such; the hint is to give a format."""
    path = tmp_path / "shown.csv"
    path.write_text("id,t\na,2026-01-01T00:00:00Z\nb,2026-01-01T00:00:01Z\n")
    config = tables(tmp_path, path)
    for check in (headrace.validate, lambda tables: headrace.replay(tables, tmp_path / "out")):
        with pytest.raises(headrace.ConfigError) as refused:
            check(config)
        assert str(refused.value) == (
            "configuration: impressions.time.unit: 2 of the first 2 event times are text that is "
            "no number (got 's'); give format in place of unit, such as \"iso8601\""
        )


def test_int96_timestamps_may_be_of_any_year(tmp_path):
    """The year 9999, which many tables have for never, is carried; as event time it is invalid."""
    never = datetime(9999, 12, 31)
    start = datetime(2026, 1, 1)
    rows = {"id": ["a", "b"], "t": [start, never], "until": [never, start]}
    path = tmp_path / "shown.parquet"
    table = pa.table(rows, pa.schema([("id", "string"), ("t", pa.timestamp("us")),
                                      ("until", pa.timestamp("us"))]))  # fmt: skip
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    result = headrace.replay(tables(tmp_path, path, None), tmp_path / "out")
    (sample,) = result.samples.to_table(columns=["id", "until"]).to_pylist()
    assert sample == {"id": "a", "until": never}
    (letter,) = result.dead_letters.to_table(columns=["reason"]).to_pylist()
    assert letter == {"reason": "time_out_of_range"}


NANOSECONDS = 1_700_000_000_123_456_789


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (pa.timestamp("ns"), NANOSECONDS, "2023-11-14 22:13:20.123456789"),
        (pa.timestamp("us"), 2**60, "<value out of range: 1152921504606846976>"),
        (pa.date32(), date(2026, 1, 1), "2026-01-01"),
        (pa.date64(), date(2026, 1, 1), "2026-01-01"),
        (pa.time32("ms"), 1_500, "00:00:01.500000"),
        (pa.time64("ns"), 1_500, "00:00:00.000001500"),
        (pa.duration("ns"), 1_500, "1500"),
        (pa.duration("s"), 2**60, str(2**60)),
        (pa.list_(pa.timestamp("ns")), [NANOSECONDS], "[ [ 2023-11-14 22:13:20.123456789 ] ]"),
    ],
    ids=str,
)
def test_a_dead_letter_has_a_time_of_any_type(tmp_path, kind, value, text):
    """A carried column beside a null key; whether pandas is there or not."""
    rows = pa.table(
        {"id": pa.array([None, "a"], pa.string()), "t": [S, S], "x": pa.array([value] * 2, kind)}
    )
    pq.write_table(rows, tmp_path / "shown.parquet")
    result = headrace.replay(tables(tmp_path, tmp_path / "shown.parquet"), tmp_path / "out")
    (letter,) = result.dead_letters.to_table().to_pylist()
    assert letter["reason"] == "null_key"
    assert json.loads(letter["record"])["x"] == text
    assert result.summary.samples.rows == 1


@pytest.mark.parametrize("form", ["integers", "timestamps", "text"])
def test_what_is_finer_than_a_microsecond_is_floored_and_counted(tmp_path, form):
    """In every notation; that is no finding, but is in the summary and the report."""
    times = [S * 10**9 + n for n in (0, 999, 1_001, 2_000)]
    path = tmp_path / f"shown.{'csv' if form == 'text' else 'parquet'}"
    if form == "text":
        lines = [f"k{n},{time // 10**9}.{time % 10**9:09d}" for n, time in enumerate(times)]
        path.write_text("\n".join(["id,t", *lines]))
    else:
        kind = pa.int64() if form == "integers" else pa.timestamp("ns")
        rows = {"id": [f"k{n}" for n in range(4)], "t": pa.array(times, kind)}
        pq.write_table(pa.table(rows), path)
    unit = {"integers": "ns", "timestamps": None, "text": "s"}[form]
    result = headrace.replay(
        {**tables(tmp_path, path, unit), "replay": {"batch_rows": 1}}, tmp_path / "out"
    )
    assert result.summary.times["impressions"].floored == 2
    assert result.summary.times["click"].floored == 0
    moments = result.samples.to_table(columns=["event_time"])["event_time"].cast(pa.int64())
    assert sorted(moments.to_pylist()) == [S * 10**6 + n for n in (0, 0, 1, 2)]
    assert not [finding for finding in result.findings if "microsecond" in finding]
    assert "finer than a microsecond" in result.report.read_text()
