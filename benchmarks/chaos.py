"""Runs that do not end while everything around them is killed, halted and filled up.

Usage: ``python -m benchmarks.chaos [--kills N] [--seed N]`` (``make chaos``). Needs Java and Maven.
Traffic goes on at 3,000 events a second, 600 times faster than the clock, so that hours are merged
all the time. Each variant of the configuration has its share of the kills. Then the run is led
to the end of its topics, and all that it has written is compared with what a run of
the same topics writes that nothing disturbs, and a replay. Exit code 1 if anything differs.

Sources that are idle are waited for: when one is given up depends on the clock, and with it
which records are late. That such decisions are repeated is shown by
``tests/pipelines/test_stream.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import headrace
from benchmarks.livejobs import (
    PATIENCE_S,
    Broker,
    GrowingReader,
    Outputs,
    Process,
    compared,
    configure,
    end_in_order,
    messages_of,
    produce,
    running_broker,
)
from benchmarks.replay import OUT
from headrace.pipelines.sinks.completion import read_completion

RATE, SPEED = 5, 600
FAULTS = ("disorder", "duplicates", "late", "orphans", "broken", "doubled-clicks")
LIVE = """
[live]
idle_after = "1d"
checkpoint = "500ms"
snapshot = "2s"
"""
_LOOK_S = 0.003
_SEEN_WITHIN_S = 20.0
_LITTLE = 2_048
"""Bytes of a file that fit on a disk which is full: less than any file of a run has."""


@dataclass(frozen=True)
class Variant:
    """A configuration.

    Parameters
    ----------
    join
        More lines of ``[join]``.
    topics
        Outputs that go to topics too, and in which form.
    """

    join: str = ""
    topics: dict[str, str] = field(default_factory=dict)


VARIANTS = {
    "plain": Variant(),
    "groups and corrections": Variant(
        'group = ["request_id"]\nretention = "20m"',
        {"samples": "json", "corrections": "json", "dead_letters": "json"},
    ),
    "joined and early": Variant(
        'joined = true\nemission = "window_and_immediate"',
        {"samples": "arrow", "joined.click": "json", "dead_letters": "json"},
    ),
}


@dataclass
class Tally:
    """What happened.

    Parameters
    ----------
    faults
        How often each fault was made.
    kills
        How often the run or the broker was killed.
    recoveries
        Seconds from each start, of the run or of the broker, to the first new progress.
    problems
        What should not have happened.
    """

    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    recoveries: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = "\n".join(f"  {count:4} x {name}" for name, count in self.faults.most_common())
        times = sorted(self.recoveries)
        if times:
            faults += (
                f"\n  {self.kills} kills; from a start to new progress: "
                f"median {statistics.median(times):.1f} s, most {times[-1]:.1f} s "
                f"({len(times)} times)"
            )
        return faults


class Chaos:
    """A run, and what disturbs it.

    Parameters
    ----------
    folder
        For configuration, outputs and logs.
    broker
        The broker, which is killed too.
    config
        The configuration of the run.
    random
        Decides what is done when.
    """

    def __init__(self, folder: Path, broker: Broker, config: Path, random: Random) -> None:
        self.folder, self.broker, self.config, self.random = folder, broker, config, random
        self.out = folder / "disturbed"
        self.tally = Tally()
        self.starts = 0
        self.began = time.monotonic()
        self.until = 0
        self.run = self._start()

    def _start(self, *options: str) -> Process:
        self.starts += 1
        log = self.folder / f"log-{self.starts:03d}.txt"
        return Process(log, "stream", str(self.config), "--out", str(self.out), *options)

    def restart(self) -> None:
        """Start the run again, which has ended."""
        self.until, self.began = self.reached(), time.monotonic()
        self.run = self._start()

    def reached(self) -> int:
        """Return until when samples are complete, microseconds UTC; 0 for none yet."""
        try:
            return read_completion(self.out)["samples"]
        except (FileNotFoundError, headrace.FolderError):
            return 0

    def await_progress(self) -> None:
        """Wait until more is complete than when the run or the broker was last started.

        Raises
        ------
        SystemExit
            If nothing comes for two minutes.
        """
        patience = time.monotonic() + PATIENCE_S
        while self.reached() <= self.until:
            if self.run.code is not None:
                self._ended()
            if time.monotonic() > patience:
                raise SystemExit(f"no progress within {PATIENCE_S:.0f} s: {self.run.said}")
            time.sleep(0.02)
        self.tally.recoveries.append(time.monotonic() - self.began)

    def _ended(self) -> None:
        """Start the run again, which has ended by itself: it may if the broker is away."""
        said = self.run.said
        if "cannot be reached" not in said or "Traceback" in said:
            self.tally.problems.append(f"the run has ended ({self.run.code}): {said}")
        self.tally.faults["refused to start without a broker"] += 1
        self.restart()

    def disturb(self, name: str) -> None:
        """Make a fault, and go on after it."""
        self.tally.faults[name] += 1
        FAULT[name](self)

    # Faults

    def kill_run(self) -> None:
        """Kill the run."""
        self._kill()
        self.restart()

    def _kill(self) -> None:
        self.run.end(signal.SIGKILL)
        self.tally.kills += 1

    def kill_at_start(self) -> None:
        """Kill the run, and again while it starts."""
        self.kill_run()
        time.sleep(self.random.uniform(0, 4))
        self.kill_run()

    def kill_at(self, pattern: str) -> None:
        """Kill the run some milliseconds after a path has appeared."""
        patience = time.monotonic() + _SEEN_WITHIN_S
        # Of hours some may have been left by a run that was killed.
        before = set() if pattern == _CHECKPOINT else set(self.out.glob(pattern))
        while not set(self.out.glob(pattern)) - before:
            if time.monotonic() > patience:
                self.tally.faults[f"never saw {pattern}"] += 1
                break
            time.sleep(_LOOK_S)
        time.sleep(self.random.choice((0, 0.002, 0.01, 0.03, 0.08)))
        self.kill_run()

    def kill_broker(self) -> None:
        """Kill the broker, and start it again after a while."""
        self._kill_broker()
        time.sleep(self.random.uniform(0, 3))
        self.until = self.reached()
        self.began = time.monotonic()
        self.broker.start()

    def _kill_broker(self) -> None:
        self.broker.kill()
        self.tally.kills += 1

    def kill_both(self) -> None:
        """Kill run and broker at once; both are started again."""
        self._kill()
        self._kill_broker()
        self.restart()
        self.broker.start()

    def halt_broker(self) -> None:
        """Let the broker stand still for up to a minute: connections stay, answers do not come."""
        self.broker.signal(signal.SIGSTOP)
        time.sleep(60 * self.random.random() ** 3)
        self.until = self.reached()
        self.began = time.monotonic()
        self.broker.signal(signal.SIGCONT)

    def halt_run(self) -> None:
        """Let the run stand still, and start another one in its place, which must be refused."""
        os.kill(self.run.pid, signal.SIGSTOP)
        other = self._start()
        code = other.process.wait(PATIENCE_S)
        *_, last = other.said.splitlines() or [""]
        if code != 2 or "is in use by process" not in last or "Traceback" in other.said:
            self.tally.problems.append(f"a second run was not refused ({code}): {other.said}")
        self.until, self.began = self.reached(), time.monotonic()
        os.kill(self.run.pid, signal.SIGCONT)

    def fill_disk(self) -> None:
        """Let no file of the run grow beyond some bytes, which fails as on a full disk."""
        resource.prlimit(self.run.pid, resource.RLIMIT_FSIZE, (_LITTLE, _LITTLE))
        try:
            code = self.run.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.tally.problems.append("a full disk was not noticed")
            code = self.run.end(signal.SIGKILL)
        if code != 1 or len(self.run.said.splitlines()) != 2 or "Traceback" in self.run.said:
            self.tally.problems.append(f"a full disk: exit code {code}: {self.run.said}")
        self.restart()

    def stop(self) -> None:
        """Ask the run to end, which takes a last checkpoint."""
        if self.run.end(signal.SIGTERM) != 0:
            self.tally.problems.append(f"did not stop: {self.run.said}")

    def stop_and_go_on(self) -> None:
        """Ask the run to end, and start it again."""
        self.stop()
        self.restart()

    def finish(self) -> None:
        """Lead the run to the end of its topics."""
        self.stop()
        self.run = self._start("--until-end")
        if self.run.process.wait(10 * PATIENCE_S) != 0:
            self.tally.problems.append(f"did not come to the end: {self.run.said}")


_CHECKPOINT = ".headrace/live/checkpoint.partial"
_MERGE = "samples/*/.[0-9][0-9].parquet"
_MERGED = "samples/*/.[0-9][0-9]"

FAULT: dict[str, Callable[[Chaos], None]] = {
    "killed: the run": Chaos.kill_run,
    "killed: the run, and again while it starts": Chaos.kill_at_start,
    "killed: the run at a checkpoint": lambda chaos: chaos.kill_at(_CHECKPOINT),
    "killed: the run while it merges an hour": lambda chaos: chaos.kill_at(_MERGE),
    "killed: the run while it removes a merged hour": lambda chaos: chaos.kill_at(_MERGED),
    "killed: the broker": Chaos.kill_broker,
    "killed: run and broker": Chaos.kill_both,
    "halted: the broker": Chaos.halt_broker,
    "halted: the run, a second one refused": Chaos.halt_run,
    "full disk": Chaos.fill_disk,
    "stopped in order": Chaos.stop_and_go_on,
}
WEIGHTS = (5, 4, 6, 4, 3, 6, 3, 1, 1, 2, 1)


def outputs_table(topics: dict[str, str], prefix: str) -> str:
    """Return ``[outputs]`` with topics whose names begin with a prefix."""
    lines = [
        f'{name} = {{ topic = "{prefix}{name}", format = "{form}" }}'
        for name, form in topics.items()
    ]
    return "\n[outputs]\n" + "\n".join(lines) + "\n" if lines else ""


def create_topics(broker: Broker, names: list[str]) -> None:
    """Create topics with two partitions."""
    from confluent_kafka.admin import AdminClient, NewTopic

    if names:
        admin = AdminClient({"bootstrap.servers": broker.servers, "log_level": 0})
        new = [NewTopic(name, 2, 1, config={"retention.ms": "-1"}) for name in names]
        for created in admin.create_topics(new).values():
            created.result(30)


@dataclass(frozen=True)
class Setting:
    """What is disturbed: a variant of the configuration, its folder, its part of topics' names.

    `rate` is of impressions a second of event time, which goes `speed` times faster than the clock.
    """

    name: str
    variant: Variant
    folder: Path
    prefix: str
    rate: int = RATE
    speed: int = SPEED
    window: str = "10m"
    epoch: str = "60s"

    def config(self, run: str) -> Path:
        """Return the configuration of a run, ``disturbed`` or ``whole``; of neither, no topics."""
        join = ('end_of_log = "open"', f'end_of_log = "close"\n{self.variant.join}')
        learner = ("bits = 20", f'bits = 16\nepoch = "{self.epoch}"')
        topics = outputs_table(self.variant.topics, f"{self.prefix}{run}-") if run else ""
        target = self.folder / f"{run or 'replay'}.toml"
        return configure(self.folder / "traffic", target, join, learner, more=LIVE + topics)


@contextlib.contextmanager
def traffic(setting: Setting, broker: Broker, seed: int) -> Iterator[Process]:
    """Produce while the block runs; at its end all messages are acknowledged."""
    process = produce(
        setting.folder / "traffic.txt", broker, setting.folder / "traffic",
        "--prefix", setting.prefix, "--rate", str(setting.rate), "--speed", str(setting.speed),
        "--window", setting.window, "--seed", str(seed), "--partitions", "3", "--faults", *FAULTS,
    )  # fmt: skip
    try:
        yield process
    except BaseException:
        process.end(signal.SIGKILL)
        raise
    if process.end() != 0:
        raise SystemExit(f"the traffic failed: {process.said}")


def disturbed(
    setting: Setting, broker: Broker, seed: int, plan: Callable[[Chaos], None]
) -> list[str]:
    """Disturb a run by a plan; return what was wrong with it."""
    names = [f"{setting.prefix}{run}-{name}" for run in ("disturbed", "whole")
             for name in setting.variant.topics]  # fmt: skip
    create_topics(broker, names)
    chaos: Chaos | None = None
    reader = GrowingReader(setting.folder / "disturbed")
    try:
        with traffic(setting, broker, seed):
            chaos = Chaos(setting.folder, broker, setting.config("disturbed"), Random(seed))
            reader.start()
            plan(chaos)
        chaos.finish()
    finally:
        if chaos is not None:
            chaos.run.end(signal.SIGKILL)
        if reader.is_alive():
            reader.close()
    print(f"{setting.name}:\n{chaos.tally}", flush=True)
    return [*chaos.tally.problems, *reader.problems, *_compare(setting, broker)]


def _compare(setting: Setting, broker: Broker) -> list[str]:
    """Compare the outputs with those of a run that nothing disturbs, and of a replay."""
    folder = setting.folder
    others = [
        Process(
            folder / f"{command}.txt", command, str(setting.config(run)), "--out",
            str(folder / (run or "replay")), "--quiet", option,
        )
        for command, run, option in (("stream", "whole", "--until-end"),
                                     ("replay", "", "--allow-invalid"))
    ]  # fmt: skip
    failed = [other.said for other in others if other.process.wait(10 * PATIENCE_S) != 0]
    if failed:
        return failed
    found = Outputs(headrace.load_live(folder / "disturbed"))
    whole = Outputs(headrace.load_live(folder / "whole"))
    replayed = Outputs(headrace.load_result(folder / "replay"))
    problems = [f"against an undisturbed run: {line}" for line in found.differences(whole)]
    problems += [f"against a replay: {line}" for line in found.differences(replayed)]
    print("  rows: " + ", ".join(f"{count:,} {name}" for name, count in found.rows.items()))
    for name, form in setting.variant.topics.items():
        mine, other = (
            messages_of(broker.servers, f"{setting.prefix}{run}-{name}")
            for run in ("disturbed", "whole")
        )
        every = [Counter(value for values in of.values() for value in values)
                 for of in (mine, other)]  # fmt: skip
        print(f"  {every[0].total():,} messages of {name}")
        rows = found.rows[name.replace(".", "/").replace("_", " ")]
        if form == "json" and every[0].total() != rows:
            problems.append(f"topic of {name}: {every[0].total()} messages for {rows} rows")
        if every[0] != every[1]:
            problems.append(f"topic of {name}: {compared(*every)}")
        elif name != "dead_letters" and mine != other:
            problems.append(f"topic of {name}: other order")
    return problems


def by_chance(kills: int) -> Callable[[Chaos], None]:
    """Return a plan: faults by chance, until so many of them have killed something."""

    def plan(chaos: Chaos) -> None:
        chaos.await_progress()
        while chaos.tally.kills < kills:
            chaos.disturb(chaos.random.choices(list(FAULT), WEIGHTS)[0])
            chaos.await_progress()
            time.sleep(chaos.random.uniform(0, 1.5))

    return plan


def main() -> None:
    """Disturb each variant, and say what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="in all (100)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="only this one")
    options = parser.parse_args()
    names = options.variant or list(VARIANTS)
    end_in_order()
    folder = OUT / "chaos"
    shutil.rmtree(folder, ignore_errors=True)
    problems: list[str] = []
    with running_broker(folder / "broker") as broker:
        for number, name in enumerate(names):
            share = options.kills // len(names) + (number < options.kills % len(names))
            setting = Setting(name, VARIANTS[name], folder / str(number), f"chaos-{number}-")
            setting.folder.mkdir(parents=True)
            found = disturbed(setting, broker, options.seed + number, by_chance(share))
            problems += [f"{name}: {problem}" for problem in found]
    print("\n".join(problems) or "all outputs are equal; what was complete has never changed")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
