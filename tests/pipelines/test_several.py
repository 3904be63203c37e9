"""One output at several places."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from headrace.pipelines.sinks.several import Several
from headrace.pipelines.sinks.sink import Mark
from tests.pipelines.livejobs import Job, opened, rows_at, seconds, three_hours, tree


def both(out):
    out.mkdir(exist_ok=True)
    return Several([opened(out / "one"), opened(out / "other", epoch=60_000_000)])


@pytest.mark.parametrize("at", [3, 4, 8, 9, 11])
def test_each_place_has_what_it_would_have_alone(tmp_path, at):
    """Also after a crash: each resumes from its own part of a mark, with its own rows."""
    script = three_hours()
    for name, open_sink in (("one", opened), ("other", lambda out: opened(out, 60_000_000))):
        (tmp_path / name).mkdir()
        Job(tmp_path / name, script, open_sink).play()
    job = Job(tmp_path, script[:at], both)
    job.play()
    job.script = script
    job.play()
    for name in ("one", "other"):
        assert tree(tmp_path / "out" / name) == tree(tmp_path / name / "out")


def test_a_mark_holds_the_rows_of_each(tmp_path):
    sinks = both(tmp_path)
    sinks.append(rows_at(*seconds(1, 11, 12)))
    sinks.complete_until(seconds(13)[0])
    mark = sinks.commit()
    assert mark.held.num_rows == 2 + 3
    assert [noted["held"] for noted in mark.committed["sinks"]] == [2, 3]
    resumed = both(tmp_path)
    resumed.resume(Mark(json.loads(json.dumps(mark.committed)), mark.held))
    assert resumed.commit().held.equals(mark.held)


def test_schemas_that_differ_are_refused(tmp_path):
    one, other = opened(tmp_path / "one"), opened(tmp_path / "other")
    other.schema = pa.schema([("x", pa.int64())])
    with pytest.raises(ValueError, match="different schemas"):
        Several([one, other])
