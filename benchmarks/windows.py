"""A window of seven days over more impressions than fit in memory.

Usage: ``python -m benchmarks.windows`` (``make bench-windows``). Replays 22 M
impressions over 7.7 days with a conversion window of seven days: twenty million
impressions wait at the same time, their columns on local disk. Prints speed, peak
memory and bytes on disk, for that window and for one of ten minutes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.replay import OUT

IMPRESSIONS, RATE = 22_000_000, 33


def make_log(folder: Path) -> Path:
    """Generate the log once."""
    from headrace.pipelines.jobs.generate import Traffic, write_traffic

    if not (folder / "headrace.toml").exists():
        write_traffic(Traffic(impressions=IMPRESSIONS, rate=RATE, clean=True), folder)
    return folder


def replay(folder: Path, window: str) -> tuple[dict[str, object], int]:
    """Replay in a new process; return its summary, and the most bytes spilled to disk."""
    text = (folder / "headrace.toml").read_text().replace('window = "10m"', f'window = "{window}"')
    config = folder / f"window-{window}.toml"
    config.write_text(text + '\n[replay]\ncheckpoint = "1000d"\n')
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "headrace", "replay", str(config), "--out", str(out)]
    process = subprocess.Popen([*command, "--quiet"])
    most = [0]

    def watch() -> None:
        while process.poll() is None:
            sizes = []
            for path in (out / ".headrace" / "partial" / "spill").rglob("*"):
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    continue  # a cell that was cleared meanwhile
            most[0] = max(most[0], sum(sizes))
            time.sleep(1)

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    summary: dict[str, object] = json.loads((out / "summary.json").read_text())
    shutil.rmtree(out)
    return summary, most[0]


def main() -> None:
    """Replay with a long and a short window."""
    folder = make_log(OUT / "windows")
    print(f"{IMPRESSIONS:,} impressions at {RATE} a second")
    for window in ("10m", "7d"):
        summary, spilled = replay(folder, window)
        print(
            f"window {window:>4}: {summary['events_per_s']:>9,} events/s, peak memory "
            f"{summary['peak_rss_mb']:>7,.0f} MB, {spilled / 1e6:>7,.0f} MB on disk"
        )


if __name__ == "__main__":
    main()
