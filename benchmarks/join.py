"""The join alone, without learners and output files, compared with an offline left join.

Usage: ``python -m benchmarks.join`` (``make bench-join``). Prints, for one and two
action streams, windows of ten minutes and a day, 8 and 64 shards:

- events a second of reading Parquet, hashing, partitioning and joining with a
  durable journal on local disk, and of the join with its journal alone;
- the same files joined by polars, all in memory;
- whether an event costs the same in a log sixteen times as long.

Every row is measured in a separate process. Machines are noisy: compare within one table.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.replay import OUT

IMPRESSIONS = 2_000_000
WINDOWS = {"10m": 1_000, "24h": 20}
"""Window, and impressions per second that make the log longer than the window."""


def make_log(folder: Path, impressions: int, rate: int) -> Path:
    """Generate a clean log once, with clicks and conversions."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from headrace.pipelines.jobs.generate import Traffic, write_traffic

    if not (folder / "conversions.parquet").exists():
        write_traffic(Traffic(impressions=impressions, rate=rate, clean=True), folder)
        clicks = pq.read_table(folder / "clicks.parquet")
        later = clicks.set_column(
            clicks.schema.get_field_index("time"), "time", pc.add(clicks["time"], 60_000_000)
        )
        pq.write_table(later.slice(0, later.num_rows // 2), folder / "conversions.parquet")
    return folder


def configure(folder: Path, window: str, actions: int, shards: int) -> Path:
    """Write a configuration of a join alone."""
    streams = [("click", "clicks"), ("conversion", "conversions")][:actions]
    text = '[impressions]\npath = "impressions.parquet"\nkey = ["request_id"]\n'
    text += 'time = { column = "time", unit = "us" }\n'
    for name, file in streams:
        text += (
            f'[actions.{name}]\npath = "{file}.parquet"\nkey = ["request_id"]\n'
            f'time = {{ column = "time", unit = "us" }}\nwindow = "{window}"\n'
        )
    path = folder / f"join-{window}-{actions}-{shards}.toml"
    path.write_text(text + f'[join]\nshards = {shards}\nend_of_log = "close"\n')
    return path


def headrace(config: Path) -> dict[str, float]:
    """Join a log with the pure core and its journal; samples are counted and dropped."""
    from headrace.joiner.join import ShardJoin
    from headrace.learners.registry import parameter_models
    from headrace.pipelines.jobs.summary import peak_rss_mb
    from headrace.pipelines.run.memory import choose_pool
    from headrace.pipelines.run.spill import CACHE_BYTES, FileCells
    from headrace.pipelines.run.threads import Prefetcher
    from headrace.pipelines.sources.inputs import resolve
    from headrace.pipelines.sources.merge import read_blocks
    from headrace.schemas.config.loading import load_config

    choose_pool()  # as the command line does
    inputs = resolve(load_config(config, parameter_models()))
    shards = inputs.join.shards
    events = samples = 0
    joining = 0.0
    with tempfile.TemporaryDirectory(dir=config.parent) as scratch:
        joins = [ShardJoin(inputs.join, n, CACHE_BYTES // shards) for n in range(shards)]
        stores = [FileCells(Path(scratch) / str(n), durable=True) for n in range(shards)]
        started = time.perf_counter()
        for block in Prefetcher(read_blocks(inputs, inputs.config.batch_rows, scratch)):
            began = time.perf_counter()
            for join, cells, envelope in zip(joins, stores, block.envelopes, strict=True):
                output = join.apply(envelope, cells)
                join.emit(output)
                samples += sum(batch.num_rows for batch in output.samples)
            joining += time.perf_counter() - began
            events += block.end - block.begin
        seconds = time.perf_counter() - started
        for cells in stores:
            cells.close()
    impressions = sum(join.tally.position[0] for join in joins) // shards
    assert samples == impressions
    return {"events": events, "seconds": seconds, "joining": joining, "mb": peak_rss_mb()}


def offline(config: Path) -> dict[str, float]:
    """Join the same files with polars."""
    import polars as pl

    from headrace.learners.registry import parameter_models
    from headrace.pipelines.jobs.summary import peak_rss_mb
    from headrace.schemas.config.loading import load_config

    loaded = load_config(config, parameter_models())
    started = time.perf_counter()
    labelled = shown = pl.read_parquet(config.parent / "impressions.parquet")
    events = shown.height
    for name, action in loaded.actions.items():
        came = pl.read_parquet(config.parent / action.path[0])
        events += came.height
        delay = pl.col("action_time") - pl.col("time")
        first = (
            shown.select("request_id", "time")
            .join(came.select("request_id", action_time="time"), on="request_id")
            .filter((delay >= 0) & (delay < action.window))
            .group_by("request_id")
            .agg(pl.col("action_time").min().alias(f"{name}_time"), pl.len().alias(f"{name}_count"))
        )
        labelled = labelled.join(first, on="request_id", how="left")
    assert labelled.height == shown.height
    return {"events": events, "seconds": time.perf_counter() - started, "mb": peak_rss_mb()}


def _run(which: str, config: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.join", "--run", which, str(config)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(re.findall(r"^\{.*\}$", done.stdout, re.M)[-1])
    return found


def _line(name: str, row: dict[str, float], rival: dict[str, float] | None = None) -> None:
    alone = row["events"] / row["joining"] if "joining" in row else None
    said = "" if alone is None else f"{alone:>13,.0f}"
    part = ""
    if rival is not None:
        part = f"{row['events'] / row['seconds'] / (rival['events'] / rival['seconds']):>10.2f}"
    print(
        f"{name:<34}{row['events']:>11,.0f}{row['events'] / row['seconds']:>12,.0f}{said:>13}"
        f"{row['mb']:>9,.0f}{part}"
    )


def main() -> None:
    """Run all, or one row for the process that measures it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", nargs=2)
    options = parser.parse_args()
    if options.run:
        which, config = options.run
        print(json.dumps({"headrace": headrace, "offline": offline}[which](Path(config))))
        return
    print(
        f"{'':<34}{'events':>11}{'events/s':>12}{'join alone':>13}{'peak MB':>9}{'of polars':>10}"
    )
    for window, rate in WINDOWS.items():
        folder = make_log(OUT / f"join-{window}", IMPRESSIONS, rate)
        for actions in (1, 2):
            rival = _run("offline", configure(folder, window, actions, 8))
            _line(f"polars, {window}, {actions} action(s)", rival)
            for shards in (8, 64):
                config = configure(folder, window, actions, shards)
                _run("headrace", config) if (window, actions, shards) == ("10m", 1, 8) else None
                row = _run("headrace", config)
                _line(f"headrace, {window}, {actions} action(s), {shards} shards", row, rival)
    for millions in (1, 2, 4, 8, 16):
        folder = make_log(OUT / f"join-{millions}m", millions * 1_000_000, 1_000)
        row = _run("headrace", configure(folder, "10m", 1, 8))
        _line(f"headrace, 10m, {millions} M impressions", row)


if __name__ == "__main__":
    main()
