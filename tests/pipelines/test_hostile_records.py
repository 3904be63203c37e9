"""Records that are written to stop a run: each is a sample, a null or a dead letter."""

from __future__ import annotations

import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.jobs import replay as job
from tests.pipelines.direct import run_directly
from tests.pipelines.rows import START

COUNT = 40
AT = 7
"""The record that is written to stop the run."""

CONFIG = """
[impressions]
path = "impressions.*"
key = ["id"]
time = {{ column = "time", unit = "s" }}
{stream}
[actions.click]
path = "clicks.jsonl"
key = ["id"]
time = {{ column = "time", unit = "s" }}
window = "10m"
[join]
end_of_log = "close"
[sampling]
keep = "{keep}"
[learner]
label = "click"
bits = 10
features = {{ categorical = ["site"], numeric = {{ price = "linear" }} }}
[monitor]
slices = ["site"]
"""


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Leave out of a replay what takes most of the time of a small one, and has its own tests."""
    monkeypatch.setattr(job, "run_graph", run_directly)
    monkeypatch.setattr(job, "render_report", lambda *_: "")
    monkeypatch.setattr("os.fsync", lambda _: None)


def row(number, **more):
    site = "ab"[number % 2]
    return {"id": f"k{number}", "time": START + number, "site": site, "price": number} | more


def replay(folder, impressions, stream="", clicks=(), keep="price > 5.5"):
    """Replay rows, or lines of JSON, or a table; check that each record has one outcome."""
    for old in folder.glob("impressions.*"):
        old.unlink()
    if isinstance(impressions, pa.Table):
        pq.write_table(impressions, folder / "impressions.parquet")
    else:
        lines = (json.dumps(one) if isinstance(one, dict) else one for one in impressions)
        (folder / "impressions.jsonl").write_text("\n".join(lines))
    clicks = (json.dumps(one) for one in clicks or map(row, range(0, COUNT, 3)))
    (folder / "clicks.jsonl").write_text("\n".join(clicks))
    (folder / "join.toml").write_text(CONFIG.format(stream=stream, keep=keep))
    config = folder / "join.toml"
    headrace.validate(config)
    result = headrace.replay(config, folder / f"out-{len(list(folder.iterdir()))}")
    outcomes = result.summary.outcomes["impressions"]
    assert sum(outcomes.values()) == result.summary.input["impressions"] == COUNT
    assert outcomes["settled"] + outcomes["invalid"] == COUNT
    assert result.samples.count_rows() == outcomes["settled"]
    assert headrace.load_model(result.models["click"]) is not None
    return result


def with_line(text):
    """Return all rows, of which one has more text at its end."""
    lines = [json.dumps(row(number)) for number in range(COUNT)]
    lines[AT] = f"{lines[AT][:-1]}, {text}}}"
    return lines


DEEP = {
    "lists": lambda depth: "[" * depth + "]" * depth,
    "objects": lambda depth: '{"a": ' * depth + "1" + "}" * depth,
}


@pytest.mark.parametrize("shape", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("stream", ["", 'types = { x = "json" }'], ids=["undeclared", "as text"])
def test_a_record_may_be_nested_as_deep_as_it_likes(tmp_path, shape, stream):
    """To a depth that does not depend on who decodes it; beyond, it is a dead letter."""
    result = replay(tmp_path, with_line(f'"x": {shape(150)}'), stream)
    assert result.summary.outcomes["impressions"]["invalid"] == 0
    for depth in (250, 980, 100_000):
        result = replay(tmp_path, with_line(f'"x": {shape(depth)}'), stream)
        (letter,) = result.dead_letters.to_table().to_pylist()
        assert (letter["offset"], letter["reason"]) == (AT, "undecodable")
        assert letter["detail"] == "nested deeper than 200 levels"


def test_brackets_in_text_are_no_levels(tmp_path):
    """Nor are those that are closed before others are opened."""
    text = json.dumps('\\"' + "[{" * 500)
    result = replay(tmp_path, with_line(f'"x": {text}, "y": [{"[]," * 300}[]]'))
    assert result.summary.outcomes["impressions"]["settled"] == COUNT


@pytest.mark.parametrize(
    "value",
    [2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**40, 10**400, 0.5],
    ids=lambda value: f"{value:.3g}" if abs(value) < 10**40 else f"10^{len(str(value)) - 1}",
)
def test_any_number_may_be_in_a_feature_and_in_a_condition(tmp_path, value):
    """At the head of a log, where types are inferred, and later; in a column of whole numbers."""
    rows = [row(number) for number in range(COUNT)]
    rows[AT]["price"] = value
    bad = replay(tmp_path, rows).summary.bad_values["impressions"]
    held = isinstance(value, float) or -(2**63) <= value < 2**63
    assert [(name, *causes) for name, causes in bad.items()] == (
        [] if held else [("price", "not int64")]
    )


NUMBERS = {
    "uint64": pa.array([2**64 - 1, *range(COUNT - 1)], pa.uint64()),
    "int64": pa.array([2**53 + 1, *range(COUNT - 1)], pa.int64()),
    "decimal": pa.array([Decimal(10) ** 37, *range(COUNT - 1)], pa.decimal128(38, 0)),
    "float": pa.array([float("inf"), float("nan"), 1e300, *range(COUNT - 3)], pa.float64()),
}


@pytest.mark.parametrize("price", NUMBERS.values(), ids=NUMBERS)
def test_any_number_of_a_parquet_file_may_be_in_a_feature_and_in_a_condition(tmp_path, price):
    """Which no type that a model computes with holds."""
    table = pa.Table.from_pylist([row(number) for number in range(COUNT)])
    table = table.set_column(table.schema.get_field_index("price"), "price", price)
    assert replay(tmp_path, table).summary.outcomes["impressions"]["settled"] == COUNT


def test_a_time_beyond_any_is_a_dead_letter(tmp_path):
    """Unsigned, of 2^63 and more, in files of rows and of columns."""
    rows = [row(number) for number in range(COUNT)]
    table = pa.Table.from_pylist(rows)
    for value in (2**63 - 1, 2**63, 2**64 - 1):
        rows[AT]["time"] = value
        changed = pa.array([one["time"] for one in rows], pa.uint64())
        column = table.schema.get_field_index("time")
        for log in (rows, table.set_column(column, "time", changed)):
            (letter,) = replay(tmp_path, log).dead_letters.to_table().to_pylist()
            assert letter["offset"] == AT
            assert letter["reason"] in ("time_out_of_range", "wrong_type")


@pytest.mark.parametrize("key", [0.5, 2**63, 2**70, -1, True, [], {"a": 1}], ids=str)
def test_one_key_of_another_type_does_not_decide_on_the_column(tmp_path, key):
    """It is a dead letter where it is no whole number."""
    rows = [row(number, id=number) for number in range(COUNT)]
    clicks = [row(number, id=number) for number in range(0, COUNT, 3)]
    rows[AT]["id"] = key
    result = replay(tmp_path, rows, clicks=clicks)
    assert result.samples.schema.field("id").type == pa.int64()
    assert result.summary.outcomes["impressions"]["invalid"] == (key is True or key != -1)


NOT_UTF8 = b"\xff\xfe\xed\xa0\x80"


def texts(good="ok", at=AT):
    """Return a column of text of which one value is not UTF-8."""
    values = [NOT_UTF8 if n == at else good.format(n).encode() for n in range(COUNT)]
    return pa.array(values, pa.binary()).view(pa.string())


def coded(column, kind):
    """Return text as a dictionary of values of some type."""
    found = column.view(pa.binary()).dictionary_encode()
    values = found.dictionary.cast(pa.large_binary() if kind == pa.large_string() else pa.binary())
    return pa.DictionaryArray.from_arrays(found.indices, values.view(kind))


PLAIN = {
    "text": lambda texts: texts,
    "large text": lambda texts: texts.cast(pa.large_string(), safe=False),
    "views": lambda texts: pa.Array.from_buffers(
        pa.string_view(), COUNT, texts.view(pa.binary()).cast(pa.binary_view()).buffers()
    ),
    "a dictionary": lambda texts: coded(texts, pa.string()),
    "a dictionary of large text": lambda texts: coded(texts, pa.large_string()),
    "a dictionary of bytes": lambda texts: coded(texts, pa.binary()),
}
TEXTS = PLAIN | {
    "lists of dictionaries": lambda texts: TEXTS["lists"](coded(texts, pa.string())),
    "structs of dictionaries": lambda texts: TEXTS["structs"](coded(texts, pa.string())),
    "lists": lambda texts: pa.ListArray.from_arrays(pa.array(range(COUNT + 1), pa.int32()), texts),
    "structs": lambda texts: pa.StructArray.from_arrays([texts], ["x"]),
}


@pytest.mark.parametrize("shape", TEXTS.values(), ids=TEXTS)
def test_text_of_a_parquet_file_that_is_not_utf8_is_null(tmp_path, shape):
    """Nothing of Parquet says that it must be; it is counted, with escapes."""
    table = pa.Table.from_pylist([row(number) for number in range(COUNT)])
    table = table.append_column("x", shape(texts()))
    kind = shape(texts()).type
    stream = 'types = { x = "string" }' if "=binary" in str(kind) else ""
    result = replay(tmp_path, table, stream)
    assert result.summary.outcomes["impressions"]["settled"] == COUNT
    (causes,) = result.summary.bad_values["impressions"].values()
    (bad,) = causes.values()
    assert bad.count == 1
    assert r"\xff\xfe" in bad.examples[0] or pa.types.is_nested(kind)
    assert pa.compute.sum(result.samples.to_table()["x"].is_null()).as_py() == 1


@pytest.mark.parametrize("shape", PLAIN.values(), ids=PLAIN)
def test_text_that_is_not_utf8_may_be_in_every_use_of_a_column(tmp_path, shape):
    """Of feature, slice and condition it is null; of a key it is a dead letter, with escapes."""
    table = pa.Table.from_pylist([row(number) for number in range(COUNT)])
    table = table.set_column(0, "id", shape(texts("k{}")))
    table = table.set_column(2, "site", shape(texts(at=AT + 1)))
    stream = 'types = { id = "string", site = "string" }'
    result = replay(tmp_path, table, stream, keep="price > 5.5 and site == 'ok'")
    site = result.summary.bad_values["impressions"]["site"]["not string"]
    assert (site.count, site.examples) == (1, (r"\xff\xfe\xed\xa0\x80",))
    (letter,) = result.dead_letters.to_table().to_pylist()
    assert (letter["offset"], letter["reason"]) == (AT, "wrong_type")
    assert json.loads(letter["record"])["id"] == r"\xff\xfe\xed\xa0\x80"


NAMES = [
    "__x", "__time", "weight", "event_time", "click", "click_time", 'a"b', "a\\b", "a\nb", "a\0b",
    "\x1b[31m", "\u202eabc", "", "x" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_columns_that_cannot_be_carried_are_left_out_and_named_once(tmp_path, form):
    """Of which a single record can make any number."""
    rows = [row(number) for number in range(COUNT)]
    rows[AT] |= dict.fromkeys(NAMES, "v")
    table = pa.Table.from_pylist([rows[AT], *rows[:AT], *rows[AT + 1 :]])
    result = replay(tmp_path, rows if form == "jsonl" else table)
    assert result.summary.outcomes["impressions"]["settled"] == COUNT
    names = result.samples.schema.names
    assert [name for name in names if name in NAMES] == [
        "event_time",
        "click",
        "click_time",
        "weight",
    ]
    (said,) = [finding for finding in result.findings if "left out" in finding]
    assert "'__x', '__time', 'weight', 'event_time', 'click' and 9 more. Rename" in said
    assert said.isprintable()
    assert said in headrace.validate(tmp_path / "join.toml").warnings


@pytest.mark.parametrize("name", ["__x", "weight"])
def test_a_column_that_is_asked_for_and_cannot_be_carried_is_refused(tmp_path, name):
    """Before anything is read."""
    rows = [row(number) | {name: "v"} for number in range(COUNT)]
    with pytest.raises(headrace.ConfigError, match=name):
        replay(tmp_path, rows, f'columns = ["{name}"]')
