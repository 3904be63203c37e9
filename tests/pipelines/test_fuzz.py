"""Random schemas, values and damage in all formats: a replay does what the documents say."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, seed, settings

import headrace
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import replay as job
from headrace.pipelines.jobs import summary
from tests.pipelines.direct import run_directly
from tests.pipelines.fuzz.cases import Case, cases
from tests.pipelines.fuzz.files import toml, write
from tests.pipelines.fuzz.model import Expected, expect, same

COMMON: Any = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture
def without_beam(monkeypatch):
    """Run without Beam, and look up versions once."""
    versions = {name: summary.version(name) for name in summary._PACKAGES}
    monkeypatch.setattr(summary, "version", versions.get)
    monkeypatch.setattr(job, "run_graph", run_directly)


@pytest.fixture
def quickly(monkeypatch, without_beam):
    """Leave out of a replay what takes most of the time of a small one, and has its own tests."""
    monkeypatch.setattr(job, "render_report", lambda *_: "")
    monkeypatch.setattr("os.fsync", lambda _: None)


def refusal(check: Any) -> str | None:
    """Return with what a configuration is refused, None if it is not; all else raises."""
    try:
        check()
    except headrace.ConfigError as refused:
        error = refused
    else:
        return None
    assert error.file
    assert error.key
    assert error.hint or error.value is not None, str(error)
    assert "\n" not in str(error)
    return str(error)


def fresh(case: Case, folder: Path) -> dict[str, Any]:
    """Write a case to an empty folder; return the tables of its configuration."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return write(case, folder)


def check(case: Case, folder: Path) -> str:
    """Replay a case, and compare all that comes out with what is expected."""
    expected = expect(case)
    tables = fresh(case, folder)
    out = folder / "out"
    refused = refusal(lambda: headrace.validate(tables))
    if refused and "all of the first" in refused:
        return "refused"  # a replay has a result, of which all is invalid
    # More than nine in ten first times out of range, or in another notation, are refused.
    assert not refused or "event times" in refused or not expected.sound, refused
    again = refusal(lambda: headrace.replay(tables, out))
    assert again == refused
    if refused:
        assert not out.exists()
        return "refused"
    result = headrace.load_result(out)
    assert not headrace.verify(out).problems
    counts = result.summary
    for stream, records in expected.input.items():
        assert counts.input[stream] == records, stream
        assert sum(counts.outcomes[stream].values()) == records, stream
        own = {name: number for name, number in counts.outcomes[stream].items() if number}
        assert own == dict(expected.outcomes[stream]), (stream, own)
        found = {
            column: sum(bad.count for bad in causes.values())
            for column, causes in counts.bad_values[stream].items()
        }
        assert found == expected.bad[stream], (stream, found, expected.bad[stream])
    check_letters(case, expected, pq.read_table(out / "dead_letters").to_pylist())
    check_samples(case, expected, pq.read_table(out / "samples"), counts.samples.negatives_dropped)
    for path in out.rglob("*.parquet"):
        assert len(pd.read_parquet(path)) == pq.read_metadata(path).num_rows
    model = headrace.load_model(result.models[case.tables["learner"]["label"]])
    p = model.predict_proba(result.samples.to_table())
    assert ((p >= 0) & (p <= 1)).all()
    return "replayed"


def check_letters(case: Case, expected: Expected, letters: list[dict[str, Any]]) -> None:
    found = {}
    for row in letters:
        number = Path(row["source"]).name.removeprefix(f"{row['stream']}-").partition(".")[0]
        found[row["stream"], int(number), row["offset"]] = row["reason"]
    assert len(found) == len(letters)
    assert found.keys() == expected.letters.keys(), letters
    for place, reason in found.items():
        assert reason in expected.letters[place], (place, reason)


def comparable(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else same(value)


def check_samples(case: Case, expected: Expected, samples: pa.Table, dropped: int) -> None:
    shown = case.streams[0]
    rows = {tuple(comparable(row[name]) for name in shown.key): row for row in samples.to_pylist()}
    assert len(rows) == samples.num_rows
    assert rows.keys() <= expected.samples.keys(), (
        rows.keys() - expected.samples.keys(),
        expected.samples.keys(),
    )
    assert rows.keys() >= expected.sure, expected.sure - rows.keys()
    assert dropped == len(expected.samples) - len(rows)
    for key, row in rows.items():
        for name, value in expected.samples[key].items():
            if name not in row and not expected.sound:
                continue
            got = row[name]
            if name.endswith("_time") and isinstance(value, int):
                got = round((got - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).total_seconds() * 1e6)
            assert same(got) == same(value), (name, got, value)


@pytest.mark.usefixtures("quickly")
@settings(max_examples=250, **COMMON)
@given(case=cases())
def test_a_replay_does_what_the_documents_say(tmp_path_factory, case):
    check(case, tmp_path_factory.getbasetemp() / "fuzz")


@pytest.mark.slow
@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("number", range(10), ids=lambda number: f"10,000 cases of seed {number}")
def test_many_replays_do_what_the_documents_say(tmp_path, number):
    @seed(number)
    @settings(max_examples=10_000, **{**COMMON, "derandomize": False})
    @given(case=cases())
    def run(case):
        check(case, tmp_path / "fuzz")

    run()


def command(tables: dict[str, Any], folder: Path) -> tuple[int, list[str]]:
    """Replay through the command line; return its exit code and the lines of its errors."""
    (folder / "join.toml").write_text(toml(tables), encoding="utf-8")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(["replay", str(folder / "join.toml"), "--out", str(folder / "out"), "--quiet"])
    return code, said.getvalue().splitlines()


@pytest.mark.usefixtures("without_beam")
@settings(max_examples=60, **COMMON)
@given(case=cases())
def test_exit_codes_say_what_became_of_a_log(tmp_path_factory, case):
    """0, 2 for a configuration that is refused, 3 if more than a fifth of a stream is invalid."""
    expected, folder = expect(case), tmp_path_factory.getbasetemp() / "fuzz"
    tables = fresh(case, folder)
    code, said = command(tables, folder)
    mostly = [
        stream
        for stream, records in expected.input.items()
        if expected.outcomes[stream]["invalid"] > 0.2 * records
    ]
    if code == 2:
        assert len(said) == 1, said
        assert not expected.sound or "event times" in said[0], said
    else:
        assert code == (3 if mostly else 0), said
        assert "<svg" in (folder / "out" / "report.html").read_text(encoding="utf-8")
        found = {
            line.partition(" records ")[2].split(" of ")[1].split()[0]
            for line in said
            if " records " in line
        }
        assert found == set(mostly)


@pytest.mark.usefixtures("quickly")
@settings(max_examples=60, **COMMON)
@given(case=cases())
def test_a_compressed_file_that_was_cut_fails_in_one_line(tmp_path_factory, case):
    """No result is left."""
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    tables = fresh(case, folder)
    packed = sorted(path for path in folder.iterdir() if path.suffix in (".gz", ".zst"))
    assume(packed)
    packed[-1].write_bytes(packed[-1].read_bytes()[:-3])
    code, said = command(tables, folder)
    assert code in (1, 2)
    assert len(said) == 1, said
    assert not (folder / "out" / "seal.json").exists()
