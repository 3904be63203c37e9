"""The folders are the architecture: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
THIRD_PARTY = {
    "schemas": {"numpy", "pyarrow", "numba", "pydantic", "msgspec"},
    "joiner": {"numpy", "pyarrow", "numba"},
    "learners": {"numpy", "pyarrow", "numba", "river"},
    "monitoring": {
        "numpy", "pyarrow", "numba", "river", "prometheus_client", "jinja2", "vl_convert",
    },
}  # fmt: skip
OWN = {
    "schemas": set(),
    "joiner": {"schemas"},
    "learners": {"schemas"},
    "monitoring": {"schemas"},
    "pipelines": {"schemas", "joiner", "learners", "monitoring"},
}
CLOCKS = {"time", "random", "socket", "secrets", "uuid"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"package {package} has no modules"
    return found


@pytest.mark.parametrize("package", OWN)
def test_dependencies_point_one_way(package):
    """A package imports only those below it."""
    for path in modules(package):
        own = imported(path) & OWN.keys()
        assert own <= OWN[package] | {package}, path


@pytest.mark.parametrize("package", THIRD_PARTY)
def test_cores_are_pure(package):
    """Below pipelines there is no Beam, no Kafka, no clock, no socket, no chance."""
    for path in modules(package):
        foreign = imported(path) - OWN.keys() - sys.stdlib_module_names
        assert foreign <= THIRD_PARTY[package], path
        assert not imported(path) & CLOCKS, path


def test_setup_ships_the_five_packages():
    """What is shipped to workers is what the architecture names."""
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    listed = next(
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.keyword) and node.arg == "packages"
    )
    assert set(listed) == OWN.keys()


def test_only_replay_imports_beam():
    """``validate`` and ``generate`` start without Beam."""
    script = (
        "import sys; import pipelines.commands, pipelines.display, pipelines.generate\n"
        "sys.exit('apache_beam' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_help_imports_nothing_heavy():
    """``headrace --help`` needs no Beam, numba, Arrow or pydantic."""
    script = (
        "import sys; from pipelines.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'apache_beam', 'numba', 'pyarrow', 'pydantic', 'numpy', 'rich', 'river'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "replay" in done.stdout
