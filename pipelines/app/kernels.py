"""Compiles the kernels of an ordinary replay: ``python -m headrace.pipelines.app.kernels``.

`make setup` does so once. Without it the first replay of a user compiles, which takes half a
minute. Kernels are kept for this version and this kind of processor, see `headrace.kernels`; those
of rarer settings are compiled, and kept, when a run first needs them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from headrace.pipelines.app import api
from headrace.pipelines.app.startup import set_up

_FORMS: tuple[Literal["parquet", "text"], ...] = ("parquet", "text")
_IMPRESSIONS, _RATE = 100_000, 50
"""Over half an hour: enough for all kinds of blocks, and little beside compiling."""


def compile_kernels() -> None:
    """Replay small logs, of all forms, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        for form in _FORMS:
            log = Path(folder, form)
            api.generate(log, impressions=_IMPRESSIONS, rate=_RATE, form=form)
            api.replay(log / "headrace.toml", log / "result")


if __name__ == "__main__":
    set_up("kernels", None)
    compile_kernels()
