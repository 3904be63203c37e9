"""The port for outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Protocol

import pyarrow as pa
from pydantic import Field

from headrace.pipelines.run.threads import Background
from headrace.schemas.records.events import EARLIEST, EMIT, LATEST
from headrace.schemas.records.restored import Count, expect, expect_within, written


@dataclass(frozen=True)
class Mark:
    """Where a sink stands between two appends.

    Parameters
    ----------
    committed
        What survives a crash from here on, as JSON types; only the sink reads it.
    held
        Rows that were appended but are not committed yet.
    """

    committed: dict[str, Any]
    held: pa.Table


@written
class Noted:
    """What a mark says of a finished file; all but Parquet files have no rows."""

    bytes: Count
    sha256: Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]
    rows: Count | None = None


def expect_held(mark: Mark, schema: pa.Schema) -> None:
    """Go on if the rows that a mark holds back have these columns, and times in range.

    Raises
    ------
    DamagedError
        If they have not.
    """
    found = mark.held.schema
    expect(
        found.equals(schema), "held rows", f"have other columns ({', '.join(found.names)})"[:200]
    )
    if EMIT in found.names and mark.held.num_rows:
        emit = mark.held.column(EMIT)
        expect(emit.null_count == 0, "held rows", "have no emit time")
        expect_within(emit.to_numpy(), EARLIEST, 2 * LATEST, "held rows")


class Sink(Protocol):
    """Takes rows in one order, and can resume from a mark after a crash.

    Rows appended after the last mark may be appended again: the same rows in the same
    order. What the first time left behind must be undone or overwritten.

    Attributes
    ----------
    schema
        Schema of the rows.
    """

    @property
    def schema(self) -> pa.Schema: ...  # noqa: D102

    def append(self, rows: pa.Table) -> None:
        """Add rows after all those appended before."""

    def commit(self) -> Mark:
        """Make as much as possible of what was appended durable; return a mark of it."""

    def resume(self, mark: Mark) -> None:
        """Return to the state of a mark; called before the first append."""

    def close(self) -> None:
        """Make everything that was appended durable; no call follows."""


class LiveSink(Sink, Protocol):
    """A sink of a run that does not end, whose rows become visible while it runs.

    What a reader has seen stays: after a crash it is neither taken back nor doubled.
    Resuming from a mark confirms it.
    """

    def complete_until(self, emit: int) -> None:
        """Note that no row emitted before `emit`, microseconds, comes any more.

        It never goes back. It may be said again after a crash, or not yet.
        """

    def confirm(self) -> None:
        """Note that the last mark will survive any crash: no earlier one will be resumed from."""


class Writer:
    """A sink on its own thread; an error is raised by the next call.

    Parameters
    ----------
    sink
        Used by the thread alone, except in `commit` and `close`, which wait for the thread.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.background: Background[Callable[[], None]] = Background(_call)

    def put(self, rows: Callable[[], pa.Table]) -> None:
        """Append the rows that `rows` returns; `rows` is called on the thread."""
        self.background.put(partial(self._append, rows))

    def _append(self, rows: Callable[[], pa.Table]) -> None:
        self.sink.append(rows().select(self.sink.schema.names))

    def commit(self) -> Mark:
        """Wait until all that was put is appended, and commit it."""
        self.background.flush()
        return self.sink.commit()

    def close(self) -> None:
        """Wait until all that was put is appended, and close the sink."""
        self.background.close()
        self.sink.close()


class LiveWriter(Writer):
    """A `LiveSink` on its own thread; what it is told takes effect there, after what was put."""

    def __init__(self, sink: LiveSink) -> None:
        super().__init__(sink)
        self.live = sink

    def complete_until(self, emit: int) -> None:
        """Tell the sink what is complete."""
        self.background.put(partial(self.live.complete_until, emit))

    def confirm(self) -> None:
        """Tell the sink that its last mark will survive any crash."""
        self.background.put(self.live.confirm)


def _call(action: Callable[[], None]) -> None:
    action()
