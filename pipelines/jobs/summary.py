"""``summary.json``: what a replay read, wrote and learned."""

from __future__ import annotations

import platform
import re
import resource
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headrace.learners.learning import LearnerPlan
from headrace.monitoring.driftwords import drift_figures
from headrace.monitoring.headline import headline, judged, worst_slice
from headrace.monitoring.pairwise import pairwise_figures
from headrace.monitoring.ratios import auc, auc_interval, calibration_error, ratios
from headrace.monitoring.statistics import Statistics
from headrace.pipelines.jobs.readback import Written
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import SourceState
from headrace.pipelines.training.job import Finished
from headrace.schemas.config.durations import SECOND, iso_moment
from headrace.schemas.config.effective import effective
from headrace.schemas.records.badvalues import together
from headrace.schemas.records.events import NEVER, Outcome
from headrace.schemas.summary import TimeCounts

_PACKAGES = ("headrace", "apache-beam", "numba", "numpy", "pyarrow", "river")


def summarize(
    inputs: Inputs,
    finished: Finished,
    written: Written,
    states: Mapping[int, SourceState],
    elapsed_s: float,
    state: int | None,
) -> dict[str, Any]:
    """Return the contents of ``summary.json``; `state` is the size of the state kept, bytes.

    Raises
    ------
    AssertionError
        If the outcomes of a stream do not add up to the records read.
    """
    totals = finished.totals
    records = dict.fromkeys(inputs.join.stream_names, 0)
    invalid = dict.fromkeys(inputs.join.stream_names, 0)
    for log in inputs.own_logs:
        name = inputs.streams[log.stream].name
        records[name] += states[log.number].records
        invalid[name] += states[log.number].rejected
    past = inputs.past
    carried = dict.fromkeys(records, 0) if past is None else dict(past.carried)
    outcomes = {
        name: {**{o.value: 0 for o in Outcome}, **totals.outcomes.get(name, {})}
        for name in inputs.join.stream_names
    }
    for name, counts in outcomes.items():
        counts[Outcome.INVALID.value] = invalid[name]
        if sum(counts.values()) != records[name] + carried[name]:
            raise AssertionError(
                f"stream {name}: {records[name]} records read, {carried[name]} carried over, "
                f"outcomes are {counts}; please report this as a defect"
            )
    total = sum(records.values())
    return {
        "config": effective(inputs.config),
        "spans": {stream.name: _span(*totals.spans[stream.number]) for stream in inputs.streams},
        "input": records,
        "carried": carried,
        "continues": None if past is None else str(past.folder),
        "state_bytes": state,
        "outcomes": outcomes,
        "bad_values": {
            stream.name: together(states[log.number].bad_values for log in logs)
            for stream in inputs.streams
            if (logs := inputs.logs_of(stream.number))
        },
        "times": {
            stream.name: {
                name: sum(
                    states[log.number].time_counts.get(name, 0)
                    for log in inputs.logs_of(stream.number)
                )
                for name in TimeCounts.model_fields
            }
            for stream in inputs.streams
        },
        "end_of_log": inputs.ending(totals.ends).as_json(),
        "sources": [
            {
                "name": log.name,
                "stream": inputs.streams[log.stream].name,
                "records": states[log.number].records,
                "rejected": states[log.number].rejected,
                "latest": _latest(states[log.number].confirmed),
            }
            for log in inputs.own_logs
        ],
        "samples": {
            "rows": totals.samples - (0 if past is None else past.samples),
            "emissions": written.emissions,
            "positives": written.positives,
            "negatives_dropped": totals.dropped,
            "weight_sum": written.weight_sum,
        },
        "labels": {
            action.name: _label(written, outcomes[action.name], action.name, action.window)
            for action in inputs.join.actions
        },
        "joined": {"actions": written.joined, "found_in": totals.looked_up}
        if inputs.join.joined
        else None,
        "guard": dict(finished.guards),
        "drift": None if finished.drift is None else drift_figures(finished.drift),
        "window_s": inputs.config.monitor.window / SECOND,
        "learners": {
            name: {
                "label": learner.label,
                "start": _start(learner, inputs.config.named_learners[name].start),
                "algorithm": learner.algorithm,
                **learner_summary(finished.statistics[name]),
                **_judgement(finished.statistics[name], finished.served.get(name)),
                "compared": _compared(inputs, finished, name),
                "clipped": dict(sorted(finished.clipped[name].items())),
                "refused": finished.refused[name],
                "outliers": {
                    column: count
                    for column, count in sorted(finished.outliers[name].items())
                    if count
                },
                "mature_share": finished.mature[name],
                "effective_samples": finished.effective[name],
                "served": _served(inputs, finished, finished.served.get(name)),
                "calibrated": _served(inputs, finished, finished.calibrated.get(name)),
                "pairwise": _pairwise(inputs, finished, name),
                "gate": _gate(finished.verdicts.get(name)),
                "model": {
                    "path": f"model/{name}/{finished.snapshots[name]}",
                    "samples": finished.manifests[name]["samples"],
                    "sha256": finished.manifests[name]["sha256"],
                    "figures": finished.manifests[name]["figures"],
                },
            }
            for name, learner in inputs.train.learners.items()
        },
        "elapsed_s": round(elapsed_s, 3),
        "events_per_s": round(total / elapsed_s),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
    }


