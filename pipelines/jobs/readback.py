"""Counts of the written outputs, read back once at the end of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from headrace.learners.learning import tells_of
from headrace.monitoring.delays import DelayHistogram
from headrace.monitoring.diagnosis import (
    LearnerResult,
    LogResult,
    SamplingResult,
    StreamResult,
    diagnose,
)
from headrace.monitoring.driftwords import drift_findings
from headrace.monitoring.numbers import Looks, suspicion
from headrace.pipelines.jobs.nearmisses import near_misses
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.training.job import Finished
from headrace.schemas.records.events import INVALID
from headrace.schemas.types import matched_as

_FIRST = 1_000
"""So many samples show whether a number is a quantity."""


@dataclass(frozen=True)
class Written:
    """Sums over the written outputs.

    Parameters
    ----------
    positives
        Samples with a true label, by action stream.
    weight_sum
        Sum of the column ``weight``.
    reasons
        Dead letters by stream and reason.
    joined
        Joined actions by stream; empty without ``join.joined``.
    emissions
        Samples by emission.
    delays
        Delays of the first actions of positive samples, by action stream.
    sampling
        Samples that the settings of sampling are about.
    suspicions
        Columns of numbers whose first samples look like no quantity.
    """

    positives: dict[str, int]
    weight_sum: float
    reasons: dict[str, dict[str, int]]
    joined: dict[str, int]
    emissions: dict[str, int]
    delays: dict[str, DelayHistogram]
    sampling: SamplingResult
    suspicions: dict[str, Looks]


def read_back(folder: Path, inputs: Inputs) -> Written:
    """Read the outputs in `folder` and sum up labels, weights and reasons."""
    names = [action.name for action in inputs.join.actions]
    positives = dict.fromkeys(names, 0)
    delays = {name: DelayHistogram() for name in names}
    weight_sum = 0.0
    samples = ds.dataset(folder / "samples", format="parquet")
    emissions: Counter[str] = Counter()
    plan = inputs.join.sampling
    kept, found = 0, dict.fromkeys(plan.rates, 0)
    trigger = ["trigger"] if inputs.join.triggers else []
    times = ["event_time", *(f"{name}_time" for name in names)]
    columns = dict.fromkeys([*names, *times, "weight", "emission", *trigger, *plan.columns])
    for batch in samples.to_batches(columns=list(columns)):
        kept += 0 if plan.keep is None else int(plan.keep.evaluate(batch).sum())
        if plan.column is not None:
            values = batch.column(plan.column).cast(pa.string())
            for value in found:
                found[value] += pc.sum(pc.equal(values, value)).as_py() or 0
        for row in pc.value_counts(batch.column("emission").cast(pa.string())).to_pylist():
            emissions[row["values"]] += row["counts"]
        for name in names:
            positive = batch.column(name).to_numpy(zero_copy_only=False)
            tells = tells_of([name], batch, inputs.train.emission)
            positives[name] += int(np.count_nonzero(positive & tells))
            delay = pc.subtract(batch.column(f"{name}_time"), batch.column("event_time"))
            delays[name].add(delay.filter(pa.array(positive & tells)).cast(pa.int64()).to_numpy())
        weight_sum += pc.sum(batch.column("weight")).as_py() or 0.0
    reasons: dict[str, dict[str, int]] = {}
    letters = ds.dataset(folder / "dead_letters", format="parquet")
    for batch in letters.to_batches(columns=["stream", "reason"]):
        counted = (
            pa.Table.from_batches([batch])
            .group_by(["stream", "reason"])
            .aggregate([([], "count_all")])
        )
        for row in counted.to_pylist():
            of_stream = reasons.setdefault(row["stream"], {})
            of_stream[row["reason"]] = of_stream.get(row["reason"], 0) + row["count_all"]
    joined = {}
    for name in names if inputs.join.joined else ():
        joined[name] = ds.dataset(folder / "joined" / name, format="parquet").count_rows()
    rates = inputs.config.sampling.negative_rate
    sampling = SamplingResult(
        emissions.total(), plan.keep.text if plan.keep else None, kept, plan.column, found,
        min([rates.default, *rates.values.values()]), inputs.config.sampling.correction,
    )  # fmt: skip
    by_emission = dict(sorted(emissions.items()))
    return Written(
        positives, weight_sum, reasons, joined, by_emission, delays, sampling,
        _suspicions(samples, inputs),
    )  # fmt: skip


def _suspicions(samples: ds.Dataset, inputs: Inputs) -> dict[str, Looks]:
    learners = inputs.train.learners.values()
    columns = dict.fromkeys(name for learner in learners for name in learner.features.numeric)
    # Without reading ahead: it would read a good part of all samples.
    first = samples.head(_FIRST, columns=list(columns), batch_readahead=0, fragment_readahead=0)
    found = {name: suspicion(first.column(name).combine_chunks()) for name in columns}
    return {name: looks for name, looks in found.items() if looks is not None}


def log_result(
    inputs: Inputs, finished: Finished, summary: dict[str, Any], written: Written
) -> LogResult:
    """Return what a finished run shows of its input, for `headrace.monitoring.diagnosis`."""
    invalid = {reason.value for reason in INVALID}
    streams = []
    for stream in inputs.streams:
        name, schema = stream.name, inputs.schema_of(stream.number)
        reasons = written.reasons.get(name, {})
        first, last = finished.totals.spans[stream.number]
        any_event = first <= last
        streams.append(
            StreamResult(
                name,
                summary["input"][name],
                summary["outcomes"][name],
                {reason: count for reason, count in reasons.items() if reason in invalid},
                first if any_event else None,
                last if any_event else None,
                tuple(matched_as(schema.field(column).type) for column in stream.events.key),
                bad_values=summary["bad_values"][name],
                time_column=stream.events.time.column,
                zone=stream.events.time.zone,
                time_counts=summary["times"][name],
                key=stream.events.key,
            )
        )
    learners = tuple(
        LearnerResult(
            name,
            inputs.config.learner_table(name),
            summary["learners"][name]["samples"],
            finished.manifests[name]["figures"],
            summary["learners"][name]["clipped"],
            {c: looks for c, looks in written.suspicions.items() if c in plan.features.numeric},
            summary["learners"][name]["refused"],
            summary["learners"][name]["outliers"],
        )
        for name, plan in inputs.train.learners.items()
    )
    return LogResult(tuple(streams), inputs.join.longest_window, written.sampling, learners)


def gather_findings(
    folder: Path, inputs: Inputs, finished: Finished, summary: dict[str, Any], log: LogResult
) -> list[str]:
    """Return what is wrong with the input of a finished run, whose outputs are in `folder`."""
    findings = diagnose(log)
    if inputs.left_out is not None:
        findings.append(inputs.left_out)
    declared = "end_of_log" in inputs.config.join.model_fields_set
    ending = inputs.ending(finished.totals.ends)
    findings += ending.findings(summary, inputs.join.settle_delay, declared)
    for name, verdict in finished.verdicts.items():
        if not verdict["accepted"]:
            path = summary["learners"][name]["model"]["path"]
            findings.append(
                f"learner {name}: its model is not published, but kept as {path}: "
                + "; ".join(verdict["reasons"])
                + "."
            )
    if finished.drift is not None:
        findings += drift_findings(finished.drift)
    if inputs.config.monitor.near_misses:
        findings += near_misses(folder, inputs)
    return findings
