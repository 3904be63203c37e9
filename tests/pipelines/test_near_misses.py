"""Orphans say what lies nearest to them, in their details and in a finding, if asked."""

from __future__ import annotations

import csv
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import nearmisses
from headrace.pipelines.jobs.neighbours import Neighbours
from headrace.schemas.records.events import FOREVER, NEVER
from tests.pipelines.outputs import contents
from tests.pipelines.rows import START, Outcome

MINUTE, HOUR, DAY = 60, 3_600, 86_400
END = (START + 20 * DAY, "end", "1")

CONFIG = """
[impressions]
path = "impressions.csv"
key = ["user", "item"]
time = {{ column = "time", unit = "s" }}
types = {{ item = "{item}" }}
[actions.click]
path = "clicks.csv"
key = ["user", "item"]
time = {{ column = "time", unit = "s" }}
types = {{ item = "{own_item}" }}
window = "10m"
[join]
end_of_log = "close"
{join}
[monitor]
near_misses = {near}
"""


@pytest.fixture
def near(tmp_path, capsys):
    """Replay impressions and clicks, each (time, user, item)."""

    def run(impressions, clicks, join="", item="int64", own_item="int64", near="true", options=()):
        for name, rows in (("impressions", impressions), ("clicks", clicks)):
            with (tmp_path / f"{name}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("time", "user", "item"), *rows, END])
        text = CONFIG.format(join=join, item=item, own_item=own_item, near=near)
        (tmp_path / "join.toml").write_text(text)
        out = tmp_path / f"out-{near}-{len(options)}"
        assert main(["replay", str(tmp_path / "join.toml"), "--out", str(out), *options]) == 0
        result = Outcome(out, capsys.readouterr().out)
        result.out = out
        result.nearest = {
            row["offset"]: row["detail"].partition("; ")[2]
            for row in result.letters if row["reason"] == "orphan"
        }  # fmt: skip
        return result

    return run


def test_each_orphan_names_what_lies_nearest(near):
    """Of its key, if there is one; else a key that is nearly equal, a gap, or a part of it."""
    impressions = [
        (START, "ann", "1"), (START + MINUTE, "Bob", "2"), (START + 5 * MINUTE, "eve", "5"),
        (START + 30 * MINUTE, "fred", "6"), (START + 5 * MINUTE, "late", "7"),
        (START + 40 * MINUTE, "ann", "8"), (START + 3 * HOUR, "gus", "9"),
    ]  # fmt: skip
    clicks = [
        (START + 2 * MINUTE, "bob", "2"), (START + 6 * MINUTE, "eve", "6"),
        (START + 7 * MINUTE, "late", "7"), (START + 10 * MINUTE, "fred", "6"),
        (START + 12 * MINUTE, "none", "0"), (START + 100 * MINUTE, "none", "0"),
        (START + 2 * HOUR, "ann", "1"), (START + 5 * HOUR, "ann", "9"),
    ]  # fmt: skip
    result = near(impressions, clicks)
    assert result.nearest == {
        0: "its key differs from that of the impression of 2026-01-01 00:01:00, "
        "user='Bob', item=2, in case",
        1: "the impression of 2026-01-01 00:05:00 has user='eve', item=5",
        2: "the impression of its key of 2026-01-01 00:05:00 was itself late",
        3: "the impression of its key of 2026-01-01 00:30:00 became known 20m after it; "
        "wait_for_impression is 10m",
        4: "",
        5: "there are no impressions from 2026-01-01 01:00:00 to 2026-01-01 03:00:00",
        6: "the impression of its key of 2026-01-01 00:00:00 was forgotten by then (after 1h)",
        7: "there are no impressions from 2026-01-01 04:00:00 to 2026-01-21 00:00:00",
    }
    assert (
        "click: of 8 orphans 1 came after their key was forgotten (1h); 1 came before an "
        "impression of their key that became known only after wait_for_impression (10m); 1 have "
        "an impression that was itself late; 1 would match an impression if case, blanks, "
        "leading zeros and types of keys were ignored, such as user='bob', item=2 here and "
        "user='Bob', item=2 there; 2 lie where there are no impressions at all; 1 have user of an "
        "impression, but not the rest of its key, such as user='eve', item=6 here and "
        "user='eve', item=5 there. Keys must be equal to match" in result.printed
    )
    silent = near(impressions, clicks, near="false")
    assert set(silent.nearest.values()) == {""}
    assert "of 8 orphans" not in silent.printed


def test_equal_texts_of_another_type_differ_in_type(near):
    """And blanks and zeros are named where they are the difference, not where both have them."""
    impressions = [(START, "ann ", "1"), (START, "bob", "2")]
    clicks = [(START + MINUTE, "ann ", "1"), (START + MINUTE, " bob", "02")]
    result = near(impressions, clicks, own_item="string")
    assert result.nearest == {
        0: "its key differs from that of the impression of 2026-01-01 00:00:00, "
        "user='ann ', item=1, in type",
        1: "its key differs from that of the impression of 2026-01-01 00:00:00, "
        "user='bob', item=2, in blanks, leading zeros and type",
        2: "its key differs from that of the impression of 2026-01-21 00:00:00, "
        "user='end', item=1, in type",
    }


def test_the_shared_part_is_the_group(near):
    """Where one is configured."""
    join = 'group = ["item"]'
    result = near([(START, "ann", "1")], [(START + MINUTE, "bob", "1")], join=join)
    assert result.nearest == {0: "the impression of 2026-01-01 00:00:00 has user='ann', item=1"}


def test_keys_of_any_text_and_number_are_compared(near):
    """Also with the character that separates columns inside, and beyond 63 bits."""
    odd, large = "a\x1fb", str(2**63 + 5)
    result = near(
        [(START, odd, large), (START, "c", "1")],
        [(START + MINUTE, odd.upper(), large), (START + MINUTE, "C", "-1")],
        item="uint64", own_item="decimal(20, 0)",
    )  # fmt: skip
    assert result.nearest[0].endswith(f"2026-01-01 00:00:00, user='a', item=b\x1f{large}, in case")
    assert result.nearest[1] == ""


def test_hours_outside_of_the_log_have_no_impressions(near):
    """Before its beginning as well."""
    result = near([(START, "ann", "1")], [(START - 2 * HOUR, "bob", "1")])
    assert result.nearest == {0: "there are no impressions before 2026-01-01 00:00:00"}


def test_shards_and_chunks_change_nothing(near, monkeypatch):
    """Of a log with all kinds, of which only the first orphans are looked at."""
    random = Random(5)
    users, items = ("ann", "Ann", "bob", "b ob", "eve"), ("1", "2", "3")

    def rows(count):
        drawn = [
            (START + random.randint(0, 90) * 5 * MINUTE, random.choice(users), random.choice(items))
            for _ in range(count)
        ]
        return [row if random.random() < 0.9 else (START, *row[1:]) for row in sorted(drawn)]

    impressions, clicks = rows(60), rows(60)
    monkeypatch.setattr(nearmisses, "_MOST_ORPHANS", 20)
    whole = near(impressions, clicks, join="shards = 2")
    assert "the first 20 of" in whole.printed
    assert len(set(whole.nearest.values())) > 10
    monkeypatch.setattr(nearmisses, "_CHUNK_ROWS", 1)
    cut = near(impressions, clicks, join="shards = 2", options=["--batch-rows", "7"])
    assert cut.nearest == whole.nearest
    assert contents(cut.out) == contents(whole.out)


@pytest.mark.parametrize("size", [1, 3, 100], ids=lambda size: f"offered by {size}")
def test_the_nearest_are_those_of_a_search_one_by_one(size):
    """Of equal ones the last before and the first after, in the order in which they come."""
    random = np.random.default_rng(3)
    values, moments = random.integers(0, 4, 30), random.integers(0, 20, 30)
    other, at = random.integers(0, 5, 80), random.integers(0, 20, 80)
    nearest = Neighbours(pa.array(values).cast(pa.string()), moments)
    texts = pa.array(np.arange(80)).cast(pa.string())
    for begin in range(0, 80, size):
        part = slice(begin, begin + size)
        offered = pa.array(other[part]).cast(pa.string())
        nearest.offer(offered, at[part], at[part] * 2, texts[part])
    for row, (value, moment) in enumerate(zip(values, moments, strict=True)):
        same = np.flatnonzero(other == value)
        before = [n for n in same if at[n] < moment]
        after = [n for n in same if at[n] >= moment]
        last = max(before, key=lambda n: (at[n], n), default=None)
        first = min(after, key=lambda n: (at[n], n), default=None)
        for side, n, none in ((nearest.before, last, NEVER), (nearest.after, first, FOREVER)):
            expected = (none, None) if n is None else (at[n], str(n))
            assert (side.at[row], side.text[row]) == expected
            assert n is None or side.time[row] == at[n] * 2
