"""Compiled kernels are pickles: they are loaded from where nobody else can write."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.kernels import VARIABLE, cache_folder

ROOT = Path(__file__).parent.parent


@pytest.fixture
def source(tmp_path):
    """Return a package whose kernels were compiled."""
    package = tmp_path / "source" / "joiner"
    (package / "state" / "__pycache__").mkdir(parents=True)
    (package / "state" / "keys.py").write_text("")
    (package / "state" / "__pycache__" / "keys.nbi").write_text("")
    for folder in (package, package / "state", package / "state" / "__pycache__"):
        folder.chmod(0o755)
    return package


def environment(tmp_path, **more):
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), **more}


def test_kernels_are_beside_the_source_if_that_is_the_users_own(source, tmp_path):
    """As in a checkout, or an environment that the user has made."""
    assert cache_folder([source], environment(tmp_path)) is None


@pytest.mark.parametrize("where", [".", "state", "state/__pycache__"])
def test_kernels_are_in_the_users_cache_if_others_can_write_beside_the_source(
    source, tmp_path, where
):
    """Into any of its folders; the cache is for the user alone."""
    (source / where).chmod(0o777)
    found = cache_folder([source], environment(tmp_path))
    assert found == tmp_path / "cache" / "headrace" / "kernels"
    assert found.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_the_environment_names_is_used_if_it_is_safe(source, tmp_path):
    """One that others can write to, or a link, is not."""
    safe, open_ = tmp_path / "safe", tmp_path / "open"
    open_.mkdir()
    open_.chmod(0o777)
    (tmp_path / "link").symlink_to(open_)
    own = tmp_path / "cache" / "headrace" / "kernels"
    for named, found in ((safe, None), (open_, own), (tmp_path / "link", own)):
        named_so = environment(tmp_path, **{VARIABLE: str(named)})
        assert cache_folder([source], named_so) == found


def test_without_a_home_kernels_are_in_a_folder_for_temporary_files(source, tmp_path, monkeypatch):
    """It is the user's alone; one that was planted there is not taken."""
    (source / "state").chmod(0o777)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "file").write_text("")
    nowhere = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    planted = tmp_path / f"headrace-kernels-{os.getuid()}"
    assert cache_folder([source], nowhere) == planted
    planted.chmod(0o777)
    found = cache_folder([source], nowhere)
    assert found != planted
    assert found.stat().st_mode & 0o777 == 0o700


def test_numba_caches_where_it_is_told_without_a_variable(tmp_path):
    """Also if numba was loaded before Headrace."""
    script = (
        "import numba, os, headrace.kernels as kernels\n"
        "kernels.cache_folder = lambda *of: os.environ['HERE']\n"
        "kernels.keep_safe()\n"
        "from headrace.schemas.records import hashing\n"
        "print(numba.config.CACHE_DIR)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "HERE": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.strip() == str(tmp_path)
    assert list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_replay_compiles_nothing_after_setup(tmp_path):
    """Of a log as ``make demo`` has it; numba says what it keeps, and what it takes."""
    variables = {**os.environ, VARIABLE: str(tmp_path / "cache")}
    headrace = [sys.executable, "-m", "headrace"]
    log, out = tmp_path / "log", tmp_path / "out"

    def run(*command: str | Path, **more: str) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env={**variables, **more}, capture_output=True, text=True, check=True
        )
        return done.stdout

    run(sys.executable, "-m", "headrace.pipelines.app.kernels")
    run(*headrace, "generate", "--out", log, "--impressions", "200000", "--format", "text")
    replay = [*headrace, "replay", log / "headrace.toml", "--out", out, "--quiet"]
    said = run(*replay, NUMBA_DEBUG_CACHE="1")
    assert len(re.findall(r"\[cache\] data loaded", said)) > 30
    assert "[cache] data saved" not in said


def frozen(path):
    """Return the constants of a module, or imported by it, that are compiled into its kernels."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kernels = [of for of in ast.walk(tree)
               if isinstance(of, ast.FunctionDef)
               and any("njit" in ast.unparse(by) for by in of.decorator_list)]  # fmt: skip
    return {of.id for kernel in kernels for of in ast.walk(kernel)
            if isinstance(of, ast.Name) and of.id.isupper()}  # fmt: skip


def test_no_test_changes_a_constant_that_is_compiled_into_kernels():
    """Whoever compiles first would keep the changed kernel for all."""
    packages = ("schemas", "joiner", "learners", "monitoring", "pipelines")
    found = {
        path.stem: frozen(path) for name in packages for path in Path(ROOT, name).rglob("*.py")
    }
    assert "_PRIOR" in found["lead"]
    for path in Path(ROOT, "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for module, name in re.findall(r'setattr\(\s*(\w+), "([A-Z_]+)"', text):
            assert name not in found.get(module, ()), (path, module, name)
        several = r"for name, value in \((.*?)\n    \):.*?setattr\((\w+), name"
        for values, module in re.findall(several, text, re.DOTALL):
            changed = set(re.findall(r'"([A-Z_]+)"', values))
            assert not changed & found.get(module, set()), (path, module)
