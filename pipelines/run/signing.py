"""JSON files that carry a checksum of themselves, so that damage shows when they are read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_OWN = "sha256"


def write_signed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON and the checksum of it."""
    path.write_text(_text(content), encoding="utf-8")


def read_signed(path: Path) -> dict[str, Any]:
    """Read what `write_signed` wrote.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged, with what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError("it is not JSON any more") from error
    if not isinstance(content, dict) or _OWN not in content:
        raise ValueError("it has no checksum")
    if content.pop(_OWN) != _digest(content):
        raise ValueError("its checksum is another")
    if text != _text(content):
        raise ValueError("it was written anew")
    return content


def _text(content: dict[str, Any]) -> str:
    return json.dumps({**content, _OWN: _digest(content)}, indent=1) + "\n"


def _digest(content: dict[str, Any]) -> str:
    # Once through JSON, which makes text of keys that are numbers.
    canonical = json.dumps(
        json.loads(json.dumps(content)), sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()
