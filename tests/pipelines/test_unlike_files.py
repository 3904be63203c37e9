"""Files of one stream need not be alike."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from tests.pipelines.rows import START as S

CONFIG = """
[impressions]
path = "imp-*.{form}"
key = ["id"]
time = {{ column = "time", unit = "s" }}
{stream}
[actions.click]
path = "clicks.csv"
key = ["id"]
time = {{ column = "time", unit = "s" }}
window = "10m"
[join]
end_of_log = "close"
[learner]
label = "click"
features.categorical = ["site"]
"""


def log(folder, form, *files, stream=""):
    """Write impressions, each file as text or as the columns of a Parquet file."""
    for number, file in enumerate(files):
        path = folder / f"imp-{number}.{form}"
        if form == "parquet":
            pq.write_table(pa.table(file), path)
        else:
            path.write_text(file, encoding="utf-8")
    (folder / "clicks.csv").write_text(f"id,time\na,{S}\n")
    (folder / "join.toml").write_text(CONFIG.format(form=form, stream=stream))
    return folder / "join.toml"


def rows(*own, **columns):
    return {"id": list(own), "time": [S] * len(own), "site": ["x"] * len(own), **columns}


def lines(*records):
    return "".join(json.dumps({"time": S, "site": "x", **record}) + "\n" for record in records)


WIDENED = {
    "parquet, whole numbers of two widths": (
        "parquet", [rows("a", n=pa.array([1], pa.int32())), rows("b", n=[2])],
        pa.int64(), {"a": 1, "b": 2},
    ),
    "parquet, fractions in a later file": (
        "parquet", [rows("a", n=[1]), rows("b", n=[2.5])], pa.float64(), {"a": 1.0, "b": 2.5},
    ),
    "parquet, a column missing in a later file": (
        "parquet", [rows("a", n=[1]), rows("b")], pa.int64(), {"a": 1, "b": None},
    ),
    "parquet, a column that comes later": (
        "parquet", [rows("a"), rows("b", n=[1])], pa.int64(), {"a": None, "b": 1},
    ),
    "parquet, nothing but nulls at first": (
        "parquet", [rows("a", n=pa.array([None])), rows("b", n=["t"])],
        pa.string(), {"a": None, "b": "t"},
    ),
    "csv, a column missing in a later file": (
        "csv", [f"id,time,site,n\na,{S},x,1\n", f"time,id\n{S},b\n"],
        pa.string(), {"a": "1", "b": None},
    ),
    "csv, a column that comes later": (
        "csv", [f"id,time,site\na,{S},x\n", f"id,time,n,site\nb,{S},1,x\n"],
        pa.string(), {"a": None, "b": "1"},
    ),
    "csv, empty files": (
        "csv", ["", f"id,time,site,n\na,{S},x,1\n", "", "id,time,site,n\n"],
        pa.string(), {"a": "1"},
    ),
    "csv, a header with quotes and a byte order mark": (
        "csv", [f'\ufeff"id","time",site,"x,y",n\na,{S},x,?,1\n'], pa.string(), {"a": "1"},
    ),
    "json, fractions in a later file": (
        "jsonl", [lines({"id": "a", "n": 1}), lines({"id": "b", "n": 2.5})],
        pa.float64(), {"a": 1.0, "b": 2.5},
    ),
    "json, a column that comes later": (
        "jsonl", [lines({"id": "a"}), "", lines({"id": "b", "n": 1})],
        pa.int64(), {"a": None, "b": 1},
    ),
    "json, a byte order mark and numbers that are none": (
        "jsonl",
        ["\ufeff" + lines({"id": "a", "n": 1.5}),
         lines({"id": "b", "n": float("nan")}, {"id": "c", "n": float("inf")})],
        pa.float64(), {"a": 1.5, "b": None, "c": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("form", "files", "kind", "values"), WIDENED.values(), ids=WIDENED)
def test_a_stream_has_the_columns_of_all_its_files(tmp_path, form, files, kind, values):
    """What a file lacks is null there, and types widen until they hold all values."""
    result = headrace.replay(log(tmp_path, form, *files), tmp_path / "out")
    samples = result.samples.to_table(columns=["id", "n"])
    assert samples.schema.field("n").type == kind
    assert dict(zip(*samples.to_pydict().values(), strict=True)) == values
    assert result.summary.outcomes["impressions"]["settled"] == len(values)
    assert result.summary.bad_values["impressions"] == {}


REFUSED = {
    "types that have nothing in common": (
        "parquet", [rows("a", n=[1]), rows("b"), rows("c", n=["t"])],
        "column n is int64 in imp-0.parquet and string in imp-2.parquet",
    ),
    "whole numbers that no type holds": (
        "parquet", [rows("a", n=pa.array([1], pa.uint64())), rows("b", n=[1])],
        "column n is uint64 in imp-0.parquet and int64 in imp-1.parquet",
    ),
    "two columns of one name": ("csv", ["id,time,site,site\n"], "has two columns site"),
    "nothing but empty files": ("csv", ["", ""], "is empty and has no header line"),
}  # fmt: skip


@pytest.mark.parametrize(("form", "files", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_one_stream_is_refused_by_name(tmp_path, form, files, said):
    """With the column, the files and their types; validate says the same."""
    config = log(tmp_path, form, *files)
    for check in (headrace.validate, lambda path: headrace.replay(path, tmp_path / "out")):
        with pytest.raises(headrace.ConfigError) as refused:
            check(config)
        assert said in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_column_of_json_that_files_disagree_on_is_left_out_unless_it_is_asked_for(tmp_path):
    """A record decides the type of a small file, and must not stop the run by it."""
    files = [lines({"id": "a", "n": 1}), lines({"id": "b", "n": "t"})]
    result = headrace.replay(log(tmp_path, "jsonl", *files), tmp_path / "out")
    assert "n" not in result.samples.schema.names
    (said,) = [finding for finding in result.findings if "left out" in finding]
    assert "whose types differ by file: 'n'. Rename" in said
    with pytest.raises(headrace.ConfigError) as refused:
        headrace.validate(log(tmp_path, "jsonl", *files, stream='columns = ["n"]'))
    assert (
        "column n is int64 in imp-0.jsonl and string in imp-1.jsonl; "
        "declare its type in impressions.types"
    ) in str(refused.value)


def test_a_declared_type_settles_what_files_disagree_on(tmp_path):
    """Of text formats: then values that do not fit it are null."""
    files = [lines({"id": "a", "n": 1}), lines({"id": "b", "n": "t"}, {"id": "c", "n": "3"})]
    config = log(tmp_path, "jsonl", *files, stream='types = { n = "int64" }')
    result = headrace.replay(config, tmp_path / "out")
    samples = result.samples.to_table(columns=["id", "n"]).to_pydict()
    assert dict(zip(*samples.values(), strict=True)) == {"a": 1, "b": None, "c": 3}
    assert result.summary.bad_values["impressions"]["n"]["not int64"].examples == ('"t"',)


def test_a_configuration_may_have_a_byte_order_mark(tmp_path):
    """As some editors write it."""
    config = log(tmp_path, "jsonl", lines({"id": "a"}))
    config.write_text("\ufeff" + config.read_text(), encoding="utf-8")
    assert headrace.load_config(config).impressions.key == ("id",)
