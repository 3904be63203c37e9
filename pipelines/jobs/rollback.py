"""Withdrawing models: what serves goes back to an older snapshot."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from headrace.learners.snapshot import load_snapshot
from headrace.pipelines.run.disk import write_text
from headrace.pipelines.training.state import TOGETHER
from headrace.schemas.errors import SnapshotError
from headrace.schemas.records.signatures import Signer

_SNAPSHOT = re.compile(r"snapshot-\d+")


def roll_back(folder: Path, to: str | None = None, key: str | None = None) -> tuple[str, list[str]]:
    """Withdraw the newest snapshot of a learner, or all that are newer than one.

    They are renamed from ``snapshot-N`` to ``withdrawn-N``, the newest first, so that whoever
    predicts with the newest finds an older one at every moment. To undo it, rename them back.

    Parameters
    ----------
    folder
        The folder of a learner's snapshots, such as ``live/model/click``.
    to
        The name of the snapshot to go back to; None for the one before the newest.
    key
        The secret of ``state.key`` with which that must have been signed; None for any.

    Returns
    -------
    tuple
        The name of the snapshot that is the newest now, and those withdrawn.

    Raises
    ------
    SnapshotError
        If there is none to go back to, or it is damaged or not signed with the key; then
        nothing is changed.
    """
    names = sorted(path.name for path in folder.glob("snapshot-*") if _is_snapshot(path))
    if to is None:
        if len(names) < 2:
            raise SnapshotError(
                f"{folder}: expected a snapshot to go back to (got {', '.join(names) or 'none'}); "
                "name a folder such as live/model/click"
            )
        to = names[-2]
    if to not in names:
        raise SnapshotError(
            f"{folder}: has no snapshot {to}; choose one of {', '.join(names) or 'none'}"
        )
    load_snapshot(folder / to, sign=None if key is None else Signer(key.encode()))
    withdrawn = [name for name in reversed(names) if name > to]
    for name in withdrawn:
        os.replace(folder / name, folder / name.replace("snapshot-", "withdrawn-"))
    _name_together(folder, to)
    return to, withdrawn


def _is_snapshot(path: Path) -> bool:
    return _SNAPSHOT.fullmatch(path.name) is not None and path.is_dir()


def _name_together(folder: Path, name: str) -> None:
    """Name the snapshot in the file that says which belong together, if it has the learner."""
    path = folder.parent / TOGETHER
    if not path.exists():
        return
    together = json.loads(path.read_text(encoding="utf-8"))
    if folder.name in together["learners"]:
        manifest = json.loads((folder / name / "manifest.json").read_text(encoding="utf-8"))
        together["learners"][folder.name] = {
            "path": f"{folder.name}/{name}", "sha256": manifest["sha256"],
        }  # fmt: skip
        partial = path.with_name(f".{TOGETHER}")
        write_text(partial, json.dumps(together, indent=2) + "\n")
        os.replace(partial, path)
