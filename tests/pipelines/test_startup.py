"""What the command line sets in its process before it imports large packages."""

from __future__ import annotations

import contextlib
import importlib
import io
import subprocess
import sys
import tempfile

import pytest

from headrace.pipelines.app.startup import Deferred, Hidden
from headrace.pipelines.beam import graph
from headrace.pipelines.beam.graph import build_graph
from tests.pipelines.rows import START, every


@pytest.fixture
def hidden(monkeypatch):
    """Hide a module of the standard library that nothing has imported."""
    monkeypatch.setattr(sys, "meta_path", [Hidden(frozenset({"this"})), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "this", raising=False)


@pytest.mark.usefixtures("hidden")
def test_a_hidden_module_is_found_and_cannot_be_imported():
    """Libraries ask either way whether another is there, and go on without it."""
    assert importlib.util.find_spec("this") is not None
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'this'$") as raised:
        importlib.import_module("this")
    assert raised.value.name == "this"
    assert "this" not in sys.modules


@pytest.mark.usefixtures("hidden")
def test_other_modules_are_imported_as_ever():
    assert importlib.import_module("quopri").encode


def test_a_deferred_module_is_imported_when_something_of_it_is_asked_for(monkeypatch):
    """What imports it needs not know."""
    monkeypatch.setattr(sys, "meta_path", [Deferred(frozenset({"this"})), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "this", raising=False)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        this = importlib.import_module("this")
        assert said.getvalue() == ""
        assert this.s
    assert "Zen" in said.getvalue()


def test_a_run_has_no_temporary_folder_that_a_kill_would_leave_behind(
    replay, monkeypatch, tmp_path
):
    """Beam makes one for each pipeline, and removes it when the pipeline has ended."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = []

    def build(*arguments):
        found.append(list(tmp_path.glob("beam-*")))
        return build_graph(*arguments)

    monkeypatch.setattr(graph, "build_graph", build)
    assert len(replay(every(1, 2), [(START + 2, "i0")]).samples) == 2
    assert found == [[]]


def run_script(script: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_replay_does_without_what_is_hidden():
    """Beam, pyarrow, numba and river load without it, and nothing of it is loaded."""
    script = (
        "import sys; from headrace.pipelines.app.startup import UNUSED, set_up\n"
        "set_up('validate', None)\n"
        "from headrace.pipelines.app import closing, commands, display\n"
        "from headrace.pipelines.jobs import replay\n"
        "import river.drift, scipy.special\n"
        "sys.exit(', '.join(UNUSED & sys.modules.keys()) or None)"
    )
    code, said = run_script(script)
    assert code == 0, said


def test_with_a_distributed_runner_nothing_is_hidden():
    """Which may keep files in any cloud."""
    script = (
        "import sys; from headrace.pipelines.app.startup import Hidden, set_up\n"
        "set_up('stream', 'flink')\n"
        "sys.exit(any(isinstance(of, Hidden) for of in sys.meta_path))"
    )
    code, said = run_script(script)
    assert code == 0, said
