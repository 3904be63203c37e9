"""The errors a user can meet: a fact, what was got, and a hint."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

_USER = re.compile(r"(?<=://)(?:[^/@\s]*@|(?![^/@:\s]*:\d+/)[^/@:\s]*:[^@\s]*@)")
"""User and password of a URI, also if a slash in the password is not encoded."""

_QUERY = re.compile(r"(\w://[^\s?'\"]*)\?[^\s'\"]*")


def without_secrets(text: str) -> str:
    """Return a text with its URIs as they may be shown: without user, password and query.

    Examples
    --------
    >>> without_secrets("s3://KEY:SECRET@bucket/logs/*.csv?region=eu-west-1")
    's3://bucket/logs/*.csv'
    """
    return _QUERY.sub(r"\1", _USER.sub("", text))


class HeadraceError(Exception):
    """Base of all errors that Headrace raises deliberately; catch it to catch any of them."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


_MOST_SHOWN = 300
"""Characters of a value in a message."""


class ConfigError(HeadraceError):
    """A configuration that cannot be used; names file, key, value and a hint.

    Parameters
    ----------
    file
        The configuration file.
    key
        Dotted path of the offending key, ``""`` for the file as a whole.
    fact
        What is the case instead of what was expected.
    value
        The offending value; left out of the message when None.
    hint
        What to do about it.
    """

    def __init__(
        self,
        file: str | Path,
        key: str,
        fact: str,
        value: object = None,
        hint: str = "",
    ) -> None:
        self.file = str(file)
        self.key = key
        self.fact = fact
        self.value = without_secrets(value) if isinstance(value, str) else value
        self.hint = hint
        where = f"{self.file}: {key}: " if key else f"{self.file}: "
        got = "" if value is None else f" (got {_shortened(repr(value))})"
        super().__init__(f"{where}{fact}{got}" + (f"; {hint}" if hint else ""))


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"


class ArgumentError(HeadraceError, ValueError):
    """An argument of a call that is not possible.

    Parameters
    ----------
    name, value
        The argument, and what was got.
    fact
        What it must be.
    hint
        What to use.
    """

    def __init__(self, name: str, value: object, fact: str, hint: str) -> None:
        self.name, self.value, self.fact, self.hint = name, value, fact, hint
        super().__init__(f"{name} {fact} (got {value!r}); {hint}")


class UnreadableInputError(HeadraceError):
    """An input file that can be read only in part (truncated, corrupt)."""

    @classmethod
    def at(cls, source: str, offset: int, cause: BaseException) -> UnreadableInputError:
        """Name the file and the last record that could be read."""
        why = " ".join(str(cause).split())  # Arrow's may have several lines
        return cls(
            f"{source}: unreadable after record {offset} ({why}); "
            "the file is truncated or corrupt: restore it and run the same command again"
        )

    @classmethod
    def unfolding(cls, source: str, group: int, column: str, fact: str) -> UnreadableInputError:
        """Name the column of a row group, counted from 0, that takes more than can be meant."""
        return cls(
            f"{source}: column {column} of row group {group} {fact}; check who wrote the file, "
            "or write shorter values and smaller row groups"
        )

    @classmethod
    def too_large(cls, source: str, offset: int) -> UnreadableInputError:
        """Name the file that takes more memory than there is, and the last record before that."""
        return cls(
            f"{source}: takes more memory than there is after record {offset}; "
            "write smaller row groups, or run where there is more"
        )

    @classmethod
    def lost(cls, source: str, offset: int, cause: str) -> UnreadableInputError:
        """Name the file of another machine, the last record that could be read, and why."""
        return cls(
            f"{source}: cannot be read after record {offset} ({cause}); "
            "run the same command again, with --resume to continue"
        )

    @classmethod
    def changed(cls, source: str) -> UnreadableInputError:
        """Name a file that is not the one any more that was found when the run began."""
        return cls(
            f"{source}: has changed since the run began; "
            "run the same command again when nothing writes to it"
        )


