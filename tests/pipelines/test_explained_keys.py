"""Every record of a key has the verdict of the reference, and of the run."""

from __future__ import annotations

from random import Random

import pytest

from headrace.pipelines.app import api
from headrace.pipelines.jobs.keyjoin import WantedKey, join_key
from headrace.pipelines.jobs.verdicts import verdicts
from headrace.pipelines.sources.inputs import resolve
from headrace.schemas.records.events import EARLIEST, INVALID, LATEST
from tests.joiner.harness import Rows, event_rows, final_progress
from tests.joiner.reference import reference_join
from tests.pipelines.random_logs import random_log

FAULTS = {reason.value for reason in INVALID}


def ordered(rows, sorts):
    """Return the numbers of valid rows by position, and how many positions precede them."""
    valid = [
        n for n, row in enumerate(rows)
        if row["request"] is not None and row["time"] is not None
        and EARLIEST <= row["time"] < LATEST
    ]  # fmt: skip
    if sorts:
        valid.sort(key=lambda n: (rows[n]["time"], n))
    return valid


def expected_outcomes(log, inputs):
    """Return the outcomes by (stream, file, number), from the rows as they were written."""
    sorts = log.options["impressions"]["order"] == "sort"
    files = [("impressions", n, rows) for n, rows in enumerate(log.impressions)]
    for name, parts in log.actions.items():
        files += [(name, n, rows) for n, rows in enumerate(parts)]
    sources, numbers = [], []
    for name, _, rows in files:
        stream = [plan.name for plan in inputs.streams].index(name)
        numbers.append(ordered(rows, sorts and name == "impressions"))
        picked = [rows[n] for n in numbers[-1]]
        keys = [f"{row['request']}/{row['item']}" for row in picked]
        has_id = stream and "id" in log.options[f"actions.{name}"]
        ids = [(row["id"] or "" if has_id else "",) if stream else () for row in picked]
        pairs = zip(picked, keys, ids, strict=True)
        sources.append(Rows(stream, [(row["time"], key, *own) for row, key, own in pairs]))
    bound = inputs.config.join.out_of_orderness
    finals = final_progress(sources, bound)
    clock = min(inputs.final_progress(stream, final) for stream, final in finals.items())
    joined = reference_join(inputs.join, *event_rows(sources, bound), clock)
    return {
        (*files[source][:2], numbers[source][offset]): outcome
        for (source, offset), outcome in joined.outcomes.items()
    }


def check_log(seed, folder):
    """Explain every key of a random log; return how many there were."""
    log = random_log(Random(seed))
    inputs = resolve(api.load_config(log.write(folder / "log")))
    expected = expected_outcomes(log, inputs)
    rows = [(*place, row) for name, parts in {"impressions": log.impressions, **log.actions}.items()
            for n, part in enumerate(parts) for place, row in
            (((name, n, number), row) for number, row in enumerate(part))]  # fmt: skip
    keys = sorted({(row["request"], row["item"]) for *_, row in rows if row["request"] is not None})
    for request, item in keys:
        wanted = WantedKey.of(inputs, (request, str(item)))
        said = {
            (one.stream, int(one.source.split("-")[1]), one.offset): one.outcome
            for one in verdicts(inputs, join_key(inputs, wanted, str(folder)), wanted)
        }
        mine = [place for *place, row in rows if (row["request"], row["item"]) == (request, item)]
        assert set(said) == {tuple(place) for place in mine}
        for place, outcome in said.items():
            assert outcome == expected.get(place) or (place not in expected and outcome in FAULTS)
    return len(keys)


@pytest.mark.parametrize("seed", range(8), ids=lambda seed: f"random log {seed}")
def test_verdicts_are_those_of_the_reference(tmp_path, seed):
    """With any options, on logs with every fault."""
    assert check_log(seed, tmp_path) > 5


@pytest.mark.slow
def test_verdicts_of_a_thousand_keys_are_those_of_the_reference(tmp_path):
    """As with the few."""
    keys = 0
    for seed in range(20_000, 20_200):
        keys += check_log(seed, tmp_path / str(seed))
        if keys >= 1_000:
            break
    assert keys >= 1_000
