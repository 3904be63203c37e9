"""A whole replay compared with its rivals, on one machine.

Usage: ``python -m benchmarks.replay`` (``make bench``). Prints events a second
and peak memory of

- headrace: Parquet in, join, FTRL on 8 features and one cross, statistics,
  samples and model out; of all negatives, and of a tenth of them;
- headrace on a log twice as long: what another event costs, without start-up;
- the naive Beam join: one state cell and one timer per request id, on a part of the log;
- the offline pipeline: a polars left join, a text file, and VW ``--ftrl`` on it.

Every row is measured in a separate process. Machines are noisy: compare within one table.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUT = Path("bench-out")
IMPRESSIONS = 2_000_000
RATE = 1_000
NAIVE_EVENTS = 20_000
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


def headrace(config: Path) -> dict[str, float]:
    """Replay in a new process, as a user would."""
    out = config.parent / "out"
    started = time.monotonic()
    command = [sys.executable, "-m", "headrace", "replay", str(config), "--out", str(out)]
    subprocess.run([*command, "--quiet"], check=True)
    wall = time.monotonic() - started
    summary = json.loads((out / "summary.json").read_text())
    return {
        "events": sum(summary["input"].values()),
        "seconds": summary["elapsed_s"],
        "wall": wall,
        "mb": summary["peak_rss_mb"],
    }


def naive_beam(folder: Path) -> dict[str, float]:
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
    return {"events": len(log), "seconds": seconds, "wall": seconds, "mb": peak_rss_mb()}


def _expect(got: int, wanted: int) -> None:
    if got != wanted:
        raise AssertionError(f"expected {wanted} samples (got {got})")


def offline(folder: Path) -> dict[str, float]:
    """Join with polars, write VW's text, learn from it with VW."""
    import polars as pl
    from vowpalwabbit import Workspace

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
    workspace = Workspace(
        f"-d {folder / 'samples.vw'} --ftrl --ftrl_alpha 0.05 --ftrl_beta 1 --l1 0.5 --l2 1 "
        f"--loss_function logistic --link logistic -b 22 -f {folder / 'model.vw'} --quiet"
    )
    workspace.run_parser()
    workspace.finish()
    seconds = time.monotonic() - started
    events = shown.height + clicks.height
    return {"events": events, "seconds": seconds, "wall": seconds, "mb": peak_rss_mb()}


RIVALS = {"naive_beam": naive_beam, "offline": offline}


def _in_own_process(name: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.replay", name, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(re.findall(r"^\{.*\}$", done.stdout, re.M)[-1])
    return found


def main() -> None:
    """Run all, or one rival for the process that measures it."""
    if len(sys.argv) > 1:
        print(json.dumps(RIVALS[sys.argv[1]](Path(sys.argv[2]))))
        return
    config = make_log(OUT / "2m", IMPRESSIONS)
    longer = make_log(OUT / "4m", 2 * IMPRESSIONS)
    headrace(config)  # compiles the kernels
    rows = {
        "headrace": headrace(config),
        "headrace, 10 % of negatives": headrace(config.parent / "sampled.toml"),
        "headrace, twice the log": headrace(longer),
        "naive Beam join": _in_own_process("naive_beam", config.parent),
        "polars + VW from text": _in_own_process("offline", config.parent),
    }
    ours = rows["headrace"]
    print(f"{'':<30}{'events':>11}{'seconds':>9}{'events/s':>11}{'peak MB':>9}{'headrace is':>13}")
    for name, row in rows.items():
        speed = row["events"] / row["seconds"]
        times = ours["events"] / ours["seconds"] / speed
        said = "" if name.startswith("headrace") else f"{times:,.1f} x"
        print(
            f"{name:<30}{row['events']:>11,.0f}{row['seconds']:>9.2f}{speed:>11,.0f}"
            f"{row['mb']:>9,.0f}{said:>13}"
        )
    twice = rows["headrace, twice the log"]
    further = (twice["events"] - ours["events"]) / (twice["seconds"] - ours["seconds"])
    print(f"another event, without start-up: {further:,.0f} events/s")
    print(f"headrace with the start of Python and Beam: {ours['wall']:.2f} s")


if __name__ == "__main__":
    main()
