"""Asking for the coordinates of rows that a kernel visits soon, while it works on others."""

from __future__ import annotations

import numba as nb
import numpy as np

from headrace.schemas.records.prefetch import prefetch

AHEAD = 4
"""How many rows ahead of one that is visited to ask for; from 2 on it makes little difference."""


@nb.njit(inline="always")
def prefetch_row(table, starts, indices, row):
    """Ask for the coordinates of all features of a row."""
    # Without a sign, as numba asks of all other numbers whether they count from the end.
    for k in range(np.uint64(starts[row]), np.uint64(starts[row + 1])):
        prefetch(table, indices[k])
