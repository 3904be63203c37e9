"""All that became of a key: its records, samples, and what was learned of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.monitoring.guard import QUARANTINE
from headrace.pipelines.jobs.keyjoin import WantedKey, check_values, join_key
from headrace.pipelines.jobs.keylearning import Learning, learning_of
from headrace.pipelines.jobs.keyoutputs import as_rows, emit_times, letters_of_key, rows_of_key
from headrace.pipelines.jobs.keysampling import Sampled, sampled
from headrace.pipelines.jobs.runfolder import RunFolder
from headrace.pipelines.jobs.verdicts import Verdict, of_letter, verdicts
from headrace.pipelines.run.disk import writing
from headrace.pipelines.sinks.outputs import SAMPLES
from headrace.pipelines.sources.inputs import Inputs
from headrace.schemas.config.models import Config
from headrace.schemas.errors import SnapshotError
from headrace.schemas.records.events import Outcome

_TIMES = ("time", "emit_time")


@dataclass(frozen=True)
class KeyHistory:
    """What a run made of a key.

    Parameters
    ----------
    key
        The values as texts, by key column.
    records
        Every record of the key, with what became of it; without the logs only the dead letters.
    sampling
        What sampling made of each impression that left; empty without the logs.
    samples, joined, corrections
        Rows of these outputs, as JSON types; `joined` by action stream, the others with their
        emit time.
    learning
        What each learner made of each sample.
    notes
        What is not known, and why, a sentence each.
    """

    key: dict[str, str]
    records: list[Verdict] = field(default_factory=list)
    sampling: list[Sampled] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    joined: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    corrections: list[dict[str, Any]] = field(default_factory=list)
    learning: list[Learning] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether there is anything of the key."""
        return bool(self.records or self.samples)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON types, times in ISO 8601."""
        tree = asdict(self)
        for part in ("records", "sampling", "learning"):
            for row in tree[part]:
                for name in _TIMES:
                    if row.get(name) is not None:
                        row[name] = _iso(row[name])
        return tree


def key_history(
    run: RunFolder,
    values: tuple[str, ...],
    inputs: Inputs | None,
    keys: Mapping[str, tuple[str, ...]],
) -> KeyHistory:
    """Gather what a run made of a key.

    Parameters
    ----------
    run
        Its folder.
    values
        The values of the key as texts, in the order of the key columns.
    inputs
        Its logs; None if they are not to be read.
    keys
        Names of the key columns by stream; if empty, as a model says, or else the first of a
        sample.

    Raises
    ------
    ArgumentError
        If the values are not those of a key.
    HeadraceError
        If something cannot be read.
    """
    keys = keys or _keys_of(run, len(values))
    key = keys.get("impressions", ())
    check_values(key, values)
    history = KeyHistory(dict(zip(key, values, strict=True)))
    if inputs is not None:
        _add_records(history, run, inputs, WantedKey.of(inputs, values))
    else:
        letters = letters_of_key(run, keys, values)
        history.records.extend(of_letter(letter) for letter in letters)
    samples = rows_of_key(run, SAMPLES, history.key)
    if samples is not None:
        history.samples.extend(_emitted(samples))
        held = rows_of_key(run, QUARANTINE, history.key)
        history.learning.extend(learning_of(run.models(), samples, held))
    history.corrections.extend(_emitted(rows_of_key(run, "corrections", history.key)))
    for folder in sorted((run.folder / "joined").glob("*/")):
        found = rows_of_key(run, f"joined/{folder.name}", history.key)
        history.joined[folder.name] = as_rows(found)
    return history


def _emitted(samples: pa.Table | None) -> list[dict[str, Any]]:
    """Return samples as JSON types, each with its emit time."""
    if samples is None:
        return []
    times = [_iso(time) for time in emit_times(samples)]
    rows = as_rows(samples)
    return [{**row, "emit_time": time} for row, time in zip(rows, times, strict=True)]


def _add_records(history: KeyHistory, run: RunFolder, inputs: Inputs, wanted: WantedKey) -> None:
    with writing(Path("temporary folder")):
        scratch = tempfile.TemporaryDirectory(prefix="headrace-")
    with scratch as folder:
        found = join_key(inputs, wanted, folder)
    records = verdicts(inputs, found, wanted)
    if any(one.outcome == Outcome.ORPHAN for one in records):
        # What lies nearest to it was looked for when all was written.
        letters = map(of_letter, letters_of_key(run, key_columns(inputs.config), wanted.values))
        said = {one.place_in_log: one.why for one in letters if one.outcome == Outcome.ORPHAN}
        records = [replace(one, why=said.get(one.place_in_log, one.why)) for one in records]
    history.records.extend(records)
    history.sampling.extend(sampled(inputs, found, wanted))


def key_columns(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the names of the key columns of each stream."""
    return {table.removeprefix("actions."): of.key for table, of in config.streams.items()}


def _keys_of(run: RunFolder, columns: int) -> dict[str, tuple[str, ...]]:
    """Return the names of the key columns, as the folder of a run shows them."""
    try:
        config = run.manifest()["config"]
    except SnapshotError:
        samples = run.output(SAMPLES)
        names = [] if samples is None else samples.schema.names[:columns]
        return {"impressions": tuple(names)}
    actions = {name: tuple(action["key"]) for name, action in config["actions"].items()}
    return {"impressions": tuple(config["impressions"]["key"]), **actions}


def _iso(time: int) -> str:
    text: str = pa.scalar(time, pa.timestamp("us", "UTC")).as_py().isoformat()
    return text
