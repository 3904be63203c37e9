"""Every type of Parquet in every role: it works, or is refused with a sentence, by validate too."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.monitoring.diagnosis import LogResult, StreamResult
from headrace.pipelines.sources.heads import plain_type
from tests.pipelines.rows import START as S

ROWS = 6


def moment(second):
    return dt.datetime(2026, 1, 1, 0, 0, second)


def uuids(rows):
    values = pa.array([uuid.UUID(int=row + 7).bytes for row in range(rows)], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), values)


MAKERS = {
    pa.string(): lambda row: f"v{row}",
    pa.large_string(): lambda row: f"v{row}",
    pa.string_view(): lambda row: f"v{row}",
    pa.dictionary(pa.int32(), pa.string()): lambda row: f"v{row}",
    pa.binary(): lambda row: b"v\xff%d" % row,
    pa.large_binary(): lambda row: b"v\xff%d" % row,
    pa.binary(4): lambda row: b"v\xff0%d" % row,
    pa.bool_(): lambda row: row % 2 == 0,
    **{kind: lambda row: row for kind in (
        pa.int8(), pa.int16(), pa.int32(), pa.int64(),
        pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
    )},
    pa.float16(): float,
    pa.float32(): lambda row: row + 0.5,
    pa.float64(): lambda row: row + 0.5,
    pa.decimal128(12, 0): decimal.Decimal,
    pa.decimal128(30, 0): decimal.Decimal,
    pa.decimal128(12, 2): lambda row: decimal.Decimal(row) / 4,
    pa.date32(): lambda row: dt.date(2026, 1, 1),
    pa.date64(): lambda row: dt.date(2026, 1, 1),
    **{pa.timestamp(unit): moment for unit in ("s", "ms", "us", "ns")},
    pa.timestamp("us", "Europe/Berlin"): lambda row: moment(row).replace(tzinfo=dt.UTC),
    pa.time64("us"): lambda row: dt.time(1, 2, row),
    pa.duration("us"): lambda row: dt.timedelta(seconds=row),
    pa.list_(pa.string()): lambda row: [f"a{row}", "b"],
    pa.list_(pa.int64()): lambda row: [row, 2],
    pa.list_(pa.binary()): lambda row: [b"\xff"],
    pa.list_(pa.float32(), 2): lambda row: [row, 2.0],
    pa.large_list(pa.string()): lambda row: ["a"],
    pa.struct([("a", pa.int64())]): lambda row: {"a": row},
    pa.map_(pa.string(), pa.int64()): lambda row: [("a", row)],
    pa.null(): lambda row: None,
}  # fmt: skip


def values(kind, rows=ROWS):
    if kind == pa.uuid():
        return uuids(rows)
    return pa.array([MAKERS[kind](row) for row in range(rows)], kind)


KINDS = [*MAKERS, pa.uuid()]
TEXT = {pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())}
BYTES = {pa.binary(), pa.large_binary(), pa.binary(4), pa.uuid()}
WHOLE = {kind for kind in KINDS if pa.types.is_integer(kind)} | {pa.decimal128(12, 0)}
FRACTIONS = {kind for kind in KINDS if pa.types.is_floating(kind) or pa.types.is_decimal(kind)}
LISTS = {kind for kind in KINDS if pa.types.is_list(kind) or pa.types.is_large_list(kind)
         or pa.types.is_fixed_size_list(kind)}  # fmt: skip
NESTED = {kind for kind in KINDS if pa.types.is_nested(kind)} | LISTS
TIMES = {kind for kind in KINDS if pa.types.is_timestamp(kind)}
SCALAR = set(KINDS) - NESTED

ROLES = {
    "carried": set(KINDS),
    "beside a dead letter": set(KINDS),
    "categorical": SCALAR,
    "cross": SCALAR,
    "multi_valued": (set(KINDS) - BYTES - NESTED) | (LISTS - {pa.list_(pa.binary())}),
    "numeric": WHOLE | FRACTIONS | {pa.bool_()},
    "slice": SCALAR - BYTES,
    "rate": SCALAR - BYTES,
    "keep": None,
    "key": TEXT | BYTES | WHOLE,  # with nothing but nulls, no record is valid
    "id": TEXT | BYTES | WHOLE | {pa.null()},
    "action column": set(KINDS),
    "time": TIMES | (WHOLE - {pa.decimal128(12, 0)}),
}
"""The types that work in each role; None where it depends on the condition."""


def tables(folder, role, kind):
    """Write a small log with a column of a type in a role; return its configuration."""
    shown = {"id": [f"k{row}" for row in range(ROWS)], "time": [S + row for row in range(ROWS)],
             "site": ["x"] * ROWS}  # fmt: skip
    clicks = {"id": ["k1", "k2"], "time": [S + 2, S + 3]}
    features = {"categorical": ["site"]}
    config = {
        "impressions": {"key": ["id"], "time": {"column": "time", "unit": "s"}},
        "actions": {
            "click": {"key": ["id"], "time": {"column": "time", "unit": "s"}, "window": "10m"}
        },
        "join": {"end_of_log": "close", "shards": 2},
        "learner": {"label": "click", "bits": 8, "features": features},
    }
    column = values(kind)
    if role in ("id", "action column"):
        clicks["c"] = values(kind, 2)
        config["actions"]["click"] |= {"id": "c"} if role == "id" else {"columns": ["c"]}
    elif role == "key":
        shown["id"], clicks["id"] = column, values(kind, 2)
    elif role == "time":
        shown["time"] = pa.array([min(S + row, 100 + row) for row in range(ROWS)]).cast(kind) \
            if pa.types.is_integer(kind) else column  # fmt: skip
        unit = {"unit": "s", "any_year": True} if pa.types.is_integer(kind) else {}
        config["impressions"]["time"] = {"column": "time", **unit}
    else:
        shown["c"] = column
        if role == "beside a dead letter":
            shown["id"] = [None, None, *shown["id"][2:]]
        elif role == "categorical" or role == "multi_valued":
            features[role] = ["c"]
        elif role == "cross":
            features["crosses"] = [["site", "c"]]
        elif role == "numeric":
            features["numeric"] = {"c": "linear"}
        elif role == "slice":
            config["monitor"] = {"slices": ["c"]}
        elif role == "rate":
            there = kind in ROLES["rate"] and kind != pa.null()
            # Parquet has no seconds.
            stored = pa.timestamp("ms") if kind == pa.timestamp("s") else plain_type(kind)
            value = column.cast(stored).cast(pa.string())[1].as_py() if there else "1"
            rate = {"default": 0.5, "column": "c", "values": {value: 0.2}}
            config["sampling"] = {"negative_rate": rate}
        elif role == "keep":
            config["sampling"] = {"negative_rate": 0.5, "keep": "c == 1"}
    for table, columns in ((config["impressions"], shown), (config["actions"]["click"], clicks)):
        table["path"] = str(folder / f"{len(columns)}-{id(table)}.parquet")
        pq.write_table(pa.table(columns), table["path"])
    return config


def answer(check):
    """Return None if it works, else what is wrong with the configuration; all else raises."""
    try:
        check()
    except headrace.ConfigError as error:
        return error.key, error.fact
    return None


def untried(inputs):
    """Take the place of a trial, which would take most of the time."""
    streams = (StreamResult(s.name, 0, {}, {}, None, None, ()) for s in inputs.streams)
    return LogResult(tuple(streams), 0)


@pytest.mark.parametrize("role", ROLES)
def test_validate_knows_every_type_in_every_role(tmp_path, monkeypatch, role):
    """What it refuses before any trial are exactly the types that cannot have the role."""
    monkeypatch.setattr("headrace.pipelines.jobs.trial.try_replay", untried)
    refused = set()
    for kind in KINDS:
        config = tables(tmp_path, role, kind)
        if answer(lambda config=config: headrace.validate(config)) is not None:
            refused.add(kind)
    if ROLES[role] is not None:
        assert refused == set(KINDS) - ROLES[role]


@pytest.mark.parametrize("role", ["carried", "beside a dead letter", "categorical", "numeric",
                                  "multi_valued", "slice"])  # fmt: skip
def test_all_types_that_have_a_role_have_it_together(tmp_path, role):
    """One replay with a column of each."""
    config = tables(tmp_path, "carried", pa.string())
    kinds = sorted(ROLES[role], key=str)
    names = [f"c{number}" for number in range(len(kinds))]
    shown = pq.read_table(config["impressions"]["path"])
    if role == "beside a dead letter":
        keys = pa.array([None, None, "k2", "k3", "k4", "k5"])
        shown = shown.set_column(0, "id", keys)
    for name, kind in zip(names, kinds, strict=True):
        shown = shown.append_column(name, values(kind))
    pq.write_table(shown, config["impressions"]["path"])
    if role == "slice":
        config["monitor"] = {"slices": names}
    elif role == "numeric":
        config["learner"]["features"]["numeric"] = dict.fromkeys(names, "linear")
    elif role in ("categorical", "multi_valued"):
        config["learner"]["features"][role] = names
    result = headrace.replay(config, tmp_path / "out")
    dead = 2 if role == "beside a dead letter" else 0  # and the click on one of them
    assert result.summary.samples.rows == ROWS - dead
    assert result.dead_letters.count_rows() == (3 if dead else 0)
    assert set(names) <= set(result.samples.schema.names)


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_a_replay_and_validate_say_the_same_of_every_type(tmp_path, role):
    """Each type alone: both work, or both refuse it with the same key and fact."""
    for number, kind in enumerate(KINDS):
        if role == "key" and kind == pa.null():
            continue  # a replay has a result, of which all is invalid
        config = tables(tmp_path, role, kind)
        said = answer(lambda config=config: headrace.validate(config))
        out = tmp_path / f"out-{number}"
        assert answer(lambda config=config, out=out: headrace.replay(config, out)) == said, kind
