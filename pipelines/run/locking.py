"""The lock of a folder: one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.pipelines.run.place import HOME, Place
from headrace.schemas.errors import FolderError, OutputError

_LOCK = "lock"
LOCK = f"{HOME}/{_LOCK}"
"""Path of the lock in the folder."""

_PATIENCE_S = 1.0


@contextmanager
def held(place: Place) -> Iterator[None]:
    """Hold the lock of a folder while the block runs.

    The operating system ties the lock to the process, so the lock of a dead process is
    free. The folder is created if it is missing, and removed at the end if it was created
    here and is empty.

    Raises
    ------
    FolderError
        If another process holds the lock, or the folder cannot be created.
    """
    handle, made = _acquire(place)
    try:
        yield
    finally:
        # In this order: a process that gets a lock without its name opens the name again.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place.home / _LOCK)
        os.close(handle)
        # Folders that are not empty stay.
        with contextlib.suppress(OSError):
            os.rmdir(place.home)
            if made:
                os.rmdir(place.out)


def is_held(place: Place) -> bool:
    """Return whether a process holds the lock of a folder."""
    try:
        handle = os.open(place.home / _LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _acquire(place: Place) -> tuple[int, bool]:
    path = place.home / _LOCK
    made = False
    patience = time.monotonic() + _PATIENCE_S
    while True:
        try:
            made = _make(place.out) or made
            with contextlib.suppress(FileExistsError):
                os.mkdir(place.home)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            if time.monotonic() > patience:
                raise FolderError(place.out, "cannot be created", "choose another folder") from None
            continue  # another run has just ended and removed its folder
        except OSError as error:
            raise FolderError(*_unwritable(path, error)) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(handle, path):
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(_about()).encode(), 0)
                return handle, made
            os.close(handle)
        except BlockingIOError:
            # The holder may be about to write its process number, or to remove the lock.
            holder = _read(handle)
            named = _is_named(handle, path)
            os.close(handle)
            if time.monotonic() > patience or (named and _lives(holder)):
                raise _in_use(place.out, holder) from None
            time.sleep(0.01)
        except OSError as error:
            os.close(handle)
            raise FolderError(*_unwritable(path, error)) from error


def _make(folder: Path) -> bool:
    """Create a folder; return whether it was missing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mkdir(folder)
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(20, os.strerror(20)) from None
        return False
    return True


def _unwritable(path: Path, error: OSError) -> tuple[str, str, str]:
    unwritable = OutputError.unwritable(path, error)
    return unwritable.path, unwritable.fact, unwritable.hint


def _is_named(handle: int, path: Path) -> bool:
    """Return whether an open lock file is still the one under this name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _about() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "started": datetime.now(UTC).isoformat(" ", "seconds"),
        "command": " ".join(sys.argv),
    }


def _read(handle: int) -> dict[str, Any] | None:
    try:
        holder = json.loads(os.pread(handle, 1 << 16, 0))
        return {**holder, "pid": int(holder["pid"]), "started": str(holder["started"])}
    except (ValueError, KeyError, TypeError):
        return None


def _lives(holder: dict[str, Any] | None) -> bool:
    """Return whether a lock names a process that is alive, or is on another machine."""
    if holder is None:
        return False
    if holder.get("host") != platform.node():
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _in_use(out: Path, holder: dict[str, Any] | None) -> FolderError:
    who = "another process"
    if holder is not None:
        who = f"process {holder['pid']} on {holder.get('host')}, started {holder['started']}"
    return FolderError(out, f"is in use by {who}", "wait until it ends, or choose another folder")
