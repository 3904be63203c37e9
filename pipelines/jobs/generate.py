"""A traffic generator with known click probabilities.

Clicks follow a logistic model of the impression's columns, so the best
possible log loss and calibration are known; `headrace.pipelines.jobs.behaviour` has
what can be added to it. Unless it is to be clean, the log
also has the faults of real logs: duplicates, late and disordered records, clicks
without impression, clicks after the window, and (as text) broken lines.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from headrace.pipelines.jobs.behaviour import (
    APP_VERSIONS,
    REGIONS,
    THETA,
    daily,
    effect_of_hour,
    effect_of_region,
    effect_of_user,
    even_of_daily,
    examined,
    interactions,
    pages,
    positions,
    regions,
    site_of,
    slowness,
    without_user,
)
from headrace.pipelines.jobs.changes import as_often
from headrace.pipelines.jobs.faults import Fault, in_order
from headrace.pipelines.jobs.schedule import Schedule
from headrace.pipelines.run.disk import write_text
from headrace.schemas.config.durations import MINUTE, SECOND, format_duration

START = 1_767_225_600 * SECOND
"""2026-01-01 00:00 UTC."""

WINDOW = 10 * MINUTE
_CHUNK = 262_144
_GROUP_ROWS = 65_536
_DEVICES = ("phone", "desktop", "tablet", "tv")
_SYSTEMS = ("android", "ios", "windows", "macos", "linux")
_HEX = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), np.uint8).reshape(256, 2)

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Traffic:
    """What to generate.

    Parameters
    ----------
    impressions
        Number of impressions before faults are added.
    rate
        Impressions per second of event time.
    seed
        Equal seeds give equal logs.
    clean
        Whether to leave out all faults.
    click_rate
        Approximate share of impressions that are clicked.
    window
        Within so much after its impression, less than this, a click comes, microseconds; half
        of a smaller window has half of the delays.
    start
        The first event time, microseconds UTC.
    examination
        Whether impressions come on pages, whose positions are examined with different
        probabilities, and better ones are mostly higher.
    interactions
        Whether pairs of values add to the log-odds.
    delays_differ
        Whether clicks take longer on some devices.
    daily
        Whether the rates of impressions and clicks change with the hour of the day; `rate` is
        then the mean of a day.
    regions
        Whether impressions have a region and an app version.
    faults
        What changes stretches of the log; some need `regions`.
    """

    impressions: int = 200_000
    rate: int = 100
    seed: int = 1
    clean: bool = False
    click_rate: float = 0.05
    window: int = WINDOW
    start: int = START
    examination: bool = False
    interactions: bool = False
    delays_differ: bool = False
    daily: bool = False
    regions: bool = False
    faults: tuple[Fault, ...] = ()

    @property
    def end(self) -> int:
        """The event time at which the log ends, microseconds UTC."""
        even = self.impressions * SECOND // self.rate
        return self.start + (round(float(daily(np.array(float(even))))) if self.daily else even)

    @property
    def plain(self) -> bool:
        """Whether nothing is added to the additive model."""
        return not (self.examination or self.interactions or self.delays_differ)


@dataclass(frozen=True)
class Chances:
    """What is known of impressions and is no column, each float64, shape (n,).

    Parameters
    ----------
    p
        Probability that they are clicked.
    relevance
        The same if they are examined.
    of_columns
        Mean of `p` over all users that the columns leave open; None in plain traffic.
    """

    p: Floats
    relevance: Floats
    of_columns: Floats | None = None

    def changed(self, p: Floats, happens: npt.NDArray[np.bool_]) -> Chances:
        """Return those of the impressions that happen, which are clicked with other `p`."""
        factor = p / self.p
        of_columns = None
        if self.of_columns is not None:
            of_columns = as_often(self.of_columns, factor)[happens]
        return Chances(p[happens], as_often(self.relevance, factor)[happens], of_columns)


@dataclass(frozen=True)
class Generated:
    """What was written.

    Parameters
    ----------
    impressions, clicks
        How many records each log has.
    duration
        Event time from the first impression to the end, microseconds.
    """

    impressions: int
    clicks: int
    duration: int


def write_traffic(
    traffic: Traffic,
    folder: Path,
    form: str = "parquet",
    named: Callable[[str], str] = lambda name: name,
) -> Generated:
    """Write impressions, clicks, ``truth.json`` and a configuration to `folder`.

    Parameters
    ----------
    traffic
        What to generate.
    folder
        Created if it is missing.
    form
        ``parquet``; or ``text`` for ``impressions.csv.gz`` and
        ``clicks.jsonl.zst``, with broken lines unless the log is clean.
    named
        How the configuration names a file of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(traffic.seed)
    text = form == "text"
    names = ("impressions.csv.gz", "clicks.jsonl.zst") if text else (
        "impressions.parquet", "clicks.parquet"
    )  # fmt: skip
    writer = _TextWriter(folder / names[0]) if text else _ParquetWriter(folder / names[0])
    end = traffic.end
    schedule = schedule_of(traffic)
    clicks: list[pa.Table] = []
    added: list[pa.Table] = []
    rows = known = 0
    loss = loss_of_columns = relevance = 0.0
    delayed: pa.Table | None = None
    paced = daily if traffic.daily else evenly
    for number, begin in enumerate(range(0, traffic.impressions, _CHUNK)):
        count = min(_CHUNK, traffic.impressions - begin)
        shown, chances = impressions_of(traffic, random, begin, count, paced)
        clicked = clicks_of(traffic, shown, chances.p, random)
        if traffic.faults:
            part, happens = schedule.part(number, shown, chances.p, clicked)
            shown, clicked, chances = part.shown, part.clicks, chances.changed(part.p, happens)
            added += part.added
        known += chances.p.size
        loss += float(expected_loss(chances.p).sum())
        relevance += float(chances.relevance.sum())
        if chances.of_columns is not None:
            loss_of_columns += float(expected_loss(chances.of_columns).sum())
        clicks.append(clicked)
        if not traffic.clean:
            last = begin + count >= traffic.impressions
            shown, delayed = _disorder(traffic, shown, delayed, random, end, last)
        if traffic.faults:
            shown = schedule.settled(shown)
        rows += shown.num_rows
        writer.write(shown)
    writer.close(broken=not traffic.clean)
    clicked = pa.concat_tables(clicks)
    if not traffic.clean:
        clicked = _faulty(traffic, clicked, random, end)
    if traffic.faults:
        clicked = schedule.logged(clicked, added)
    clicked = _by_arrival(clicked)
    if text:
        _write_jsonl(clicked, folder / names[1], broken=not traffic.clean)
    else:
        # Readers hold a row group in memory; a single one would grow with the log.
        pq.write_table(clicked, folder / names[1], row_group_size=_GROUP_ROWS)
    truth: dict[str, object] = {
        "impressions": rows,
        "clicks": clicked.num_rows,
        "log_loss": loss / known,
    }
    if not traffic.plain:
        truth["log_loss_of_columns"] = loss_of_columns / known
        truth["relevance"] = relevance / known
    if traffic.examination:
        truth["theta"] = THETA
    if traffic.faults:
        truth["faults"] = schedule.as_json()
    write_text(folder / "truth.json", json.dumps(truth, indent=2) + "\n")
    shown_in, clicked_in = (f'path = "{named(name)}"' for name in names)
    if text and traffic.examination:
        shown_in += '\ntypes = { randomised = "bool" }'
    end_of_log = 'end_of_log = "close"  # every click of these impressions is in the log'
    config = configuration(
        shown_in, clicked_in, traffic.window, end_of_log, traffic.examination, traffic.regions
    )
    write_text(folder / "headrace.toml", config)
    return Generated(rows, clicked.num_rows, end - traffic.start)


