"""Keys that were chosen to harm: of one digest, or of one place in every table."""

from random import Random

import numpy as np
import pyarrow as pa
import pytest

from headrace.joiner.journal.pieces import KeptKeys
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.keytable import start
from headrace.joiner.state.known import KnownImpressions, tags_of
from headrace.joiner.state.remembered import RememberedKeys
from headrace.schemas.records.events import ARRIVAL, KEY0, KEY1, OFFSET, TIME
from headrace.schemas.records.hashing import Kind, hash_columns
from headrace.schemas.records.keyed import PUBLIC, KeyedHash
from tests.joiner.harness import Rows, envelopes, make_plan, play

SECRET = KeyedHash(b"a secret of the tests")
CROWD = 3_000
"""Keys that all want the same small part of a table."""


class Colliding:
    """A hash by which all keys of two columns are equal, as if somebody had found such keys."""

    def of_bytes(self, kind, data, offsets, out1, out2):
        if kind is Kind.SEVERAL:
            out1[:] = out2[:] = 7
        else:
            PUBLIC.of_bytes(kind, data, offsets, out1, out2)


def displaced(home, at, slots):
    """Return how many slots were passed before each entry found its own."""
    return int(((at - home) % slots).sum())


def of_remembered(key0, key1):
    """Count the slots that are passed in the table of remembered keys."""
    remembered = RememberedKeys(horizon=1_000_000)
    time = np.arange(key1.size)
    assert remembered.keep_first(key1, time, time)[0].all()
    tags = remembered.slots.tags
    at = np.flatnonzero(tags)
    home = np.array([start.py_func(tag, tags.size) for tag in tags[at]])
    return displaced(home, at, tags.size)


def of_known(key0, key1):
    """Count them in the index of impressions that actions may meet."""
    known = KnownImpressions(horizon=10, lifetime=1_000_000)
    time = np.arange(key1.size)
    known.restore(KeptKeys(key1, time, time), 0)
    tags = known.table.tags
    at = np.flatnonzero(tags)
    assert set(tags[at]) == set(tags_of(key1))
    home = np.array([start.py_func(tag, tags.size) for tag in tags[at]])
    return displaced(home, at, tags.size)


def of_actions(key0, key1):
    """Count them in the table of waiting actions."""
    actions = PendingActions(make_plan())
    time = np.arange(key0.size)
    batch = pa.RecordBatch.from_pydict(
        {KEY0: key0, KEY1: key1, TIME: time, ARRIVAL: time - 1, OFFSET: time}
    )
    actions.add(0, 1, batch, RememberedKeys(horizon=10))
    at = np.flatnonzero(actions.slots)
    entry = (actions.slots[at] & np.uint64(0xFFFFFFFF)).astype(np.int64) - 1
    home = (actions.key0[entry] & np.uint64(actions.slots.size - 1)).astype(np.int64)
    return displaced(home, at, actions.slots.size)


@pytest.mark.parametrize("passed", [of_remembered, of_known, of_actions])
def test_keys_that_crowd_a_table_need_the_secret(passed):
    """Those chosen by the hash that everybody knows pass hundreds of slots each with it.

    So time is quadratic; with a secret they pass as few as any keys do.
    """
    keys = pa.array(np.arange(1 << 20))
    key0, key1 = hash_columns([keys], PUBLIC)
    home = key1 >> np.uint64(32 + 23) if passed is not of_actions else key0 & np.uint64(0x1FFF)
    crowd = keys.take(pa.array(np.flatnonzero(home <= np.sort(home)[CROWD])[:CROWD]))
    assert passed(*hash_columns([crowd], PUBLIC)) > CROWD * CROWD / 8
    assert passed(*hash_columns([crowd], SECRET)) < CROWD * 12


SHOWN, CLICKED = "news/1", "ours/1"
"""Keys of one digest."""
MODES = {
    "when they settle": {},
    "as joined actions": {"joined": True},
    "in samples that leave at once": {"mode": "immediate"},
    "in samples that leave twice": {"mode": "window_and_immediate"},
    "in corrections": {"retention": 100, "dedup_horizon": 200},
    "in corrections and joined actions": {"retention": 100, "dedup_horizon": 200, "joined": True},
}


@pytest.mark.parametrize("crashes", [0.0, 0.4], ids=["undisturbed", "with crashes"])
@pytest.mark.parametrize("others", ["before", "beside", "late"])
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_an_action_of_another_key_and_the_same_digest_meets_nothing(mode, others, crashes):
    """Neither in labels, joined actions nor corrections; the own action counts as without it.

    It is an orphan; but late, if it would be late for the impression that has its digest.
    """
    plan = make_plan(windows=(10,), early=2, **mode)
    forged = {"before": (1, CLICKED, "x"), "beside": (6, CLICKED, "x"), "late": (4, CLICKED, "x")}
    clicks = [(5, SHOWN, "y"), (15, "other/1", "z")]
    clicks = [*clicks, forged["late"]] if others == "late" else [forged[others], *clicks]
    sources = [Rows(0, [(2, SHOWN)]), Rows(1, clicks)]
    for seed in range(4):
        random = Random(seed)
        blocks = envelopes(plan, sources, 0, random, by=Colliding())
        played = play(plan, blocks, random, crashes=crashes)
        at = clicks.index(forged[others])
        assert played.outcomes[1, at] == ("late" if others == "late" else "orphan")
        assert played.counts["a0"]["settled"] == 1
        assert played.corrections == {}
        labels = [row["a0"] for row in played.rows if row["emission"] in ("window", "positive")]
        assert labels
        assert all(labels)
        assert {row["a0_note"] for row in played.rows if row["a0"]} == {f"5:{SHOWN}"}
        assert len(played.joined) == plan.joined
