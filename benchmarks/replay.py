"""A whole replay compared with its rivals, on one machine.

Usage: ``python -m benchmarks.replay`` (``make bench``). Prints, of three rounds, the median, least
and most events a second, what of the processor and the memory is used, and how many times as fast
as its rivals headrace is in the same round; of

- headrace: join, FTRL on 8 features and one cross, statistics, samples and model out, as its
  command line runs; on logs of three lengths, with a tenth of the negatives, from Parquet and text;
- the offline pipeline: a polars left join, a text file, and VW ``--ftrl`` on it; VW alone;
- the naive Beam join, once: one state cell and one timer per request id, on a part of the log.

Every row is measured in a separate process. Machines are noisy: compare within one table.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.textlogs import FORMATS, make_text

OUT = Path("bench-out")
MILLIONS = 1, 4, 16
ROUNDS = 3
RATE = 1_000
NAIVE_EVENTS = 20_000
USUAL = f"Parquet, {MILLIONS[1]} M"
Row = dict[str, Any]
"""What was measured: events, seconds and more."""
FEATURES = ("device", "os", "site", "ad", "campaign", "position", "hour", "price")


def make_log(folder: Path, impressions: int) -> Path:
    """Generate a clean log once, and the configuration of the benchmark."""
    from headrace.pipelines.jobs.generate import Traffic, write_traffic

    config = folder / "bench.toml"
    if not config.exists():
        write_traffic(Traffic(impressions=impressions, rate=RATE, clean=True), folder)
        text = (folder / "headrace.toml").read_text()
        for old, new in (
            ("negative_rate = 0.5", "negative_rate = 1.0"),
            ("bits = 20", "bits = 22"),
            ('"5s"', '"0s"'),
            ('columns = ["value"]\n', ""),
        ):
            assert old in text
            text = text.replace(old, new)
        config.write_text(text)
        (folder / "sampled.toml").write_text(text.replace("rate = 1.0", "rate = 0.1"))
    return config


def headrace(config: Path) -> Row:
    """Replay in a new process, as a user would."""
    out = config.parent / "out"
    command = [sys.executable, "-m", "benchmarks.measured", "replay", str(config)]
    started = time.monotonic()
    told = subprocess.run(
        [*command, "--out", str(out), "--quiet"], check=True, capture_output=True, text=True
    )
    wall = time.monotonic() - started
    used = json.loads(told.stdout.splitlines()[-1])
    summary = json.loads((out / "summary.json").read_text())
    events = sum(summary["input"].values())
    found = {"seconds": summary["elapsed_s"], "mb": summary["peak_rss_mb"]}
    return {"events": events, "wall": wall, **found, **used}


def naive_beam(folder: Path) -> Row:
    """Join with one state cell and one timer per request id."""
    import apache_beam as beam
    import pyarrow.parquet as pq
    from apache_beam.coders import PickleCoder
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms.timeutil import TimeDomain
    from apache_beam.transforms.userstate import BagStateSpec, TimerSpec, on_timer

    from headrace.pipelines.jobs.summary import peak_rss_mb

    class NaiveJoin(beam.DoFn):
        EVENTS = BagStateSpec("events", PickleCoder())
        SETTLE = TimerSpec("settle", TimeDomain.WATERMARK)

        def process(
            self,
            element: tuple[str, dict[str, Any]],
            events: Any = beam.DoFn.StateParam(EVENTS),  # noqa: B008
            settle: Any = beam.DoFn.TimerParam(SETTLE),  # noqa: B008
        ) -> Iterator[Any]:
            _, event = element
            events.add(event)
            if "device" in event:
                settle.set(event["time"] / 1e6 + 600)
            return iter(())

        @on_timer(SETTLE)
        def settled(self, events: Any = beam.DoFn.StateParam(EVENTS)) -> Iterator[Any]:  # noqa: B008
            shown = [event for event in events.read() if "device" in event]
            clicked = any("device" not in event for event in events.read())
            events.clear()
            for event in shown[:1]:
                yield {**event, "click": clicked}

    clicks = pq.read_table(folder / "clicks.parquet").to_pylist()
    shown = next(
        pq.ParquetFile(folder / "impressions.parquet").iter_batches(NAIVE_EVENTS)
    ).to_pylist()
    shown_ids = {event["request_id"] for event in shown}
    log = sorted(
        shown + [event for event in clicks if event["request_id"] in shown_ids],
        key=lambda event: event["time"],
    )
    started = time.monotonic()
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        samples = (
            pipeline
            | beam.Create(log)
            | beam.Map(
                lambda e: beam.window.TimestampedValue((e["request_id"], e), e["time"] / 1e6)
            )
            | beam.ParDo(NaiveJoin())
        )
        (
            samples
            | beam.combiners.Count.Globally()
            | beam.Map(lambda count: _expect(count, len(shown)))
        )
    seconds = time.monotonic() - started
    return {"events": len(log), "seconds": seconds, "mb": peak_rss_mb()}


def _expect(got: int, wanted: int) -> None:
    if got != wanted:
        raise AssertionError(f"expected {wanted} samples (got {got})")


def offline(folder: Path) -> Row:
    """Join with polars, write VW's text, learn from it with VW."""
    import polars as pl

    from headrace.pipelines.jobs.summary import peak_rss_mb

    started = time.monotonic()
    shown = pl.read_parquet(folder / "impressions.parquet")
    clicks = pl.read_parquet(folder / "clicks.parquet")
    first = clicks.group_by("request_id").agg(pl.col("time").min().alias("click_time"))
    labelled = shown.join(first, on="request_id", how="left").sort("time")
    delay = pl.col("click_time") - pl.col("time")
    label = pl.when((delay >= 0) & (delay < 600_000_000)).then(pl.lit("1")).otherwise(pl.lit("-1"))
    named = [pl.concat_str(pl.lit(f"{name}="), pl.col(name)) for name in FEATURES[:-1]]
    price = pl.concat_str(pl.lit("price:"), (pl.col("price") + 1).log())
    cross = pl.concat_str(pl.lit("x="), pl.col("device"), pl.lit("*"), pl.col("os"))
    text = labelled.select(
        pl.concat_str(label.alias("label"), pl.lit("|"), *named, price, cross, separator=" ")
    )
    text.write_csv(folder / "samples.vw", include_header=False, quote_style="never")
    learn(folder)
    seconds = time.monotonic() - started
    events = shown.height + clicks.height
    return {"events": events, "seconds": seconds, "mb": peak_rss_mb()}


