"""What a name that is not known may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def name_hint(name: str, known: Collection[str]) -> str:
    """Return the known name that is like this one, else all that there are; empty if none."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return "use one of " + ", ".join(sorted(known)) if known else ""
