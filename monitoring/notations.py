"""How keys are written, where those of two streams never are alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

FEWEST = 50
"""So few keys show nothing."""
_ALL, _NONE = 0.95, 0.01
_CLASSES = (("[0-9]", "digits"), ("[a-z]", "small letters"), ("[A-Z]", "capital letters"))

Look = tuple[str, ...]


def differ(here: Sequence[str], there: Sequence[str]) -> tuple[str, str] | None:
    """Return examples of keys that are written in two ways; None if they look alike.

    Keys look alike if they have the same kinds of characters, and if all keys of one stream have
    one length, that length.

    Parameters
    ----------
    here, there
        Keys as text: those that found no other, and those that they were looked for among.
    """
    if min(len(here), len(there)) < FEWEST:
        return None
    fixed = {len(key) for key in there}
    fixed_here = {len(key) for key in here}
    if len(fixed) == len(fixed_here) == 1 and fixed != fixed_here:
        return here[0], there[0]
    usual = {
        look for look, count in Counter(map(_look, there)).items() if count > _NONE * len(there)
    }
    strange = [key for key in here if _look(key) not in usual]
    if len(strange) < _ALL * len(here):
        return None
    return strange[0], next(key for key in there if _look(key) in usual)


def _look(key: str) -> Look:
    """Return the kinds of characters that a key has; marks stand for themselves."""
    kinds = [name for pattern, name in _CLASSES if re.search(pattern, key)]
    return (*kinds, *sorted(set(re.sub(r"[0-9a-zA-Z]", "", key))))
