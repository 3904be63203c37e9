"""Charts are drawn by a process beside the run, and without it if need be."""

from __future__ import annotations

import contextlib
import signal
import subprocess

import pytest
import vl_convert

from headrace.monitoring.report import svg
from headrace.pipelines.app.drawing import DrawingProcess

SPEC = {
    "data": {"values": [{"a": 1, "b": "<ü\n"}]},
    "mark": "point",
    "encoding": {"x": {"field": "a"}, "y": {"field": "b"}},
}


@pytest.fixture(scope="module")
def expected():
    return vl_convert.vegalite_to_svg(SPEC)


@pytest.fixture
def process():
    drawing = DrawingProcess()
    child = drawing._process
    yield drawing
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    assert child.wait(20) in (0, 1, -signal.SIGKILL)
    child.stdout.close()


def test_another_process_draws_what_this_one_would(process, expected, monkeypatch):
    """Also the second chart; the report draws with it once it is told to."""
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", None)
    assert [process.draw(SPEC), process.draw(SPEC)] == [expected, expected]
    monkeypatch.setattr(svg, "_draw", None)
    svg.draw_with(process.draw)
    assert svg.svg(SPEC).startswith("<svg")


def test_charts_are_drawn_here_if_the_process_has_died(process, expected):
    process._process.kill()
    assert [process.draw(SPEC), process.draw(SPEC)] == [expected, expected]


def test_charts_are_drawn_here_if_the_process_cannot_be_started(expected, monkeypatch):
    def refuse(*arguments, **options):
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert DrawingProcess().draw(SPEC) == expected


def test_a_specification_that_is_refused_raises_here(process):
    """With the error of the library, as without the process."""
    with pytest.raises(ValueError, match="Vega-Lite"):
        process.draw({"mark": "nothing"})


def test_the_process_ends_with_the_one_that_it_draws_for(process):
    """When that is killed, nobody writes to its input any more."""
    child = process._process
    child.stdin.close()
    assert child.wait(20) == 0
