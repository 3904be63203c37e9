"""What guards held back in a run, and what was decided about it: ``headrace quarantine``.

What is held back is discarded unless it is released (`headrace.pipelines.jobs.releasing`), so a
decision changes nothing in the result: it is noted in a file of its own beside it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from headrace.monitoring.disconnects import Disconnect, disconnects_of
from headrace.monitoring.guard import GUARD, HELD_FOR, HELD_WHY, QUARANTINE
from headrace.pipelines.jobs.runfolder import RunFolder, open_run
from headrace.pipelines.run.disk import aside, flush
from headrace.pipelines.run.signing import read_signed, write_signed
from headrace.schemas.errors import ArgumentError, FolderError, SnapshotError
from headrace.schemas.records.events import FOREVER, NEVER
from headrace.schemas.records.hashing import Int64s

DECISIONS = "quarantine.json"
"""Name of the file of decisions; it is none of the result, whose seal does not name it."""

_FORMAT = 1
_BETWEEN = "\x1f"


@dataclass(frozen=True)
class Decision:
    """What a user decided about a disconnect.

    Parameters
    ----------
    released
        Whether its rows were learned from another join; else they are discarded.
    models, joined_again
        Folder of the models that learned them, and of the result from which.
    """

    released: bool
    models: str | None = None
    joined_again: str | None = None

    def __str__(self) -> str:
        return f"released to {self.models}" if self.released else "discarded"


@dataclass(frozen=True)
class Held:
    """A disconnect with the rows that were held back, and what was decided.

    Parameters
    ----------
    disconnect
        The disconnect.
    rows
        How many rows of the quarantine are of it.
    span
        The earliest and the latest event time of them, microseconds.
    decision
        The decision; None if there is none, and the rows are discarded by default.
    warns
        Whether the guard only warns, so that nothing was held back.
    """

    disconnect: Disconnect
    rows: int = 0
    span: tuple[int, int] = (FOREVER, NEVER)
    decision: Decision | None = None
    warns: bool = False

    def described(self) -> dict[str, Any]:
        """Return the disconnect and its rows as JSON types."""
        of = self.disconnect
        end = None if of.end is None else of.end.isoformat()
        return {**asdict(of), "begin": of.begin.isoformat(), "end": end, "rows": self.rows}

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON types.

        Without a decision `decision` is ``default``, or ``none`` if nothing was held back because
        the guard only warns.
        """
        decided = self.decision
        what = "none" if self.warns else "default"
        if decided is not None:
            what = "released" if decided.released else "discarded"
        return {
            **self.described(), "decision": what,
            "models": None if decided is None else decided.models,
            "joined_again": None if decided is None else decided.joined_again,
        }  # fmt: skip

    def __str__(self) -> str:
        of = self.disconnect
        until = "still" if of.end is None else f"until {of.end:%Y-%m-%d %H:%M:%S}"
        asks = ", asks for a decision" if of.asks else ""
        held, then = f"{self.rows:,} held", "discarded by default"
        if self.warns:
            held, then = "nothing held", "the guard only warns"
        return (
            f"{of.number}  {of.begin:%Y-%m-%d %H:%M:%S} {until}{asks}  {held}  "
            f"{of.reason}; {self.decision or then}"
        )


@dataclass(frozen=True)
class Quarantine:
    """What guards held back in a run.

    Made by `load_quarantine`.

    Parameters
    ----------
    run
        The folder of the run.
    held
        The disconnects in the order in which they began: entry 0 is number 1.
    """

    run: RunFolder
    held: tuple[Held, ...]

    def chosen(self, numbers: Sequence[int]) -> list[Held]:
        """Return disconnects by their numbers, each once and in order.

        Raises
        ------
        ArgumentError
            If there is no such number.
        """
        for number in numbers:
            if not 1 <= number <= len(self.held):
                fact = f"must be the number of a disconnect, 1 to {len(self.held)}"
                raise ArgumentError("number", number, fact, "`headrace quarantine show` has them")
        return [self.held[number - 1] for number in sorted(set(numbers))]

    def numbers_of(self, rows: pa.Table) -> Int64s:
        """Return the number of the disconnect of each row of the quarantine, 0 of none, (n,).

        A guard gives the reason of the disconnect to each row, and no two have the same: the
        reason says since when, and a scope disconnects again only after it has reconnected.
        """
        known = [f"{of.disconnect.label}{_BETWEEN}{of.disconnect.reason}" for of in self.held]
        names = pc.binary_join_element_wise(rows[HELD_FOR], rows[HELD_WHY], _BETWEEN)
        at = pc.index_in(names, value_set=pa.array(known, pa.string()))
        numbers: Int64s = pc.fill_null(at, -1).to_numpy().astype(np.int64) + 1
        return numbers

    @property
    def rows(self) -> ds.Dataset | None:
        """The rows that were held back; None if nothing is guarded."""
        return self.run.output(QUARANTINE)


def load_quarantine(out: str | Path) -> Quarantine:
    """Return what guards held back in a finished replay, or so far in a run that goes on.

    Parameters
    ----------
    out
        The folder of the run.

    Raises
    ------
    FolderError
        If it is not the folder of a run on this machine, or cannot be read.
    """
    run = open_run(out)
    journal = run.output(GUARD)
    if journal is None:
        return Quarantine(run, ())
    with run.reading(run.folder / GUARD):
        found = disconnects_of(journal.to_table().to_pylist())
    decisions = _read_decisions(run)
    bare = Quarantine(run, tuple(Held(of) for of in found))
    rows, spans = _counted(bare)
    warns = _only_warns(run)
    return Quarantine(run, tuple(
        Held(of, rows[of.number], spans[of.number], decisions.get(_key(of)), warns)
        for of in found
    ))  # fmt: skip


