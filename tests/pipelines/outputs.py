"""The outputs of a replay, for comparing them with those of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def contents(out: Path) -> dict[str, Any]:
    """Return every output in a folder; summary and report without times and memory.

    Without the state to go on from, which is written for the same shards, and in parts.
    """
    found: dict[str, Any] = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.relative_to(out).parts[0] != "state"
    }
    found.pop("seal.json", None)
    summary = json.loads(found["summary.json"])
    for name in ("elapsed_s", "events_per_s", "peak_rss_mb", "state_bytes"):
        del summary[name]
    if summary["joined"] is not None:
        del summary["joined"]["found_in"]
    found["summary.json"] = summary
    report = found["report.html"].decode()
    found["report.html"] = [line for line in report.splitlines() if "peak memory" not in line]
    return found
