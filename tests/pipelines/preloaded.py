"""What processes of `tests.pipelines.forked` have imported when they begin."""

from __future__ import annotations

from headrace.pipelines.app.commands import quiet_beam

quiet_beam()  # before Beam is imported, as the command line does

from headrace.pipelines.app import cli  # noqa: E402, F401
from headrace.pipelines.jobs import replay, stream  # noqa: E402, F401
