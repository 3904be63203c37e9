"""The newcomer's walk: what the page says is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/quickstart.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
_MEASURED = re.compile(r"^(run|state) .*$", re.M)
_DIGITS = re.compile(r"[0-9a-f]{12}$|(?<=\.\d{3})\d+", re.M)


def steady(text):
    """Return a text without what differs from machine to machine."""
    lines = [line.rstrip() for line in _MEASURED.sub("", text).splitlines()]
    return _DIGITS.sub("", "\n".join(lines)).rstrip()


def test_three_exports_become_a_scored_file(tmp_path):
    """Every block of the page in its order; commands print what it shows."""
    kinds = [kind for kind, _ in BLOCKS]
    texts = [block for kind, block in BLOCKS if kind == "text"]
    assert (kinds.count("toml"), kinds.count("sh"), len(texts)) == (1, 6, 5)
    headrace = (
        f'headrace() {{ PYTHONPATH="{ROOT}" COLUMNS=80 "{sys.executable}" -m headrace "$@"; }}\n'
    )
    python = f'python() {{ PYTHONPATH="{ROOT}" "{sys.executable}" "$@"; }}\n'
    shown = ""
    for kind, block in BLOCKS:
        if kind == "text":
            assert steady(shown) == steady(block)
        elif kind == "toml":
            (tmp_path / "headrace.toml").write_text(block)
        else:
            if kind == "python":
                name = "make_exports.py" if "make_exports" in block else "look.py"
                (tmp_path / name).write_text(block)
                if name == "make_exports.py":
                    continue
                block = f"python {name}"
            done = subprocess.run(
                ["sh", "-ec", headrace + python + block],
                cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            shown = done.stdout
