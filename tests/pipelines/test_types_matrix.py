"""Every type in every role and format: it works, or is refused with a sentence.

By `validate` as by a replay. Types are those that Parquet files have, and in text those that
are declared.
"""

from __future__ import annotations

import base64
import csv
import datetime as dt
import decimal
import json
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.sources.inputs import resolve
from headrace.schemas.types import JSON, carried_type, parse_type
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
WHOLE = {kind for kind in KINDS if pa.types.is_integer(kind)} | {
    pa.decimal128(12, 0),
    pa.decimal128(30, 0),
}
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
    "cross": SCALAR | LISTS,
    "multi_valued": (set(KINDS) - BYTES - NESTED) | (LISTS - {pa.list_(pa.binary())}),
    "numeric": WHOLE | FRACTIONS | {pa.bool_()},
    "slice": SCALAR - BYTES,
    "rate": SCALAR - BYTES,
    "keep": None,
    "key": TEXT | BYTES | WHOLE | {pa.null()},
    "id": TEXT | BYTES | WHOLE | {pa.null()},
    "action column": set(KINDS),
    "time": TIMES | {kind for kind in KINDS if pa.types.is_integer(kind)},
}
"""The types that work in each role; None where it depends on the condition."""


DECLARED = {
    "string": lambda row: f"v{row}",
    "bytes": lambda row: base64.b64encode(b"v%d" % row).decode(),
    "int64": lambda row: row,
    "uint64": lambda row: 2**63 + row,
    "float64": lambda row: row + 0.5,
    "bool": lambda row: row % 2 == 0,
    "timestamp": lambda row: moment(row).isoformat(),
    "decimal": lambda row: row + 0.25,
    "decimal(12, 0)": lambda row: row,
    "list<string>": lambda row: [f"a{row}", "b"],
    "list<uint64>": lambda row: [row, 2],
    "json": lambda row: {"a": [row]},
}


def as_declared(name):
    """Return the type of the matrix that a declared type is in every role."""
    kind = parse_type(name)
    return {JSON: pa.string(), pa.decimal128(38, 9): pa.decimal128(12, 2),
            pa.list_(pa.uint64()): pa.list_(pa.int64()),
            pa.timestamp("us", "UTC"): pa.timestamp("us")}.get(kind, kind)  # fmt: skip


class AsText:
    """Writes columns as a format of text, with their types declared."""

    def __init__(self, form, name):
        self.form, self.name = form, name

    def values(self, rows=ROWS):
        return [DECLARED[self.name](row) for row in range(rows)]

    def write(self, path, columns):
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if self.form == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            return
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            for row in rows:
                writer.writerow(
                    value if isinstance(value, str) else "" if value is None else json.dumps(value)
                    for value in row.values()
                )  # fmt: skip


class AsParquet:
    """Writes columns as Parquet."""

    form = name = "parquet"

    def __init__(self, kind):
        self.kind = kind

    def values(self, rows=ROWS):
        return values(self.kind, rows)

    def write(self, path, columns):
        pq.write_table(pa.table(columns), path)


def tables(folder, role, kind):
    """Write a small log with a column of a type in a role; return its configuration."""
    return written(folder, role, AsParquet(kind), kind)


def as_text(how, kind):
    """Return how a value of a type is written."""
    if how.name in ("timestamp", "decimal"):
        return {"timestamp": "2026-01-01 00:00:01.000000Z", "decimal": "1.250000000"}[how.name]
    if kind in TEXT or kind in BYTES or kind in NESTED:
        return "v1"
    array = pa.array([MAKERS[kind](1)], kind)
    # Parquet has no seconds: they become milliseconds, with a fraction.
    kind = pa.timestamp("ms") if kind == pa.timestamp("s") else carried_type(kind)
    return array.cast(kind).cast(pa.string())[0].as_py() or "null"


def written(folder, role, how, kind):
    """Write a small log; the column has the values of `how`, in a role for a type."""
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
    column = how.values()
    if role in ("id", "action column"):
        clicks["c"] = how.values(2)
        config["actions"]["click"] |= {"id": "c"} if role == "id" else {"columns": ["c"]}
    elif role == "key":
        shown["id"], clicks["id"] = column, how.values(2)
    elif role == "time":
        shown["time"] = column
        if pa.types.is_integer(kind) and how.form == "parquet":
            shown["time"] = pa.array(range(100, 100 + ROWS)).cast(kind)
        elif pa.types.is_integer(kind):
            shown["time"] = range(100, 100 + ROWS)
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
            rate = {"default": 0.5, "column": "c", "values": {as_text(how, kind): 0.2}}
            config["sampling"] = {"negative_rate": rate}
        elif role == "keep":
            config["sampling"] = {"negative_rate": 0.5, "keep": "c == 1"}
    for table, columns in ((config["impressions"], shown), (config["actions"]["click"], clicks)):
        path = folder / f"{len(columns)}-{id(table)}.{how.form}"
        how.write(path, columns)
        table["path"] = str(path)
    return config


