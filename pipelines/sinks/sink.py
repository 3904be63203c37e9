"""The port at which outputs leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from headrace.pipelines.run.threads import Background


@dataclass(frozen=True)
class Mark:
    """Where a sink stands between two appends.

    Parameters
    ----------
    committed
        What lasts from here on, as JSON types, in the sink's own terms.
    held
        Rows that were appended and are not part of it yet.
    """

    committed: dict[str, Any]
    held: pa.Table


class Sink(Protocol):
    """Takes rows in one order, and can go on from a mark after a crash.

    Whatever was appended after the last mark may come again: the same rows in the
    same order. What came of it the first time must be undone, or leave no trace.

    Attributes
    ----------
    schema
        Of the rows.
    """

    @property
    def schema(self) -> pa.Schema: ...  # noqa: D102

    def append(self, rows: pa.Table) -> None:
        """Take rows, after all that came before them."""

    def commit(self) -> Mark:
        """Make what was appended last, as far as it can be by now; return where that is."""

    def resume(self, mark: Mark) -> None:
        """Go on from a mark; called before the first append."""

    def close(self) -> None:
        """Make everything last that was appended; there is no more."""


class Writer:
    """A sink on a thread of its own; a failure shows at the next call.

    Parameters
    ----------
    sink
        Used by the thread alone, but while it is flushed.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.background: Background[Callable[[], pa.Table]] = Background(self._append)

    def put(self, rows: Callable[[], pa.Table]) -> None:
        """Append the rows that `rows` returns; it is called on the thread."""
        self.background.put(rows)

    def _append(self, rows: Callable[[], pa.Table]) -> None:
        self.sink.append(rows().select(self.sink.schema.names))

    def commit(self) -> Mark:
        """Wait for all that was put, and commit it."""
        self.background.flush()
        return self.sink.commit()

    def close(self) -> None:
        """Wait for all that was put, and close the sink."""
        self.background.close()
        self.sink.close()
