"""Headrace from Python: all that the command line does.

Nothing here ends the process, prints, or changes the state of the process, with one
exception: while a replay runs, it notes an interrupt (Ctrl-C) before passing it on.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from headrace.learners.registry import ALGORITHMS, Algorithms, parameter_models
from headrace.monitoring.guard import GUARD, QUARANTINE
from headrace.pipelines.app.metrics import LOOPBACK, Metrics
from headrace.pipelines.app.resolving import resolve
from headrace.pipelines.jobs.faults import in_order, parse_fault
from headrace.pipelines.jobs.generate import (
    WINDOW,
    Generated,
    Traffic,
    impressions_within,
    write_traffic,
)
from headrace.pipelines.jobs.identity import digest_of, identity_of
from headrace.pipelines.jobs.past import read_past
from headrace.pipelines.jobs.validation import Validation
from headrace.pipelines.jobs.validation import validate as validate_inputs
from headrace.pipelines.run.board import Board
from headrace.pipelines.run.disk import files_under, writing
from headrace.pipelines.run.folder import opened
from headrace.pipelines.run.links import refuse_links
from headrace.pipelines.run.place import Place
from headrace.pipelines.run.remote import Address, place_of
from headrace.pipelines.run.seal import SEAL, SUMMARY, Verified
from headrace.pipelines.run.seal import verify as verify_result
from headrace.pipelines.run.upload import check_target, upload, waiting
from headrace.pipelines.sources.files import LogFile
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.preview import preview
from headrace.schemas.config.durations import SECOND, format_duration, parse_duration
from headrace.schemas.config.loading import load_config as read_config
from headrace.schemas.config.loading import parse_config
from headrace.schemas.config.models import Config
from headrace.schemas.errors import ArgumentError, ConfigError, FolderError
from headrace.schemas.summary import Summary

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from headrace.pipelines.jobs.windows import Measured

MOST_INVALID = 0.2
"""More of a stream than this share is too much."""

Configuration = Config | Mapping[str, Any] | str | Path
"""A configuration: one that was read before, its tables, or the name of its file."""


def _ignore(_: Any) -> None:
    pass


def load_config(config: Configuration, *, algorithms: Algorithms = ALGORITHMS) -> Config:
    """Read a configuration, and check all that can be checked without its logs.

    Parameters
    ----------
    config
        The name of a TOML file, or its tables as a mapping, in which paths are relative to
        the working directory. A `Config` is returned unchanged.
    algorithms
        The algorithms that it may name.

    Raises
    ------
    ConfigError
        For the first thing wrong, with file, key, value and a hint.
    """
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return parse_config(dict(config), "configuration", parameter_models(algorithms))
    return read_config(config, parameter_models(algorithms))


def _resolve(
    config: Configuration, algorithms: Algorithms, continue_from: str | Path | None = None
) -> Inputs:
    loaded = load_config(config, algorithms=algorithms)
    past = None if continue_from is None else read_past(Path(continue_from), loaded)
    return resolve(loaded, algorithms, past)


def validate(config: Configuration, *, algorithms: Algorithms = ALGORITHMS) -> Validation:
    """Check a configuration against its logs: replay the first records of every file on trial.

    Nothing is written but to a temporary folder, which is deleted.

    Raises
    ------
    ConfigError
        If a replay would refuse to start, or if the trial fails.
    HeadraceError
        If the trial cannot write to the temporary folder.
    """
    return check_inputs(_resolve(config, algorithms))


def check_inputs(inputs: Inputs) -> Validation:
    """Check a configuration that was resolved against its logs, see `validate`."""
    with unlogged():
        return validate_inputs(inputs)


@dataclass(frozen=True)
class ReplayResult:
    """The result of a replay: its outputs and its summary.

    Parameters
    ----------
    out
        The folder of the result: a `Path`, or, of a result elsewhere, an address that is
        joined with ``/`` as a path is, and is its URI as text.
    summary
        The contents of ``summary.json``.
    findings
        What in the logs needs attention, a sentence each.
    """

    out: Path | Address
    summary: Summary
    findings: tuple[str, ...]

    @property
    def mostly_invalid(self) -> list[str]:
        """A sentence for each stream of which more than a fifth is invalid."""
        found = []
        for stream, records in self.summary.input.items():
            invalid = self.summary.outcomes[stream]["invalid"]
            if invalid > MOST_INVALID * records:
                share = f"{invalid:,} of {records:,} records ({invalid / records:.0%})"
                found.append(f"{share} of {stream} are invalid: look into {self.out}/dead_letters")
        return found

    @property
    def samples(self) -> ds.Dataset:
        """The samples, in canonical order, as an Arrow dataset."""
        return _dataset(self.out / "samples")

    @property
    def dead_letters(self) -> ds.Dataset:
        """The records that left no sample, with their reasons, as an Arrow dataset."""
        return _dataset(self.out / "dead_letters")

    @property
    def corrections(self) -> ds.Dataset | None:
        """Samples corrected for late actions; None without ``join.retention``."""
        folder = self.out / "corrections"
        return _dataset(folder) if folder.exists() else None

    @property
    def guard(self) -> ds.Dataset | None:
        """What guards decided; None if nothing was guarded."""
        folder = self.out / GUARD
        return _dataset(folder) if folder.exists() else None

    @property
    def quarantine(self) -> ds.Dataset | None:
        """Samples that guards kept from being learned; None if nothing was guarded."""
        folder = self.out / QUARANTINE
        return _dataset(folder) if folder.exists() else None

    @property
    def joined(self) -> dict[str, ds.Dataset]:
        """Actions with their impressions, by stream; empty without ``join.joined``."""
        names = self.summary.joined.actions if self.summary.joined is not None else ()
        return {name: _dataset(self.out / "joined" / name) for name in sorted(names)}

    @property
    def models(self) -> dict[str, Path | Address]:
        """Folder of the model of each learner; `load_model` reads it."""
        learners = self.summary.learners.items()
        return {name: self.out / learner.model.path for name, learner in learners}

    @property
    def report(self) -> Path | Address:
        """The report, an HTML page."""
        return self.out / "report.html"


def _dataset(folder: Path | Address) -> ds.Dataset:
    import pyarrow.dataset as ds

    if isinstance(folder, Address):
        return ds.dataset(folder.path, format="parquet", filesystem=folder.filesystem)
    return ds.dataset(folder, format="parquet")


def replay(
    config: Configuration,
    out: str | Path | Address,
    *,
    work: str | Path | None = None,
    resume: bool = False,
    continue_from: str | Path | None = None,
    watch: Callable[[Board], None] = _ignore,
    announce: Callable[[str], None] = _ignore,
    beam_options: Sequence[str] = (),
    algorithms: Algorithms = ALGORITHMS,
    metrics_port: int | None = None,
    metrics_host: str = LOOPBACK,
) -> ReplayResult:
    """Replay logs into samples, models and a report.

    Parameters
    ----------
    config
        What to replay, and how.
    out
        Folder to write to: new, empty, or with an earlier result, which is replaced when
        the run is complete and stays as it is if the run fails. If it is elsewhere, such as
        ``s3://bucket/result``, the complete result is uploaded to there.
    work
        With such a place, the folder of this machine in which the run works; by default one
        for each place, in the user's folder for caches.
    resume
        Whether to continue from the last checkpoint of an unfinished run, if there is one.
    continue_from
        The folder of a finished replay to go on from: only what is new in the logs is read, and
        only what newly leaves is written. That folder stays as it is.
    watch
        Called once with the live figures, before the job starts; they change while it runs.
    announce
        Called with a line about where the run begins.
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
    ConfigError
        If the configuration is wrong or does not fit the logs.
    FolderError
        If the folder is in use, or holds files that do not belong to a result.
    HeadraceError
        If the run fails, also if the operating system refuses something.
    """
    inputs = _resolve(config, algorithms, continue_from)
    metrics = Metrics(metrics_port, metrics_host)
    return replay_inputs(
        inputs, place_of(out), work, resume, watch, announce, beam_options, metrics
    )


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep Beam from setting logging up where nobody has: it would print all that others log."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def replay_inputs(
    inputs: Inputs,
    out: Path | Address,
    work: str | Path | None,
    resume: bool,
    watch: Callable[[Board], None],
    announce: Callable[[str], None],
    beam_options: Sequence[str],
    metrics: Metrics,
) -> ReplayResult:
    """Replay a configuration that was resolved against its logs, see `replay`."""
    with metrics.served() as show:

        def watched(board: Board) -> None:
            show(board)
            watch(board)

        return _replay_inputs(inputs, out, work, resume, watched, announce, beam_options)


def _replay_inputs(
    inputs: Inputs,
    out: Path | Address,
    work: str | Path | None,
    resume: bool,
    watch: Callable[[Board], None],
    announce: Callable[[str], None],
    beam_options: Sequence[str],
) -> ReplayResult:
    preview(inputs)
    if isinstance(out, Address):
        return _replay_elsewhere(inputs, out, work, resume, watch, announce, beam_options)
    if work is not None:
        fact = "is not used, since the result is written to this machine"
        raise FolderError(work, fact, "leave --work out")
    # Lock the folder first: importing Beam takes seconds, and a second run must be refused
    # immediately.
    mode = inputs.config.outputs.mode
    with opened(out, inputs.files, mode) as place, unlogged():
        from headrace.pipelines.jobs.replay import replay as run_replay

        replayed = run_replay(inputs, place, beam_options, watch, resume, announce)
    summary = Summary.model_validate(replayed.summary)
    return ReplayResult(out, summary, tuple(replayed.findings))


def _replay_elsewhere(
    inputs: Inputs,
    target: Address,
    work: str | Path | None,
    resume: bool,
    watch: Callable[[Board], None],
    announce: Callable[[str], None],
    beam_options: Sequence[str],
) -> ReplayResult:
    """Replay in a folder of this machine, and upload the result."""
    for log in inputs.logs:
        if isinstance(log, LogFile) and log.path.startswith(f"{target}/"):
            fact = f"holds an input of the replay ({log.path})"
            raise FolderError(target.name, fact, "choose another place")
    check_target(target)
    folder = _work_folder(target) if work is None else Path(work)
    mode = inputs.config.outputs.mode
    with opened(folder, inputs.files, mode) as place, unlogged():
        complete = waiting(place)
        replayed = None
        if complete is not None and complete.identity == digest_of(identity_of(inputs)):
            announce("the earlier run was complete; its upload is continued")
        else:
            from headrace.pipelines.jobs.replay import replay as run_replay

            replayed = run_replay(inputs, place, beam_options, watch, resume, announce)
        upload(place, target)
    if work is None:
        with contextlib.suppress(OSError):
            folder.rmdir()
    if replayed is None:
        return load_result(target)
    summary = Summary.model_validate(replayed.summary)
    return ReplayResult(target, summary, tuple(replayed.findings))


def _work_folder(target: Address) -> Path:
    """Return the folder in which runs for one target work: always the same one."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(caches, "headrace", hashlib.sha256(target.name.encode()).hexdigest()[:16])


