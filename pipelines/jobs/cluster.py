"""The live job on a distributed runner, which keeps all state itself."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from headrace.pipelines.beam.clustergraph import ClusterJob, build_cluster_graph
from headrace.pipelines.beam.clusterwriting import FINISHED_FILE
from headrace.pipelines.beam.launching import RUNNERS, idle_slots, launch, options_of, started
from headrace.pipelines.jobs.identity import check_identity, live_identity_of
from headrace.pipelines.jobs.replay import train_job
from headrace.pipelines.run.disk import files_under
from headrace.pipelines.run.interrupts import Stopping
from headrace.pipelines.run.liveplace import CLUSTER_BEGUN as BEGUN
from headrace.pipelines.run.locking import LOCK, held
from headrace.pipelines.run.place import Place
from headrace.pipelines.run.remote import Address
from headrace.pipelines.run.signing import signed
from headrace.pipelines.run.store import Store
from headrace.pipelines.sinks.lettersort import DEAD_LETTERS
from headrace.pipelines.sinks.outputs import distinct_columns, schemas_of
from headrace.pipelines.sinks.storedfiles import StoredEpochs, write_schema
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.secrethash import PUBLIC_KEYS
from headrace.pipelines.sources.source import Growing
from headrace.schemas.config.durations import SECOND
from headrace.schemas.errors import ConfigError, FolderError, RunnerError
from headrace.schemas.records.events import DEAD_LETTER_SCHEMA, FOREVER

_HINT = "write to another folder to begin anew"


def stream_on(
    runner: str,
    inputs: Inputs,
    growing: Growing,
    out: Path | Address,
    stopping: Stopping,
    until_end: bool = False,
    beam_options: Sequence[str] = (),
    announce: Callable[[str], None] = lambda line: None,
) -> bool:
    """Run the live job on a distributed runner.

    Parameters
    ----------
    runner
        One of `headrace.pipelines.beam.launching.RUNNERS`.
    inputs, growing
        The job, and its logs.
    out
        Folder of the outputs, which all workers must reach under this name.
    stopping
        When it is set, a job that lives with this process is cancelled.
    until_end
        Whether the logs have an end.
    beam_options
        More options for the runner.
    announce
        Called with a line about what a user should know.

    Returns
    -------
    bool
        Whether all logs have been read to their end. False if it was stopped, or goes on
        without this process.

    Raises
    ------
    ConfigError, FolderError
        If it cannot run as it is configured.
    HeadraceError
        If it fails.
    """
    options = options_of(runner, beam_options, until_end)
    _check(inputs, until_end)
    if (idle := idle_slots(options, inputs.join.shards)) is not None:
        announce(idle)
    if inputs.secret.is_public:
        announce(PUBLIC_KEYS)
    how = RUNNERS[runner]
    with held(Place(out)) if how.waits and isinstance(out, Path) else contextlib.nullcontext():
        job = _prepared(inputs, growing, Store(out), how.retried)
        wait = how.waits or until_end
        with started(runner, announce) as more:
            build = partial(build_cluster_graph, job=job)
            ended = launch(build, runner, [*options, *more], stopping, wait)
        if ended and until_end and job.store.read_signed(FINISHED_FILE) is None:
            raise RunnerError.unfinished(runner)
        return ended


def _prepared(inputs: Inputs, growing: Growing, store: Store, retried: bool) -> ClusterJob:
    """Return the job as it begins, or goes on, in a folder."""
    name, starts = _begun(store, inputs, growing)
    positions = dict(enumerate(starts))
    inputs = replace(inputs, join=replace(inputs.join, starts=positions))
    distinct = distinct_columns(inputs.join)
    schemas = schemas_of(inputs)
    files = {
        output: StoredEpochs(store, output, schema, distinct, inputs.join.epoch)
        for output, schema in schemas.items()
    }
    for each in files.values():
        each.write_schema()
    write_schema(store, DEAD_LETTERS, DEAD_LETTER_SCHEMA)
    job = replace(train_job(inputs, "model"), store=store)
    return ClusterJob(
        name, inputs, growing, starts, job, store, files, retried,
        inputs.config.live.snapshot / SECOND,
    )  # fmt: skip


def _check(inputs: Inputs, until_end: bool) -> None:
    """Refuse what would not be exact."""
    config = inputs.config
    if config.outputs.topics:
        fact, hint = "cannot be topics on a cluster", "leave it out, and read the files"
        raise ConfigError(config.file, "outputs", fact, hint=hint)
    for stream in inputs.streams:
        if stream.sorts:
            raise ConfigError(config.file, stream.name, "is sorted", hint="topics are not")
    readers = 1 if config.kafka is None else config.kafka.readers
    opens = any(
        inputs.final_progress(stream.number, 0) != FOREVER and stream.complete_until is None
        for stream in inputs.streams
    )
    if until_end and readers > 1 and opens:
        raise ConfigError(
            config.file, "kafka.readers", "cannot be more than 1 with --until-end if logs end "
            "open: no reader knows how far the others came", readers,
            'write 1, or join.end_of_log = "close"',
        )  # fmt: skip


def _begun(store: Store, inputs: Inputs, growing: Growing) -> tuple[str, list[int]]:
    """Return the name of the run and where it began; note both if that is now."""
    file = inputs.config.file
    identity = live_identity_of(inputs, growing)
    try:
        found = store.read_signed(BEGUN)
    except ValueError as error:
        raise FolderError(str(store.root / BEGUN), f"is damaged ({error})", _HINT) from error
    if found is not None:
        check_identity(found["identity"], identity, file, _HINT)
        store.delete(FINISHED_FILE)
        return found["run"], found["starts"]
    there = [name for name in files_under(store.root) if name != LOCK]
    if there:
        fact = f"has files, and they are not those of a run on a cluster ({', '.join(there[:3])})"
        raise FolderError(str(store.root), fact, "choose another folder, or a new one")
    begun: dict[str, Any] = {
        "identity": identity, "run": uuid.uuid4().hex, "starts": growing.starts(),
    }  # fmt: skip
    store.write(BEGUN, signed(begun).encode())
    return begun["run"], begun["starts"]
