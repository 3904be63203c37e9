"""Learners side by side, each on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return what comes of each item, in their order; of several each is worked on by a thread.

    The first error in that order is raised, when all before it are done. Kernels hold no lock of
    the interpreter, so as many run as there are processors.
    """
    return list(_threads().map(work, items) if len(items) > 1 else map(work, items))


@lru_cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="learner")
