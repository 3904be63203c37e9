"""Runs that do not end, from Python: to run one, and to read its outputs while it writes them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset as ds

from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.monitoring.guard import GUARD, QUARANTINE
from headrace.pipelines.app.api import Configuration, load_config, unlogged
from headrace.pipelines.app.metrics import LOOPBACK, Metrics
from headrace.pipelines.app.resolving import open_output_topics, resolve_live
from headrace.pipelines.run.interrupts import Stop, Stopping
from headrace.pipelines.run.liveplace import opened_live
from headrace.pipelines.run.remote import place_of
from headrace.pipelines.sinks.completion import COMPLETE, read_completion
from headrace.pipelines.sinks.hours import microseconds, moment, open_dataset
from headrace.schemas.errors import FolderError
from headrace.schemas.records.events import EARLIEST, NEVER

if TYPE_CHECKING:
    from headrace.pipelines.jobs.status import Status
    from headrace.pipelines.jobs.stream import Stood

_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class LiveResult:
    """The outputs of a run that does not end, as far as they were complete at some moment.

    The run may write and merge meanwhile: `samples`, `corrections` and `joined` have the
    same rows at any time, and a dataset can be read as often as needed.

    Parameters
    ----------
    out
        The folder of the run.
    complete
        By output, the emit time (UTC) before which all its rows are there and final; None
        before the first. Of an output whose log has ended it is the last of all times.
    """

    out: Path
    complete: Mapping[str, datetime | None]

    @property
    def samples(self) -> ds.Dataset:
        """The samples emitted before ``complete["samples"]``, in canonical order."""
        return self._dataset("samples")

    @property
    def corrections(self) -> ds.Dataset | None:
        """Samples corrected for late actions; None without ``join.retention``."""
        return self._dataset("corrections") if "corrections" in self.complete else None

    @property
    def guard(self) -> ds.Dataset | None:
        """What guards decided; None if nothing is guarded."""
        return self._dataset(GUARD) if GUARD in self.complete else None

    @property
    def quarantine(self) -> ds.Dataset | None:
        """Samples that guards keep from being learned; None if nothing is guarded."""
        return self._dataset(QUARANTINE) if QUARANTINE in self.complete else None

    @property
    def joined(self) -> dict[str, ds.Dataset]:
        """Actions with their impressions, by stream; empty without ``join.joined``."""
        names = [name for name in self.complete if name.startswith("joined/")]
        return {name.removeprefix("joined/"): self._dataset(name) for name in sorted(names)}

    @property
    def dead_letters(self) -> ds.Dataset:
        """The records that left no sample, with their reasons: all that are final by now."""
        return self._dataset("dead_letters", bounded=False)

    @property
    def statistics(self) -> ds.Dataset:
        """Sums of labels and predictions of closed windows, by learner, slice and value."""
        return self._dataset("statistics")

    def _dataset(self, output: str, bounded: bool = True) -> ds.Dataset:
        complete, folder = self.complete[output], self.out / output
        until = EARLIEST if complete is None else microseconds(complete)
        try:
            return open_dataset(folder, until if bounded else None)
        except OSError as error:
            hint = "was it changed by another process?"
            if error.errno == errno.EMFILE:
                hint = "allow this process to open more files (ulimit -n)"
            raise FolderError(folder, f"cannot be read ({error})", hint) from error


def stream(
    config: Configuration,
    out: str | Path,
    *,
    until_end: bool = False,
    stopping: Stopping | None = None,
    announce: Callable[[str], None] = lambda line: None,
    watch: Callable[[Status], None] = lambda status: None,
    beam_options: Sequence[str] = (),
    algorithms: Algorithms = ALGORITHMS,
    metrics_port: int | None = None,
    metrics_host: str = LOOPBACK,
) -> Stood:
    """Join and learn topics as they grow, until stopped; go on where a run in `out` stood.

    Parameters
    ----------
    config
        The configuration; its streams are topics.
    out
        The folder of the outputs, which can be read meanwhile (`load_live`). Also the state
        to go on from is there.
    until_end
        Whether to end where the topics end now.
    stopping
        When it is set, by another thread, the run takes a checkpoint and ends.
    announce
        Called with a line about what a user should know.
    watch
        Called every second with where the run stands, on another thread.
    beam_options
        More options for Beam.
    algorithms
        The algorithms that the configuration may name.
    metrics_port, metrics_host
        Where to serve metrics for Prometheus while it runs; None serves none.

    Raises
    ------
    ArgumentError
        If nobody can listen there.
    ConfigError, FolderError
        If the run cannot begin, or cannot go on as it is configured now.
    HeadraceError
        If it fails; it can be started again.
    """
    loaded = load_config(config, algorithms=algorithms)
    inputs, growing = resolve_live(loaded, until_end, algorithms)
    # The lock first: importing Beam takes seconds, and a second run must be refused at once.
    metrics = Metrics(metrics_port, metrics_host)
    mode = loaded.outputs.mode
    with opened_live(Path(out), mode) as place, metrics.served() as show, unlogged():
        from headrace.pipelines.jobs.stream import stream as run_stream

        return run_stream(
            inputs, growing, place, stopping or Stop(), open_output_topics,
            beam_options, watch, announce, show,
        )  # fmt: skip


def stream_on(
    runner: str,
    config: Configuration,
    out: str | Path,
    *,
    until_end: bool = False,
    stopping: Stopping | None = None,
    announce: Callable[[str], None] = lambda line: None,
    beam_options: Sequence[str] = (),
    algorithms: Algorithms = ALGORITHMS,
) -> bool:
    """Join and learn topics as they grow on a distributed runner, which keeps the state.

    Parameters
    ----------
    runner
        ``"prism"``, ``"flink"`` or ``"dataflow"``.
    out
        The folder of the outputs, or a URI; all workers must reach it under this name.
    config, until_end, stopping, announce, beam_options, algorithms
        See `stream`.

    Returns
    -------
    bool
        Whether the topics have been read to their end. False if the job was stopped, or goes on
        without this process.

    Raises
    ------
    ArgumentError, ConfigError, FolderError
        If the run cannot begin as it is configured.
    HeadraceError
        If it fails.
    """
    loaded = load_config(config, algorithms=algorithms)
    place = place_of(out)
    inputs, growing = resolve_live(loaded, until_end, algorithms)
    with unlogged():
        from headrace.pipelines.jobs.cluster import stream_on as run_stream

        return run_stream(
            runner, inputs, growing, place.resolve() if isinstance(place, Path) else place,
            stopping or Stop(), until_end, beam_options, announce,
        )  # fmt: skip


def load_live(out: str | Path) -> LiveResult:
    """Return the outputs of a run that does not end, as far as they are complete now.

    Raises
    ------
    FolderError
        If the folder is not that of such a run, or its ``complete.json`` is damaged.
    """
    folder = Path(out)
    try:
        complete = read_completion(folder)
    except FileNotFoundError:
        hint = "name the --out folder of a run that does not end"
        raise FolderError(folder, f"has no {COMPLETE}", hint) from None
    moments = {
        name: None if until == NEVER else moment(min(until, microseconds(_LAST)))
        for name, until in complete.items()
    }
    return LiveResult(folder, moments)
