"""Logs in an object store: read as files are, whatever the network does."""

from __future__ import annotations

import gzip
import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import headrace
from headrace.learners.registry import ALGORITHMS
from headrace.pipelines.app.cli import main
from headrace.pipelines.run.disk import files_under
from headrace.pipelines.sources.inputs import resolve
from tests.pipelines.outputs import contents
from tests.pipelines.rows import START as S
from tests.pipelines.store import KEY, SECRET

ROOT = Path(__file__).parents[2]
CONFIG = """
[impressions]
path = {impressions}
key = ["id"]
time = {{ column = "time", unit = "s" }}
[actions.click]
path = {clicks}
key = ["id"]
time = {{ column = "time", unit = "s" }}
window = "10m"
[actions.buy]
path = {buys}
key = ["id"]
time = {{ column = "time", unit = "s" }}
window = "10m"
[join]
end_of_log = "close"
[monitor]
slices = ["hour"]
[learner]
label = "click"
bits = 10
features.categorical = ["site", "hour"]
[replay]
batch_rows = 500
checkpoint = "0s"
"""
ROWS = 4_000


def write_log(folder):
    """Write impressions as Parquet with several row groups, clicks and buys as packed text."""
    for hour in range(2):
        rows = range(hour * ROWS, (hour + 1) * ROWS)
        table = pa.table({
            "id": [f"k{row}" for row in rows],
            "time": [S + row for row in rows],
            "site": [f"site {row % 7}" for row in rows],
        })  # fmt: skip
        path = folder / f"imp/hour={hour}/part é [0].parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table, path, row_group_size=1_000)
    acted = range(0, 2 * ROWS, 3)
    lines = ["id,time", *(f"k{row},{S + row + 5}" for row in acted), "broken"]
    (folder / "clicks.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    records = "".join(json.dumps({"id": f"k{row}", "time": S + row + 9}) + "\n" for row in acted)
    (folder / "buys.jsonl.zst").write_bytes(zstandard.compress(records.encode()))


def configure(folder, base, tail="", impressions="/imp/*/*.parquet"):
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"impressions": impressions, "clicks": "/clicks.csv.gz", "buys": "/buys.json*.zst"}
    text = CONFIG.format(**{name: json.dumps(base + path + tail) for name, path in paths.items()})
    (folder / "join.toml").write_text(text)
    return folder / "join.toml"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A log, and what a replay of it as local files gives."""
    folder = tmp_path_factory.mktemp("remote")
    write_log(folder / "log")
    config = configure(folder, "log")
    headrace.replay(config, folder / "out")
    return folder


@pytest.fixture
def uploaded(log, store, tmp_path):
    """The configuration of the log in the store."""
    store.put_tree(log / "log", "logs/a b")
    return configure(tmp_path, "s3://logs/a b", store.query)


def comparable(out):
    """Return the outputs that do not name files or the configuration."""
    found = contents(out)
    return {
        name: data
        for name, data in found.items()
        if name.startswith(("samples", "model")) and "manifest" not in name
    }


def check_equal(log, out):
    assert comparable(out) == comparable(log / "out")
    ours, theirs = (headrace.load_result(one) for one in (out, log / "out"))
    assert ours.summary.outcomes == theirs.summary.outcomes
    assert ours.summary.outcomes["click"]["invalid"] == 1


def test_objects_are_read_as_files_are(log, uploaded, tmp_path):
    """Through wildcards, packed or not, with the columns that folders give."""
    result = headrace.replay(uploaded, tmp_path / "out")
    check_equal(log, tmp_path / "out")
    (letter,) = result.dead_letters.to_table().to_pylist()
    assert letter["source"] == "s3://logs/a b/clicks.csv.gz"
    validation = headrace.validate(uploaded)
    assert [stream.files for stream in validation.streams] == [2, 1, 1]


def test_a_run_ends_by_itself_and_reads_from_the_store_through_a_command(log, uploaded, tmp_path):
    """Threads of the storage's library neither hold the process nor crash it at its end."""
    command = [sys.executable, "-m", "headrace", "replay", str(uploaded), "--out"]
    done = subprocess.run(
        [*command, str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, done.stderr)
    assert "Traceback" not in done.stderr
    check_equal(log, tmp_path / "out")


def test_local_runs_do_not_start_the_library_of_s3(log, uploaded):
    """Its threads and its shutdown concern only who uses it."""
    script = (
        "import glob, sys; from headrace.pipelines.app.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "names = [open(path).read() for path in glob.glob('/proc/self/task/*/comm')]\n"
        "print(code, any(name.startswith('AwsEventLoop') for name in names))\n"
    )
    for config, started in ((log / "join.toml", "False"), (uploaded, "True")):
        done = subprocess.run(
            [sys.executable, "-c", script, "validate", str(config)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == f"0 {started}", done.stderr


@pytest.mark.parametrize(
    "fault",
    [
        lambda number, method, path: 503 if number % 2 else None,
        lambda number, method, path: None if number % 3 else 500,
        lambda number, method, path: 0.02,
    ],
    ids=["every other request is refused", "one of three fails", "slow"],
)
def test_a_server_that_fails_or_is_slow_changes_no_byte(log, uploaded, tmp_path, store, fault):
    """Requests are repeated."""
    store.fault = fault
    headrace.replay(uploaded, tmp_path / "out")
    check_equal(log, tmp_path / "out")


def test_a_server_that_fails_for_good_ends_the_run_in_one_line(
    log, uploaded, tmp_path, store, capsys
):
    """And when it is back, the run continues where it was."""
    reads = itertools.count()
    store.fault = lambda number, method, path: (
        500 if method == "GET" and "hour=1" in path and next(reads) > 4 else None
    )
    command = ["replay", str(uploaded), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "s3://logs/a b/imp/hour=1/part é [0].parquet: cannot be read after record " in said
    assert "with --resume to continue" in said
    assert not (tmp_path / "out" / "seal.json").exists()
    store.fault = lambda number, method, path: None
    assert main([*command, "--resume"]) == 0
    assert capsys.readouterr().err == ""
    check_equal(log, tmp_path / "out")


@pytest.mark.parametrize("name", ["imp/hour=1/part é [0].parquet", "clicks.csv.gz"])
@pytest.mark.parametrize("how", ["other bytes", "same size", "deleted"])
def test_an_object_that_changes_during_a_run_is_refused(
    uploaded, tmp_path, store, name, how, capsys
):
    """Reading a part of an overwritten object gives a part of the new one, without an error."""
    before = store.tree("logs")[f"a b/{name}"]
    inputs = resolve(headrace.load_config(uploaded), ALGORITHMS)
    (log,) = (log for log in inputs.logs if log.name.endswith(name))
    chunks = log.chunks(500)
    next(chunks)
    if how == "deleted":
        store.filesystem.delete_file(f"logs/a b/{name}")
        with pytest.raises(headrace.HeadraceError, match=r"cannot be read after record \d+ \("):
            list(chunks)
        return
    after = before[:-8] + bytes([before[-8] ^ 1]) + before[-7:] if how == "same size" else b"PAR1"
    store.put(f"logs/a b/{name}", after)
    with pytest.raises(headrace.HeadraceError, match="has changed since the run began"):
        list(chunks)
    store.put(f"logs/a b/{name}", before)


def test_an_object_that_changes_during_a_replay_ends_it_with_nothing_published(
    uploaded, tmp_path, store, capsys
):
    """Though its last byte had been read by then, without an error."""
    name = "logs/a b/imp/hour=0/part é [0].parquet"
    before = store.tree("logs")[name.removeprefix("logs/")]
    reads = itertools.count()

    def fault(number, method, path):
        if method == "GET" and "hour=0" in path and next(reads) == 8:
            store.put(name, before + b"x")

    store.fault = fault
    command = ["replay", str(uploaded), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert next(reads) > 8
    assert said == (
        f"headrace: s3://{name}: has changed since the run began; "
        "run the same command again when nothing writes to it\n"
    )
    assert not (tmp_path / "out" / "seal.json").exists()


def run_killed(config, out, checkpoints):
    driver = [sys.executable, "-m", "tests.pipelines.driver", "kill", str(checkpoints)]
    done = subprocess.run(
        [*driver, "replay", str(config), "--out", str(out), "--quiet"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_killed_run_resumes_unless_an_object_has_changed(log, uploaded, tmp_path, store, capsys):
    """It is compared by its ETag, size and time, as files are by their ends."""
    out = tmp_path / "out"
    run_killed(uploaded, out, 1)
    clicks = store.tree("logs")["a b/clicks.csv.gz"]
    command = ["replay", str(uploaded), "--out", str(out), "--quiet", "--resume"]
    store.put("logs/a b/clicks.csv.gz", gzip.compress(gzip.decompress(clicks), mtime=1))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "s3://logs/a b/clicks.csv.gz has changed since the checkpoint" in said
    assert main([*command[:-1]]) == 0
    check_equal(log, out)


def test_credentials_are_nowhere(log, tmp_path, store, capsys):
    """Neither in a result or a checkpoint, nor in what is printed or raised."""
    store.put_tree(log / "log", "logs/x")
    config = configure(tmp_path, f"s3://{KEY}:{SECRET}@logs/x", store.query)
    out = tmp_path / "out"
    run_killed(config, out, 1)
    assert not [path for path in files_under(out).values() if SECRET.encode() in path.read_bytes()]
    assert main(["replay", str(config), "--out", str(out), "--resume"]) == 0
    assert main(["validate", str(config)]) == 0
    held = [path for path in files_under(out).values() if SECRET.encode() in path.read_bytes()]
    assert held == []
    text = config.read_text()
    for old, new in (
        ("imp/*/", "none/*/"), ("path =", "paths ="), ('"id"', '"none"'), ("@logs", "@log$"),
        ("path = ", "path = 7 # "), ("s3:", "s4:"), ("?scheme", "?word=1&scheme"),
    ):  # fmt: skip
        config.write_text(text.replace(old, new))
        assert main(["replay", str(config), "--out", str(out)]) == 2
        with pytest.raises(headrace.ConfigError) as refused:
            headrace.validate(config)
        assert SECRET not in "".join(map(repr, _chain(refused.value)))
        assert SECRET not in f"{refused.value.value}"
    config.write_text(text)
    assert SECRET not in repr(headrace.load_config(config))
    assert SECRET not in repr(resolve(headrace.load_config(config), ALGORITHMS))
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    assert KEY not in printed.out + printed.err


def _chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("path", "fault", "said"),
    [
        ("s3://nobucket/*.csv", None, "there is no such bucket (got 's3://nobucket/*.csv')"),
        ("s3://logs/none.csv", None, "no such file (got 's3://logs/none.csv')"),
        ("s3://logs/none/*.csv", None, "no such file (got 's3://logs/none/*.csv')"),
        ("s3://logs/x", None, "no such file (got 's3://logs/x'); to read a folder, write folder/*"),
        ("s3://logs/x/*.csv", 403, "access is denied (got 's3://logs/x/*.csv'); credentials"),
    ],
)
def test_what_cannot_be_found_is_said_in_one_line(tmp_path, store, path, fault, said):
    """Naming file and key of the configuration."""
    store.put("logs/x/a.csv", b"id,time\n")
    if fault:
        store.fault = lambda number, method, path: fault
    config = configure(tmp_path, path, store.query, impressions="")
    with pytest.raises(headrace.ConfigError) as refused:
        headrace.validate(config)
    assert f"impressions.path: {said}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "path",
    [
        "s3://logs/x.csv?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:1",
        "gs://anonymous@logs/x.csv?scheme=http&endpoint_override=127.0.0.1:1&retry_limit_seconds=1",
    ],
)
def test_an_endpoint_that_cannot_be_reached_is_said_in_one_line(tmp_path, store, path):
    """After some seconds of trying."""
    config = configure(tmp_path, path, impressions="")
    with pytest.raises(headrace.ConfigError) as refused:
        headrace.validate(config)
    assert "impressions.path: cannot be reached (" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_request_that_is_not_answered_is_repeated(log, uploaded, store):
    """After three seconds, though the server would answer in the end."""
    silent = itertools.count()
    store.fault = lambda number, method, path: (
        20.0 if method == "GET" and "clicks" in path and next(silent) == 0 else None
    )
    headrace.validate(uploaded)
    assert next(silent) > 1
