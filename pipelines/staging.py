"""Outputs that appear under their final names only when they are whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

SUMMARY = "summary.json"
OUTPUTS = ("samples", "dead_letters", "corrections", "joined", "model", "report.html")
_STAGING = ".partial"
_OLD = ".replaced"


def staging_folder(out: Path) -> Path:
    """Return where the outputs of an unfinished run are."""
    return out / _STAGING


def stage(out: Path, keep: bool = False) -> Path:
    """Make the folder to write to; unless it is to be kept, what is there is removed."""
    staging = out / _STAGING
    if staging.exists() and not keep:
        shutil.rmtree(staging)
    staging.mkdir(parents=True, exist_ok=True)
    return staging


def publish(out: Path, summary: dict[str, Any]) -> None:
    """Move staged outputs to their names; the summary comes last, as the seal.

    Only what Headrace writes is replaced; other files of the folder stay.
    """
    staging, old = out / _STAGING, out / _OLD
    if old.exists():
        shutil.rmtree(old)
    old.mkdir()
    (staging / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (out / SUMMARY).unlink(missing_ok=True)
    for name in OUTPUTS:
        if (out / name).exists():
            os.replace(out / name, old / name)
        if (staging / name).exists():
            os.replace(staging / name, out / name)
    os.replace(staging / SUMMARY, out / SUMMARY)
    shutil.rmtree(old)
    shutil.rmtree(staging)


def discard(out: Path) -> None:
    """Remove what a failed run staged, and the folder if nothing else is in it."""
    shutil.rmtree(out / _STAGING, ignore_errors=True)
    if out.exists() and not any(out.iterdir()):
        out.rmdir()
