"""From the paths of a configuration to files, wherever these lie."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.learners.registry import ALGORITHMS
from headrace.pipelines.run.remote import NO_BUCKET, explain
from headrace.pipelines.sources.inputs import resolve
from headrace.pipelines.sources.locations import matches
from tests.pipelines.rows import START as S

CONFIG = """
[impressions]
path = {path}
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
{more}
"""


def configure(folder, path, stream="", more=""):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clicks.csv").write_text(f"id,time\na,{S}\n")
    text = CONFIG.format(path=json.dumps(path), stream=stream, more=more)
    (folder / "join.toml").write_text(text, encoding="utf-8")
    return folder / "join.toml"


def write(path, *own, **columns):
    """Write impressions with these ids, in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"id": list(own), "time": [S] * len(own), **columns}
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(table), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(table), *(",".join(str(value) for value in row.values()) for row in rows)]
        path.write_text("".join(f"{line}\n" for line in lines))


def samples(config, out, *columns):
    result = headrace.replay(config, out)
    rows = result.samples.to_table(columns=["id", *columns]).to_pylist()
    return {row.pop("id"): tuple(row.values()) for row in rows}


def names(config):
    inputs = resolve(headrace.load_config(config), ALGORITHMS)
    return [log.name for log in inputs.logs_of(0)]


MATCHES = [
    ("b/x.csv", "b/x.csv", True),
    ("b/x.csv", "b/*.csv", True),
    ("b/a/x.csv", "b/*.csv", False),
    ("b/a/x.csv", "b/*/x.csv", True),
    ("b/x.csv", "b/**/x.csv", True),
    ("b/a/c/x.csv", "b/**/x.csv", True),
    ("b/a/c/x.csv", "b/**", True),
    ("b", "b/**", False),
    ("b/date=2026-01-01/x.csv", "b/date=*/x.csv", True),
    ("b/x1.csv", "b/x[0-4].csv", True),
    ("b/x7.csv", "b/x[0-4].csv", False),
    ("b/X.csv", "b/x.csv", False),
    ("b/.x.csv", "b/*.csv", False),
    ("b/.x.csv", "b/.*.csv", True),
    ("b/.a/x.csv", "b/**/x.csv", False),
    ("b/x[1].csv", "b/x[[]1].csv", True),
]


@pytest.mark.parametrize(("path", "pattern", "expected"), MATCHES)
def test_patterns_mean_the_same_for_objects_as_for_files(tmp_path, path, pattern, expected):
    """They are matched as the standard library's `glob` matches files."""
    assert matches(path.split("/"), pattern.split("/")) is expected
    if expected or path != "b":
        write(tmp_path / path, "a")
        config = configure(tmp_path, pattern)
        if expected:
            assert names(config) == [path]
        else:
            with pytest.raises(headrace.ConfigError, match="no such file"):
                names(config)


@pytest.mark.parametrize(
    ("folder", "file", "path"),
    [
        ("logs [new]", "imp.csv", "imp.csv"),
        ("logs [new]", "imp-1.csv", "imp-*.csv"),
        ("l", "imp[1].csv", "imp[1].csv"),
        ("l", "a [b]/imp.csv", "a [b]/imp.csv"),
        ("l", "a [b]/imp.csv", "a [[]b]/*.csv"),
        ("l", "été 1/日本.csv", "été 1/*.csv"),
        ("l*", "imp.csv", "i*.csv"),
    ],
)
def test_brackets_blanks_and_letters_of_any_language_are_names(tmp_path, folder, file, path):
    """Wildcards are those of the path in the configuration, and only if no file has this name."""
    write(tmp_path / folder / file, "a")
    config = configure(tmp_path / folder, path)
    assert names(config) == [file]
    assert names(configure(tmp_path / folder, str(tmp_path / folder / file))) == [
        str(tmp_path / folder / file)
    ]