def answer(check):
    """Return None if it works, else what is wrong with the configuration; all else raises."""
    try:
        check()
    except headrace.ConfigError as error:
        return error.key, error.fact
    return None


def declared(folder, form, role, name):
    """Write a small log as text, with the type of a column declared; return its configuration."""
    config = written(folder, role, AsText(form, name), as_declared(name))
    column = {"key": "id", "time": "time"}.get(role, "c")
    action = role in ("id", "action column")
    for table in (config["impressions"], config["actions"]["click"]):
        if role == "key" or (table is config["impressions"]) != action:
            table["types"] = {column: name}
    return config


def every(folder, role):
    """Yield each type, a configuration that has it in a role, and the type of `ROLES`."""
    for kind in KINDS:
        yield str(kind), tables(folder, role, kind), kind
    for form in ("csv", "jsonl"):
        for name in DECLARED:
            yield f"{name} in {form}", declared(folder, form, role, name), as_declared(name)


@pytest.mark.parametrize("role", ROLES)
def test_a_type_is_refused_in_the_roles_that_it_cannot_have(tmp_path, role):
    """Before anything is read but the heads of files."""
    for name, config, kind in every(tmp_path, role):
        said = answer(lambda config=config: resolve(headrace.load_config(config)))
        if ROLES[role] is not None:
            assert (said is None) == (kind in ROLES[role]), (name, said)


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_a_replay_and_validate_say_the_same_of_every_type(tmp_path, role):
    """Each type alone: both work, or both refuse it with the same key and fact."""
    for name, config, kind in every(tmp_path, role):
        if role == "key" and kind == pa.null():
            continue  # a replay has a result, of which all is invalid
        said = answer(lambda config=config: headrace.validate(config))
        out = tmp_path / f"out {name}"
        assert answer(lambda config=config, out=out: headrace.replay(config, out)) == said, name


def together(folder, form, role):
    """Return the columns of all types that have a role, and how to write them."""
    if form == "parquet":
        return AsParquet(None), {
            f"c{at}": values(kind) for at, kind in enumerate(sorted(ROLES[role], key=str))
        }
    names = [name for name in DECLARED if as_declared(name) in ROLES[role]]
    return AsText(form, None), {name: AsText(form, name).values() for name in names}


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("role", ["carried", "beside a dead letter", "categorical", "cross",
                                  "numeric", "multi_valued", "slice"])  # fmt: skip
def test_all_types_that_have_a_role_have_it_together(tmp_path, role, form):
    """`validate` says that it is good, and one replay has a column of each."""
    how, columns = together(tmp_path, form, role)
    names = list(columns)
    config = written(tmp_path, "carried", AsParquet(pa.string()), pa.string())
    keys = [None, None, "k2", "k3", "k4", "k5"] if role == "beside a dead letter" else [
        f"k{row}" for row in range(ROWS)
    ]  # fmt: skip
    path = tmp_path / f"all.{form}"
    how.write(path, {"id": keys, "time": [S + row for row in range(ROWS)], "site": ["x"] * ROWS,
                     **columns})  # fmt: skip
    config["impressions"]["path"] = str(path)
    if form != "parquet":
        config["impressions"]["types"] = {name: name for name in names}
    features = config["learner"]["features"]
    if role == "slice":
        config["monitor"] = {"slices": names}
    elif role == "numeric":
        features["numeric"] = dict.fromkeys(names, "linear")
    elif role == "cross":
        features["crosses"] = [["site", name] for name in names]
    elif role in ("categorical", "multi_valued"):
        features[role] = names
    headrace.validate(config)
    result = headrace.replay(config, tmp_path / "out")
    dead = 2 if role == "beside a dead letter" else 0  # and the click on one of them
    assert result.summary.samples.rows == ROWS - dead
    assert result.dead_letters.count_rows() == (3 if dead else 0)
    samples = result.samples.to_table()
    assert set(names) <= set(samples.schema.names)
    model = headrace.load_model(tmp_path / "out" / "model")
    assert np.isfinite(model.predict_proba(samples)).all()
