"""One bad value does not lose a record."""

from __future__ import annotations

import json
import tomllib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app.cli import main
from tests.pipelines.rows import START

CONFIG = """
[impressions]
path = "impressions.*"
format = "{form}"
key = ["id"]
time = {{ column = "time", unit = "s" }}
types = {{ price = "float64", age = "int64", new = "bool" }}
{stream}
[actions.click]
path = "clicks.csv"
key = ["id"]
time = {{ column = "time", unit = "s" }}
window = "10m"
types = {{ value = "float64" }}
columns = ["value"]
[join]
end_of_log = "close"
[learner]
label = "click"
features = {{ categorical = ["new"], numeric = {{ price = "linear" }} }}
"""

CSV = """id,time,price,age,new
a,{0}, 2.5,1,1
b,{0},NA,x,true
c,{0},inf,2,maybe
d,{0},1e3,\\N,0
e,{0},abc,null,false
f,soon,1,1,1
"""

JSON = [
    {"id": "a", "time": START, "price": "2.5", "age": 1.0, "new": 1},
    {"id": "b", "time": START, "price": [1], "age": "x", "new": True},
    {"id": "c", "time": START, "price": {"eur": 1}, "age": 2, "new": "maybe"},
    {"id": "d", "time": START, "price": 1e3, "age": "\\N", "new": 0},
    {"id": "e", "time": START, "price": "abc", "age": None, "new": False},
    {"id": "f", "time": "soon", "price": 1.0, "age": 1, "new": True},
]

CLICKS = f"id,time,value\na,{START},1.5\nb,{START},dear\n"


def write(folder, form, stream=""):
    text = CSV.format(START) if form == "csv" else "\n".join(json.dumps(row) for row in JSON)
    (folder / f"impressions.{form}").write_text(text)
    (folder / "clicks.csv").write_text(CLICKS)
    (folder / "join.toml").write_text(CONFIG.format(form=form, stream=stream))
    return folder / "join.toml"


def samples(folder):
    rows = pq.read_table(folder / "samples").to_pylist()
    return {row["id"]: tuple(row[name] for name in ("price", "age", "new")) for row in rows}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_value_that_does_not_fit_is_null_and_its_record_a_sample(tmp_path, form):
    """Only key and event time decide; what does not fit is counted, with examples."""
    config = write(tmp_path, form)
    result = headrace.replay(config, tmp_path / "out")
    assert samples(tmp_path / "out") == {
        "a": (2.5, 1, True),
        "b": (None, None, True),
        "c": (None, 2, None),
        "d": (1000.0, None, False),
        "e": (None, None, False),
    }
    assert result.summary.outcomes["impressions"]["invalid"] == 1
    counts = {
        column: {cause: bad.count for cause, bad in causes.items()}
        for column, causes in result.summary.bad_values["impressions"].items()
    }
    price = {"csv": 2, "jsonl": 3}[form]
    assert counts == {
        "price": {"not float64": price}, "age": {"not int64": 1}, "new": {"not bool": 1},
    }  # fmt: skip
    (value,) = result.summary.bad_values["click"]["value"].values()
    assert (value.count, value.examples) == (1, ("dear",))
    carried = result.samples.to_table(columns=["id", "click_value"]).to_pydict()
    by_id = dict(zip(carried["id"], carried["click_value"], strict=True))
    assert (by_id["a"], by_id["b"]) == (1.5, None)
    (said,) = [finding for finding in result.findings if "of age" in finding]
    assert said == (
        "impressions: 1 of 6 values of age are not int64 (such as "
        + ("x" if form == "csv" else '"x"')
        + ") and null in samples. Declare the column's type in impressions.types, or these texts "
        "in impressions.null_values."
    )
    assert "Values that do not fit" in result.report.read_text()
    first = headrace.validate(config).streams[0].first_records
    assert first.bad_values["age"]["not int64"]["count"] == 1


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_stream_can_ask_for_rejects(tmp_path, form):
    """Then such a record is invalid, and a dead letter."""
    config = write(tmp_path, form, 'bad_values = "reject"')
    result = headrace.replay(config, tmp_path / "out")
    assert set(samples(tmp_path / "out")) == {"a", "d"} if form == "csv" else {"a"}
    assert result.summary.bad_values["impressions"] == {}
    assert result.dead_letters.to_table()["reason"].to_pylist().count("wrong_type") >= 3


def test_null_values_are_those_that_are_named(tmp_path):
    """They replace the usual ones, and hold for text too."""
    config = write(tmp_path, "csv", 'null_values = ["abc", "a"]')
    result = headrace.replay(config, tmp_path / "out")
    causes = result.summary.bad_values["impressions"]["price"]["not float64"]
    assert causes.examples == ("NA", "inf")
    assert result.summary.outcomes["impressions"]["invalid"] == 2  # a key that is null


