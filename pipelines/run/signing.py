"""JSON files with a checksum of their contents, so that damage shows when they are read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from headrace.pipelines.run.disk import write_text
from headrace.pipelines.run.remote import Address

_OWN = "sha256"


def write_signed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON to a file, with the checksum of `content` as one more key."""
    write_text(path, signed(content))


def signed(content: dict[str, Any]) -> str:
    """Return the text that `write_signed` writes."""
    return json.dumps({**content, _OWN: _digest(content)}, indent=1) + "\n"


def read_signed(path: Path | Address) -> dict[str, Any]:
    """Return the content that `write_signed` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged; the message says what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(content, dict) or _OWN not in content:
        raise ValueError("it has no checksum")
    if content.pop(_OWN) != _digest(content):
        raise ValueError("its checksum does not match")
    if text != signed(content):
        raise ValueError("its formatting was changed")
    return content


def _digest(content: dict[str, Any]) -> str:
    # Once through JSON, which turns numeric keys into text.
    canonical = json.dumps(
        json.loads(json.dumps(content)), sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()
