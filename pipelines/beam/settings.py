"""Settings of Beam's in-process runner for the time of a run; there are no options for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import fn_runner, worker_handlers
from apache_beam.runners.worker import statesampler

_LEAKS = "2.77."
"""The versions of which it is known how metrics leak."""

_CONSOLIDATE = "consolidate_monitoring_infos"
_SAMPLING_MS = 10
_LOG = logging.getLogger("headrace")


@contextmanager
def set_for_a_run() -> Iterator[None]:
    """Keep the runner from caching state, and its metrics from growing, while the block runs.

    The embedded worker would measure whole bags, element by element, at every append, for a
    cache that the steps do not need because they keep objects in memory.

    Of every bundle the runner merges its metrics with those before into generators that nobody
    reads before the job ends: they hold all metrics of all bundles, 25 kB each.

    At the end of every bundle it waits for a thread that looks at times what is being done, and
    sleeps for up to a fifth of a second in between.
    """
    with _LOCK:
        if not _FOUND:
            _FOUND.append(
                (
                    worker_handlers.STATE_CACHE_SIZE_MB,
                    getattr(fn_runner, _CONSOLIDATE),
                    statesampler.StateSampler,
                )
            )
            statesampler.StateSampler = _OftenSampler
            worker_handlers.STATE_CACHE_SIZE_MB = 0
            if beam.__version__.startswith(_LEAKS):
                setattr(fn_runner, _CONSOLIDATE, _at_once(_FOUND[0][1]))
            else:
                _LOG.info("beam %s may use more memory with every bundle", beam.__version__)
        _RUNS.append(None)
    try:
        yield
    finally:
        with _LOCK:
            _RUNS.pop()
            # Runs may overlap: only the last to end puts back what the first found.
            if not _RUNS:
                size, consolidate, statesampler.StateSampler = _FOUND.pop()
                worker_handlers.STATE_CACHE_SIZE_MB = size
                setattr(fn_runner, _CONSOLIDATE, consolidate)


class _OftenSampler(statesampler.StateSampler):
    def __init__(self, prefix: str, counter_factory: Any) -> None:
        super().__init__(prefix, counter_factory, _SAMPLING_MS)


def _at_once(consolidate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def consolidated(metrics: Any) -> list[Any]:
        # Copies: a message that was parsed as a part of another keeps that other alive.
        return [
            type(metric).FromString(metric.SerializeToString()) for metric in consolidate(metrics)
        ]

    return consolidated


_LOCK = threading.Lock()
_FOUND: list[tuple[int, Callable[[Any], Any], type]] = []
"""Beam's own settings, while a run goes on."""
_RUNS: list[None] = []
"""One entry for each run that goes on."""
