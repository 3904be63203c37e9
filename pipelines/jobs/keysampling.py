"""Why sampling kept or dropped the impressions of a key, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from headrace.joiner.plan.sampling import SamplingPlan
from headrace.pipelines.jobs.keyjoin import KeyJoin, WantedKey
from headrace.pipelines.sources.inputs import Inputs
from headrace.schemas.records.events import GROUP0, IMPRESSIONS, KEY0, OFFSET, TIME
from headrace.schemas.records.hashing import uniform


@dataclass(frozen=True)
class Sampled:
    """What sampling made of an impression that became samples.

    Parameters
    ----------
    time
        Its event time, microseconds.
    unit
        What is kept or dropped as a whole: ``key`` or ``group``.
    draw, rate
        The draw of its unit in [0, 1), and the probability with which a negative unit is kept.
    kept
        Whether at least one of its samples is kept.
    why
        In words.
    """

    time: int
    unit: str
    draw: float
    rate: float
    kept: bool
    why: str


def sampled(inputs: Inputs, found: KeyJoin, wanted: WantedKey) -> list[Sampled]:
    """Return what sampling made of the impressions of a key, by event time.

    Only of those that have left: not of duplicates, late and open ones.
    """
    rates = dict(_rates(found, wanted))
    dead = {
        (rows.source, at) for rows in found.dead for at in rows.batch.column(OFFSET).to_pylist()
    }
    out = []
    for source, batch in found.events:
        if inputs.logs[source].stream != IMPRESSIONS:
            continue
        time, offset = batch.column(TIME).to_pylist(), batch.column(OFFSET).to_pylist()
        for row in range(batch.num_rows):
            settled = time[row] + found.plan.release_delay <= found.clock
            left = time[row] in rates or settled
            if left and (source, offset[row]) not in dead:
                out.append(_of_row(found.plan.sampling, batch.slice(row, 1), rates.get(time[row])))
    return sorted(out, key=lambda one: one.time)


def _rates(found: KeyJoin, wanted: WantedKey) -> Iterator[tuple[int, float]]:
    """Yield event time and least sampling rate of the samples of the key that were kept."""
    least: dict[int, float] = {}
    for batch in found.samples:
        own = batch.filter(pa.array(wanted.among(batch)))
        times = own.column("event_time").cast(pa.int64()).to_pylist()
        for time, rate in zip(times, own.column("sampling_rate").to_pylist(), strict=True):
            least[time] = min(rate, least.get(time, 1.0))
    yield from least.items()


def _of_row(plan: SamplingPlan, row: pa.RecordBatch, inclusion: float | None) -> Sampled:
    unit = "group" if plan.by_group else "key"
    digest = row.column(GROUP0 if plan.by_group else KEY0).to_numpy()
    draw = float(uniform(digest, plan.seed)[0])
    strata = plan.strata(row)
    rate = float(strata.rates[0])
    compared = "less" if draw < rate else "not less"
    if rate == 1:
        why = "it meets keep" if strata.safe[0] else "its negative_rate is 1"
    elif inclusion == 1:
        why = f"its {unit} has a positive" if plan.by_group else "it has a positive label"
    else:
        why = f"the draw of its {unit}, {draw:.6f}, is {compared} than its rate, {rate:g}"
    return Sampled(
        row.column(TIME)[0].as_py(), unit, draw, rate, inclusion is not None,
        f"{'kept' if inclusion is not None else 'dropped'}: {why}",
    )  # fmt: skip
