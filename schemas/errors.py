"""The errors a user can meet: a fact, what was got, and a hint."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path


class HeadraceError(Exception):
    """Base of every error that Headrace raises on purpose."""


class ConfigError(HeadraceError):
    """A configuration that cannot be run; names file, key, value and a hint.

    Parameters
    ----------
    file
        The configuration file.
    key
        Dotted path of the offending key, ``""`` for the file as a whole.
    fact
        What holds instead of what was expected.
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
        self.value = value
        self.hint = hint
        where = f"{self.file}: {key}: " if key else f"{self.file}: "
        got = "" if value is None else f" (got {value!r})"
        super().__init__(f"{where}{fact}{got}" + (f"; {hint}" if hint else ""))


class UnreadableInputError(HeadraceError):
    """An input file that stops being readable part way (truncated, corrupt)."""

    @classmethod
    def at(cls, source: str, offset: int, cause: BaseException) -> UnreadableInputError:
        """Say where in which file reading broke off."""
        return cls(
            f"{source}: unreadable after record {offset} ({cause}); "
            "the file is truncated or corrupt: restore it and run the same command again"
        )


class MissingColumnError(HeadraceError):
    """A table without a column that a model was learned from."""

    @classmethod
    def among(cls, name: str, there: Iterable[str], needed: Iterable[str]) -> MissingColumnError:
        """Say which column is missing, and which are needed."""
        return cls(
            f"no column {name} in the table (got {', '.join(there)}); "
            f"the model needs {', '.join(needed)}"
        )


class EnvelopeError(HeadraceError):
    """Bytes that are not an envelope this version understands."""


class SnapshotError(HeadraceError):
    """A model snapshot that this version refuses to load or to write."""


class StateVersionError(HeadraceError):
    """Durable state written by a version that this one can neither read nor migrate."""


class PathError(HeadraceError):
    """Something is wrong with a file or folder that a run writes.

    Parameters
    ----------
    path
        The file or folder.
    fact
        What is so instead of what was expected.
    hint
        What to do about it.
    """

    def __init__(self, path: str | Path, fact: str, hint: str) -> None:
        self.path, self.fact, self.hint = str(path), fact, hint
        super().__init__(f"{self.path}: {fact}; {hint}")


class FolderError(PathError):
    """A folder that a run must not write to, or cannot go on in; nothing in it was touched."""


class CheckpointError(FolderError):
    """A checkpoint that is damaged, or whose finished outputs are."""


class SealError(FolderError):
    """A ``seal.json`` that cannot be read, is damaged, or is of another version."""


class OutputError(PathError):
    """An output that cannot be written, or is not what was written."""

    @classmethod
    def unwritable(cls, path: str | Path, cause: OSError) -> OutputError:
        """Say which file the operating system would not write, and why."""
        # Arrow puts a sentence of its own around the number.
        why = str(cause) if cause.errno is None else os.strerror(cause.errno)
        hint = "see to it and run the same command again"
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space and run the same command again, with --resume to go on"
        elif cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            hint = "choose a folder that you may write to"
        return cls(path, f"cannot be written ({why})", hint)
