"""A live run for some time, at 20,000 events a second, with faults.

Usage: ``python -m benchmarks.soak [MINUTES] [--every SECONDS]``. Needs Java and Maven. Prints each
minute the most memory of the run, and how far its samples were behind: behind the clock, less
``out_of_orderness``. Every so often something is killed, halted or filled up, see
`benchmarks.chaos`. At the end the outputs are compared with those of a run that nothing
disturbs, and of a replay of the same topics. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.chaos import FAULT, WEIGHTS, Chaos, Setting, Variant, disturbed
from benchmarks.livejobs import end_in_order, running_broker
from benchmarks.replay import OUT

RATE = 19_000
"""Impressions a second; with their clicks there are 20,000 events."""
WINDOW_S, OUT_OF_ORDERNESS_S = 10, 5
_MINUTE_S = 60
_RARE = {
    "killed: the run while it merges an hour",
    "killed: the run while it removes a merged hour",
}
"""Hours of the clock are too long to wait for."""


def resident_mb(pid: int) -> int:
    """Return the memory of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("VmRSS")), 0)


def soaking(minutes: float, every_s: float) -> Callable[[Chaos], None]:
    """Return a plan: watch the run for some minutes, and disturb it every so often."""
    faults = {name: weight for name, weight in zip(FAULT, WEIGHTS, strict=True)
              if name not in _RARE}  # fmt: skip

    def plan(chaos: Chaos) -> None:
        chaos.await_progress()
        began = minute = disturbed_at = time.monotonic()
        memory, behind = 0, 0.0
        print(f"{'minute':>6} {'MB':>7} {'behind s':>9} {'faults':>7}")
        while (now := time.monotonic()) < began + minutes * _MINUTE_S:
            memory = max(memory, resident_mb(chaos.run.pid))
            late = time.time() - chaos.reached() / 1e6 - OUT_OF_ORDERNESS_S
            behind = max(behind, late)
            if now >= minute + _MINUTE_S:
                figures = f"{memory:>7,} {late:>4.1f} {behind:>4.0f}"
                faults_so_far = chaos.tally.faults.total()
                print(f"{(now - began) / 60:>6.0f} {figures} {faults_so_far:>7}", flush=True)
                minute, memory, behind = now, 0, 0.0
            if now >= disturbed_at + every_s:
                chaos.disturb(chaos.random.choices(list(faults), list(faults.values()))[0])
                chaos.await_progress()
                disturbed_at = time.monotonic()
            time.sleep(0.25)

    return plan


def main() -> None:
    """Run, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    parser.add_argument("--every", type=float, default=45.0, metavar="SECONDS", help="a fault (45)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    end_in_order()
    folder = OUT / "soak"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    join = 'joined = true\nretention = "20s"\ndedup_horizon = "1m"'
    variant, run = Variant(join, {"joined.click": "json"}), folder / "run"
    setting = Setting("soak", variant, run, "soak-", RATE, 1, f"{WINDOW_S}s", "2s")
    setting.folder.mkdir()
    with running_broker(folder / "broker") as broker:
        plan = soaking(options.minutes, options.every)
        problems = disturbed(setting, broker, options.seed, plan)
    print("\n".join(problems) or "all outputs are equal; what was complete has never changed")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
