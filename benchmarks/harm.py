"""What a fault of two hours costs a model afterwards, with a guard and without.

Usage: ``python -m benchmarks.harm [--quick]`` (part of ``make bench-guard``). A learner is trained
on a day of generated traffic (50 impressions a second, 5 % clicked), then goes on with a second day
in which labels are wrong for two hours. Prints by how much its log loss on what follows is above
that of a learner that never saw the fault: progressive, each sample predicted before it is learned.
What follows the fault is byte for byte the same in all logs.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import headrace
from headrace.pipelines.app.commands import quiet_beam
from headrace.pipelines.jobs.faults import parse_fault
from headrace.pipelines.jobs.generate import START, Traffic, write_traffic
from headrace.schemas.config.durations import DAY, HOUR, MINUTE, SECOND

FAULTS = ("stop", "bot", "flip")
BEGIN, LENGTH = 4 * HOUR, 2 * HOUR
"""Before it, guards of values are armed too."""
AFTER = {"10 min": 10 * MINUTE, "1 h": HOUR, "6 h": 6 * HOUR}


def log(folder: Path, traffic: Traffic, start: Path | None, guard: str) -> Path:
    """Write a log; return its configuration."""
    write_traffic(traffic, folder)
    path = folder / "headrace.toml"
    text = path.read_text().replace("slices = [", 'slices = ["ad", ')
    if start is not None:
        text = text.replace("[learner]\n", f'[learner]\nstart = "{start}"\n')
    path.write_text(f'{text}\n[guard]\naction = "{guard}"\n')
    return path


def losses(result: headrace.ReplayResult) -> list[float]:
    """Return the log loss of each stretch after the fault."""
    begin = datetime.fromtimestamp((START + DAY + BEGIN + LENGTH) // SECOND, UTC)
    found = []
    for length in AFTER.values():
        end = begin + timedelta(microseconds=length)
        windows = [
            window for window in result.summary.learners["click"].windows
            if begin <= window.start < end
        ]  # fmt: skip
        weight = sum(window.weight for window in windows)
        found.append(sum(window.log_loss * window.weight for window in windows) / weight)
    return found


def main() -> None:
    """Replay a day, then the hours with each fault, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a fifth of the traffic")
    rate = 10 if parser.parse_args().quick else 50
    quiet_beam()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        day = Traffic(86_400 * rate, rate, clean=True, regions=True)
        first = headrace.replay(log(folder / "day", day, None, "off"), folder / "day-out")
        model = first.models["click"]
        hours = (BEGIN + LENGTH + 6 * HOUR + HOUR) // SECOND

        def replayed(name: str, guard: str, without: str = "") -> headrace.ReplayResult:
            faults = () if name == "none" else (f"{name}:{BEGIN // HOUR}h:{LENGTH // HOUR}h",)
            traffic = Traffic(
                hours * rate, rate, seed=2, clean=True, regions=True, start=START + DAY,
                faults=tuple(map(parse_fault, faults)),
            )  # fmt: skip
            into = folder / f"{name}-{guard}-{bool(without)}"
            config = log(into, traffic, model, guard)
            text = config.read_text()
            config.write_text(text.replace("[learner]\n", f"[learner]\n{without}\n"))
            return headrace.replay(config, into / "out")

        healthy = losses(replayed("none", "off"))
        print(
            f"{'log loss above that without the fault, %':<48}"
            + "".join(f"{name:>10}" for name in AFTER)
        )
        # As if the guard had known at once, and until the end of the fault.
        inside = range(BEGIN // HOUR, (BEGIN + LENGTH) // HOUR)
        without = f'filter = "{" and ".join(f"hour != {hour}" for hour in inside)}"'
        lines = {"right labels, but none learned for two hours": ("none", "off", without)}
        for name in FAULTS:
            for guard in ("off", "disconnect"):
                lines[f"{name}, guard {guard}"] = (name, guard, "")
        for what, how in lines.items():
            result = replayed(*how)
            more = [100 * (a / b - 1) for a, b in zip(losses(result), healthy, strict=True)]
            guards = result.summary.guard
            held = f", {guards['click'].held:,} held" if guards else ""
            print(f"{what + held:<48}" + "".join(f"{of:>10.3f}" for of in more), flush=True)


if __name__ == "__main__":
    main()
