"""``headrace explain DIR KEY...``: what became of a key, and how the terminal shows it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headrace.pipelines.app import api
from headrace.pipelines.app.resolving import resolve
from headrace.pipelines.jobs.identity import digest_of, identity_of
from headrace.pipelines.jobs.keyhistory import KeyHistory, key_columns, key_history
from headrace.pipelines.jobs.keyjoin import key_at
from headrace.pipelines.jobs.keylearning import Learning
from headrace.pipelines.jobs.runfolder import RunFolder, open_run
from headrace.pipelines.jobs.verdicts import Verdict
from headrace.pipelines.run.remote import place_of
from headrace.pipelines.run.seal import SEAL, SUMMARY, read_seal
from headrace.pipelines.sinks.completion import COMPLETE
from headrace.pipelines.sources.inputs import Inputs
from headrace.schemas.config.models import Config
from headrace.schemas.errors import ArgumentError, HeadraceError
from headrace.schemas.records.texts import moment_texts


class Record(NamedTuple):
    """A record, as dead letters name it; of its source the last part of the name is enough."""

    stream: str
    source: str
    offset: int
    row: int = 0


def is_run(folder: str) -> bool:
    """Tell whether a folder is that of a finished replay, or of a run that goes on."""
    place = place_of(folder)
    return isinstance(place, Path) and any(
        (place / name).exists() for name in (SEAL, SUMMARY, COMPLETE)
    )


def explain_key(
    out: str | Path,
    values: tuple[str, ...] = (),
    config: api.Configuration | None = None,
    record: Record | None = None,
) -> KeyHistory:
    """Gather what a run made of a key.

    Of a finished replay the logs are read, with the configuration that its seal names; of a run
    that goes on only its outputs.

    Parameters
    ----------
    out
        The folder of the run.
    values
        The values of the key as texts, in the order of ``impressions.key``.
    config
        The run's configuration, if it is not where it was.
    record
        In place of `values`, a record that has the key.

    Raises
    ------
    ArgumentError
        If the values are not those of a key, or there is no such record.
    ConfigError
        If `config` is given and cannot be used.
    FolderError
        If the folder is not that of a run on this machine.
    HeadraceError
        If something cannot be read.
    """
    run = open_run(out)
    loaded, inputs, note = _logs_of(run, config)
    if record is not None:
        values = _key_of(record, inputs)
    keys = {} if loaded is None else key_columns(loaded)
    history = key_history(run, values, inputs, keys)
    if note is not None:
        history.notes.append(note)
    return history


def _logs_of(
    run: RunFolder, config: api.Configuration | None
) -> tuple[Config | None, Inputs | None, str | None]:
    """Return configuration and logs of a run as far as there are, and what is wrong with them."""
    given = None if config is None else api.load_config(config)
    if run.until is not None:
        return given, None, "the logs of a run that goes on are not read: only outputs are shown"
    seal = read_seal(run.folder / SEAL)
    if given is None and not seal.configuration:
        note = "the result does not say where its configuration is: name it by --config"
        return None, None, note
    loaded = given
    try:
        if loaded is None:
            loaded = api.load_config(seal.configuration["file"])
        loaded = _as_run(loaded, seal.configuration)
        inputs = resolve(loaded)
    except HeadraceError as error:
        if given is not None:
            raise
        return loaded, None, f"the logs cannot be read, so only outputs are shown ({error})"
    if seal.configuration.get("continues"):
        return loaded, inputs, (
            "the run continues another: what is said of records is what one run over all files of "
            "the configuration would make of them; outputs are those of this run alone"
        )  # fmt: skip
    if digest_of(identity_of(inputs)) == seal.identity:
        return loaded, inputs, None
    return loaded, inputs, (
        "configuration or logs have changed since the run: what is said of records is what it "
        "would make of them now"
    )  # fmt: skip


def _as_run(config: Config, given: Mapping[str, Any]) -> Config:
    """Return a configuration with what the command line of the run gave instead."""
    if not given:
        return config
    join = config.join.model_copy(update={"shards": given["shards"]})
    replay = config.replay.model_copy(update={"batch_rows": given["batch_rows"]})
    return config.model_copy(update={"join": join, "replay": replay})


def _key_of(record: Record, inputs: Inputs | None) -> tuple[str, ...]:
    if inputs is None:
        fact = "cannot be looked up, since the logs are not read"
        raise ArgumentError("--offset", record.offset, fact, "give the values of the key")
    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        return key_at(inputs, *record, scratch)


def history_lines(history: KeyHistory) -> Iterator[str]:
    """Yield the lines that show a history."""
    yield ", ".join(f"{name}={value}" for name, value in history.key.items())
    for one in history.records:
        yield from _record_lines(one)
        if one.stream == "impressions" and one.outcome in ("settled", "open"):
            yield from (f"    {each.why}" for each in history.sampling if each.time == one.time)
    for row in history.samples:
        yield f"sample ({row['emission']}) of {_row_text(row)}"
        yield from (_learning_line(one) for one in history.learning if _is_of(one, row))
    for row in history.corrections:
        yield f"correction, for a late {row['trigger']}, of {_row_text(row)}"
    for stream, rows in history.joined.items():
        yield from (f"joined {stream}, of {_moment_of(row['event_time'])}" for row in rows)
    if not history.found:
        yield "nothing has this key"
    yield from (f"note: {note}" for note in history.notes)


def _record_lines(one: Verdict) -> Iterator[str]:
    stream = "impression" if one.stream == "impressions" else one.stream
    when = "" if one.time is None else f" of {_moment(one.time)}"
    named = "" if one.id is None else f", id {one.id}"
    yield f"{stream}{when}{named} ({one.place})"
    yield f"    {one.outcome}: {one.why}"


def _row_text(row: dict[str, Any]) -> str:
    shown, emitted = _moment_of(row["event_time"]), _moment_of(row["emit_time"])
    names = [name.removesuffix("_mature") for name in row if name.endswith("_mature")]
    labels = [f"{name} {'yes' if row[name] else 'no'} ({row[f'{name}_count']})" for name in names]
    weight = f"weight {row['weight']:g}, sampling rate {row['sampling_rate']:g}"
    return f"{shown}, emitted {emitted}: {', '.join([*labels, weight])}"


def _is_of(one: Learning, row: dict[str, Any]) -> bool:
    times = (_moment_of(row["event_time"]), _moment_of(row["emit_time"]))
    return (_moment(one.time), _moment(one.emit_time), one.emission) == (*times, row["emission"])


def _learning_line(one: Learning) -> str:
    now = "" if one.prediction is None else f"; its newest model predicts {one.prediction:.6f}"
    return f"    learner {one.learner}: {one.why}{now}"


def _moment_of(text: str) -> str:
    since = datetime.fromisoformat(text) - datetime.fromtimestamp(0, UTC)
    return _moment(since // timedelta(microseconds=1))


def _moment(time: int) -> str:
    text: str = moment_texts(np.array([time]))[0].as_py()
    return text