def learn(folder: Path) -> None:
    """Have VW learn the text that `offline` has written."""
    from vowpalwabbit import Workspace

    workspace = Workspace(
        f"-d {folder / 'samples.vw'} --ftrl --ftrl_alpha 0.05 --ftrl_beta 1 --l1 0.5 --l2 1 "
        f"--loss_function logistic --link logistic -b 22 -f {folder / 'model.vw'} --quiet"
    )
    workspace.run_parser()
    workspace.finish()


def vw(folder: Path) -> Row:
    """Learn alone, from the text that `offline` has written."""
    import pyarrow.parquet as pq

    from headrace.pipelines.jobs.summary import peak_rss_mb

    started = time.monotonic()
    learn(folder)
    seconds = time.monotonic() - started
    events = pq.read_metadata(folder / "impressions.parquet").num_rows
    return {"events": events, "seconds": seconds, "mb": peak_rss_mb()}


RIVALS = {"naive_beam": naive_beam, "offline": offline, "vw": vw}


def _in_own_process(name: str, folder: Path) -> Row:
    command = [sys.executable, "-m", "benchmarks.replay", name, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: Row = json.loads(re.findall(r"^\{.*\}$", done.stdout, re.M)[-1])
    return found


def _rows() -> dict[str, Callable[[], Row]]:
    """Return what is measured in each round, by name; the first is what others are compared to."""
    configs = {of: make_log(OUT / f"{of}m", of * 1_000_000) for of in MILLIONS}
    short, usual = (configs[of].parent for of in MILLIONS[:2])
    headrace(configs[MILLIONS[0]])  # compiles the kernels
    rows: dict[str, Callable[[], Row]] = {USUAL: partial(headrace, configs[MILLIONS[1]])}
    rows["offline: polars, text, VW"] = partial(_in_own_process, "offline", usual)
    rows["VW alone on its text"] = partial(_in_own_process, "vw", usual)
    rows["a tenth of the negatives"] = partial(headrace, usual / "sampled.toml")
    for of in (MILLIONS[0], MILLIONS[2]):
        rows[f"Parquet, {of} M"] = partial(headrace, configs[of])
    for kind in FORMATS:
        rows[f"{kind}, {MILLIONS[0]} M"] = partial(headrace, make_text(short, kind))
    return rows


def speed(row: Row) -> float:
    """Return events a second."""
    return float(row["events"] / row["seconds"])


def _print(rounds: list[dict[str, Row]]) -> None:
    print(f"{'M events/s':<28}{'median':>8}{'least':>7}{'most':>7}{'us/event':>10}{'faults':>9}"
          f"{'peak MB':>9}{'headrace is':>13}")  # fmt: skip
    for name in rounds[0]:
        found = [of[name] for of in rounds]
        least, middle, most = (np.quantile([speed(row) for row in found], q) for q in (0, 0.5, 1))
        last = found[-1]
        cost = f"{last['processor_s'] / last['events'] * 1e6:.2f}" if "processor_s" in last else ""
        faults = f"{last['faults']:,}" if "faults" in last else ""
        times = sorted(speed(of[USUAL]) / speed(of[name]) for of in rounds)
        said = "" if "threads" in last else f"{times[len(times) // 2]:,.1f} x"
        print(f"{name:<28}{middle / 1e6:>8.3f}{least / 1e6:>7.3f}{most / 1e6:>7.3f}{cost:>10}"
              f"{faults:>9}{max(row['mb'] for row in found):>9,.0f}{said:>13}")  # fmt: skip


def main() -> None:
    """Run all, or one rival for the process that measures it."""
    if len(sys.argv) > 1:
        print(json.dumps(RIVALS[sys.argv[1]](Path(sys.argv[2]))))
        return
    rows = _rows()
    rounds = [{name: measure() for name, measure in rows.items()} for _ in range(ROUNDS)]
    naive = _in_own_process("naive_beam", OUT / f"{MILLIONS[1]}m")
    _print(rounds)
    ours = rounds[-1][USUAL]
    print(f"naive Beam join, {naive['events']:,.0f} events: {speed(naive):,.0f} events/s, "
          f"headrace is {speed(ours) / speed(naive):,.0f} x")  # fmt: skip
    by_thread = (f"{name} {s / ours['events'] * 1e6:.2f}" for name, s in ours["threads"].items())
    print(f"processor us an event, {USUAL}: {', '.join(by_thread)};",
          f"kernel {ours['kernel_s'] / ours['events'] * 1e6:.2f} of it")  # fmt: skip
    print(f"start of Python and imports, and its end: {ours['wall'] - ours['seconds']:.2f} s")


if __name__ == "__main__":
    main()
