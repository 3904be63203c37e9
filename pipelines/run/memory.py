"""Where the memory of columns comes from."""

from __future__ import annotations

import os

import pyarrow as pa


def choose_pool() -> None:
    """Take memory for columns from jemalloc from here on, where Arrow has it.

    It keeps what is freed for a second, so blocks that come and go touch the same pages: a
    replay has half the page faults that it has with mimalloc, which costs as much memory or more.
    ``ARROW_DEFAULT_MEMORY_POOL`` chooses otherwise.
    """
    if (
        "ARROW_DEFAULT_MEMORY_POOL" in os.environ
        or "jemalloc" not in pa.supported_memory_backends()
    ):
        return
    pa.set_memory_pool(pa.jemalloc_memory_pool())
