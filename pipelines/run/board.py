"""Live figures of a run, for display."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.monitoring.figures import Figures


@dataclass
class Board:
    """Live figures of a run, for display only; the run updates them.

    Parameters
    ----------
    events
        Events read so far.
    samples
        Samples written so far.
    event_time
        Event time of the newest sample, microseconds; None before the first.
    figures
        All figures as they were between two bundles; None before the first, or if nobody asked.
    """

    events: int = 0
    samples: int = 0
    event_time: int | None = None
    figures: Figures | None = None
