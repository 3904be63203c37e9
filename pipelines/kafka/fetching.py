"""The port to a client: records of a partition as columns.

A `Client` is a connection to brokers; a `Fetcher` reads one partition through it. What a
client cannot read it refuses by name, and nothing is skipped without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MOST_BYTES = 1 << 30
"""Most bytes of values in one `Messages`, but for a single one: offsets are 32 bits wide."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Place:
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


@dataclass(frozen=True)
class Messages:
    """Consecutive records of a partition.

    Parameters
    ----------
    offsets
        Their offsets, ascending, int64, shape (n,). There may be holes between them: of
        compaction, of aborted transactions, of the marks of transactions.
    timestamps
        Milliseconds UTC, of the producer or the log, as the topic has it; -1 without one;
        int64, shape (n,).
    values
        Their values as `pa.BinaryArray` in one buffer, null for tombstones, shape (n,).
    next_offset
        The offset from which to read on: greater than those of all records returned so far, and
        of all holes that are known after them. Never beyond a record that was not returned.
    end
        Where the readable records end as far as the brokers have told: at most `next_offset`
        if all have been returned, with more to come if it is greater.
    """

    offsets: Int64s
    timestamps: Int64s
    values: pa.BinaryArray
    next_offset: int
    end: int

    def __len__(self) -> int:
        return self.offsets.size


class Fetcher(Protocol):
    """Reads one partition in order of offsets."""

    def fetch(self, max_rows: int, max_bytes: int, wait_ms: int) -> Messages:
        """Return the next records; none if none come in time.

        Parameters
        ----------
        max_rows
            At most so many records.
        max_bytes
            About so many bytes of values, but at least one record.
        wait_ms
            How long to wait for the first record.

        Raises
        ------
        KafkaError
            If records were deleted before they were read, a batch is corrupt or too large,
            the topic was deleted or created again, or it may not be read any more. What was
            good before that has been returned by then.
        """

    def close(self) -> None:
        """Read no more; another fetcher may be opened for the partition."""


class Client(Protocol):
    """A connection to brokers, for any number of partitions, used by one thread.

    Attributes
    ----------
    name
        ``librdkafka``, ``kafka-python`` or ``poll``.
    trouble
        What went wrong with the connection since records last came, as librdkafka says it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def trouble(self) -> str | None: ...  # noqa: D102

    def open(self, place: Place, offset: int) -> Fetcher:
        """Read a partition from an offset on."""

    def verify(self) -> bool:
        """Make sure that all records returned so far are of the topics that were described.

        A topic that is deleted and created again is noticed by a fetcher that finds no records,
        but one that goes on at once where the old one ended is noticed only here: call it before
        anything is made durable.

        Returns
        -------
        bool
            Whether brokers have answered; if not, nothing is known.

        Raises
        ------
        KafkaError
            If a topic was deleted or created again.
        """

    def close(self) -> None:
        """Close all fetchers and the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def allocated(size: int) -> npt.NDArray[np.uint8]:
    """Return bytes of Arrow's pool, which keeps what is freed: new pages cost more than copying."""
    return np.frombuffer(pa.allocate_buffer(size), np.uint8)


def values_array(
    buffer: npt.NDArray[np.uint8], ends: npt.NDArray[np.int32], sizes: Int64s
) -> pa.BinaryArray:
    """Make the values of a buffer in which they lie one after another.

    Parameters
    ----------
    buffer
        The bytes of all values.
    ends
        Where each begins and the last ends, int32, shape (n + 1,).
    sizes
        Their sizes, -1 for null, int64, shape (n,).
    """
    null = sizes < 0
    count = int(np.count_nonzero(null))
    valid = pa.py_buffer(np.packbits(~null, bitorder="little")) if count else None
    buffers = [valid, pa.py_buffer(ends), pa.py_buffer(buffer)]
    return pa.Array.from_buffers(pa.binary(), sizes.size, buffers, count)


def nothing(next_offset: int, end: int) -> Messages:
    """Return no records."""
    empty = np.zeros(0, np.int64)
    return Messages(empty, empty, pa.array([], pa.binary()), next_offset, end)


def check_limits(max_rows: int, max_bytes: int) -> None:
    """Refuse limits with which no record could be returned, or too many."""
    assert max_rows > 0
    assert 0 < max_bytes <= MOST_BYTES
