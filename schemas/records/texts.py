"""Columns of times and durations as texts, as people write them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.config.durations import UNITS
from headrace.schemas.records.hashing import Int64s


def moment_texts(times: Int64s) -> pa.Array:
    """Write times in UTC, to the microsecond if need be.

    Parameters
    ----------
    times
        int64 microseconds since 1970, shape (n,).

    Examples
    --------
    >>> moment_texts(np.array([1_767_225_600_000_000, 1_767_225_600_500_000])).to_pylist()
    ['2026-01-01 00:00:00', '2026-01-01 00:00:00.5']
    """
    texts = pa.array(times, pa.timestamp("us")).cast(pa.string())
    return pc.replace_substring_regex(texts, r"\.0+$|(\.[0-9]*[1-9])0+$", r"\1")


def duration_texts(durations: Int64s) -> pa.Array:
    """Write durations as `headrace.schemas.config.durations.format_duration` does.

    Parameters
    ----------
    durations
        int64 microseconds, zero or more, shape (n,).

    Examples
    --------
    >>> duration_texts(np.array([0, 5_400_000_000])).to_pylist()
    ['0s', '1h 30m']
    """
    parts, rest = [], durations
    for unit, size in reversed(UNITS.items()):
        count, rest = np.divmod(rest, size)
        text = sentences(pa.array(count).cast(pa.string()), f"{unit} ")
        parts.append(pc.if_else(pa.array(count > 0), text, ""))
    texts = pc.utf8_rtrim_whitespace(sentences(*parts))
    return pc.if_else(pa.array(durations == 0), "0s", texts)


def sentences(*parts: pa.Array | str) -> pa.Array:
    """Put texts and columns of texts together, row by row; one part at least is a column."""
    return pc.binary_join_element_wise(*parts, "")
