"""Which source of a run that does not end is read next."""

from collections import deque

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.learners.registry import parameter_models
from headrace.pipelines.sources.inputs import resolve
from headrace.pipelines.sources.livemerge import Keepers, LiveMerge, Patience
from headrace.pipelines.sources.source import SourceState
from headrace.pipelines.sources.sourcereader import SourceReader
from headrace.schemas.config.durations import MINUTE, SECOND
from headrace.schemas.config.loading import load_config

START = 1_767_225_600 * SECOND

CONFIG = """
[impressions]
path = "impressions.parquet"
key = ["key"]
time = { column = "time", unit = "us" }
[actions.click]
path = "clicks.parquet"
key = ["key"]
time = { column = "time", unit = "us" }
window = "10m"
[learner]
label = "click"
epoch = "EPOCH"
"""


class Log:
    """A log of which nothing comes from a position on while `silent` says so."""

    def __init__(self, log, position, silent):
        self.log, self.position, self.silent = log, position, silent
        self.number, self.stream, self.name = log.number, log.stream, log.name

    def chunks(self, rows, skip=0):
        for chunk in self.log.chunks(1, skip):
            while chunk.begin >= self.position and self.silent():
                yield None
            yield chunk


@pytest.mark.parametrize("epoch", ["10s", "1h"])
def test_an_idle_source_stops_nobody_and_is_read_when_it_wakes_up(tmp_path, epoch):
    """However far it is from the others, and although they have ended, or are in one epoch."""
    for name, count in (("impressions", 90), ("clicks", 60)):
        time = [START + n * MINUTE for n in range(count)]
        pq.write_table(pa.table({"time": time, "key": [str(t) for t in time]}),
                       tmp_path / f"{name}.parquet")  # fmt: skip
    (tmp_path / "join.toml").write_text(CONFIG.replace("EPOCH", epoch))
    inputs = resolve(load_config(tmp_path / "join.toml", parameter_models()))
    now, read, ended = 0.0, {0: 0, 1: 0}, set()

    def sleep(seconds):
        nonlocal now
        now += seconds
        assert now < 60, f"nobody is read any more: {read}"

    logs = [Log(inputs.logs[0], 15, lambda: 1 not in ended), Log(inputs.logs[1], 99, lambda: False)]
    readers = [
        SourceReader(inputs, log, str(tmp_path), SourceState.at(0), deque(), 10 * SECOND)
        for log in logs
    ]  # fmt: skip
    keepers = Keepers(lambda numbers: {0: 15, 1: 60}, lambda raised: None, lambda *stalled: None)
    patience = Patience(1.0, 100.0, MINUTE)
    for block in LiveMerge(inputs, readers, 5, patience, keepers, lambda: now, sleep):
        if block is None:
            continue
        read[block.source] += block.end - block.begin
        if block.state.ended:
            ended.add(block.source)
    assert read == {0: 90, 1: 60}
