"""Random schemas, values and damage in all formats: a replay does what the documents say."""

from __future__ import annotations

import datetime as dt
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, seed, settings

import headrace
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import replay as job
from headrace.pipelines.jobs import summary
from tests.pipelines.direct import run_directly
from tests.pipelines.fuzz.cases import UNMENDED, Case, cases
from tests.pipelines.fuzz.files import toml, write
from tests.pipelines.fuzz.model import Expected, expect, same
from tests.pipelines.outputs import contents

COMMON: Any = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture
def quickly(monkeypatch):
    """Leave out of a replay what takes most of the time of a small one, and has its own tests."""
    versions = {name: summary.version(name) for name in summary._PACKAGES}
    monkeypatch.setattr(summary, "version", versions.get)
    monkeypatch.setattr(job, "run_replay", run_directly)
    monkeypatch.setattr(job, "render_report", lambda *_: "")
    monkeypatch.setattr("os.fsync", lambda _: None)


def refusal(check: Any) -> str | None:
    """Return with what a configuration is refused, None if it is not; all else raises."""
    try:
        check()
    except headrace.ConfigError as error:
        assert error.file
        assert error.key
        assert error.hint or error.value is not None, str(error)
        assert "\n" not in str(error)
        return str(error)
    return None


def check(case: Case, folder: Path) -> str:
    """Replay a case, and compare all that comes out with what is expected."""
    expected = expect(case)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tables = write(case, folder)
    out = folder / "out"
    refused = refusal(lambda: headrace.validate(tables))
    assert not (refused and expected.sound), refused
    again = refusal(lambda: headrace.replay(tables, out))
    if "validate" in UNMENDED and refused and "all of the first" in refused or (
        "first file" in UNMENDED and again and "outside 1970 to 2099" in again
    ):  # fmt: skip
        return "refused"
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
    assert rows.keys() <= expected.samples.keys(), (rows.keys() - expected.samples.keys(), expected.samples.keys())
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
@settings(max_examples=500, **COMMON)
@given(case=cases())
def test_a_replay_does_what_the_documents_say(tmp_path_factory, case):
    check(case, tmp_path_factory.getbasetemp() / "fuzz")
