"""Draws charts in a process of its own, which gets ready while a run goes on.

V8 takes a third of a second before it draws the first chart, and holds Python's lock meanwhile: a
thread would not do. This file is also the program of that process, so it imports nothing of
Headrace.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import vl_convert

_FIRST = {
    "data": {"values": [{"time": 0, "rate": 0.5}, {"time": 3_600_000, "rate": 0.25}]},
    "mark": "line",
    "encoding": {
        "x": {"field": "time", "type": "temporal"},
        "y": {"field": "rate", "type": "quantitative"},
    },
}


class DrawingProcess:
    """A process that draws charts, one after the other; it ends with this one.

    If it cannot be started, or ends early, charts are drawn in this process.
    """

    def __init__(self) -> None:
        try:
            # Of a session of its own: Ctrl-C is for this process alone.
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError:
            self._process = None

    def draw(self, spec: dict[str, Any]) -> str:
        """Return the SVG of a specification of Vega-Lite."""
        return self._drawn(spec) or str(vl_convert.vegalite_to_svg(spec))

    def _drawn(self, spec: dict[str, Any]) -> str | None:
        if self._process is None or not self._process.stdin or not self._process.stdout:
            return None
        try:
            self._process.stdin.write(json.dumps(spec).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = b""
        if line:
            return str(json.loads(line))
        self._process = None
        return None


def serve() -> None:
    """Draw a chart to be ready, and then one for each line of standard input, until it ends."""
    vl_convert.vegalite_to_svg(_FIRST)
    for line in sys.stdin.buffer:
        drawn = vl_convert.vegalite_to_svg(json.loads(line))
        sys.stdout.buffer.write(json.dumps(drawn).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
