"""When the learners of a run learned the samples of a key, and what they predict of it now."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.learning import tells_of
from headrace.monitoring.guard import HELD_FOR, HELD_WHY
from headrace.pipelines.jobs.keyoutputs import emit_times
from headrace.pipelines.jobs.prediction import load_model
from headrace.pipelines.jobs.runfolder import read_manifest
from headrace.schemas.config.predicates import Predicate
from headrace.schemas.errors import HeadraceError
from headrace.schemas.records.texts import moment_texts


@dataclass(frozen=True)
class Learning:
    """What a learner made of a sample.

    Parameters
    ----------
    learner, label
        Its name, and its label.
    time, emit_time, emission
        Event time and emit time of the sample, microseconds, and its emission.
    learned
        Whether it was learned.
    why
        When, or why not, in words.
    prediction
        What its newest published model predicts of the sample now; None if it cannot tell.
    """

    learner: str
    label: str
    time: int
    emit_time: int
    emission: str
    learned: bool
    why: str
    prediction: float | None


def learning_of(
    models: dict[str, Path], samples: pa.Table, held: pa.Table | None
) -> list[Learning]:
    """Return what each learner made of each of some samples.

    Parameters
    ----------
    models
        The newest snapshot of each learner, by name.
    samples, held
        The samples of the key, and those of the quarantine.
    """
    return [
        one for name, folder in models.items() if samples.num_rows
        for one in _of_learner(name, folder, samples, held)
    ]  # fmt: skip


def _of_learner(
    name: str, folder: Path, samples: pa.Table, held: pa.Table | None
) -> list[Learning]:
    config = read_manifest(folder)["config"]
    table = config["learners"][name]
    label, epoch = table["label"], min(of["epoch"] for of in config["learners"].values())
    batch = samples.combine_chunks().to_batches()[0]
    told = _told(batch, table, config)
    predictions = _predictions(folder, samples)
    kept_back = dict(_held(held, label))
    out = []
    emission = batch.column("emission").cast(pa.string()).to_pylist()
    times = batch.column("event_time").cast(pa.int64()).to_pylist()
    for row, emit in enumerate(emit_times(samples)):
        begin = emit // epoch * epoch
        begins, ends = moment_texts(pa.array([begin, begin + epoch]).to_numpy()).to_pylist()
        learned, why = True, f"learned with the epoch from {begins} to {ends}"
        if not told[row]:
            learned, why = False, f"not learned: {_untold(batch.slice(row, 1), table)}"
        elif (times[row], emit, emission[row]) in kept_back:
            learned = False
            why = f"held back by the guard: {kept_back[times[row], emit, emission[row]]}"
        out.append(Learning(
            name, label, times[row], emit, emission[row], learned, why, predictions[row],
        ))  # fmt: skip
    return out


def _told(batch: pa.RecordBatch, table: dict[str, Any], config: dict[str, Any]) -> list[bool]:
    condition = _filter(table)
    among = [] if condition is None else [c for c in condition.columns if c in config["actions"]]
    told = tells_of([table["label"], *among], batch, config["join"]["emission"])
    if condition is not None:
        told = told & condition.evaluate(batch)
    tells: list[bool] = told.tolist()
    return tells


def _untold(row: pa.RecordBatch, table: dict[str, Any]) -> str:
    condition = _filter(table)
    if condition is not None and not condition.evaluate(row)[0]:
        return f"it does not meet {condition.text}"
    return f"it tells nothing new of {table['label']}"


def _filter(table: dict[str, Any]) -> Predicate | None:
    return None if table.get("filter") is None else Predicate(table["filter"])


def _held(held: pa.Table | None, label: str) -> list[tuple[tuple[int, int, str], str]]:
    if held is None:
        return []
    mine = held.filter(pc.equal(held.column(HELD_FOR), label))
    times = mine.column("event_time").cast(pa.int64()).to_pylist()
    emission = mine.column("emission").cast(pa.string()).to_pylist()
    places = zip(times, emit_times(mine), emission, strict=True)
    return list(zip(places, mine.column(HELD_WHY).to_pylist(), strict=True))


def _predictions(folder: Path, samples: pa.Table) -> list[float | None]:
    try:
        predicted = load_model(folder).predict_proba(samples).tolist()
    except HeadraceError:  # of an algorithm that is not here, or of columns that it lacks
        return [None] * samples.num_rows
    return [None if math.isnan(p) else p for p in predicted]
