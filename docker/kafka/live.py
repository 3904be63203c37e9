"""All of a live run on this machine: ``live.py [DIR] [--rate N] [--window DURATION]``.

It starts a broker, ``headrace generate --to-kafka`` and ``headrace stream``, and says where to
look. Ctrl-C ends all three in order, and nothing else; the same command goes on from there. All is
in ``DIR`` (live-out). It needs what ``broker.py`` needs, and Headrace.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import broker

HEADRACE = (sys.executable, "-m", "headrace")
ENDED_WITHIN_S = 60
_LOOK_S = 0.2


def start(folder: Path, name: str, *command: str) -> subprocess.Popen[bytes]:
    """Start a command of headrace; what it says is in a file with its name."""
    with (folder / f"{name}.log").open("wb") as log:
        # Ctrl-C of the terminal is for this process alone, which ends the others in order.
        return subprocess.Popen(
            [*HEADRACE, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def end(name: str, process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and wait for it."""
    if process.poll() is not None:
        return
    print(f"ending {name} ...", flush=True)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(ENDED_WITHIN_S)
    except subprocess.TimeoutExpired:
        print(f"{name} does not end, so it is killed", flush=True)
        process.kill()
        process.wait()


def written_since(path: Path, moment: float) -> bool:
    """Return whether a file was written since a time."""
    return path.exists() and path.stat().st_mtime >= moment


def live(folder: Path, rate: int, window: str) -> None:
    """Run all until it is stopped."""
    config, result = folder / "traffic" / "headrace.toml", folder / "result"
    kafka = folder / "kafka"
    processes: dict[str, subprocess.Popen[bytes]] = {}

    def look() -> None:
        for name, process in processes.items():
            if process.poll() is not None:
                raise SystemExit(f"{name} has ended; {folder}/{name}.log says why")
        time.sleep(_LOOK_S)

    try:
        servers = broker.start(kafka, parent=os.getpid())
        began = time.time()
        processes["traffic"] = start(
            folder, "traffic", "generate", "--to-kafka", servers, "--rate", str(rate),
            "--window", window, "--out", str(config.parent),
        )  # fmt: skip
        while not written_since(config, began):  # then its topics are there
            look()
        processes["stream"] = start(folder, "stream", "stream", str(config), "--out", str(result))
        print(
            f"broker    {servers}, topics impressions and clicks, {rate} impressions a second\n"
            f"results   {result}\n"
            f"state     headrace status {result}\n"
            f"read      headrace.load_live({str(result)!r}).samples.to_table()\n"
            f"said      {folder}/traffic.log, {folder}/stream.log\n"
            "Ctrl-C ends all of it",
            flush=True,
        )
        while True:
            look()
    finally:
        # The producer first, then the run, which takes a checkpoint; both need the broker.
        for name, process in processes.items():
            end(name, process)
        print("ending the broker ...", flush=True)
        broker.end(kafka, signal.SIGTERM)


def stop(number: int, frame: object) -> None:
    """End everything in order, once; what comes later must not cut that short."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("live-out"), metavar="DIR")
    parser.add_argument("--rate", type=int, default=1000, help="impressions a second (1000)")
    parser.add_argument("--window", default="1m", metavar="DURATION", help="(1m)")
    options = parser.parse_args()
    why = broker.missing()
    if why is not None:
        raise SystemExit(f"no broker: {why}")
    options.folder.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    live(options.folder.resolve(), options.rate, options.window)


if __name__ == "__main__":
    main()
