"""Columns of batches as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


def as_one(pieces: list[Any]) -> Any:
    """Return arrays as one, without a copy if there is only one."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def column(parts: list[pa.RecordBatch], name: str) -> Any:
    """Return a column of several parts as one array, shape (n,)."""
    return as_one([part.column(name).to_numpy() for part in parts])