def study_windows(
    config: Configuration,
    *,
    longest: str | int | None = None,
    coverage: float = 0.95,
    watch: Callable[[int], None] = _ignore,
    algorithms: Algorithms = ALGORITHMS,
) -> list[Measured]:
    """Measure what each window of each action stream would catch and cost.

    Parameters
    ----------
    config
        The configuration of the logs; its windows are replaced.
    longest
        The longest window to consider, such as ``"7d"``, or in microseconds; None is ten
        times the longest configured one.
    coverage
        The part of the actions that the window should catch, in (0, 1].
    watch
        Called with the number of events read so far.
    algorithms
        The algorithms that the configuration may name.

    Raises
    ------
    ArgumentError
        If `coverage` is not in (0, 1], or `longest` is no duration.
    ConfigError
        If the configuration is wrong, does not fit the logs, or has no action stream.
    """
    from headrace.pipelines.jobs.windows import measure_windows

    if not 0 < coverage <= 1:
        raise ArgumentError("coverage", coverage, "must lie in (0, 1]", "0.95 is usual")
    try:
        limit = parse_duration(longest) if isinstance(longest, str) else longest
    except ValueError:
        limit = 0
    if limit is not None and limit <= 0:
        fact = "must be a duration greater than zero"
        raise ArgumentError("longest", longest, fact, 'write such as "7d"')
    loaded = load_config(config, algorithms=algorithms)
    if not loaded.actions:
        raise ConfigError(loaded.file, "actions", "is missing", hint="add [actions.NAME]")
    inputs = resolve(loaded, algorithms)
    preview(inputs)
    return measure_windows(inputs, limit, coverage, watch)


