"""Headrace from Python: all that the command line does.

Nothing here ends the process, prints, or changes the state of the process, with one
exception: while a replay runs, it notes an interrupt (Ctrl-C) before passing it on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headrace.learners.registry import ALGORITHMS, Algorithms, parameter_models
from headrace.pipelines.jobs.generate import Generated, Traffic, write_traffic
from headrace.pipelines.jobs.validation import Validation
from headrace.pipelines.jobs.validation import validate as validate_inputs
from headrace.pipelines.run.board import Board
from headrace.pipelines.run.disk import writing
from headrace.pipelines.run.folder import opened
from headrace.pipelines.run.seal import SEAL, SUMMARY, Verified
from headrace.pipelines.run.seal import verify as verify_result
from headrace.pipelines.sources.inputs import Inputs, resolve
from headrace.pipelines.sources.preview import preview
from headrace.schemas.config.durations import parse_duration
from headrace.schemas.config.loading import load_config as read_config
from headrace.schemas.config.loading import parse_config
from headrace.schemas.config.models import Config
from headrace.schemas.errors import ArgumentError, ConfigError, FolderError
from headrace.schemas.summary import Summary

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from headrace.pipelines.jobs.windows import Measured

_MOST_INVALID = 0.2

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


def _resolve(config: Configuration, algorithms: Algorithms) -> Inputs:
    loaded = load_config(config, algorithms=algorithms)
    return resolve(loaded, algorithms)


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
    with _unlogged():
        return validate_inputs(inputs)


@dataclass(frozen=True)
class ReplayResult:
    """The result of a replay: its outputs and its summary.

    Parameters
    ----------
    out
        The folder of the result.
    summary
        The contents of ``summary.json``.
    findings
        What in the logs needs attention, a sentence each.
    """

    out: Path
    summary: Summary
    findings: tuple[str, ...]

    @property
    def mostly_invalid(self) -> list[str]:
        """A sentence for each stream of which more than a fifth is invalid."""
        found = []
        for stream, records in self.summary.input.items():
            invalid = self.summary.outcomes[stream]["invalid"]
            if invalid > _MOST_INVALID * records:
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
    def joined(self) -> dict[str, ds.Dataset]:
        """Actions with their impressions, by stream; empty without ``join.joined``."""
        return {path.name: _dataset(path) for path in sorted((self.out / "joined").glob("*"))}

    @property
    def models(self) -> dict[str, Path]:
        """Folder of the model of each learner; `load_model` reads it."""
        learners = self.summary.learners.items()
        return {name: self.out / learner.model.path for name, learner in learners}

    @property
    def report(self) -> Path:
        """The report, an HTML page."""
        return self.out / "report.html"


def _dataset(folder: Path) -> ds.Dataset:
    import pyarrow.dataset as ds

    return ds.dataset(folder, format="parquet")


def replay(
    config: Configuration,
    out: str | Path,
    *,
    resume: bool = False,
    watch: Callable[[Board], None] = _ignore,
    announce: Callable[[str], None] = _ignore,
    beam_options: Sequence[str] = (),
    algorithms: Algorithms = ALGORITHMS,
) -> ReplayResult:
    """Replay logs into samples, models and a report.

    Parameters
    ----------
    config
        What to replay, and how.
    out
        Folder to write to: new, empty, or with an earlier result, which is replaced when
        the run is complete and stays as it is if the run fails.
    resume
        Whether to continue from the last checkpoint of an unfinished run, if there is one.
    watch
        Called once with the live figures, before the job starts; they change while it runs.
    announce
        Called with a line about where the run begins.
    beam_options
        More options for Beam.
    algorithms
        The algorithms that the configuration may name.

    Raises
    ------
    ConfigError
        If the configuration is wrong or does not fit the logs.
    FolderError
        If the folder is in use, or holds files that do not belong to a result.
    HeadraceError
        If the run fails, also if the operating system refuses something.
    """
    inputs = _resolve(config, algorithms)
    return replay_inputs(inputs, Path(out), resume, watch, announce, beam_options)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep Beam from setting logging up where nobody has: it would print all that others log."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def replay_inputs(
    inputs: Inputs,
    out: Path,
    resume: bool,
    watch: Callable[[Board], None],
    announce: Callable[[str], None],
    beam_options: Sequence[str],
) -> ReplayResult:
    """Replay a configuration that was resolved against its logs, see `replay`."""
    preview(inputs)
    # Lock the folder first: importing Beam takes seconds, and a second run must be refused
    # immediately.
    with opened(out, inputs.files) as place, _unlogged():
        from headrace.pipelines.jobs.replay import replay as run_replay

        replayed = run_replay(inputs, place, beam_options, watch, resume, announce)
    summary = Summary.model_validate(replayed.summary)
    return ReplayResult(out, summary, tuple(replayed.findings))


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


def verify(out: str | Path) -> Verified:
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
    folder = Path(out)
    if not folder.is_dir():
        raise FolderError(folder, "is not a folder", "name the --out folder of a replay")
    try:
        return verify_result(folder)
    except FileNotFoundError:
        fact = f"has no {SEAL}"
        hint = "replay again: the folder is not the result of a replay, or is unfinished"
        raise FolderError(folder, fact, hint) from None


def generate(
    out: str | Path,
    *,
    impressions: int = 200_000,
    rate: int = 100,
    seed: int = 1,
    form: Literal["parquet", "text"] = "parquet",
    clean: bool = False,
) -> Generated:
    """Generate a traffic log with known click probabilities, and ``headrace.toml`` to replay it.

    Parameters
    ----------
    out
        Folder to write to: new, empty, or of an earlier log.
    impressions, rate, seed, clean
        See `headrace.pipelines.jobs.generate.Traffic`.
    form
        ``text`` for CSV and JSON lines, with broken lines unless `clean`.

    Raises
    ------
    ArgumentError
        If `impressions` or `rate` is less than 1.
    FolderError
        If the folder holds anything but an earlier log.
    """
    for name, number in (("impressions", impressions), ("rate", rate)):
        if number < 1:
            raise ArgumentError(name, number, "must be 1 or more", "2,000 are enough for a look")
    folder = Path(out)
    check_folder(folder)
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if names and "truth.json" not in names:
        fact = f"holds files, but no log of `headrace generate` ({', '.join(names[:3])})"
        raise FolderError(folder, fact, "choose another folder")
    traffic = Traffic(impressions=impressions, rate=rate, seed=seed, clean=clean)
    with writing(folder):
        return write_traffic(traffic, folder, form)


def check_folder(out: Path) -> None:
    """Raise `FolderError` if there is a file where an output folder should be."""
    if out.exists() and not out.is_dir():
        raise FolderError(out, "is not a folder", "choose a folder")


def load_result(out: str | Path) -> ReplayResult:
    """Return the result in a folder, without findings: only its report has these.

    Raises
    ------
    FolderError
        If the folder has no result.
    """
    folder = Path(out)
    try:
        text = (folder / SUMMARY).read_text(encoding="utf-8")
    except OSError:
        hint = "name the --out folder of a replay"
        raise FolderError(folder, f"has no {SUMMARY}", hint) from None
    return ReplayResult(folder, Summary.model_validate_json(text), ())