def test_an_exact_name_goes_before_a_pattern(tmp_path):
    """``imp[1].csv`` is that file, though it would match ``imp1.csv`` too."""
    write(tmp_path / "imp[1].csv", "a")
    write(tmp_path / "imp1.csv", "b")
    assert names(configure(tmp_path, "imp[1].csv")) == ["imp[1].csv"]
    (tmp_path / "imp[1].csv").unlink()
    assert names(configure(tmp_path, "imp[1].csv")) == ["imp1.csv"]


def test_a_file_uri_is_a_path(tmp_path):
    """Its blanks may be encoded, as in `Path.as_uri`."""
    write(tmp_path / "the log" / "imp-1.csv", "a")
    uri = (tmp_path / "the log").as_uri()
    assert "%20" in uri
    assert names(configure(tmp_path, f"{uri}/imp-*.csv")) == [str(tmp_path / "the log/imp-1.csv")]


def test_a_file_that_is_named_twice_is_read_once_and_validate_says_so(tmp_path):
    """By two patterns, and by a link."""
    write(tmp_path / "imp-1.csv", "a")
    os.symlink("imp-1.csv", tmp_path / "imp-2.csv")
    config = configure(tmp_path, ["imp-*.csv", "imp-1.csv"])
    assert names(config) == ["imp-1.csv"]
    assert headrace.validate(config).warnings == (
        "impressions.path: imp-*.csv and imp-1.csv both name imp-1.csv, which is read once "
        "(and 1 more are like this)",
    )
    config = configure(tmp_path, "imp-*.csv")
    assert headrace.validate(config).warnings == (
        "impressions.path: imp-1.csv and imp-2.csv are one file, which is read once",
    )
    assert samples(config, tmp_path / "out") == {"a": ()}
    (tmp_path / "sub").mkdir()
    config = configure(tmp_path, ["imp-1.csv", "sub/../imp-1.csv"])
    assert headrace.validate(config).warnings == (
        "impressions.path: imp-1.csv and sub/../imp-1.csv both name imp-1.csv, which is read once",
    )


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_folders_give_columns(tmp_path, form):
    """Text with its URL encoding undone, or of a declared type; null is Hive's own word."""
    write(tmp_path / f"date=2026-01-01/hour=3/city=S%C3%A3o/p.{form}", "a")
    write(tmp_path / f"date=__HIVE_DEFAULT_PARTITION__/hour=12/city=x/p.{form}", "b", "c")
    config = configure(
        tmp_path, f"date=*/**/*.{form}", 'types = { hour = "int64" }',
        "[monitor]\nslices = ['date']\n[learner]\nlabel = 'click'\n"
        "features.categorical = ['city', 'date']\nfeatures.numeric = { hour = 'linear' }",
    )  # fmt: skip
    assert samples(config, tmp_path / "out", "date", "hour", "city") == {
        "a": ("2026-01-01", 3, "São"),
        "b": (None, 12, "x"),
        "c": (None, 12, "x"),
    }


def test_a_folder_can_be_part_of_the_key(tmp_path):
    """Also of a stream whose rows are in no order."""
    write(tmp_path / "site=x/imp.csv", "a")
    write(tmp_path / "site=y/imp.csv", "a")
    config = configure(tmp_path, "*/imp.csv", 'order = "sort"')
    text = config.read_text().replace('key = ["id"]', 'key = ["id", "site"]')
    config.write_text(text)
    (tmp_path / "clicks.csv").write_text(f"id,time,site\na,{S},y\n")
    result = headrace.replay(config, tmp_path / "out")
    rows = result.samples.to_table(columns=["site", "click"]).to_pylist()
    assert {row["site"]: row["click"] for row in rows} == {"x": False, "y": True}


def test_a_column_of_the_file_goes_before_that_of_its_folder(tmp_path):
    """And a file in no such folder has a null."""
    write(tmp_path / "site=x/imp.csv", "a", site=["own"])
    write(tmp_path / "site=x/other.csv", "b")
    write(tmp_path / "top.csv", "c")
    config = configure(tmp_path, "**/[ito]*.csv")
    assert samples(config, tmp_path / "out", "site") == {"a": ("own",), "b": ("x",), "c": (None,)}


