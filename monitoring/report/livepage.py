"""The page of a run that goes on: where it stands, what is worst first.

It is one page with all its parts in place, so it needs no script to be read; with one, its parts
are exchanged as they come. All texts of a log are strangers' texts: the templates escape each, and
`content_policy` lets a browser run and show nothing but what is in them.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from headrace.monitoring.report.texts import printable
from headrace.monitoring.report.verdict import BAND
from headrace.monitoring.standing import (
    AT_REST,
    Calibration,
    LearnerStanding,
    SliceStanding,
    learners,
    streams,
)
from headrace.schemas.config.durations import SECOND, format_moment

_SOURCES, _SLICES, _SCOPES = 40, 30, 8
"""Rows of tables; of the rest it is said how many there are."""
_LONGEST, _LONGEST_REASON = 80, 300
"""Characters of a value, and of a reason, that are shown."""
_WIDTH, _HEIGHT, _MOST = 120, 16, 2.0
"""Of the drawing of a ratio, and the ratio at its end."""

_TEMPLATES = Path(__file__).parent / "templates"
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

_STATES = {
    "starting": ("plain", "The run is starting."),
    "running": ("good", "The run goes on."),
    "stopped": ("plain", "The run was stopped; it goes on if it is started again."),
    "ended": ("plain", "The run has ended, and so have its logs."),
    "failed": ("bad", "The run has failed."),
    "killed": ("bad", "The run was killed."),
}
_KINDS = {"young": "plain", "watching": "good", "warned": "finding"}


def render_watch(title: str, content: str) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    title
        What is watched.
    content
        Its parts, from `render_content`.
    """
    return _ENVIRONMENT.get_template("watch.html").render(
        title=shortened(title, _LONGEST_REASON), content=content, style=_style(), script=_script()
    )


def content_policy() -> str:
    """Return the content security policy of the page: nothing but its own style and script."""
    return (
        f"default-src 'none'; style-src '{_hash(_style())}'; script-src '{_hash(_script())}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def render_content(
    state: str,
    written: str | None,
    events_per_s: float | None,
    figures: Mapping[str, Any] | None,
    rates: Sequence[tuple[float, float]] = (),
) -> str:
    """Return the parts of the page as HTML, each a section with a name.

    Parameters
    ----------
    state, written, events_per_s
        How the run is, when this was so (ISO 8601), and how fast it is; None if that is not known.
    figures
        See `headrace.monitoring.figures.Figures.as_json`; None before the first.
    rates
        Seconds since 1970, and events a second, while somebody watched.
    """
    kind, sentence = _STATES[state]
    standings = [] if figures is None else learners(figures)
    return _ENVIRONMENT.get_template("watching.html").render(
        kind=kind,
        sentence=sentence,
        written=None if written is None else written.replace("T", " ")[:19],
        known=figures is not None,
        alarms=[] if figures is None else _alarms(figures),
        tiles=[] if figures is None else _tiles(events_per_s, figures),
        pace=_pace(rates),
        streams=[] if figures is None else _streams(figures),
        sources=[] if figures is None else _sources(figures),
        more_sources=0 if figures is None else max(len(figures["sources"]) - _SOURCES, 0),
        outcomes=[] if figures is None else _outcomes(figures),
        learners=[_learner(of) for of in standings],
        scopes=[] if figures is None else _scopes(figures),
        decisions=[] if figures is None else _decisions(figures),
    )


def _style() -> str:
    of_report = (_TEMPLATES / "style.html").read_text(encoding="utf-8")
    own = (_TEMPLATES / "watchstyle.html").read_text(encoding="utf-8")
    return "".join(_inner(text, "style") for text in (of_report, own))


def _script() -> str:
    return _inner((_TEMPLATES / "watchscript.html").read_text(encoding="utf-8"), "script")


