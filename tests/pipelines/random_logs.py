"""Random logs with every option, for comparing results byte by byte."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.monitoring import guard, lead, leadguard
from headrace.schemas.config.models import DELAYS

SECOND = 1_000_000
START = 1_767_225_600 * SECOND  # 2026-01-01 00:00:00 UTC

IMPRESSIONS = pa.schema(
    [
        ("request", pa.string()), ("item", pa.int64()), ("time", pa.int64()),
        ("device", pa.string()), ("price", pa.float64()), ("tags", pa.list_(pa.string())),
    ]
)  # fmt: skip
ACTIONS = pa.schema(
    [
        ("request", pa.string()), ("item", pa.int64()), ("time", pa.int64()),
        ("id", pa.string()), ("amount", pa.float64()),
    ]
)  # fmt: skip


@dataclass
class RandomLog:
    """Rows by stream and file, and the options of the configuration.

    Parameters
    ----------
    tidy
        Whether every file is in order of time and all records are valid: then it does
        not matter how rows are split over files.
    """

    impressions: list[list[dict[str, Any]]]
    actions: dict[str, list[list[dict[str, Any]]]]
    options: dict[str, dict[str, Any]]
    tidy: bool

    def write(self, folder: Path, cuts: Random | None = None) -> Path:
        """Write files and configuration; with `cuts` each file of a tidy log as several."""
        folder.mkdir(parents=True)
        files = {"impressions": self.impressions, **self.actions}
        for name, parts in files.items():
            schema = IMPRESSIONS if name == "impressions" else ACTIONS
            for number, rows in enumerate(parts):
                pieces = [rows] if cuts is None else _cut(rows, cuts)
                for piece, own in enumerate(pieces):
                    table = pa.Table.from_pylist(own, schema)
                    path = folder / f"{name}-{number}-{piece}.parquet"
                    pq.write_table(table, path, row_group_size=17)
        (folder / "headrace.toml").write_text(self.configuration())
        return folder / "headrace.toml"

    def configuration(self) -> str:
        """Return the configuration as TOML."""
        lines = []
        for table, options in self.options.items():
            lines.append(f"[{table}]")
            lines += [f"{key} = {_toml(value)}" for key, value in options.items()]
        return "\n".join(lines) + "\n"


def _cut(rows: list[dict[str, Any]], cuts: Random) -> list[list[dict[str, Any]]]:
    at = sorted(cuts.randint(0, len(rows)) for _ in range(cuts.randint(0, 3)))
    return [rows[a:b] for a, b in zip([0, *at], [*at, len(rows)], strict=True)]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(v)}" for key, v in value.items()) + " }"
    return json.dumps(value)


def random_log(random: Random, tidy: bool = False) -> RandomLog:
    """Draw a log with faults of every kind, and any allowed combination of options."""
    span = random.choice((60, 300, 2_000))
    keys = [(f"r{random.randint(0, 5)}", random.randint(0, 3)) for _ in range(12)]

    def time() -> int:
        return START + random.randint(0, span) * random.choice((1, 1, 1, 0)) * SECOND

    def key() -> tuple[str | None, int | None]:
        if not tidy and random.random() < 0.02:
            return None, 1
        return random.choice(keys)

    def impression() -> dict[str, Any]:
        request, item = key()
        return {
            "request": request, "item": item, "time": time(),
            "device": random.choice(("phone", "tv", "tv", None)),
            "price": random.choice((None, 1.5, -3.0, 1e300, random.random())),
            "tags": random.choice((None, [], ["a"], ["a", None, "b"])),
        }  # fmt: skip

    def action() -> dict[str, Any]:
        request, item = key()
        return {
            "request": request, "item": item, "time": time(),
            "id": random.choice((None, "x", "y", "z")), "amount": random.random(),
        }  # fmt: skip

    def files(make: Any, most: int) -> list[list[dict[str, Any]]]:
        out = []
        for _ in range(random.choice((1, 1, 2))):
            rows = [make() for _ in range(random.randint(1, most))]
            for _ in range(random.randint(0, 10)):  # copies
                again = dict(random.choice(rows))
                again["device" if "device" in again else "amount"] = None
                rows.insert(random.randint(0, len(rows)), again)
            if not tidy and random.random() < 0.2:
                rows[random.randrange(len(rows))]["time"] = random.choice((-5, None, 2**62))
            if tidy or random.random() < 0.6:
                rows.sort(key=lambda row: row["time"] or 0)
            out.append(rows)
        return out

    names = random.choice((["click"], ["click"], ["click", "buy"], []))
    windows = {name: random.choice((5, 10, 60)) for name in names}
    log = RandomLog(files(impression, 80), {}, {}, tidy)
    log.actions = {name: files(action, 60) for name in names}
    log.options = _options(random, windows, tidy)
    return log


def _options(random: Random, windows: dict[str, int], tidy: bool) -> dict[str, dict[str, Any]]:
    def seconds(*choices: int) -> str:
        return f"{random.choice(choices)}s"

    order = "sorted" if tidy else random.choice(("sorted", "sorted", "sort"))
    stream = {"key": ["request", "item"], "time": {"column": "time", "unit": "us"}}
    options: dict[str, dict[str, Any]] = {
        "impressions": {"path": "impressions-*.parquet", **stream, "order": order}
    }
    for name, window in windows.items():
        options[f"actions.{name}"] = {
            "path": f"{name}-*.parquet", **stream, "window": f"{window}s", "columns": ["amount"],
            **random.choice(({}, {"id": "id"})),
        }  # fmt: skip
    end = random.choice(("open", "open", "close"))
    if end == "open":
        for table in options:
            if random.random() < 0.4:
                minute = random.choice((0, 2, 5, 40))
                options[table]["complete_until"] = f"2026-01-01T00:{minute:02d}:30Z"
    early = random.choice((0, 0, 3)) if windows else 0
    longest = max(windows.values(), default=0)
    mode = random.choice(("window", "window", "immediate", "elapsed", "window_and_immediate"))
    join: dict[str, Any] = {
        "shards": 1, "out_of_orderness": seconds(0, 0, 5), "early": f"{early}s",
        "end_of_log": end,
    }  # fmt: skip
    grouped = random.random() < 0.3
    if grouped:
        join |= {"group": ["request"], "group_span": seconds(0, 7)}
    if windows:
        join |= {"emission": mode, "joined": random.random() < 0.4}
        join["wait_for_impression"] = f"{longest + random.choice((0, 20))}s"
        if mode == "elapsed":
            join["elapsed"] = random.choice(([0.0, 1.0], [1.0, 1.0], [0.5, 0.5]))
    least = longest + 7 * grouped + early
    horizon = max(1, least + random.choice((0, 0, 30)))
    join |= {"dedup_horizon": f"{horizon}s", "retention": f"{random.choice((0, 0, horizon))}s"}
    options["join"] = join
    rate = random.choice((1.0, 0.5, {"column": "device", "values": {"tv": 0.2}, "default": 0.7}))
    sampling: dict[str, Any] = {"negative_rate": rate, "seed": random.randint(0, 9)}
    if grouped and join.get("emission", "window") == "window" and random.random() < 0.5:
        sampling["unit"] = "group"
    if random.random() < 0.3:
        sampling["keep"] = random.choice(("device == 'phone'", "price > 1"))
    if random.random() < 0.3:
        sampling["publish"] = {"light": 0.1}
    if sampling.get("unit") != "group":
        sampling["correction"] = random.choice(("weight", "logit", "recalibrate", "none"))
    options["sampling"] = sampling
    if windows and random.random() < 0.7:
        tables = random.choice((["learner"], ["learners.first", "learners.second"]))
        for table in tables:
            options[table] = {"label": random.choice(list(windows)), "bits": 8, "l1": 0.0,
                              "epoch": seconds(1, 10)}  # fmt: skip
            if random.random() < 0.3:
                options[table] |= {"table": "exact", "admit": random.randint(1, 3),
                                   "expire": seconds(5, 300)}  # fmt: skip
            fitting = [delay for delay, undone in DELAYS.items() if undone == mode]
            if fitting and random.random() < 0.5:
                options[table]["delay"] = random.choice(fitting)
            if random.random() < 0.3:
                options[table]["calibration"] = {"kind": "isotonic", "by": "device"}
            options[f"{table}.features"] = {
                "categorical": ["device"], "multi_valued": ["tags"],
                "numeric": {"price": random.choice(("linear", "log"))},
                "crosses": [["device", "item"]],
            }  # fmt: skip
        share = random.choice((0.1, 1.0))
        options["monitor"] = {
            "slices": ["device"], "window": "1m", "served_share": share, "propensity": "price",
        }  # fmt: skip
        if random.random() < 0.4:
            # Which model serves depends on when models are written: all are accepted.
            options["publish"] = {"entropy": 1e9, "calibration": 1e9, "auc": 1.0, "positives": 1}
        options["guard"] = {
            "action": random.choice(("disconnect", "disconnect", "warn", "off")),
            "settle": seconds(0, 10), "alarm": 100.0, "cap": seconds(5, 300),
            "accept": random.choice(([], ["2026-01-01T00:01:00Z"])),
        }  # fmt: skip
    return options


def small_guards(monkeypatch: Any) -> None:
    """Let guards decide after a few rows: logs are small here."""
    for name, value in (
        ("_LEAST_CHUNK", 2), ("_MOST_CHUNK", 5), ("BLOCK_POSITIVES", 1.0),
        ("VALUE_BLOCK_POSITIVES", 1.0), ("BLOCK_LENGTH", 1), ("CALM_BLOCKS", 1),
        ("RARER", 0.02), ("MOST_VALUES", 2), ("_FORGET", 20 * SECOND),
    ):  # fmt: skip
        monkeypatch.setattr(guard, name, value)
    for name, value in (
        ("ENOUGH_DELAYS", 2), ("ENOUGH_ARRIVALS", 2.0), ("_MOST_DELAYS", 8),
    ):  # fmt: skip
        monkeypatch.setattr(lead, name, value)
    for name in ("SILENCE", "YOUNG_SILENCE", "RARER"):
        monkeypatch.setattr(leadguard, name, 0.1)