def test_only_folders_that_the_path_covers_give_columns(tmp_path):
    """Those above the configuration's are where it happens to be."""
    write(tmp_path / "env=test/site=x/imp.csv", "a")
    config = configure(tmp_path / "env=test", "*/imp.csv")
    columns = headrace.replay(config, tmp_path / "out").samples.schema.names
    assert "site" in columns
    assert "env" not in columns


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ('types = { hour = "int64" }',
         "impressions.types.hour: the folder hour=x1 is not int64, of hour=x1/imp.csv (got 'x1')"),
        ('types = { day = "int64" }', "impressions.types.day: no such column"),
    ],
)  # fmt: skip
def test_a_folder_whose_value_is_of_another_type_is_refused(tmp_path, stream, said):
    """In one line, with file and value."""
    write(tmp_path / "hour=2/imp.csv", "a")
    write(tmp_path / "hour=x1/imp.csv", "b")
    with pytest.raises(headrace.ConfigError) as refused:
        headrace.validate(configure(tmp_path, "*/imp.csv", stream))
    assert said in str(refused.value)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    """What was read before and after does not belong together."""
    write(tmp_path / "imp.csv", *(f"a{row}" for row in range(1_000)))
    inputs = resolve(headrace.load_config(configure(tmp_path, "imp.csv")), ALGORITHMS)
    (log,) = inputs.logs_of(0)
    assert [chunk.end for chunk in log.chunks(10_000)] == [1_000]
    chunks = log.chunks(10_000)
    next(chunks)
    write(tmp_path / "imp.csv", "b")
    with pytest.raises(headrace.HeadraceError, match=r"imp.csv: has changed since"):
        list(chunks)
    with pytest.raises(headrace.HeadraceError, match=r"imp.csv: has changed since"):
        list(log.chunks(10_000))
    (tmp_path / "imp.csv").unlink()
    with pytest.raises(headrace.HeadraceError, match=r"imp.csv: cannot be read after record 0 \("):
        list(log.chunks(10_000))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("ftp://host/x.csv", "has an unknown scheme (got 'ftp://host/x.csv'); use a path, or one"
         " of s3://, gs://, hdfs://, file://"),
        ("s3:///x.csv", "has no bucket (got 's3:///x.csv'); write s3://bucket/path"),
        ("file://host/x.csv", "names another machine (got 'file://host/x.csv'); write file:///"),
        ("s3://K:S@b/x.csv?password=S",
         "cannot be used (Unexpected query parameter in S3 URI: 'password') (got 's3://b/x.csv')"),
        ("hdfs://host/x.csv", "needs Java and Hadoop's libhdfs"),
    ],
)  # fmt: skip
def test_a_uri_that_cannot_be_used_is_refused(tmp_path, path, said):
    """In one line, without its password."""
    with pytest.raises(headrace.ConfigError) as refused:
        names(configure(tmp_path, path))
    assert f"impressions.path: {said}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (ValueError("has no bucket; write it"), ("has no bucket", "write it")),
        (FileNotFoundError(2, "no such file"), ("does not exist", "")),
        (
            PermissionError(13, "Permission denied", "/x"),
            ("cannot be read (Permission denied)", ""),
        ),
        (OSError("AWS Error NO_SUCH_BUCKET during X"), tuple(NO_BUCKET.split("; "))),
        (OSError("Lost\nand more"), ("cannot be used (Lost)", "check the URI and the network")),
    ],
)
def test_an_error_of_a_filesystem_becomes_a_fact_and_a_hint(error, meaning):
    """In one line, and about credentials only if they are wrong."""
    assert explain(error) == meaning
    for text in ("AWS Error ACCESS_DENIED during", "AWS Error SIGNATURE_DOES_NOT_MATCH", "403 x"):
        denied = explain(OSError(text))[0] == "access is denied"
        assert denied is text.startswith("AWS")
