"""The page of a run that goes on, as text."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from headrace.monitoring.figures import GuardScope
from headrace.monitoring.report.livepage import (
    content_policy,
    render_content,
    render_watch,
)
from tests.monitoring.watched import HOSTILE, decision, figures, sums

ALL = ("", "")


def drawn(of=None, state="running", rate=64.0, **more):
    return render_content(state, "2026-01-01T12:00:01+00:00", rate, of or figures(), **more)


def test_the_page_says_how_far_what_was_read_and_how_well_it_is_predicted():
    """Each in its section, also without a script."""
    page = render_watch("live", drawn(figures(
        {ALL: sums(1000, 100, 80), ("app", "a"): sums(500, 90, 40)},
        window={ALL: sums(10, 1, 2)}, decisions=(decision(),),
    )))  # fmt: skip
    assert re.findall(r'<section id="(\w+)">', page) == [
        "state", "learners", "guard", "sources", "outcomes",
    ]  # fmt: skip
    assert "The run goes on." in page
    assert "<b>64</b><span>events a second</span>" in page
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    for said in (
        "since the run began 1,000 100 80 1.250 1.02 to 1.52 0.2500",
        "window until 2026-01-01 12:00:00 10 1 2 0.500",
        "app = a 500 90 / 40 2.250 1.81 to 2.77",
        "click watching 30 / 31 0.97",
        "2026-01-01 12:00:00 disconnect click: 0 positives",
        "click 2026-01-01 11:59:00 1m 5 92 3 open",
        "click-0 click 2026-01-01 11:59:00 5 92 3",
        "stream settled late views 1,000 0 click 90 2",
    ):
        assert said in text


def test_what_is_furthest_behind_is_the_first_source():
    """Those that have ended hold nothing back."""
    of = figures()
    assert drawn(of).index("<bdi>click-0") < drawn(of).index("<bdi>views-0")
    of["sources"][1]["ended"] = True
    assert drawn(of).index("<bdi>views-0") < drawn(of).index("<bdi>click-0")


def test_a_guard_that_has_disconnected_is_said_first_with_its_reason():
    """And a warning with its last block."""
    guard = (
        GuardScope("click", "", "", "watching", 30, 31.0),
        GuardScope("click", "app", "a", "disconnected", 0, 12.0, "2026-01-01T11:00:00+00:00",
                   "click, app = a: 0 positives since noon"),
        GuardScope("click", "app", "b", "warned", 20, 10.0),
    )  # fmt: skip
    found = re.findall(r'<div class="(\w+)"><bdi>(.*?)</bdi>', drawn(figures(guard=guard)))
    assert found == [
        ("bad", "click, app = a: 0 positives since noon, disconnected since 2026-01-01 11:00."),
        ("finding", "click, app = b: warned; in its last block 20 / 10 positives."),
    ]


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [("stopped", "plain", "goes on if it is started again"), ("ended", "plain", "has ended"),
     ("failed", "bad", "has failed"), ("killed", "bad", "was killed"),
     ("running", "good", "goes on")],
)  # fmt: skip
def test_the_page_says_how_a_run_is(state, kind, said):
    """With its last figures."""
    content = drawn(state=state, rate=None)
    assert re.search(f'<div class="{kind}">[^<]*{said}', content)
    assert "1,000" in content


def test_a_run_that_starts_has_no_figures_yet():
    """The page has its sections all the same, to be filled."""
    content = render_content("starting", None, None, None)
    assert "There are no figures yet." in content
    assert content.count("<section id=") == 5
    assert "<table" not in content


def test_texts_of_a_log_are_escaped_wherever_they_are():
    """Values, names and reasons, so that nothing of them is run or hides what is beside it."""
    of = figures(
        {ALL: sums(100, 10, 10), ("app", HOSTILE): sums(100, 50, 25)},
        window={ALL: sums(10, 1, 2), (HOSTILE, HOSTILE): sums(10, 1, 2)},
        guard=(GuardScope(HOSTILE, "app", HOSTILE, "disconnected", 0, 9.0, None, HOSTILE),),
        decisions=(decision(reason=HOSTILE),),
        held={HOSTILE: 3}, outcomes={HOSTILE: {"settled": 1}},
    )  # fmt: skip
    of["sources"][0].update(name=HOSTILE, stream=HOSTILE)
    for predictions in of["predictions"]:
        predictions.update(learner=HOSTILE, label=HOSTILE)
    page = render_watch(HOSTILE, drawn(of))
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") > 10
    assert not {c for c in page if not c.isprintable() and c != "\n"}


def test_a_long_value_is_cut():
    """Else one of a megabyte would be the page."""
    content = drawn(figures({ALL: sums(9, 1, 1), ("app", "x" * 10**6): sums(9, 1, 1)}))
    assert len(content) < 20_000
    assert "x" * 79 + "…" in content


def test_the_policy_lets_a_browser_run_the_script_of_the_page_alone():
    """By its checksum, and so with the style; nothing is loaded from elsewhere."""
    page, policy = render_watch("live", drawn()), content_policy()
    for tag in ("style", "script"):
        (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        checksum = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{checksum}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|//|\sstyle=|\son\w+=|<form|\bsrc=", re.sub(
        r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL))  # fmt: skip
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page


def test_events_a_second_are_a_line_when_there_are_some():
    """Of at least three moments."""
    assert "<polyline" not in drawn(rates=[(0.0, 1.0), (1.0, 2.0)])
    content = drawn(rates=[(0.0, 0.0), (30.0, 2.0), (90.0, 1.0)])
    assert 'points="0.0,58.0 133.3,4.0 400.0,31.0"' in content
    assert "Events a second in the last 1m 30s; at most 2." in content