def verify(out: str | Path | Address) -> Verified:
    """Compare every file of a result with its seal.

    Returns
    -------
    Verified
        Its ``problems`` are empty if the result is good.

    Raises
    ------
    FolderError
        If the folder is not that of a result.
    """
    folder = place_of(out)
    if isinstance(folder, Path) and not folder.is_dir():
        raise FolderError(folder, "is not a folder", "name the --out folder of a replay")
    try:
        return verify_result(folder)
    except FileNotFoundError:
        if isinstance(folder, Address):
            folder.files()  # says so if there is no such bucket
        fact = f"has no {SEAL}"
        hint = "replay again: the folder is not the result of a replay, or is unfinished"
        raise FolderError(str(folder), fact, hint) from None


def generate(
    out: str | Path | Address,
    *,
    impressions: int | None = None,
    rate: int = 100,
    seed: int = 1,
    form: Literal["parquet", "text"] = "parquet",
    clean: bool = False,
    window: str | int = WINDOW,
    examination: bool = False,
    interactions: bool = False,
    delays_differ: bool = False,
    span: str | int | None = None,
    faults: Iterable[str] = (),
) -> Generated:
    """Generate a traffic log with known click probabilities, and ``headrace.toml`` to replay it.

    Parameters
    ----------
    out
        Folder to write to: new, empty, or of an earlier log. It may be elsewhere, such as
        ``s3://bucket/log``; the configuration then names its files by URI.
    impressions
        How many before faults, 200,000 by default; or give `span`.
    rate, seed, clean, examination, interactions, delays_differ
        See `headrace.pipelines.jobs.generate.Traffic`.
    form
        ``text`` for CSV and JSON lines, with broken lines unless `clean`.
    window
        Clicks come within so much after their impression: a duration such as ``"2m"``, or
        microseconds. Delays are in proportion to it.
    span
        How much event time there is: a duration such as ``"3d"``, or microseconds. Rates then
        change with the hour of the day.
    faults
        What changes stretches of the log, each as ``KIND:BEGIN:LENGTH`` or ``KIND:BEGIN``, with
        a kind in `headrace.pipelines.jobs.faults.TIMED`. With these or `span` impressions have a
        region and an app version.

    Raises
    ------
    ArgumentError
        If `impressions` or `rate` is less than 1, `seed` less than 0, `window` or `span` less
        than a second, `impressions` and `span` are both given, or a fault is not possible.
    FolderError
        If the folder holds anything but an earlier log.
    """
    timed = in_order(map(parse_fault, faults))
    for name, number in (("impressions", impressions), ("rate", rate)):
        if number is not None and number < 1:
            raise ArgumentError(name, number, "must be 1 or more", "2,000 are enough for a look")
    if span is not None:
        if impressions is not None:
            raise ArgumentError("span", span, "cannot be given with impressions", "leave one out")
        impressions = impressions_within(_second_or_more("span", span, "3d"), rate)
    check_seed(seed)
    folder = place_of(out)
    check_log_folder(folder)
    traffic = Traffic(
        impressions=200_000 if impressions is None else impressions,
        rate=rate, seed=seed, clean=clean, window=window_of(window),
        examination=examination, interactions=interactions, delays_differ=delays_differ,
        daily=span is not None, regions=span is not None or bool(timed), faults=timed,
    )  # fmt: skip
    for fault in timed:
        if traffic.start + fault.begin >= traffic.end:
            length = format_duration((traffic.end - traffic.start) // SECOND * SECOND)
            fact = f"begins after the end of the log, which is {length} long"
            raise ArgumentError("faults", str(fault), fact, "give an earlier time or a longer span")
    with written_to(folder) as local, writing(local):
        if isinstance(folder, Address):
            return write_traffic(traffic, local, form, lambda name: (folder / name).reference)
        return write_traffic(traffic, local, form)


def window_of(window: str | int) -> int:
    """Return the microseconds of a window of generated clicks; raise `ArgumentError`."""
    return _second_or_more("window", window, "2m")


def _second_or_more(name: str, duration: str | int, such: str) -> int:
    try:
        found = parse_duration(duration) if isinstance(duration, str) else duration
    except ValueError:
        found = 0
    if found < SECOND:
        raise ArgumentError(name, duration, "must be a second or more", f'write such as "{such}"')
    return found


def check_seed(seed: int) -> None:
    """Raise `ArgumentError` if a seed is not possible."""
    if seed < 0:
        raise ArgumentError("seed", seed, "must be 0 or more", "1 is usual")


def check_log_folder(folder: Path | Address) -> None:
    """Raise `FolderError` if a folder holds anything but a generated log."""
    check_folder(folder)
    names = list(folder.files()) if isinstance(folder, Address) else _names_in(folder)
    if names and "truth.json" not in names:
        fact = f"holds files, but no log of `headrace generate` ({', '.join(names[:3])})"
        raise FolderError(str(folder), fact, "choose another folder")


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@contextmanager
def written_to(place: Path | Address) -> Iterator[Path]:
    """Yield a folder to write files to, and upload them at the end if `place` is elsewhere."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        yield Path(scratch)
        for name, path in files_under(Path(scratch)).items():
            with path.open("rb") as file:
                (place / name).write(file)


def check_folder(out: Path | Address, *names: str) -> None:
    """Raise `FolderError` if there is a file where an output folder should be.

    Or if there are links where these files in it should be.
    """
    there = out.size() is not None if isinstance(out, Address) else out.exists()
    if there and not (isinstance(out, Path) and out.is_dir()):
        raise FolderError(str(out), "is not a folder", "choose a folder")
    if isinstance(out, Path):
        refuse_links(Place(out), names)


def load_result(out: str | Path | Address) -> ReplayResult:
    """Return the result in a folder, without findings: only its report has these.

    Raises
    ------
    FolderError
        If the folder has no result, or one of another version.
    """
    folder = place_of(out)
    try:
        text = (folder / SUMMARY).read_text(encoding="utf-8")
    except OSError:
        hint = "name the --out folder of a replay"
        raise FolderError(str(folder), f"has no {SUMMARY}", hint) from None
    try:
        return ReplayResult(folder, Summary.model_validate_json(text), ())
    except ValidationError as error:
        fact = f"has a {SUMMARY} that is damaged or of another version"
        raise FolderError(str(folder), fact, "replay the log again") from error
