"""Many files as one sequence of blocks."""

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.learners.registry import parameter_models
from headrace.pipelines.sources.inputs import resolve
from headrace.pipelines.sources.merge import read_blocks
from headrace.schemas.config.durations import HOUR, MINUTE, SECOND
from headrace.schemas.config.loading import load_config

START = 1_767_225_600 * SECOND

CONFIG = """
[impressions]
path = "impressions-*.parquet"
key = ["key"]
time = { column = "time", unit = "us" }
[actions.click]
path = "clicks.parquet"
key = ["key"]
time = { column = "time", unit = "us" }
window = "10m"
[join]
shards = 2
end_of_log = "close"
"""


def write(path, begin, count, step):
    time = [START + begin + n * step for n in range(count)]
    pq.write_table(pa.table({"time": time, "key": [f"{path.stem}/{t}" for t in time]}), path)


def test_a_source_that_is_hours_ahead_waits_for_the_others(tmp_path):
    """Only its first event is read until the others have caught up."""
    write(tmp_path / "impressions-a.parquet", 0, 600, MINUTE)
    write(tmp_path / "impressions-b.parquet", 6 * HOUR, 600, MINUTE)
    write(tmp_path / "clicks.parquet", 30 * SECOND, 600, MINUTE)
    path = tmp_path / "join.toml"
    path.write_text(CONFIG)
    inputs = resolve(load_config(path, parameter_models()))
    rows = 20
    read = {}
    for block in read_blocks(inputs, rows, str(tmp_path)):
        if block.end > block.begin:
            read[block.source] = block.state.greatest
        others = [time for number, time in read.items() if number != block.source]
        if block.begin and block.end > block.begin and len(read) == 3:
            # The block begins where its source was no further than the others.
            assert block.state.greatest - rows * MINUTE <= min(others) + rows * MINUTE or (
                min(others) >= START + 599 * MINUTE
            )
    assert read[0] == START + 599 * MINUTE
    assert read[1] == START + 6 * HOUR + 599 * MINUTE


def test_progress_rises_in_steps_through_the_last_window(tmp_path):
    """When the last source has ended, so that only a little settles in each step."""
    write(tmp_path / "impressions-a.parquet", 0, 1_000, SECOND)
    write(tmp_path / "clicks.parquet", 0, 10, SECOND)
    path = tmp_path / "join.toml"
    path.write_text(CONFIG)
    inputs = resolve(load_config(path, parameter_models()))
    blocks = list(read_blocks(inputs, 100, str(tmp_path)))
    progress = [block.envelopes[0].progress for block in blocks if block.end == block.begin]
    end = START + 999 * SECOND
    # One of the two ended before; ten steps of a minute through the window of ten follow.
    assert progress[1:-1] == [end + n * MINUTE for n in range(1, 11)]
    assert progress[0] == progress[-1] > end + 10 * MINUTE
