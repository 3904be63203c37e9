"""One file or partition of a stream with another rate of lost records than the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

FEWEST = 50
"""So few lost records show nothing."""
_TIMES, _POINTS = 5.0, 0.05
"""By how many times a rate is above that of the others, and by how much."""
_MOST, _NAMED = 0.5, 3
"""Such a part of the lost records comes from them; so many are named."""


@dataclass(frozen=True)
class SourceResult:
    """What became of the records of one source.

    Parameters
    ----------
    name
        Its name in dead letters.
    records
        Records read.
    lost
        Records by what is wrong with them, as a user says it: ``orphans``.
    explained
        Of these such as are lost wherever a log begins: they are not held against a source.
    """

    name: str
    records: int
    lost: dict[str, int]
    explained: dict[str, int] = field(default_factory=dict)

    def unexplained(self, what: str) -> int:
        """Return how many are lost for no other reason."""
        return self.lost.get(what, 0) - self.explained.get(what, 0)


def outliers(sources: Sequence[SourceResult], what: str) -> list[SourceResult]:
    """Return the sources that are worse than all others, worst first; none if none stand out.

    A source stands out if it has at least `FEWEST` lost records, and its rate is five times that of
    the rest and five points above it. They are at most half of the sources, and have most of what
    is lost.
    """
    order = sorted(
        (of for of in sources if of.records),
        key=lambda of: (-of.unexplained(what) / of.records, of.name),
    )
    cut = 0
    for at in range(len(order) // 2):
        if order[at].unexplained(what) < FEWEST:
            break
        own, rest = (_rate(of, what) for of in (order[at : at + 1], order[at + 1 :]))
        # Those that stand out may be alike: the last of them is far above the rest.
        if own >= max(_TIMES * rest, rest + _POINTS):
            cut = at + 1
    found = order[:cut]
    most = cut and _unexplained(found, what) >= _MOST * _unexplained(order, what)
    return found if most else []


def _rate(sources: Sequence[SourceResult], what: str) -> float:
    return _unexplained(sources, what) / sum(of.records for of in sources)


def _unexplained(sources: Sequence[SourceResult], what: str) -> int:
    return sum(of.unexplained(what) for of in sources)


def _lost(sources: Sequence[SourceResult], what: str) -> int:
    return sum(of.lost.get(what, 0) for of in sources)


def in_words(stream: str, what: str, sources: Sequence[SourceResult]) -> str | None:
    """Return a sentence that names the sources that stand out; None if none do."""
    found = outliers(sources, what)
    if not found:
        return None
    others = [of for of in sources if of not in found and of.records]
    lost, every = _lost(found, what), _lost(sources, what)
    names = ", ".join(of.name for of in found[:_NAMED])
    if len(found) > 1:
        more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        names = f"{len(found):,} of {len(sources):,} sources, {names}{more}"
    counted = f"all {every:,}" if lost == every else f"{lost:,} of {every:,}"
    own, rest = (_lost(some, what) / sum(of.records for of in some) for some in (found, others))
    return (
        f"{stream}: {counted} {what} are from {names} ({own:.1%} of the records there, {rest:.1%} "
        "of the others). What is different there: who writes it, its keys, its clock?"
    )
