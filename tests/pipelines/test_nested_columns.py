"""Columns inside of JSON objects and Parquet structs, in every role."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app.cli import main
from tests.pipelines.rows import START as S

SHOWN = [
    {"event": {"id": f"k{n}", "at": S + n, "ad": {"site": f"s{n % 2}", "price": n * 50.0}},
     "tags": ["x", f"t{n % 3}"]}
    for n in range(8)
]  # fmt: skip
CLICKS = [{"of": {"id": f"k{n}", "click": f"c{n}"}, "at": S + n + 5, "how": {"x": n}}
          for n in (1, 2)]  # fmt: skip

CONFIG = """
[impressions]
path = "shown.{form}"
key = "event.id"
time = {{ column = "event.at", unit = "s" }}
{columns}
[actions.click]
path = "clicks.{form}"
key = "of.id"
id = "of.click"
time = {{ column = "at", unit = "s" }}
window = "10m"
columns = ["how.x"]
[join]
end_of_log = "close"
shards = 2
[sampling]
negative_rate = {{ column = "event.ad.site", values = {{ s0 = 1.0 }}, default = 0.5 }}
keep = "event.ad.price > 0"
[learner]
label = "click"
bits = 12
[learner.features]
categorical = ["event.ad.site"]
numeric = {{ "event.ad.price" = "log" }}
crosses = [["event.ad.site", "tags"]]
[monitor]
slices = ["event.ad.site"]
"""

COLUMNS = 'columns = ["event.ad.site", "event.ad.price"]'


def write(folder, form, columns=COLUMNS):
    folder.mkdir(exist_ok=True)
    for name, rows in (("shown", SHOWN), ("clicks", CLICKS)):
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
        else:
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(lines)
    config = folder / "join.toml"
    config.write_text(CONFIG.format(form=form, columns=columns))
    return config


def test_paths_lead_to_the_same_samples_in_every_format(tmp_path):
    """As key, time, carried, in a condition and a rate, as features, slices, ids."""
    results = {}
    for form in ("jsonl", "parquet"):
        config = write(tmp_path / form, form)
        assert main(["validate", str(config)]) == 0
        results[form] = headrace.replay(config, tmp_path / form / "out")
    one, other = (result.samples.to_table() for result in results.values())
    assert one == other
    rows = {row["event.id"]: row for row in one.to_pylist()}
    assert len(rows) == 8
    assert rows["k2"]["event.ad.price"] == 100.0
    assert {key: row["click_how.x"] for key, row in rows.items() if row["click"]} == {
        "k1": 1, "k2": 2
    }  # fmt: skip
    models = [headrace.load_model(tmp_path / form / "out" / "model") for form in results]
    flat = one.select(["event.ad.site", "event.ad.price", "tags"])
    first, second = (model.predict_proba(flat).tolist() for model in models)
    assert first == second
    assert len(set(first)) > 2


def test_objects_are_carried_as_json_and_structs_as_they_are(tmp_path):
    """All columns of a file are carried unless some are chosen; their fields only if named."""
    as_json = headrace.replay(write(tmp_path / "j", "jsonl", ""), tmp_path / "j/out").samples
    columns = ["event.id", "event_time", "event", "tags", "event.ad.site"]
    assert as_json.schema.names[:5] == columns
    first = as_json.to_table().column("event")[0].as_py()
    assert json.loads(first) == SHOWN[0]["event"]
    assert first == json.dumps(SHOWN[0]["event"])
    structs = headrace.replay(write(tmp_path / "p", "parquet", ""), tmp_path / "p/out").samples
    assert structs.to_table().column("event")[0].as_py() == SHOWN[0]["event"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_missing_column_is_answered_with_the_nested_ones(tmp_path, form, capsys):
    """They are what the user looked for."""
    config = write(tmp_path, form)
    config.write_text(config.read_text().replace('key = "event.id"', 'key = "id"'))
    assert main(["replay", str(config), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "impressions.key: no such column" in error
    assert "event.id" in error
    assert "event.ad.site" in error


def test_a_field_of_two_types_is_refused_only_if_it_is_used(tmp_path):
    """Naming both files; a type that is declared settles it."""
    config = write(tmp_path, "jsonl", "")
    event = {"id": "k9", "at": S + 9, "ad": {"site": [1], "price": 1.0}, "v": "x"}
    more = {"tags": [], "event": event}
    good = json.dumps(more).replace("[1]", '"s1"').replace("k9", "k8")
    (tmp_path / "more.jsonl").write_text(json.dumps(more) + "\n")
    (tmp_path / "first.jsonl").write_text(good.replace('"x"', "1") + "\n")
    text = config.read_text().replace('"shown.jsonl"', '["first.jsonl", "more.jsonl"]')
    config.write_text(text.replace('categorical = ["event.ad.site"]', 'categorical = ["event.v"]'))
    with pytest.raises(headrace.ConfigError, match=r"event.v is int64 in first.jsonl and string"):
        headrace.validate(config)
    declared = config.read_text().replace(
        "[actions.click]", 'types = { "event.v" = "string", "event.ad.site" = "string" }\n'
        "[actions.click]",
    )  # fmt: skip
    config.write_text(declared)
    result = headrace.replay(config, tmp_path / "out")
    rows = result.samples.to_table().to_pylist()
    found = {row["event.id"]: (row["event.v"], row["event.ad.site"]) for row in rows}
    assert found == {"k8": ("1", "s1"), "k9": ("x", None)}
    assert result.summary.bad_values["impressions"]["event.ad.site"]["not string"].count == 1


def test_a_declared_field_may_appear_late(tmp_path):
    """Later than the first lines of every file, in JSON."""
    lines = [{"id": f"k{n}", "t": S + n} for n in range(1500)]
    lines[-1] |= {"rare": {"x": 7}}
    (tmp_path / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    config = {
        "impressions": {
            "path": str(tmp_path / "shown.jsonl"), "key": "id",
            "time": {"column": "t", "unit": "s"}, "types": {"rare.x": "int64"},
        },
        "join": {"end_of_log": "close"},
    }  # fmt: skip
    rows = headrace.replay(config, tmp_path / "out").samples.to_table().to_pylist()
    assert [row["rare.x"] for row in rows if row["rare.x"] is not None] == [7]