@pytest.mark.parametrize("order", ["sorted", "sort"])
def test_bad_values_are_counted_once_however_a_log_is_read(tmp_path, order):
    """Small blocks, several shards, files that are paused and resumed."""
    lines = [f"k{n},{START + n},{n if n % 3 else 'bad'},{n},1" for n in range(1_000)]
    header = "id,time,price,age,new"
    for part in range(3):
        own = [header, *lines[part * 400 : part * 400 + 400]]
        (tmp_path / f"impressions.{part}.csv").write_text("\n".join(own) + "\n")
    (tmp_path / "clicks.csv").write_text(CLICKS)
    text = CONFIG.format(form="csv", stream=f'order = "{order}"')
    found = []
    for rows in (7, 100_000):
        tables = tomllib.loads(text)
        tables["impressions"]["path"] = str(tmp_path / "impressions.*.csv")
        tables["actions"]["click"]["path"] = str(tmp_path / "clicks.csv")
        tables["replay"] = {"batch_rows": rows}
        tables["join"]["shards"] = 3
        found.append(headrace.replay(tables, tmp_path / f"out-{rows}").summary.bad_values)
    assert found[0] == found[1]
    assert found[0]["impressions"]["price"]["not float64"].count == 334


def test_a_stream_that_is_mostly_invalid_is_no_success(tmp_path, capsys):
    """More than a fifth exits with 3, and is the first thing said; it can be accepted."""
    write(tmp_path, "csv")
    rows = [f"k{n},{START if n % 4 else 'soon'},1,1,1" for n in range(100)]
    (tmp_path / "impressions.csv").write_text("\n".join(["id,time,price,age,new", *rows]))
    command = ["replay", str(tmp_path / "join.toml"), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 3
    said = capsys.readouterr().err.splitlines()[0]
    assert said == (
        "headrace: 25 of 100 records (25%) of impressions are invalid: look into "
        f"{tmp_path}/out/dead_letters; --allow-invalid accepts it"
    )
    assert main([*command, "--allow-invalid"]) == 0
    assert "invalid" not in capsys.readouterr().err


def test_null_values_hold_in_every_format(tmp_path):
    """A text that is named is null in JSON and Parquet too."""
    (tmp_path / "clicks.csv").write_text(CLICKS)
    rows = [{"id": name, "time": START, "site": site} for name, site in (("a", "-"), ("b", "x"))]
    (tmp_path / "impressions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "impressions.parquet")
    for form in ("jsonl", "parquet"):
        text = CONFIG.format(form=form, stream='null_values = ["-"]').split("[learner]")[0]
        lines = [line for line in text.splitlines() if not line.startswith("types")]
        config = tmp_path / f"{form}.toml"
        config.write_text("\n".join(lines).replace("impressions.*", f"impressions.{form}"))
        result = headrace.replay(config, tmp_path / f"out-{form}")
        samples = result.samples.to_table(columns=["id", "site"]).to_pydict()
        assert dict(zip(*samples.values(), strict=True)) == {"a": None, "b": "x"}


def test_validate_shows_what_is_wrong_with_records_of_every_file(tmp_path, capsys):
    """One example a reason; a stream of which nothing is valid is refused."""
    write(tmp_path, "csv")
    header = "id,time,price,age,new"
    good = "\n".join([header, *(f"k{n},{START},1,1,1" for n in range(9))])
    (tmp_path / "impressions.0.csv").write_text(good)
    (tmp_path / "impressions.1.csv").write_text(f"{header}\nz,soon,1,1,1\n")
    (tmp_path / "impressions.csv").unlink()
    text = (tmp_path / "join.toml").read_text().replace('"impressions.*"', '"impressions.*.csv"')
    (tmp_path / "join.toml").write_text(text)
    assert main(["validate", str(tmp_path / "join.toml")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "first 10 records" in said
    assert "wrong_type: column time is not a number:" in said
    (tmp_path / "impressions.0.csv").write_text(header)
    assert main(["validate", str(tmp_path / "join.toml")]) == 2
    assert "1 of the first 1 event times are text that is no number" in capsys.readouterr().err
    (tmp_path / "impressions.1.csv").write_text(f"{header}\n,{START},1,1,1\n")
    assert main(["validate", str(tmp_path / "join.toml")]) == 2
    assert "impressions: all of the first 1 records are invalid" in capsys.readouterr().err


def test_bad_values_are_in_one_order_however_a_log_is_read(tmp_path):
    """Which column has the first of them depends on where blocks are cut; the summary does not."""
    rows = [f"k{n},{START + n},1.0,{'young' if n == 3 else 1},1" for n in range(100)]
    rows[50] = rows[50].replace("1.0", "dear")
    config = write(tmp_path, "csv")
    (tmp_path / "impressions.csv").write_text("\n".join(["id,time,price,age,new", *rows]))
    shown = []
    for size in ("1", "100000"):
        out = tmp_path / f"out-{size}"
        command = ["replay", str(config), "--out", str(out), "--batch-rows", size, "--quiet"]
        assert main(command) == 0
        shown.append(json.dumps(json.loads((out / "summary.json").read_text())["bad_values"]))
    assert shown[0] == shown[1]
    assert list(json.loads(shown[0])["impressions"]) == ["age", "price"]