class KafkaError(HeadraceError):
    """Something that brokers refuse, or that a topic no longer has; names it, and a hint."""

    @classmethod
    def gap(cls, partition: str, position: int, begin: int) -> KafkaError:
        """Name the records that were deleted before they were read."""
        return cls(
            f"{partition}: records {position} to {begin - 1} were deleted before they were read; "
            "raise the topic's retention, and begin anew"
        )

    @classmethod
    def beyond(cls, partition: str, position: int, end: int) -> KafkaError:
        """Name a position that the log does not have: it was truncated, or is another log."""
        return cls(
            f"{partition}: the log ends at {end}, before the position {position}; the topic was "
            "truncated or created again: begin anew"
        )

    @classmethod
    def stalled(cls, partition: str, position: str, end: str) -> KafkaError:
        """Name a partition of which no records come, although there are some."""
        return cls(
            f"{partition}: no records come from {position} on, although the log ends at {end}; "
            "check the brokers and the network, and continue with --resume"
        )

    @classmethod
    def unverified(cls, topic: str) -> KafkaError:
        """Name a topic of which brokers do not say whether it is the one that was found."""
        return cls(
            f"{topic}: brokers do not say whether it is still the topic that was read; check "
            "them, and continue with --resume"
        )

    @classmethod
    def recreated(cls, topic: str) -> KafkaError:
        """Name a topic that is not the one any more that was found when the run began."""
        return cls(f"{topic}: the topic was deleted and created again; begin anew")

    @classmethod
    def deleted(cls, topic: str) -> KafkaError:
        """Name a topic that brokers had when the run began."""
        return cls(f"{topic}: the topic was deleted; create it, and begin anew")

    @classmethod
    def repartitioned(cls, topic: str, then: int, now: int) -> KafkaError:
        """Name a topic to which partitions were added: records of a key are in two of them."""
        return cls(
            f"{topic}: the topic has {now} partitions, where it had {then}; let this run read what "
            "was there (--until-end), then begin anew in another folder, after that time"
        )

    @classmethod
    def no_topic(cls, topic: str, servers: str) -> KafkaError:
        """Name a topic that the brokers do not have."""
        return cls(
            f"{topic}: no such topic at {servers}; create it, or correct the name in the "
            "configuration"
        )

    @classmethod
    def forbidden(cls, topic: str) -> KafkaError:
        """Name a topic that the user may not read."""
        return cls(f"{topic}: the user may not read this topic; grant READ and DESCRIBE on it")

    @classmethod
    def tail_lost(cls, partition: str) -> KafkaError:
        """Name a partition that has lost what a run wrote after its checkpoint."""
        return cls(
            f"{partition}: what was written after the checkpoint may have been deleted, so it is "
            "not known which rows the topic had; begin anew with another topic, and raise the "
            "topic's retention"
        )

    @classmethod
    def older_checkpoint(cls, topic: str) -> KafkaError:
        """Name a topic that has rows of a later checkpoint than the one resumed from."""
        return cls(
            f"{topic}: has rows of a later checkpoint than this one; resume from the newest "
            "checkpoint"
        )

    @classmethod
    def tail_open(cls, partition: str, position: int, end: int) -> KafkaError:
        """Name a partition that cannot be read to its end."""
        return cls(
            f"{partition}: cannot be read from {position} to its end at {end}; another producer "
            "may have an open transaction there: a topic of outputs has one writer"
        )

    @classmethod
    def not_of_run(cls, partition: str, offset: int) -> KafkaError:
        """Name a message that a run finds in its topic, and has not written."""
        return cls(
            f"{partition}: the message at {offset} was not written by this run; a run needs a "
            "topic of its own: create another one"
        )

    @classmethod
    def not_the_rows(cls, topic: str, rows: int) -> KafkaError:
        """Name the number of a row that a topic has with other contents."""
        return cls(
            f"{topic}: row {rows} differs from the one that this run would write; the log, the "
            "configuration or the version is another: begin anew with another topic"
        )

    @classmethod
    def fenced(cls, topic: str) -> KafkaError:
        """Name a topic of which another process has become the writer."""
        return cls(
            f"{topic}: another process has begun to write this output; stop one of them. The "
            "other one continues, and no row is lost or written twice"
        )

    @classmethod
    def not_delivered(cls, topic: str, why: str, hint: str = "") -> Self:
        """Name a topic to which brokers let nothing be written, and why."""
        hint = hint or "check the brokers, and resume the run"
        return cls(f"{topic}: cannot be written ({why}); {hint}")

    @classmethod
    def corrupt(cls, partition: str, position: int, why: str) -> KafkaError:
        """Name the position from which records cannot be decoded."""
        return cls(
            f"{partition}: the batch at {position} is corrupt ({why}); restore the broker's log, "
            "or begin after it"
        )


