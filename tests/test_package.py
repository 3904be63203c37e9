"""What ``pip install`` installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILT_FROM = ("setup.py", "pyproject.toml", "README.md", "headrace", "schemas", "joiner",
              "learners", "monitoring", "pipelines")  # fmt: skip


def test_installing_adds_one_name_to_site_packages(tmp_path):
    """Only ``headrace``, with all its files, and it runs from there."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            leave = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=leave)
        else:
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(source)], check=True)
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"headrace", "bin"}
    written = {
        path.relative_to(ROOT) for name in BUILT_FROM[4:] for path in (ROOT / name).rglob("*")
    }
    shipped = {path for path in written if path.suffix in (".py", ".html")}
    assert {path for path in shipped if not (site / "headrace" / path).is_file()} == set()
    assert (site / "headrace" / "py.typed").is_file()
    where = "import headrace.pipelines.app.cli as cli; print(cli.__file__); cli.main(['--help'])"
    done = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.stdout.startswith(str(site))
    assert "usage: headrace" in done.stdout
