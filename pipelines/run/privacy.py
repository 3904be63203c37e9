"""For whom files are made: only for the user, unless it is said otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.schemas.config.outputs import Mode

_MASKS = {"private": 0o077, "group": 0o027}


@contextmanager
def made_for(mode: Mode) -> Iterator[None]:
    """Let files and folders that the process makes in the block be for some people only.

    It is the process that has a umask: libraries write most files of a run.

    Parameters
    ----------
    mode
        ``private``: files 0600 and folders 0700. ``group``: 0640 and 0750. ``umask``: as the
        process's umask says.
    """
    if mode == "umask":
        yield
        return
    before = os.umask(_MASKS[mode])
    try:
        yield
    finally:
        os.umask(before)