class TableError(HeadraceError):
    """A table that lacks a column of a model, or has it with another type."""

    @classmethod
    def among(cls, name: str, there: Iterable[str], needed: Iterable[str]) -> TableError:
        """Name the missing column, those that are there, and those that are needed."""
        return cls(
            f"no column {name} in the table (got {', '.join(there)}); "
            f"the model needs {', '.join(needed)}"
        )


class EnvelopeError(HeadraceError):
    """Bytes that are not an envelope of this version."""


class SnapshotError(HeadraceError):
    """A model snapshot that this version refuses to load or to write."""


class DamagedError(HeadraceError):
    """State that is not what this version writes, although its checksum may be right.

    Parameters
    ----------
    what
        The part of the state.
    fact
        What is the case instead of what was expected.
    """

    def __init__(self, what: str, fact: str) -> None:
        self.what, self.fact = what, fact
        super().__init__(f"{what}: {fact}")


class LearningError(HeadraceError):
    """A learner whose model is no longer finite."""

    @classmethod
    def diverged(cls, learner: str, when: str, columns: Iterable[str]) -> LearningError:
        """Name the learner, since when, and the columns of numbers that are too large."""
        named = ", ".join(columns)
        if named:
            hint = (
                f'the numbers of {named} are too large: use "log" or edges for them in '
                "features.numeric"
            )
        else:
            hint = "lower the weights of samples, or the learner's rate"
        return cls(f"learner {learner}: its model is not finite {when}; {hint}")


class StateVersionError(HeadraceError):
    """Durable state of a version that this one can neither read nor migrate."""


class RunnerError(HeadraceError):
    """A runner that cannot run a job, has failed, or has lost data."""

    @classmethod
    def lost_state(cls, step: str, key: int) -> RunnerError:
        """Name the step and the key of which the state is not what its last bundle left."""
        return cls(
            f"step {step}, key {key}: the state is not what the last bundle left, so the runner "
            "has lost data; begin anew in another folder"
        )

    @classmethod
    def unfinished(cls, runner: str) -> RunnerError:
        """Name a runner that says that it is done, before all results were written."""
        return cls(
            f"{runner}: the job is done, but its results are not complete, so the runner has lost "
            "data; begin anew in another folder"
        )


class PathError(HeadraceError):
    """Something is wrong with a file or folder that a run writes.

    Parameters
    ----------
    path
        The file or folder.
    fact
        What is the case instead of what was expected.
    hint
        What to do about it.
    """

    def __init__(self, path: str | Path, fact: str, hint: str) -> None:
        self.path, self.fact, self.hint = without_secrets(str(path)), fact, hint
        super().__init__(f"{self.path}: {fact}; {hint}")


class FolderError(PathError):
    """A folder that a run must not write to, or cannot continue in; nothing in it was changed."""


class CheckpointError(FolderError):
    """A checkpoint that is damaged, or of which a finished output is."""


class SealError(FolderError):
    """A ``seal.json`` that cannot be read, is damaged, or has another version."""


class OutputError(PathError):
    """An output that cannot be written, or was changed after it was written."""

    @classmethod
    def unwritable(cls, path: str | Path, cause: OSError) -> OutputError:
        """Name the file that the operating system refused to write, and its reason."""
        # Arrow wraps the system's error number in its own sentence.
        why = str(cause) if cause.errno is None else os.strerror(cause.errno)
        hint = "fix this and run the same command again"
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space and run the same command again, with --resume to continue"
        elif cause.errno == errno.ELOOP:
            why, hint = "it is a link", "remove it, or choose another folder"
        elif cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            hint = "choose a folder that you may write to"
        return cls(path, f"cannot be written ({why})", hint)
