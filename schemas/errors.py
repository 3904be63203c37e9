"""The errors a user can meet: a fact, what was got, and a hint."""

from __future__ import annotations

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


class EnvelopeError(HeadraceError):
    """Bytes that are not an envelope this version understands."""


class SnapshotError(HeadraceError):
    """A model snapshot that this version refuses to load or to write."""


class StateVersionError(HeadraceError):
    """Durable state written by a version that this one can neither read nor migrate."""