def schedule_of(traffic: Traffic) -> Schedule:
    """Return the faults of traffic, of which none has changed anything yet."""
    return Schedule(
        in_order(traffic.faults), traffic.seed, traffic.start, traffic.window, traffic.rate,
        partial(clicks_on, traffic),
    )  # fmt: skip


def impressions_within(span: int, rate: int) -> int:
    """Return how many impressions a daily log of so many microseconds has, at least 1.

    Parameters
    ----------
    span
        From midnight, microseconds.
    rate
        The mean of a day, impressions per second.

    Examples
    --------
    >>> impressions_within(3 * 86_400 * SECOND, rate=10)
    2592000
    """
    return max(1, round(float(even_of_daily(np.array(float(span)))) * rate / SECOND))


def evenly(elapsed: Floats) -> Floats:
    """Return times as they are."""
    return elapsed


def impressions_of(
    traffic: Traffic,
    random: np.random.Generator,
    begin: int,
    count: int,
    paced: Callable[[Floats], Floats] = evenly,
) -> tuple[pa.Table, Chances]:
    """Return impressions, ordered by time, and the probabilities that they are clicked.

    Parameters
    ----------
    traffic
        What to generate.
    random
        Where chance comes from.
    begin, count
        The number of the first impression, and how many.
    paced
        Turns even times since the start, microseconds, into other ones; keeps their order.
    """
    elapsed = (begin + np.arange(count) + random.random(count)) * (SECOND / traffic.rate)
    time = traffic.start + paced(elapsed).astype(np.int64)
    device = random.choice(len(_DEVICES), count, p=[0.6, 0.25, 0.1, 0.05])
    system = random.choice(len(_SYSTEMS), count, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    ad = np.minimum(random.zipf(1.3, count), 5_000)
    user = random.integers(0, 50_000, count)
    position = random.integers(1, 6, count)
    hour = (time // (3600 * SECOND) % 24).astype(np.int64)
    price = np.round(random.lognormal(2.0, 1.0, count), 2)
    campaign = ad % 97
    if traffic.regions:
        region, version = regions(count, random)
    if traffic.examination:
        page = pages(count)
        device, system, user = device[page], system[page], user[page]
        if traffic.regions:
            region, version = region[page], version[page]
    site, of_user = site_of(user), effect_of_user(user)
    # Effects are fixed functions of the values, so that all chunks have the same.
    margin = (
        np.log(traffic.click_rate / (1 - traffic.click_rate))
        + np.array([0.3, -0.2, 0.1, -1.0])[device]
        + np.array([[0.2, -0.3, 0.0, 0.1, 0.0]] * 4)[device, system]
        + np.sin(ad * 12.9898) * 0.9
        + of_user
        - (0.0 if traffic.examination else 0.25) * (position - 1)
        - 0.1 * np.log1p(price)
        + 0.15
    )
    more: dict[str, object] = {}
    if traffic.daily:
        margin = margin + effect_of_hour(hour)
    if traffic.regions:
        margin = margin + effect_of_region(region, version)
        more["region"] = pa.array(REGIONS).take(pa.array(region))
        more["app_version"] = pa.array(APP_VERSIONS).take(pa.array(version))
    if traffic.interactions:
        margin = margin + interactions(site, ad, device, campaign)
    p = relevance = 1.0 / (1.0 + np.exp(-margin))
    of_columns = None if traffic.plain else without_user(margin - of_user, site)
    if traffic.examination:
        position, more["randomised"] = positions(relevance, random)
        p = relevance * examined(position)
        of_columns = None if of_columns is None else of_columns * examined(position)
    table = pa.table(
        {
            "request_id": hex_keys(random, count),
            "time": time,
            "device": pa.array(_DEVICES).take(pa.array(device)),
            "os": pa.array(_SYSTEMS).take(pa.array(system)),
            "site": pa.array([f"site-{i:03d}" for i in range(200)]).take(pa.array(site)),
            "ad": ad,
            "campaign": campaign,
            "position": position,
            "hour": hour,
            "price": price,
            **more,
        }
    )
    return table, Chances(p, relevance, of_columns)


def expected_loss(p: Floats) -> Floats:
    """Return the expected log loss of predictions that are right, shape (n,)."""
    loss: Floats = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    return loss


def hex_keys(random: np.random.Generator, count: int) -> pa.Array:
    """Return random keys of 32 hexadecimal digits."""
    text = _HEX[np.frombuffer(random.bytes(16 * count), np.uint8)].reshape(-1)
    offsets = np.arange(0, 32 * (count + 1), 32, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    )


def clicks_of(
    traffic: Traffic, shown: pa.Table, p: Floats, random: np.random.Generator
) -> pa.Table:
    """Return the clicks of impressions, in the order of these; each arrives at its time."""
    return clicks_on(traffic, shown, np.flatnonzero(random.random(p.size) < p), random)


def clicks_on(
    traffic: Traffic, shown: pa.Table, clicked: Int64s, random: np.random.Generator
) -> pa.Table:
    """Return a click on each of some rows of impressions, in their order."""
    # Most clicks come within seconds, one in fifty minutes later.
    slow = random.random(clicked.size) < 0.02
    delay = random.exponential(np.where(slow, 150.0, 15.0)) * (traffic.window / WINDOW) * SECOND
    if traffic.delays_differ:
        device = shown.column("device").take(pa.array(clicked))
        delay *= slowness(pc.index_in(device, value_set=pa.array(_DEVICES)).to_numpy())
    delay = np.minimum(delay.astype(np.int64), traffic.window - 1)
    shown_at = shown.column("time").to_numpy()[clicked]
    return pa.table(
        {
            "request_id": shown.column("request_id").take(pa.array(clicked)),
            "click_id": hex_keys(random, clicked.size),
            "time": shown_at + delay,
            "arrives": shown_at + delay,
            "value": np.round(random.exponential(1.0, clicked.size), 3),
        }
    )


def _lateness(
    traffic: Traffic,
    chosen: npt.NDArray[np.bool_],
    time: Int64s,
    end: int,
    random: np.random.Generator,
) -> Int64s:
    """Return by how much the chosen events come late, 0 for the others.

    They come minutes after their impression has settled, among events in order, so they
    are late whichever file they are in. None comes after the end of the log, where too
    few other events would show that it is late.
    """
    by = traffic.window + random.integers(5 * MINUTE, 10 * MINUTE, time.size)
    return np.where(chosen & (time + by < end), by, 0)


def _disorder(
    traffic: Traffic,
    shown: pa.Table,
    delayed: pa.Table | None,
    random: np.random.Generator,
    end: int,
    last: bool,
) -> tuple[pa.Table, pa.Table | None]:
    """Add duplicates and disorder to impressions; return rows for this chunk and a later one."""
    count = shown.num_rows
    time = shown.column("time").to_numpy()
    arrives = time.copy()
    disordered = random.random(count) < 0.02
    arrives[disordered] += random.integers(0, 2 * SECOND, int(disordered.sum()))
    arrives += _lateness(traffic, random.random(count) < 0.001, time, end, random)
    again = np.flatnonzero(random.random(count) < 0.002)
    order = np.concatenate([np.arange(count), again])
    when = np.concatenate([arrives, arrives[again] + random.integers(0, 5 * SECOND, again.size)])
    table = shown.take(pa.array(order)).append_column("arrives", pa.array(when))
    if delayed is not None:
        table = pa.concat_tables([delayed, table])
    table = table.sort_by("arrives")
    keep = table.num_rows
    if not last:
        until = int(time[-1])
        keep = int(np.searchsorted(table.column("arrives").to_numpy(), until))
    now, later = table.slice(0, keep), table.slice(keep)
    return now.drop_columns(["arrives"]), later if later.num_rows else None


def _faulty(traffic: Traffic, clicks: pa.Table, random: np.random.Generator, end: int) -> pa.Table:
    """Add duplicates, orphans, late clicks and clicks after the window."""
    count = clicks.num_rows
    arrives = clicks.column("arrives").to_numpy().copy()
    time = clicks.column("time").to_numpy().copy()
    delay = _lateness(traffic, random.random(count) < 0.004, time, end, random)
    arrives += delay
    outside = (random.random(count) < 0.004) & (delay == 0)
    time[outside] += traffic.window + random.integers(MINUTE, 5 * MINUTE, int(outside.sum()))
    arrives[outside] = time[outside]
    clicks = clicks.set_column(2, "time", pa.array(time)).set_column(
        3, "arrives", pa.array(arrives)
    )
    again = clicks.take(pa.array(np.flatnonzero(random.random(count) < 0.005)))
    some = clicks.take(pa.array(np.flatnonzero(random.random(count) < 0.003)))
    orphans = some.set_column(0, "request_id", hex_keys(random, some.num_rows)).set_column(
        1, "click_id", hex_keys(random, some.num_rows)
    )
    return pa.concat_tables([clicks, again, orphans])


def _by_arrival(clicks: pa.Table) -> pa.Table:
    order = np.argsort(clicks.column("arrives").to_numpy(), kind="stable")
    return clicks.drop_columns(["arrives"]).take(pa.array(order)).combine_chunks()


class _ParquetWriter:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.path, table.schema)
        self.writer.write_table(table)

    def close(self, broken: bool) -> None:
        del broken  # a Parquet file has no broken rows
        if self.writer is not None:
            self.writer.close()


class _TextWriter:
    def __init__(self, path: Path) -> None:
        self.stream = pa.output_stream(str(path), compression="gzip")
        self.first = True

    def write(self, table: pa.Table) -> None:
        sink = io.BytesIO()
        options = pa_csv.WriteOptions(include_header=self.first, quoting_style="none")
        pa_csv.write_csv(table, sink, options)
        self.stream.write(sink.getvalue())
        self.first = False

    def close(self, broken: bool) -> None:
        if broken:
            self.stream.write(b"cut off in the mid\n\n,,,,,,,,,\n")
        self.stream.close()


def _write_jsonl(clicks: pa.Table, path: Path, broken: bool) -> None:
    lines = [json.dumps(row) for row in clicks.to_pylist()]
    if broken:
        lines[len(lines) // 2 : len(lines) // 2] = [
            '{"request_id": "cut o',
            '{"request_id": null, "click_id": "x", "time": 1767225600000000, "value": 1.0}',
            '{"request_id": "x", "click_id": "x", "time": "yesterday", "value": 1.0}',
            '{"request_id": "x", "click_id": "x", "time": 1767225600000000000, "value": 1.0}',
        ]
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(("\n".join(lines) + "\n").encode())


def configuration(
    impressions: str,
    clicks: str,
    window: int,
    end_of_log: str,
    examination: bool = False,
    regions: bool = False,
) -> str:
    """Return the text of a configuration that replays a log.

    Parameters
    ----------
    impressions, clicks
        The lines that say where each stream is.
    window
        Of clicks, microseconds.
    end_of_log
        The line of that key.
    examination
        Whether positions are examined with different probabilities.
    regions
        Whether impressions have a region and an app version.
    """
    of_regions = ', "region", "app_version"' if regions else ""
    of_position = ', "position"'
    correction = ""
    if examination:
        of_position = ""
        correction = 'position = { column = "position", method = "offset", from = "randomised" }\n'
    return f"""\
[impressions]
{impressions}
key = ["request_id"]
time = {{ column = "time", unit = "us" }}

[actions.click]
{clicks}
key = ["request_id"]
time = {{ column = "time", unit = "us" }}
window = "{format_duration(window)}"
id = "click_id"
columns = ["value"]

[join]
out_of_orderness = "5s"
{end_of_log}

[sampling]
negative_rate = 0.5
correction = "weight"
seed = 7

[learner]
label = "click"
algorithm = "ftrl"
alpha = 0.05
l2 = 1.0
bits = 20
{correction}
[learner.features]
categorical = ["device", "os", "site", "ad", "campaign"{of_position}, "hour"{of_regions}]
numeric = {{ price = "log" }}
crosses = [["device", "os"]]

[monitor]
slices = ["device", "position"{of_regions}]
window = "5m"
"""
