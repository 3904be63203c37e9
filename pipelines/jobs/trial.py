"""A replay on trial: the very same, of the first records of every file, into a temporary folder."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from headrace.monitoring.results import LogResult
from headrace.pipelines.jobs.replay import replay
from headrace.pipelines.run.disk import writing
from headrace.pipelines.run.folder import opened
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.preview import beginning_of
from headrace.schemas.errors import ConfigError, HeadraceError, PathError

_LONGEST = 300


def try_replay(inputs: Inputs) -> LogResult:
    """Replay the first records of every file, and return what they show.

    The log is taken as complete where these records end, so that they all settle and are
    learned.

    Raises
    ------
    ConfigError
        If that fails in any way.
    PathError
        If the temporary folder cannot be written to.
    """
    config = inputs.config
    join = config.join.model_copy(update={"end_of_log": "close"})
    first = replace(beginning_of(inputs), config=config.model_copy(update={"join": join}))
    with writing(Path("temporary folder")):
        scratch = tempfile.TemporaryDirectory(prefix="headrace-")
    with scratch as folder:
        try:
            with opened(Path(folder) / "out", ()) as place:
                log = replay(first, place).log
        except (ConfigError, PathError):
            raise
        except HeadraceError as error:
            fact = f"cannot be replayed: {error}".replace(f"{folder}/", "")
            raise ConfigError(config.file, "", fact) from error
        except Exception as error:  # whatever it is, a replay would meet it too
            origin: BaseException = error
            while origin.__cause__ is not None:
                origin = origin.__cause__
            # Beam adds the name of its step, which says nothing to a user.
            said = str(origin).partition(" [while running")[0]
            what = " ".join(f"{type(origin).__name__}: {said}".split())[:_LONGEST]
            raise ConfigError(
                config.file, "", f"the first records cannot be replayed ({what})",
                hint="this is a defect of Headrace; please report it",
            ) from error  # fmt: skip
    assert log is not None  # only a run that resumes may have been complete
    return log
