"""Where compiled kernels are cached: never where somebody else can write.

What numba caches are pickles, and loading a pickle runs what is in it. By itself numba caches
beside the source, or in a folder that an environment variable names, whoever may write there.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
_PACKAGES = ("schemas", "joiner", "learners", "monitoring", "pipelines")


def keep_safe() -> None:
    """Let numba cache where only this user can write; call it before any kernel is defined."""
    source = Path(__file__).parent
    folder = cache_folder([(source / name).resolve() for name in _PACKAGES], os.environ)
    if folder is not None:
        os.environ[VARIABLE] = str(folder)
        if "numba" in sys.modules:  # which has read the variable already
            sys.modules["numba"].config.CACHE_DIR = str(folder)


def cache_folder(packages: list[Path], environment: Mapping[str, str]) -> Path | None:
    """Return where to cache kernels; None if numba's own choice is safe.

    The first that only this user can write to: the folder that the environment names, those of
    the source, the user's cache, a folder of the user's for temporary files.

    Parameters
    ----------
    packages
        The folders of the source.
    environment
        Its variables.
    """
    named = environment.get(VARIABLE)
    if named:
        if is_own(Path(named)):
            return None
    elif all(_is_safe(folder) for folder in _inside(packages)):
        return None
    import tempfile  # which imports much, and is seldom needed

    cache = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    temporary = Path(tempfile.gettempdir(), f"headrace-kernels-{os.getuid()}")
    for folder in (Path(cache, "headrace", "kernels"), temporary):
        if folder.is_absolute() and is_own(folder):
            return folder
    return Path(tempfile.mkdtemp(prefix="headrace-kernels-"))


def is_own(folder: Path) -> bool:
    """Return whether a folder, which is made if it is missing, is this user's to write alone."""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        return _is_safe(folder)
    except OSError:
        return False


def _inside(packages: list[Path]) -> Iterator[Path]:
    for package in packages:
        for where, _, _ in os.walk(package):
            yield Path(where)


def _is_safe(folder: Path) -> bool:
    found = folder.lstat()
    # A user may have a group of his own, which has nobody else.
    others = stat.S_IWOTH | (0 if found.st_gid == found.st_uid else stat.S_IWGRP)
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and not found.st_mode & others
        and os.access(folder, os.W_OK)
    )
