"""The statistics of a run for Prometheus: OpenMetrics in event time, and blocks."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from headrace.monitoring.prometheus.openmetrics import charts, lines
from headrace.pipelines.jobs.statisticsfile import read_recorded
from headrace.pipelines.run.disk import writing
from headrace.schemas.config.durations import SECOND
from headrace.schemas.errors import FolderError, OutputError

_TEXT, _BLOCKS, _CONFIG = "headrace.om", "blocks", "prometheus.yml"
_LEAST_LOOKBACK_S = 600
_BLOCK = "180h"
"""The longest block: promtool reads the whole text again for each."""


@dataclass(frozen=True)
class Backfilled:
    """What was written.

    Parameters
    ----------
    out
        The folder.
    series
        How many series by slice there are.
    begin, end
        Event times of the first and the last window's ends, microseconds; None without windows.
    lookback_s
        How long a sample is shown after its time, seconds: until the next window.
    blocks
        Whether there are blocks, which takes promtool.
    """

    out: Path
    series: int
    begin: int | None
    end: int | None
    lookback_s: int
    blocks: bool

    def make_blocks(self) -> list[str]:
        """Return the command that makes the blocks."""
        return [
            "promtool", "tsdb", "create-blocks-from", "openmetrics",
            f"--max-block-duration={_BLOCK}", str(self.out / _TEXT), str(self.out / _BLOCKS),
        ]  # fmt: skip

    def serve(self, port: int = 9090) -> list[str]:
        """Return the command that serves the blocks to this machine."""
        return [
            "prometheus", f"--config.file={self.out / _CONFIG}",
            f"--storage.tsdb.path={self.out / _BLOCKS}", "--storage.tsdb.retention.time=10y",
            f"--query.lookback-delta={self.lookback_s}s",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip

    def lines(self) -> Iterator[str]:
        """Yield what a user should know: what is where, and how it is shown."""
        if self.begin is None or self.end is None:
            yield f"text      {self.out / _TEXT}: no window is complete, so it is empty"
            return
        yield f"text      {self.out / _TEXT}: {self.series:,} series by slice"
        if self.blocks:
            yield f"blocks    {self.out / _BLOCKS}"
        else:
            yield f"blocks    {shlex.join(self.make_blocks())}"
        yield f"serve     {shlex.join(self.serve())}"
        yield (
            "Grafana   data source http://127.0.0.1:9090, dashboards in docker/grafana/dashboards, "
            f"from {_iso(self.begin)} to {_iso(self.end)}"
        )


def backfill(folder: Path, out: Path | None = None) -> Backfilled:
    """Write the statistics by window of a run for Prometheus, in event time.

    Parameters
    ----------
    folder
        The folder of a replay, or of a run that goes on.
    out
        A new or empty folder; by default one beside the run's, whose name ends in
        ``-prometheus``.

    Raises
    ------
    FolderError
        If the run has no statistics, or the folder to write is not empty.
    OutputError
        If it cannot be written, or promtool does not take it.
    """
    recorded = read_recorded(folder)
    if out is None:
        out = folder.with_name(f"{folder.resolve().name}-prometheus")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FolderError(out, "is not empty", "remove it, or choose another folder with --out")
    found = charts(recorded.rows, recorded.window, recorded.labels)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / _CONFIG).write_text("# Nothing is scraped: there are blocks.\n", encoding="utf-8")
        with (out / _TEXT).open("w", encoding="utf-8", newline="\n") as file:
            whole = lines(
                found, recorded.outcomes, recorded.samples, recorded.bins, recorded.journal
            )
            for text in whole:
                file.write(text)
    grids = [chart.grid for chart in found]
    done = Backfilled(
        out,
        sum(len(chart.series) for chart in found),
        min((int(grid[0]) for grid in grids), default=None),
        max((int(grid[-1]) for grid in grids), default=None),
        max(_LEAST_LOOKBACK_S, recorded.window // SECOND),
        shutil.which("promtool") is not None and bool(found),
    )
    if done.blocks:
        _make_blocks(done)
    return done


def _make_blocks(done: Backfilled) -> None:
    made = subprocess.run(done.make_blocks(), capture_output=True, text=True, check=False)
    if made.returncode:
        said = (made.stderr or made.stdout).strip().splitlines() or ["nothing"]
        fact = f"is not taken by promtool, which says: {said[-1]}"
        raise OutputError(done.out / _TEXT, fact, "a newer Prometheus may take it")


def _iso(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // SECOND, UTC)
    return moment.isoformat(timespec="minutes").replace("+00:00", "Z")
