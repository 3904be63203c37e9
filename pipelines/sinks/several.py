"""One output at several places, such as a folder and a topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from headrace.pipelines.sinks.sink import LiveSink, Mark
from headrace.schemas.records.restored import Count, Text, checked, expect, written


@written
class _Part:
    committed: dict[Text, Any]
    held: Count


@written
class _Marks:
    sinks: list[_Part]


class Several:
    """A `LiveSink` that passes everything to other ones, in turn.

    Parameters
    ----------
    sinks
        At least one; all have the same schema.

    Attributes
    ----------
    schema
        Schema of the rows to append.

    Raises
    ------
    ValueError
        If schemas differ.
    """

    def __init__(self, sinks: Sequence[LiveSink]) -> None:
        self.sinks = sinks
        self.schema: pa.Schema = sinks[0].schema
        if not all(sink.schema.equals(self.schema) for sink in sinks):
            raise ValueError("sinks of one output have different schemas")

    def append(self, rows: pa.Table) -> None:
        """Pass rows on."""
        for sink in self.sinks:
            sink.append(rows)

    def complete_until(self, emit: int) -> None:
        """Pass on what is complete."""
        for sink in self.sinks:
            sink.complete_until(emit)

    def commit(self) -> Mark:
        """Return the marks of all as one: what they hold stands one after the other."""
        marks = [sink.commit() for sink in self.sinks]
        noted = [{"committed": mark.committed, "held": mark.held.num_rows} for mark in marks]
        return Mark({"sinks": noted}, pa.concat_tables(mark.held for mark in marks))

    def resume(self, mark: Mark) -> None:
        """Give each its own part of a mark.

        Raises
        ------
        HeadraceError
            Whatever a sink refuses.
        """
        checked(_Marks, mark.committed, "mark")
        total = sum(noted["held"] for noted in mark.committed["sinks"])
        expect(len(mark.committed["sinks"]) == len(self.sinks), "mark", "is of other outputs")
        expect(total == mark.held.num_rows, "mark", f"holds {total} rows back")
        begin = 0
        for sink, noted in zip(self.sinks, mark.committed["sinks"], strict=True):
            held = mark.held.slice(begin, noted["held"])
            begin += noted["held"]
            sink.resume(Mark(noted["committed"], held))

    def confirm(self) -> None:
        """Pass on that the last mark is durable."""
        for sink in self.sinks:
            sink.confirm()

    def close(self) -> None:
        """Close all."""
        for sink in self.sinks:
            sink.close()
