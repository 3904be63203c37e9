"""Reading the outputs of a run that does not end, while it writes and merges them."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.dataset as ds

from headrace.pipelines.sinks.completion import COMPLETE, read_completion
from headrace.pipelines.sinks.hours import microseconds, moment, open_dataset
from headrace.schemas.errors import FolderError
from headrace.schemas.records.events import EARLIEST, NEVER

_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class LiveResult:
    """The outputs of a run that does not end, as far as they were complete at some moment.

    The run may write and merge meanwhile: `samples`, `corrections` and `joined` have the
    same rows at any time, and a dataset can be read as often as needed.

    Parameters
    ----------
    out
        The folder of the run.
    complete
        By output, the emit time (UTC) before which all its rows are there and final; None
        before the first. Of an output whose log has ended it is the last of all times.
    """

    out: Path
    complete: Mapping[str, datetime | None]

    @property
    def samples(self) -> ds.Dataset:
        """The samples emitted before ``complete["samples"]``, in canonical order."""
        return self._dataset("samples")

    @property
    def corrections(self) -> ds.Dataset | None:
        """Samples corrected for late actions; None without ``join.retention``."""
        return self._dataset("corrections") if "corrections" in self.complete else None

    @property
    def joined(self) -> dict[str, ds.Dataset]:
        """Actions with their impressions, by stream; empty without ``join.joined``."""
        names = [name for name in self.complete if name.startswith("joined/")]
        return {name.removeprefix("joined/"): self._dataset(name) for name in sorted(names)}

    @property
    def dead_letters(self) -> ds.Dataset:
        """The records that left no sample, with their reasons: all that are final by now."""
        return self._dataset("dead_letters", bounded=False)

    def _dataset(self, output: str, bounded: bool = True) -> ds.Dataset:
        complete, folder = self.complete[output], self.out / output
        until = EARLIEST if complete is None else microseconds(complete)
        try:
            return open_dataset(folder, until if bounded else None)
        except OSError as error:
            hint = "was it changed by another process?"
            if error.errno == errno.EMFILE:
                hint = "allow this process to open more files (ulimit -n)"
            raise FolderError(folder, f"cannot be read ({error})", hint) from error


def load_live(out: str | Path) -> LiveResult:
    """Return the outputs of a run that does not end, as far as they are complete now.

    Raises
    ------
    FolderError
        If the folder is not that of such a run, or its ``complete.json`` is damaged.
    """
    folder = Path(out)
    try:
        complete = read_completion(folder)
    except FileNotFoundError:
        hint = "name the --out folder of a run that does not end"
        raise FolderError(folder, f"has no {COMPLETE}", hint) from None
    moments = {
        name: None if until == NEVER else moment(min(until, microseconds(_LAST)))
        for name, until in complete.items()
    }
    return LiveResult(folder, moments)
