"""A command of headrace in this process, and what it has used.

Usage: ``python -m benchmarks.measured ARGUMENTS``, those of ``headrace``. The last line of the
output is JSON: processor seconds by thread of Python and of all others together, faults of pages.
"""

from __future__ import annotations

import atexit
import json
import resource
import sys
import threading
import time

_PROCESSOR_S: dict[str, float] = {}


def _measure() -> None:
    run = threading.Thread.run

    def measured(self: threading.Thread) -> None:
        try:
            run(self)
        finally:
            name = self.name.split("_")[0].split("-")[0].lower()
            _PROCESSOR_S[name] = _PROCESSOR_S.get(name, 0.0) + time.thread_time()

    threading.Thread.run = measured  # type: ignore[method-assign]


def _tell() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    threads = {"main": time.thread_time(), **_PROCESSOR_S}
    total = used.ru_utime + used.ru_stime
    threads["others"] = max(total - sum(threads.values()), 0.0)
    told = {
        "processor_s": total, "kernel_s": used.ru_stime, "threads": threads,
        "faults": used.ru_minflt,
    }  # fmt: skip
    print(json.dumps(told), flush=True)


def main() -> int:
    """Run the command."""
    _measure()
    # Threads of pools end when the interpreter does, before this is called.
    atexit.register(_tell)
    from headrace.pipelines.app.cli import main as headrace

    return headrace(sys.argv[1:], own_process=True)


if __name__ == "__main__":
    sys.exit(main())
