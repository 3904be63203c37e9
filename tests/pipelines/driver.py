"""The command line with small output files, and a disturbance at a checkpoint.

``python -m tests.pipelines.driver HOW COUNT ARGUMENTS`` disturbs the COUNT-th checkpoint:
HOW is ``kill`` (after it is taken), ``interrupt.NAME`` or ``full.NAME`` (an interrupt, or a
full disk, when the checkpoint calls NAME), or ``never``.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from typing import Any

from headrace.pipelines.app.commands import quiet_beam

quiet_beam()  # before Beam is imported, as the command line does

from headrace.pipelines.app.cli import main  # noqa: E402
from headrace.pipelines.beam import reading  # noqa: E402
from headrace.pipelines.jobs import checkpoint  # noqa: E402
from headrace.pipelines.sinks import parquet as sinks  # noqa: E402

ROWS = 500


def cut_small() -> None:
    whole = sinks.ParquetFolder.__init__

    def construct(self: Any, folder: Any, schema: Any, plain: Any = (), rows: int = 0) -> None:
        whole(self, folder, schema, plain, ROWS)

    sinks.ParquetFolder.__init__ = construct  # type: ignore[method-assign]


def end_at(how: str, count: int) -> None:
    take = checkpoint.Checkpointer._take
    taken = 0

    def counted(self: Any, *arguments: Any) -> None:
        nonlocal taken
        taken += 1
        take(self, *arguments)
        if taken == count and how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.Checkpointer._take = counted  # type: ignore[method-assign]
    name = how.partition(".")[2]
    if not name:
        return
    owner: Any = checkpoint.Checkpointer if name.startswith("_") else checkpoint
    called = getattr(owner, name)

    def disturbed(*arguments: Any) -> Any:
        if taken == count and how.startswith("full"):
            raise OSError(errno.ENOSPC, "no space")
        if taken == count:
            os.kill(os.getpid(), signal.SIGINT)
            # Let the main thread handle the interrupt while this one continues.
            threading.Event().wait(0.1)
        return called(*arguments)

    setattr(owner, name, disturbed)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cut_small()
    reading._BUNDLE_BLOCKS = 20
    end_at(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
