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
from headrace.monitoring.diagnosis import diagnose
from headrace.monitoring.driftwords import drift_findings
from headrace.monitoring.ending import taken
from headrace.monitoring.labels import LabelSums
from headrace.monitoring.numbers import Looks, suspicion
from headrace.monitoring.origins import SourceResult
from headrace.monitoring.results import (
    LearnerResult,
    LogResult,
    Meeting,
    SamplingResult,
    StreamResult,
)
from headrace.monitoring.stops import Hours
from headrace.pipelines.jobs.unmet import Letters, Nearest, count_letters
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.training.job import Finished
from headrace.schemas.records.events import IMPRESSIONS, INVALID, Reason
from headrace.schemas.types import matched_as

_FIRST = 1_000
"""So many samples show whether a number is a quantity."""
_LOST = {"orphans": Reason.ORPHAN, "actions outside their window": Reason.OUTSIDE_WINDOW}


@dataclass(frozen=True)
class Written:
    """Sums over the written outputs.

    Parameters
    ----------
    positives
        Samples with a true label, by action stream.
    weight_sum
        Sum of the column ``weight``.
    letters
        Counts of the dead letters.
    joined
        Joined actions by stream; empty without ``join.joined``.
    emissions
        Samples by emission.
    labels
        Rates, delays and coverage, by action stream.
    nearest
        What is nearest to actions that met no impression.
    sampling
        Samples that the settings of sampling are about.
    suspicions
        Columns of numbers whose first samples look like no quantity.
    """

    positives: dict[str, int]
    weight_sum: float
    letters: Letters
    joined: dict[str, int]
    emissions: dict[str, int]
    labels: dict[str, LabelSums]
    nearest: Nearest
    sampling: SamplingResult
    suspicions: dict[str, Looks]


def read_back(folder: Path, inputs: Inputs) -> Written:
    """Read the outputs in `folder` and sum up labels, weights and reasons."""
    names = [action.name for action in inputs.join.actions]
    positives = dict.fromkeys(names, 0)
    labels = {action.name: LabelSums(action.window) for action in inputs.join.actions}
    weight_sum = 0.0
    samples = ds.dataset(folder / "samples", format="parquet")
    dead = ds.dataset(folder / "dead_letters", format="parquet")
    letters = count_letters(dead)
    nearest = Nearest(dead, inputs, letters)
    emissions: Counter[str] = Counter()
    plan = inputs.join.sampling
    kept, found = 0, dict.fromkeys(plan.rates, 0)
    trigger = ["trigger"] if inputs.join.triggers else []
    times = ["event_time", *(f"{name}_time" for name in names)]
    weights = ["weight", "sampling_rate"]
    columns = dict.fromkeys(
        [*names, *times, *weights, "emission", *trigger, *plan.columns, *nearest.columns]
    )
    for batch in samples.to_batches(columns=list(columns)):
        kept += 0 if plan.keep is None else int(plan.keep.evaluate(batch).sum())
        if plan.column is not None:
            values = batch.column(plan.column).cast(pa.string())
            for value in found:
                found[value] += pc.sum(pc.equal(values, value)).as_py() or 0
        for row in pc.value_counts(batch.column("emission").cast(pa.string())).to_pylist():
            emissions[row["values"]] += row["counts"]
        nearest.add(batch)
        for name, of_label in labels.items():
            positives[name] += _add(of_label, name, batch, inputs)
        weight_sum += pc.sum(batch.column("weight")).as_py() or 0.0
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
        positives, weight_sum, letters, joined, by_emission, labels, nearest, sampling,
        _suspicions(samples, inputs),
    )  # fmt: skip


def _add(sums: LabelSums, name: str, batch: pa.RecordBatch, inputs: Inputs) -> int:
    """Add samples to the sums of a label, and return how many positives are among them."""
    emission = inputs.join.emission
    rate = batch.column("sampling_rate").to_numpy()
    shown = batch.column("event_time").cast(pa.int64()).to_numpy()
    first = pc.equal(batch.column("emission"), emission.first if emission.early else "window")
    first = first.to_numpy(zero_copy_only=False)
    sums.add_impressions(shown[first], rate[first])
    positive = batch.column(name).to_numpy(zero_copy_only=False)
    positive = positive & tells_of([name], batch, inputs.train.emission)
    time = batch.column(f"{name}_time").cast(pa.int64()).to_numpy(zero_copy_only=False)
    sums.add_positives(shown[positive], time[positive].astype(np.int64), rate[positive])
    return int(np.count_nonzero(positive))


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
        reasons = written.letters.reasons.get(name, {})
        first, last = finished.totals.spans[stream.number]
        any_event = first <= last
        streams.append(
            StreamResult(
                name,
                taken(summary, name),
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
                sources=_sources(name, summary, written, finished),
                meeting=_meeting(name, inputs, written),
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


def _sources(
    name: str, summary: dict[str, Any], written: Written, finished: Finished
) -> tuple[SourceResult, ...]:
    """Return what was lost of each source of a stream."""
    label, found = written.labels.get(name), []
    # What comes just after the first impression may belong to those before the log.
    until = finished.totals.spans[IMPRESSIONS][0] + (0 if label is None else label.reach)
    for of in summary["sources"]:
        if of["stream"] == name:
            lost = {"invalid records": of["rejected"]}
            explained = {}
            for what, reason in _LOST.items():
                lost[what], explained[what] = written.letters.of_source(
                    name, of["name"], reason, until
                )
            found.append(SourceResult(of["name"], of["records"], lost, explained))
    return tuple(found)


def _meeting(name: str, inputs: Inputs, written: Written) -> Meeting | None:
    """Return how the actions of a stream met impressions; None of the impressions."""
    if name not in written.labels:
        return None
    label = written.labels[name]
    shifts = written.nearest.shifts_of(name)
    shifts.met += label.shifts.met
    return Meeting(
        Hours(label.met, written.letters.unmet(name), label.hours, label.reach),
        shifts.found(),
        written.nearest.notations_of(name),
    )


def gather_findings(
    inputs: Inputs, finished: Finished, summary: dict[str, Any], log: LogResult
) -> list[str]:
    """Return what is wrong with the input of a finished run."""
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
    return findings
