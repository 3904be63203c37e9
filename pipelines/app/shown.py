"""How anything is shown in a terminal: what a log says is text, whatever characters it has.

Escape sequences in a key or a value would move the cursor, change the title or forge lines;
characters that turn the direction of text around would show another text than there is; square
brackets would be markup of rich.
"""

from __future__ import annotations

import sys
import unicodedata
from typing import TextIO

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that are not seen, or change how others are."""


def as_shown(text: str, lines: bool = False) -> str:
    r"""Return a text with characters that are not seen, or change how others are, as escapes.

    Parameters
    ----------
    text
        Any text.
    lines
        Whether it may have several lines; else the ends of lines are escapes too.

    Examples
    --------
    >>> print(as_shown("a\x1b[2Jb\u202ec\n"))
    a\x1b[2Jb\u202ec\n
    """
    if text.isascii() and text.isprintable():
        return text
    kept = "\n" if lines else ""
    return "".join(
        one if one in kept or unicodedata.category(one) not in _HIDDEN else _escaped(one)
        for one in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def say(line: str, file: TextIO | None = None) -> None:
    """Print a line, on standard output unless it is said otherwise."""
    print(as_shown(line), file=file, flush=True)


def warn(line: str) -> None:
    """Print a line on standard error."""
    say(line, sys.stderr)
