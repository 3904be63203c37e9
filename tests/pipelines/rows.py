"""Small logs written row by row, and the outcome of replaying them."""

from __future__ import annotations

import json

import pyarrow.parquet as pq

START = 1_767_225_600  # 2026-01-01 00:00:00 UTC

CONFIG = """
[impressions]
path = {impressions}
key = ["key"]
time = {{ column = "time", {time} }}
[actions.click]
path = {clicks}
key = ["key"]
time = {{ column = "time", {time} }}
window = "10m"
{action}
[join]
shards = 2
{join}
[monitor]
{monitor}
[replay]
batch_rows = {batch_rows}
"""


class Outcome:
    """What a replay wrote, and what it printed."""

    def __init__(self, folder, printed):
        self.summary = json.loads((folder / "summary.json").read_text())
        self.samples = pq.read_table(folder / "samples").to_pylist()
        letters = pq.read_table(folder / "dead_letters").to_pylist()
        self.dead = sorted((row["stream"], row["offset"], row["reason"]) for row in letters)
        self.letters = letters
        self.printed = " ".join(printed.split())

    @property
    def labels(self):
        return {row["key"]: row["click"] for row in self.samples}


def every(seconds, count, prefix="i", start=START):
    return [(start + n * seconds, f"{prefix}{n}") for n in range(count)]
