"""Small odd inputs: one line that names file, key and value, or a reject; never a traceback."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from tests.pipelines.rows import START as S

GOOD = "".join(f"k{n},{S + n},d{n % 2},{n}\n" for n in range(20))

GUARDED_TWICE = "id,t,device,price,quarantine_label\n" + GOOD.replace("\n", ",click\n")


def tables(folder, text="id,t,device,price\n" + GOOD, form="csv", **impressions):
    path = folder / f"shown.{form}"
    path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text)
    (folder / "clicks.csv").write_text(f"id,t\nk0,{S + 3}\n")
    time = {"column": "t", "unit": "s"}
    return {
        "impressions": {"path": str(path), "key": ["id"], "time": time, **impressions},
        "actions": {
            "click": {"path": str(folder / "clicks.csv"), "key": "id", "time": time,
                      "window": "10m"},
        },
        "join": {"end_of_log": "close"},
        "learner": {"label": "click", "bits": 8, "features": {"categorical": ["device"]}},
    }  # fmt: skip


def with_features(folder, **features):
    config = tables(folder)
    config["learner"]["features"] |= features
    return config


def with_action_columns(folder, columns):
    config = tables(folder)
    (folder / "clicks.csv").write_text(f"id,t,time\nk0,{S + 3},1\n")
    config["actions"]["click"]["columns"] = columns
    return config


def of_parquet(folder, values, **features):
    pq.write_table(pa.table({"id": ["a"], "t": [S], "x": values}), folder / "shown.parquet")
    config = tables(folder)
    config["impressions"]["path"] = str(folder / "shown.parquet")
    config["learner"]["features"] = features
    return config


REFUSED = {
    "edges that fall": (
        lambda folder: with_features(folder, numeric={"price": [3, 1, 2]}),
        "learner.features.numeric", "the edges of price must be numbers that rise",
    ),
    "an edge that is not a number": (
        lambda folder: with_features(folder, numeric={"price": [1, float("nan"), 3]}),
        "learner.features.numeric", "the edges of price must be numbers that rise",
    ),
    "text declared where a number is due": (
        lambda folder: {**with_features(folder, numeric={"price": "linear"}),
                        "impressions": tables(folder, types={"price": "string"})["impressions"]},
        "learner.features.numeric.price", "column is string, not a number",
    ),
    "a key column named twice": (
        lambda folder: tables(folder, key=["id", "id"]),
        "impressions.key", "names id twice",
    ),
    "a slice named twice": (
        lambda folder: {**tables(folder), "monitor": {"slices": ["device", "device"]}},
        "monitor.slices", "names device twice",
    ),
    "a delimiter of two bytes": (
        lambda folder: tables(folder, delimiter="é"),
        "impressions.delimiter", "must be one ASCII character that is not a quote",
    ),
    "a quote as delimiter": (
        lambda folder: tables(folder, delimiter='"'),
        "impressions.delimiter", "must be one ASCII character that is not a quote",
    ),
    "lines that end with carriage returns": (
        lambda folder: tables(folder, f"id,t,device\rk0,{S},d\r".encode()),
        "impressions.path", "has a header line that is not CSV",
    ),
    "a condition with a number that is too large": (
        lambda folder: {**tables(folder), "sampling": {
            "negative_rate": 0.5, "keep": "device >= 99999999999999999999999"}},
        "sampling.keep", "cannot be evaluated",
    ),
    "a condition that is nested too deeply": (
        lambda folder: {**tables(folder), "sampling": {
            "negative_rate": 0.5, "keep": "not " * 3000 + "device == 'a'"}},
        "sampling.keep", "is nested too deeply",
    ),
    "files of two formats": (
        lambda folder: tables(folder, path=[
            str(folder / "shown.csv"), tables(folder, "{}", "jsonl")["impressions"]["path"]]),
        "impressions.path", "matches files of several formats",
    ),
    "UTF-16 with a byte order mark": (
        lambda folder: tables(folder, ("id,t,device,price\n" + GOOD).encode("utf-16")),
        "impressions.path", "is UTF-16",
    ),
    "UTF-16 without one": (
        lambda folder: tables(folder, '{"id": "k0"}\n'.encode("utf-16-le"), "jsonl"),
        "impressions.path", "has NUL bytes, as UTF-16 has",
    ),
    "an action column that a label has already": (
        lambda folder: with_action_columns(folder, ["time"]),
        "actions.click.columns", "the sample would have two columns of one name",
    ),
    "a column of the quarantine": (
        lambda folder: tables(folder, GUARDED_TWICE, columns=["device", "quarantine_label"]),
        "impressions.columns", "the sample would have two columns of one name",
    ),
    "a struct as several values": (
        lambda folder: of_parquet(folder, [{"a": 1}], multi_valued=["x"]),
        "learner.features.multi_valued", "column is struct<a: int64>, not lists",
    ),
    "a number that is always null": (
        lambda folder: of_parquet(folder, [None], numeric={"x": "log"}),
        "learner.features.numeric.x", "column has no value in any file",
    ),
    "JSON lines without a record": (
        lambda folder: tables(folder, "", "jsonl"),
        "impressions.path", "has no line that is a JSON object",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "key", "fact"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_run_is_refused_with_its_key(tmp_path, make, key, fact):
    """By validate, and by replay before anything is written."""
    config = make(tmp_path)
    for check in (headrace.validate, lambda tables: headrace.replay(tables, tmp_path / "out")):
        with pytest.raises(headrace.ConfigError) as refused:
            check(config)
        assert refused.value.key == key
        assert fact in refused.value.fact
    assert not (tmp_path / "out").exists()


def test_a_column_of_the_quarantine_is_as_any_where_nothing_is_guarded(tmp_path):
    config = {**tables(tmp_path, GUARDED_TWICE), "guard": {"action": "off"}}
    result = headrace.replay(config, tmp_path / "out")
    assert set(result.samples.to_table()["quarantine_label"].to_pylist()) == {"click"}


@pytest.mark.parametrize("where", [0, 5_000], ids=["at the head", "far behind"])
def test_a_line_that_is_nested_deeply_is_a_reject(tmp_path, where):
    """It ends neither the run nor the look at the head."""
    rows = [json.dumps({"id": f"k{n}", "t": S + n, "device": "d"}) for n in range(5_500)]
    rows.insert(where, f'{{"id": "deep", "t": {S}, "o": {"[" * 5_000}{"]" * 5_000}}}')
    result = headrace.replay(tables(tmp_path, "\n".join(rows), "jsonl"), tmp_path / "out")
    assert result.summary.outcomes["impressions"]["invalid"] == 1
    assert result.summary.samples.rows == 5_500


def test_a_time_beyond_64_bits_is_invalid(tmp_path):
    """As any that lies outside of 1970 to 2099."""
    shown = {"id": ["a", "b"], "t": pa.array([2**63 + 5, S], pa.uint64()), "device": ["d", "d"]}
    pq.write_table(pa.table(shown), tmp_path / "shown.parquet")
    config = tables(tmp_path)
    config["impressions"]["path"] = str(tmp_path / "shown.parquet")
    result = headrace.replay(config, tmp_path / "out")
    reasons = result.dead_letters.to_table(columns=["reason"])["reason"].to_pylist()
    assert sorted(reasons) == ["orphan", "time_out_of_range"]


@pytest.mark.parametrize(
    ("form", "value", "bad"), [("jsonl", "1e999", 0), ("jsonl", '"1e999"', 1), ("csv", "1e999", 1)],
    ids=["a JSON number", "a JSON text", "CSV"],
)  # fmt: skip
def test_a_number_that_is_too_large_is_null(tmp_path, form, value, bad):
    """Whatever the format, the record stays; as a number of JSON it is like Infinity."""
    if form == "csv":
        text = f"id,t,device,price\nk0,{S},d,{value}\nk1,{S},d,1.5\n"
    else:
        row = '{{"id": "k{}", "t": {}, "device": "d", "price": {}}}\n'
        text = row.format(1, S, 1.5) + row.format(0, S, value)
    config = tables(tmp_path, text, form, types={"price": "float64"})
    result = headrace.replay(config, tmp_path / "out")
    samples = result.samples.to_table(columns=["id", "price"]).to_pydict()
    assert dict(zip(*samples.values(), strict=True)) == {"k0": None, "k1": 1.5}
    counts = result.summary.bad_values["impressions"].get("price", {})
    assert sum(found.count for found in counts.values()) == bad


def test_numbers_are_text_where_text_is_declared(tmp_path):
    """So a declared type settles what files disagree on, and nothing is lost."""
    rows = [
        {"id": "a", "t": S, "device": "d", "p": 7},
        {"id": "b", "t": S, "device": "d", "p": "x"},
    ]
    text = "\n".join(json.dumps(row) for row in rows)
    config = tables(tmp_path, text, "jsonl", types={"p": "string"})
    result = headrace.replay(config, tmp_path / "out")
    samples = result.samples.to_table(columns=["id", "p"]).to_pydict()
    assert dict(zip(*samples.values(), strict=True)) == {"a": "7", "b": "x"}
    assert result.summary.bad_values["impressions"] == {}