def _only_warns(run: RunFolder) -> bool:
    """Return whether guards of a run hold nothing back, as its models say.

    A run without a model yet has held back what its quarantine has.
    """
    with suppress(SnapshotError):
        return bool(run.manifest()["config"].get("guard", {}).get("action") == "warn")
    return False


def _counted(quarantine: Quarantine) -> tuple[list[int], list[tuple[int, int]]]:
    """Return how many rows are of each disconnect, by number, and in which span of event time."""
    count = 1 + len(quarantine.held)
    rows, first, last = [0] * count, [FOREVER] * count, [NEVER] * count
    held = quarantine.rows
    if held is not None:
        with quarantine.run.reading(quarantine.run.folder / QUARANTINE):
            for batch in held.to_batches(columns=[HELD_FOR, HELD_WHY, "event_time"]):
                numbers = quarantine.numbers_of(pa.Table.from_batches([batch]))
                times = batch.column("event_time").cast(pa.int64()).to_numpy()
                for number in np.unique(numbers).tolist():
                    own = times[numbers == number]
                    first[number] = min(first[number], int(own.min()))
                    last[number] = max(last[number], int(own.max()))
                    rows[number] += own.size
    return rows, list(zip(first, last, strict=True))


def discard_quarantine(out: str | Path, numbers: Sequence[int] = ()) -> list[int]:
    """Note that disconnects are discarded, which they are by default too.

    Nothing is deleted: the rows are of the result, and of its samples.

    Parameters
    ----------
    out
        The folder of the run.
    numbers
        Those of the disconnects; all that nothing is decided about if there are none.

    Returns
    -------
    list
        The numbers of those that were noted now; those that had been before are left out.

    Raises
    ------
    ArgumentError
        If a number is not that of a disconnect, or of one that was released.
    FolderError
        If nothing is held back, or see `load_quarantine`.
    OutputError
        If the decision cannot be written.
    """
    with deciding(open_run(out)):
        quarantine = load_quarantine(out)
        if not any(of.rows for of in quarantine.held):
            hint = "there is nothing to decide"
            raise FolderError(quarantine.run.folder, "holds nothing back", hint)
        chosen = quarantine.chosen(numbers) if numbers else [
            of for of in quarantine.held if of.decision is None
        ]  # fmt: skip
        for of in chosen:
            if of.decision is not None and of.decision.released:
                fact = f"is that of a disconnect that was {of.decision}"
                hint = "withdraw that model to take it back"
                raise ArgumentError("number", of.disconnect.number, fact, hint)
        new = [of.disconnect for of in chosen if of.decision is None]
        if new:
            note(quarantine, new, Decision(released=False))
        return [of.number for of in new]


@contextmanager
def deciding(run: RunFolder) -> Iterator[None]:
    """Let no other process decide about the same run while the block runs.

    Raises
    ------
    FolderError
        If another one does, or the folder cannot be written to.
    """
    # The folder itself, for a run that goes on holds its own lock, and nothing is to be left.
    with run.reading(run.folder):
        handle = os.open(run.folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            fact = "another process decides about its quarantine"
            raise FolderError(run.folder, fact, "wait until it ends") from error
        if not os.access(run.folder, os.W_OK):
            fact = "cannot be written to, and that is where decisions are noted"
            raise FolderError(run.folder, fact, "allow it, or decide about a copy")
        yield
    finally:
        os.close(handle)


def note(quarantine: Quarantine, chosen: Iterable[Disconnect], decision: Decision) -> None:
    """Note a decision about disconnects, beside what was decided before; see `deciding`.

    Raises
    ------
    OutputError
        If it cannot be written; then the file is as it was.
    """
    run = quarantine.run
    decisions = _read_decisions(run) | {_key(of): decision for of in chosen}
    content = {
        "format": _FORMAT,
        "run": run.run,
        "decisions": [
            {
                "label": label, "slice": column, "value": value, "arrivals": arrivals,
                "begin": begin, **asdict(of),
            }
            for (label, column, value, arrivals, begin), of in decisions.items()
        ],
    }  # fmt: skip
    with aside(run.folder / DECISIONS) as hidden:
        write_signed(hidden, content)
    flush(run.folder)


_Key = tuple[str, str | None, str | None, bool, str]


def _key(of: Disconnect) -> _Key:
    """Return what tells a disconnect also when older ones have been removed from the journal."""
    return (*of.scope, of.begin.isoformat())


def _read_decisions(run: RunFolder) -> dict[_Key, Decision]:
    path = run.folder / DECISIONS
    try:
        content = read_signed(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        hint = "restore it, or remove it to decide again"
        raise FolderError(path, f"is damaged ({error})", hint) from error
    if content.get("format") != _FORMAT:
        fact = f"is of another version (got format {content.get('format')!r})"
        raise FolderError(path, fact, "read it with the version that wrote it")
    if content["run"] != run.run:
        return {}  # of the result that this one has replaced
    return {
        (row["label"], row["slice"], row["value"], row.get("arrivals", False), row["begin"]):
        Decision(row["released"], row["models"], row["joined_again"])
        for row in content["decisions"]
    }  # fmt: skip