def learner_summary(statistics: Statistics) -> dict[str, Any]:
    """Return a learner's progressive figures, overall and by window, as JSON types."""
    sums = statistics.totals().get("")
    if sums is None:
        return {
            "samples": 0, "log_loss": None, "normalized_entropy": None, "auc": None,
            "auc_interval": None, "calibration": None, "calibration_interval": None,
            "calibration_error": None, "running_rate_log_loss": None, "windows": [],
        }  # fmt: skip
    overall = ratios(sums)
    of_auc = auc_interval(statistics.bins, sums)
    return {
        "samples": overall["samples"],
        "log_loss": overall["log_loss"],
        "normalized_entropy": overall["normalized_entropy"],
        "auc": auc(statistics.bins),
        "auc_interval": None if of_auc is None else of_auc.as_json(),
        "calibration": overall["calibration"],
        "calibration_interval": overall["calibration_interval"],
        "calibration_error": calibration_error(statistics.bins),
        "running_rate_log_loss": float(statistics.baseline[2] / statistics.baseline[0]),
        "windows": [
            {"start": iso_moment(start), **ratios(sums)} for start, sums in statistics.windows()
        ],
    }


def _judgement(statistics: Statistics, served: Statistics | None) -> dict[str, Any]:
    """Return a learner's figures without the warm-up, and its worst slice."""
    of = judged(statistics, served)
    if of is None or (found := headline(of)) is None:
        return {"after_warm_up": None, "worst_slice": None}
    worst = worst_slice(of, found["since"])
    predicted = "learned" if of is statistics else "served"
    return {
        "after_warm_up": {"predicted": predicted, **found, "since": iso_moment(found["since"])},
        "worst_slice": None if worst is None else asdict(worst),
    }


def _label(written: Written, outcomes: Mapping[str, int], name: str, window: int) -> dict[str, Any]:
    """Return what is known of a label, and which of its actions do not count."""
    outside = outcomes[Outcome.OUTSIDE_WINDOW.value]
    return {
        "window_s": window / SECOND,
        **written.labels[name].as_json(outside),
        "outside_window": outside,
        "orphans": outcomes[Outcome.ORPHAN.value],
        "late": outcomes[Outcome.LATE.value],
    }


def _span(first: int, last: int) -> dict[str, str | None]:
    """Return the ends of a stream; it has none if the first is after the last."""
    known = first <= last
    return {
        "first": iso_moment(first) if known else None,
        "last": iso_moment(last) if known else None,
    }


def _latest(time: int) -> str | None:
    return iso_moment(time) if time > NEVER else None


def _gate(verdict: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if verdict is None else {**verdict, "window": iso_moment(verdict["window"])}


def _start(learner: LearnerPlan, path: str | None) -> dict[str, Any] | None:
    if (start := learner.start) is None:
        return None
    return {
        "path": path, "samples": start.samples,
        "kept": start.kept, "new": start.new, "gone": start.gone,
    }  # fmt: skip


def _compared(inputs: Inputs, finished: Finished, name: str) -> dict[str, Any] | None:
    """Return by how much a learner differs from the one it is compared with."""
    difference = finished.differences.get(name)
    if difference is None:
        return None
    return {"reference": inputs.train.references[name], **asdict(difference)}


def _served(
    inputs: Inputs, finished: Finished, statistics: Statistics | None
) -> dict[str, Any] | None:
    """Return the figures of a learner's predictions when impressions were known."""
    share = inputs.join.served.share
    if not share or statistics is None:
        return None
    figures = learner_summary(statistics)
    del figures["running_rate_log_loss"]
    return {**figures, "share": share, "waiting": finished.open}


def _pairwise(inputs: Inputs, finished: Finished, name: str) -> dict[str, Any] | None:
    """Return whether a learner ranks what is clicked above the rest, by slice."""
    if name not in finished.pairwise:
        return None
    propensity = inputs.config.monitor.propensity
    return {"propensity": propensity, **pairwise_figures(finished.pairwise[name])}


def peak_rss_mb() -> float:
    """Return the process's greatest resident memory so far, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: its figure starts at the peak of the parent process.
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.M)
        if found is not None:
            return int(found[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
