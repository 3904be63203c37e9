"""The newest model of a run that goes on, for programs that predict."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.pipelines.jobs.prediction import Model, load_model
from headrace.pipelines.run.remote import Address, place_of
from headrace.schemas.errors import HeadraceError, SnapshotError

_SNAPSHOT = re.compile(r"snapshot-\d+")


class Serving(NamedTuple):
    """A model and the name of its snapshot: what a scorer predicts with at one moment."""

    snapshot: str
    model: Model


class Scorer:
    """Predicts with the newest good snapshot of a folder, also while a run writes new ones.

    Any number of threads may predict. Each call uses one model from its beginning to its end;
    a newer one takes over between two calls, and no call waits for it. A snapshot that is
    damaged or not complete is passed over, and tried again at the next refresh.

    Parameters
    ----------
    path
        The folder of a learner's snapshots, such as ``live/model/click``; that of a run, if it
        has one learner; or a single snapshot. It may be elsewhere, such as
        ``s3://bucket/live/model/click``.
    refresh_s
        How often a thread of the scorer calls `refresh`, seconds; None leaves it to the caller.
    algorithms
        The algorithms that models may have.
    key
        The secret of ``state.key`` with which models must have been signed; None for any models.

    Attributes
    ----------
    skipped
        The snapshots that the last refresh passed over, and why, by name.
    failure
        Why the last refresh by the thread failed; None if it did not.

    Raises
    ------
    SnapshotError
        If there is no good snapshot, or snapshots of several learners.

    Examples
    --------
    .. code-block:: python

        with headrace.Scorer("live/model/click", refresh_s=10) as scorer:
            p = scorer.predict_proba(rows)
    """

    def __init__(
        self,
        path: str | Path | Address,
        *,
        refresh_s: float | None = None,
        algorithms: Algorithms = ALGORITHMS,
        key: str | None = None,
    ) -> None:
        self._place, self._algorithms, self._key = place_of(path), algorithms, key
        self._current: Serving | None = None
        self._refreshing = threading.Lock()
        self._closing = threading.Event()
        self.skipped: Mapping[str, str] = {}
        self.failure: str | None = None
        self.refresh()
        if self._current is None:
            named = "; ".join(f"{name}: {why}" for name, why in self.skipped.items())
            raise SnapshotError(
                f"{self._place}: expected a good snapshot (got {named or 'none'}); name a folder "
                "such as live/model/click"
            )
        self._thread: threading.Thread | None = None
        if refresh_s is not None:
            self._thread = threading.Thread(
                target=self._keep_fresh, args=(refresh_s,), name="headrace-scorer", daemon=True
            )
            self._thread.start()

    @property
    def current(self) -> Serving:
        """The model in use and the name of its snapshot, which belong together."""
        assert self._current is not None, "a scorer has a model from its construction on"
        return self._current

    @property
    def model(self) -> Model:
        """The model in use."""
        return self.current.model

    @property
    def snapshot(self) -> str:
        """The name of its snapshot."""
        return self.current.snapshot

    def predict_proba(self, table: Any, *, as_shown: bool = False) -> npt.NDArray[np.float64]:
        """Predict with the model in use, see `Model.predict_proba`.

        To know which model predicted, take `current` and use its model.
        """
        return self.current.model.predict_proba(table, as_shown=as_shown)

    def refresh(self) -> bool:
        """Change to the newest good snapshot of the folder, if that is another one.

        Returns
        -------
        bool
            Whether the model has changed.

        Raises
        ------
        SnapshotError
            If the folder has snapshots of several learners, or may not be read.
        FolderError
            If it is elsewhere and cannot be reached.
        """
        with self._refreshing:
            skipped: dict[str, str] = {}
            changed = False
            for name, place in self._snapshots().items():
                if self._serves(name, place):
                    break
                try:
                    model = load_model(place, self._algorithms, self._key)
                except (SnapshotError, OSError) as error:
                    if place.exists():  # else the run has removed it
                        skipped[name] = str(error)
                    continue
                self._current = Serving(name, model)
                changed = True
                break
            self.skipped = skipped
            return changed

    def close(self) -> None:
        """End the thread, if there is one. Predictions go on to work."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _keep_fresh(self, every_s: float) -> None:
        while not self._closing.wait(every_s):
            try:
                self.refresh()
            except (HeadraceError, OSError) as error:
                # The model in use is as good as before; the next refresh tries again.
                self.failure = str(error)
            else:
                self.failure = None

    def _serves(self, name: str, place: Path | Address) -> bool:
        """Return whether a snapshot is the one in use; a new run may give its name to another."""
        if self._current is None or self._current.snapshot != name:
            return False
        try:
            manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False  # loading it says what is wrong
        own = self._current.model.manifest["sha256"]
        return isinstance(manifest, dict) and manifest.get("sha256") == own

    def _snapshots(self) -> dict[str, Path | Address]:
        """Return the places of snapshots by their names, the newest first.

        Raises
        ------
        SnapshotError
            If they are of several learners.
        """
        place = self._place
        found = _local(place) if isinstance(place, Path) else _remote(place)
        learners = {str(PurePosixPath(below).parent) for below in found}
        if len(learners) > 1:
            raise SnapshotError(
                f"{place}: expected the snapshots of one learner (got {', '.join(sorted(learners))}"
                "); name the folder of one"
            )
        named = {PurePosixPath(below).name: where for below, where in found.items()}
        return dict(sorted(named.items(), reverse=True))


def _local(place: Path) -> dict[str, Path | Address]:
    """Return snapshots by their paths below a folder; the folder itself if it is one."""
    if (place / "manifest.json").exists():
        return {place.absolute().name: place}
    parents = [Path(), *(Path(name) for name in _names(place))]
    parents += [Path("model", name) for name in _names(place / "model")]
    paths = (parent / name for parent in parents for name in _names(place / parent))
    return {path.as_posix(): place / path for path in paths if _is_snapshot(path.as_posix())}


def _names(folder: Path) -> list[str]:
    """Return what is in a folder: nothing if it is none, or was removed just now."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SnapshotError(
            f"{folder}: cannot be read ({error.strerror}); choose a folder that you may read"
        ) from error


def _remote(place: Address) -> dict[str, Path | Address]:
    folders = {str(PurePosixPath(below).parent) for below in place.files()}
    if "." in folders:
        return {PurePosixPath(place.path).name: place}
    return {below: place / below for below in folders if _is_snapshot(below)}


def _is_snapshot(below: str) -> bool:
    """Return whether a path leads to a snapshot from a learner's folder, all models' or a run's.

    What is hidden is being written or removed.
    """
    *above, name = PurePosixPath(below).parts
    if any(part.startswith(".") for part in above) or not _SNAPSHOT.fullmatch(name):
        return False
    return len(above) < 2 or (len(above) == 2 and above[0] == "model")
