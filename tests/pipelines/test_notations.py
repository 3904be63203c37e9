"""Numbers, lists and quotes as people write them; types that are declared."""

import datetime as dt
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from tests.pipelines.rows import START as S


def config(path, **impressions):
    return {
        "impressions": {
            "path": str(path), "key": "id", "time": {"column": "t", "unit": "s"}, **impressions
        },
        "join": {"end_of_log": "close"},
    }  # fmt: skip


def replayed(folder, name, data, **impressions):
    path = folder / name
    path.write_text(data) if isinstance(data, str) else pq.write_table(data, path)
    return headrace.replay(config(path, **impressions), folder / "out")


def rows_of(result, *names):
    return [tuple(row[name] for name in names) for row in result.samples.to_table().to_pylist()]


def test_a_log_from_a_european_spreadsheet(tmp_path):
    """Points between thousands, a comma before the fraction, no quoting, tabs."""
    lines = [f'a\t{S}\t1.234,5\t7" tablet', f"b\t{S + 1}\t-0,25\t'x", f'c\t{S + 2}\t12.5\t"y']
    result = replayed(
        tmp_path, "shown.tsv", "\n".join(["id\tt\tprice\tdevice", *lines]),
        delimiter="\t", quote="", decimal=",", thousands=".", types={"price": "float64"},
    )  # fmt: skip
    assert rows_of(result, "price", "device") == [
        (1234.5, '7" tablet'), (-0.25, "'x"), (None, '"y')
    ]  # fmt: skip
    assert result.summary.bad_values["impressions"]["price"]["not float64"].count == 1


TYPES = {
    "u": "uint64", "d": "decimal(12, 2)", "at": "timestamp", "tags": "list<string>",
    "ids": "list<int64>", "raw": "json", "plain": "decimal",
}  # fmt: skip
EXPECTED = (
    2**64 - 1, Decimal("12.50"), dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC), ["x", "y"],
    [1, 2], '{"a": [1]}', Decimal("0.100000000"),
)  # fmt: skip


def test_every_type_can_be_declared_in_every_format(tmp_path):
    """The same values are read from CSV, JSON lines and Parquet, whatever is stored there."""
    values = {
        "u": 2**64 - 1, "d": "12.50", "at": "2026-01-01T13:00:00+01:00", "tags": ["x", "y"],
        "ids": [1, 2], "raw": {"a": [1]}, "plain": 0.1,
    }  # fmt: skip
    as_json = json.dumps({"id": "k", "t": S, **values})
    texts = {name: value if isinstance(value, str) else json.dumps(value)
             for name, value in values.items()}  # fmt: skip
    cells = ['"' + text.replace('"', '""') + '"' for text in texts.values()]
    as_csv = f"id,t,{','.join(values)}\nk,{S},{','.join(cells)}\n"
    stored = {
        **texts, "d": Decimal("12.5"), "tags": values["tags"], "ids": ["1", "2"],
        "at": dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC), "raw": values["raw"],
    }  # fmt: skip
    as_parquet = pa.Table.from_pylist([{"id": "k", "t": S, **stored}])
    for name, data in (("a.jsonl", as_json), ("a.csv", as_csv), ("a.parquet", as_parquet)):
        folder = tmp_path / name
        folder.mkdir()
        result = replayed(folder, name, data, types=TYPES)
        assert rows_of(result, *TYPES) == [EXPECTED], name
        kinds = [str(result.samples.schema.field(name).type) for name in TYPES]
        assert kinds == [
            "uint64", "decimal128(12, 2)", "timestamp[us, tz=UTC]", "list<element: string>",
            "list<element: int64>", "string", "decimal128(38, 9)",
        ]  # fmt: skip


def test_an_event_time_may_be_declared_as_a_timestamp(tmp_path):
    """Then it needs neither unit nor format."""
    text = '{"id": "k", "t": "2026-01-01T00:00:01Z"}\n{"id": "l", "t": "never"}\n'
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    table = config(path, types={"t": "timestamp"})
    table["impressions"]["time"] = {"column": "t"}
    result = headrace.replay(table, tmp_path / "out")
    assert rows_of(result, "id", "event_time") == [
        ("k", dt.datetime(2026, 1, 1, 0, 0, 1, tzinfo=dt.UTC))
    ]  # fmt: skip
    assert result.dead_letters.to_table().column("detail").to_pylist() == [
        "column t is not timestamp"
    ]


@pytest.mark.parametrize(
    ("stored", "declared", "fact"),
    [
        (pa.array([{"a": 1}]), "int64", "column c is struct<a: int64>"),
        (pa.array([dt.time(1)]), "float64", "column c is time64[us]"),
        (pa.array([1]), "timestamp", "column c is int64"),
        (pa.array([["x"]]), "string", "column c is list<string>"),
        (pa.array([True]), "bytes", "column c is bool"),
    ],
)
def test_a_type_that_cannot_be_read_as_the_declared_one_is_refused(
    tmp_path, stored, declared, fact
):
    """Naming both, the file and what can be done."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["k"], "t": [S], "c": stored}), path)
    with pytest.raises(headrace.ConfigError) as refused:
        headrace.validate(config(path, types={"c": declared}))
    assert refused.value.key == "impressions.types.c"
    assert fact in refused.value.fact
    assert "a.parquet" in refused.value.fact
    assert "json" in refused.value.hint


@pytest.mark.parametrize(
    ("key", "value", "fact"),
    [
        ("types", {"c": "int"}, "is not the name of a type"),
        ("types", {"c": "list<json>"}, "is not the name of a type"),
        ("types", {"c": "decimal(40, 2)"}, "is not the name of a type"),
        ("decimal", ";", "'.' or ','"),
        ("thousands", "1", "cannot stand between the digits"),
        ("thousands", ".", "cannot stand between the digits"),
        ("quote", "é", "must be one ASCII character"),
        ("quote", ",", "must be one ASCII character"),
    ],
)
def test_notations_that_cannot_be_are_refused(tmp_path, key, value, fact):
    """When the configuration is read."""
    with pytest.raises(headrace.ConfigError, match=fact):
        headrace.load_config(config(tmp_path / "a.csv", **{key: value}))


def test_integers_above_2_63_are_read_without_a_declaration(tmp_path):
    """And match those of another stream."""
    large = 2**63 + 5
    (tmp_path / "shown.jsonl").write_text(f'{{"id": {large}, "t": {S}}}\n')
    (tmp_path / "clicks.csv").write_text(f"id,t\n{large},{S + 1}\n")
    table = config(tmp_path / "shown.jsonl")
    table["actions"] = {"click": {
        "path": str(tmp_path / "clicks.csv"), "key": "id", "window": "1m",
        "time": {"column": "t", "unit": "s"}, "types": {"id": "uint64"},
    }}  # fmt: skip
    result = headrace.replay(table, tmp_path / "out")
    assert rows_of(result, "id", "click") == [(large, True)]