def _inner(text: str, tag: str) -> str:
    return text.split(f"<{tag}>", 1)[1].rsplit(f"</{tag}>", 1)[0]


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _alarms(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a sentence for each scope of the guard that is not at rest, with its kind."""
    found = [
        (
            _KINDS.get(of["state"], "bad"),
            (of["reason"] and shortened(of["reason"], _LONGEST_REASON))
            or f"{_scope(of)}: {of['state']}; in its last block {_against(of)} positives",
            _since(of),
        )
        for of in figures["guard"]
        if of["state"] not in AT_REST
    ]
    if not found and figures["guard"]:
        young = all(of["state"] == "young" for of in figures["guard"] if not of["slice"])
        text = "is young: it judges nothing yet" if young else "is watching, and suspects nothing"
        return [("plain" if young else "good", f"The guard {text}.")]
    return [(kind, f"{text}{since and f', {since}'}.") for kind, text, since in found]


def _since(of: Mapping[str, Any]) -> str:
    since = of["since"]
    return "" if since is None else f"{of['state']} since {since.replace('T', ' ')[:16]}"


def _tiles(events_per_s: float | None, figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    lags = [of["lag"] for of in figures["sources"]]
    tiles = [("events", f"{figures['events']:,}"), ("samples", f"{figures['samples']:,}")]
    if events_per_s is not None:
        tiles.insert(0, ("events a second", f"{events_per_s:,.0f}"))
    if lags and None not in lags:
        tiles.append(("records waiting", f"{sum(lags):,}"))
    for label, held in figures["held"].items():
        if held:
            tiles.append((f"held back ({shortened(label)})", f"{held:,}"))
    if figures["clock"] is not None:
        tiles.append(("clock (UTC)", format_moment(figures["clock"])))
    return tiles


def _streams(figures: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            shortened(of.name), "" if of.event_time is None else format_moment(of.event_time),
            "" if of.behind is None else duration(of.behind),
            "unknown" if of.lag is None else f"{of.lag:,}", f"{of.records:,}", f"{of.rejected:,}",
            "ended" if of.ended else "open",
        ]
        for of in streams(figures)
    ]  # fmt: skip


def _sources(figures: Mapping[str, Any]) -> list[list[str]]:
    """Return the sources, those that are furthest behind first."""

    def behind(of: Mapping[str, Any]) -> tuple[bool, float]:
        return of["ended"], -math.inf if of["progress"] is None else of["progress"]

    return [
        [
            shortened(of["name"]), shortened(of["stream"]),
            "ended" if of["ended"] else
            "no record yet" if of["progress"] is None else format_moment(of["progress"]),
            "unknown" if of["lag"] is None else f"{of['lag']:,}",
            f"{of['records']:,}", f"{of['rejected']:,}",
        ]
        for of in sorted(figures["sources"], key=behind)[:_SOURCES]
    ]  # fmt: skip


def _outcomes(figures: Mapping[str, Any]) -> list[list[str]]:
    """Return a row of heads, and then one for each stream; outcomes that have records alone."""
    by_stream = figures["outcomes"]
    names = list(dict.fromkeys(name for counts in by_stream.values() for name in counts))
    kept = [
        name for name in names
        if name == "settled" or any(counts.get(name) for counts in by_stream.values())
    ]  # fmt: skip
    rows = [
        [shortened(stream), *(f"{counts.get(name, 0):,}" for name in kept)]
        for stream, counts in by_stream.items()
    ]
    return [["stream", *(name.replace("_", " ") for name in kept)], *rows]


def _learner(of: LearnerStanding) -> dict[str, Any]:
    rows = [("since the run began", of.whole)]
    if of.window is not None and of.window_end is not None:
        rows.append((f"window until {format_moment(of.window_end)}", of.window))
    return {
        "name": shortened(of.name),
        "label": shortened(of.label),
        "predicted": "just before learning" if of.predicted == "learned" else "as served",
        "rows": [_calibration_row(when, found) for when, found in rows],
        "slices": [_slice_row(found) for found in of.slices[:_SLICES]],
        "more": max(len(of.slices) - _SLICES, 0),
    }


def _calibration_row(when: str, of: Calibration) -> list[str]:
    loss = "" if of.log_loss is None else f"{of.log_loss:.4f}"
    return [
        when, f"{of.samples:,}", amount(of.positives), amount(of.expected), ratio(of),
        _interval(of), loss,
    ]  # fmt: skip


def _slice_row(of: SliceStanding) -> dict[str, Any]:
    window = of.window
    return {
        "slice": shortened(of.slice),
        "value": shortened(of.value),
        "guard": of.guard or "",
        "kind": _KINDS.get(of.guard or "young", "bad"),
        "off": of.beyond > BAND,
        "samples": f"{of.whole.samples:,}",
        "against": f"{amount(of.whole.positives)} / {amount(of.whole.expected)}",
        "ratio": ratio(of.whole),
        "interval": _interval(of.whole),
        "drawing": _drawing(of.whole),
        "window": ""
        if window is None
        else f"{amount(window.positives)} / {amount(window.expected)}",
    }


def _drawing(of: Calibration) -> dict[str, float] | None:
    """Return where the ratio, its interval and the tolerated band are drawn; None without one."""
    if of.ratio is None or of.low is None or of.high is None:
        return None
    return {
        "width": _WIDTH, "height": _HEIGHT, "middle": _WIDTH / 2,
        "from": _place(of.low), "to": _place(of.high), "at": _place(of.ratio),
        "band": _place(1 / BAND), "band_width": _place(BAND) - _place(1 / BAND),
    }  # fmt: skip


def _place(ratio: float) -> float:
    """Return where a ratio is drawn: 1 in the middle, in logarithms, at most at the ends."""
    if not ratio:
        return 0.0
    part = math.log(ratio) / math.log(_MOST)
    return round(_WIDTH / 2 * (1 + min(max(part, -1.0), 1.0)), 1)


def _pace(rates: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """Return a line of events a second; None from fewer than three points."""
    if len(rates) < 3:
        return None
    (begin, _), (end, _) = rates[0], rates[-1]
    most = max(rate for _, rate in rates) or 1.0
    points = " ".join(
        f"{400 * (t - begin) / max(end - begin, 1e-9):.1f},{58 - 54 * rate / most:.1f}"
        for t, rate in rates
    )
    return {
        "points": points, "most": f"{most:,.0f}", "time": duration(int(end - begin) * SECOND),
    }  # fmt: skip


def _scopes(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return all scopes that are not at rest, and of each label some others."""
    shown, others = [], Counter[str]()
    for of in figures["guard"]:
        others[of["label"]] += 1
        if of["state"] not in AT_REST or others[of["label"]] <= _SCOPES:
            shown.append(of)
    return [
        {
            "scope": _scope(of), "state": of["state"], "kind": _KINDS.get(of["state"], "bad"),
            "since": "" if of["since"] is None else of["since"].replace("T", " ")[:16],
            "against": _against(of),
            "ratio": "" if not of["expected"] else f"{of['positives'] / of['expected']:.2f}",
        }
        for of in shown
    ]  # fmt: skip


def _against(of: Mapping[str, Any]) -> str:
    return "" if of["expected"] is None else f"{of['positives']:,} / {amount(of['expected'])}"


def _scope(of: Mapping[str, Any]) -> str:
    label = shortened(of["label"])
    return f"{label}, {shortened(of['slice'])} = {shortened(of['value'])}" if of["slice"] else label


def _decisions(figures: Mapping[str, Any]) -> list[list[str]]:
    return [
        [format_moment(of["time"]), of["event"], shortened(of["reason"], _LONGEST_REASON)]
        for of in reversed(figures["decisions"])
    ]


def ratio(of: Calibration) -> str:
    """Return positives over expected as text; empty if nothing was predicted."""
    return "" if of.ratio is None else f"{of.ratio:.3f}"


def _interval(of: Calibration) -> str:
    if of.low is None or of.high is None:
        return ""
    return f"{of.low:.2f} to {of.high:.2f}"


def amount(value: float) -> str:
    """Return a count or a sum as text, with a decimal if it is small and has one."""
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:,.1f}"


def duration(microseconds: int) -> str:
    """Return a time in its two largest units, such as ``1h 5m``.

    Examples
    --------
    >>> duration(3_900_000_000), duration(0), duration(59_900_000)
    ('1h 5m', '0s', '59s')
    """
    seconds = microseconds // SECOND
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    parts: list[tuple[int, str]] = []
    for unit, length in units:
        count, seconds = divmod(seconds, length)
        if count or parts:
            parts.append((count, unit))
    shown = [f"{count}{unit}" for count, unit in parts[:2] if count]
    return " ".join(shown) or "0s"


def shortened(text: str, longest: int = _LONGEST) -> str:
    r"""Return a text of a log as it is shown: in one line, not too long, nothing invisible.

    Examples
    --------
    >>> shortened("a\x1b[31m\u202eb")
    'a\\x1b[31m\\u202eb'
    """
    plain = printable(text)
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
