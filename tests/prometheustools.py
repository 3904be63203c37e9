"""Prometheus and promtool for tests: those of this machine, or of Debian's package, unpacked.

A test that needs them runs wherever they can be had: on a machine with apt the package is
downloaded once, into the user's cache, and not installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_TOOLS = ("prometheus", "promtool")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace-tests"


def _there() -> bool:
    return all(shutil.which(tool) for tool in _TOOLS)


def _unpack() -> None:
    """Put the package's programs into the cache; two processes may do so at once."""
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        if os.geteuid() == 0:  # a machine that is new has no lists of packages
            subprocess.run(["apt-get", "-q", "update"], check=False, capture_output=True)
        subprocess.run(
            ["apt-get", "-q", "download", "prometheus"],
            cwd=scratch, check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        (package,) = Path(scratch).glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), f"{scratch}/all"], check=True)
        programs = _CACHE / "prometheus"
        programs.mkdir(exist_ok=True)
        for tool in _TOOLS:
            Path(scratch, "all/usr/bin", tool).replace(programs / tool)


def find() -> bool:
    """Return whether both can be run by their names, after a download if need be."""
    if _there():
        return True
    programs = _CACHE / "prometheus"
    if not all((programs / tool).exists() for tool in _TOOLS):
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            return False
        _CACHE.mkdir(parents=True, exist_ok=True)
        try:
            _unpack()
        except (subprocess.SubprocessError, OSError, ValueError):
            return False
    os.environ["PATH"] += f"{os.pathsep}{programs}"
    return _there()


needs_prometheus = pytest.mark.skipif(
    not find(), reason="needs prometheus and promtool, and neither they nor apt are here"
)
