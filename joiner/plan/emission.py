"""When a sample leaves: after the window, at once, or after a part of the window.

Before its window has closed, a label may still change. An impression that
leaves early leaves again when an action comes (a *positive* sample), so that a
learner can undo the false negative that it was given [1]_. If it waits a while
before it leaves at first [2]_, fewer negatives are false. If a negative leaves
once more when its window has closed [3]_, true negatives outnumber false ones.

.. [1] Ktena et al. 2019, Addressing delayed feedback for continuous training
   with neural networks in CTR prediction, section 3.2 (fake negative weighted).
.. [2] Yang et al. 2021, Capturing delayed feedback in conversion rate
   prediction via elapsed-time sampling (ES-DFM), section 3.
.. [3] Gu et al. 2021, Real negatives matter: continuous training with real
   negatives for delayed feedback modeling (DEFER), section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from headrace.schemas.records.hashing import Int64s, UInt64s, uniform

_OWN_DRAW = 0x456C6170736564
"""Keeps the draw independent of the choice of negatives, which may have the same seed."""

Mode = Literal["window", "immediate", "elapsed", "window_and_immediate"]

EMISSIONS = ("window", "immediate", "elapsed", "positive", "correction")
"""What a sample may be: its first appearance (after the window, at once, after a
part of it), a repetition since an action came, a repetition too late for a label.
In mode `window_and_immediate` a true negative's repetition is a `window` one."""


@dataclass(frozen=True)
class EmissionPlan:
    """When samples leave.

    Parameters
    ----------
    mode
        ``window``: when they settle. ``immediate``: as soon as the impression is
        known. ``elapsed``: after a part of the longest window, drawn for each key
        evenly from ``[low, high)``. ``window_and_immediate``: at once, and
        negatives again when they settle.
    low, high
        Bounds of that part, ``0 <= low <= high <= 1``.
    seed
        Another seed is an independent draw.
    """

    mode: Mode = "window"
    low: float = 0.0
    high: float = 1.0
    seed: int = 0

    @property
    def early(self) -> bool:
        """Whether samples leave before they settle."""
        return self.mode != "window"

    @property
    def first(self) -> str:
        """What the first sample of an impression is called."""
        return "elapsed" if self.mode == "elapsed" else "immediate"

    def first_emit(self, key0: UInt64s, time: Int64s, known: Int64s, window: int) -> Int64s:
        """Return when impressions leave first.

        Parameters
        ----------
        key0, time, known
            First half of the key's digest, event time, and when it is known,
            each of shape (n,).
        window
            The longest window, microseconds.
        """
        if self.mode != "elapsed":
            return known
        return np.maximum(time + self.wait(key0, window), known)

    def wait(self, key0: UInt64s, window: int) -> Int64s:
        """Return the part of the longest window that was drawn, microseconds, shape (n,)."""
        part = self.low + uniform(key0, self.seed ^ _OWN_DRAW) * (self.high - self.low)
        wait: Int64s = np.floor(part * window).astype(np.int64)
        return wait
