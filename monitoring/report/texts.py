"""Texts of a log as they are shown on a page or in a drawing."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return a text with what cannot be seen as escapes.

    Examples
    --------
    >>> printable("a\x1b[31m\u202eb")
    'a\\x1b[31m\\u202eb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
