"""The folders are the architecture: what each may import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OWN = {
    "schemas": set(),
    "joiner": {"schemas"},
    "learners": {"schemas"},
    "monitoring": {"schemas"},
    "pipelines": {"schemas", "joiner", "learners", "monitoring"},
}
THIRD_PARTY = {
    "schemas": {
        "numpy", "pyarrow", "numba", "llvmlite", "pydantic", "msgspec", "fastavro", "google",
    },
    "joiner": {"numpy", "pyarrow", "numba"},
    "learners": {
        "narwhals", "numpy", "pyarrow", "numba", "onnx", "pydantic", "river", "scipy",
        "sklearn",
    },
    "monitoring": {
        "numpy", "pyarrow", "numba", "river", "prometheus_client", "jinja2", "scipy", "vl_convert",
    },
}  # fmt: skip
FOLDERS = {
    "schemas": {"config": set(), "records": {"config"}, "messages": {"records"}},
    "joiner": {
        "plan": set(),
        "journal": {"plan"},
        "state": {"plan", "journal"},
        "samples": {"plan", "state"},
    },
    "learners": {"models": set()},
    "monitoring": {"grafana": set(), "prometheus": set(), "report": set()},
    "pipelines": {
        "run": set(),
        "sources": {"run"},
        "sinks": {"run", "sources"},
        "kafka": {"run", "sources", "sinks"},
        "training": set(),
        "beam": {"run", "sources", "sinks", "training"},
        "jobs": {"run", "sources", "sinks", "training", "beam"},
        "app": {"run", "sources", "sinks", "kafka", "jobs"},
    },
}
"""Which other folders a folder inside a package may import. Modules beside the folders may
import all of them; of these modules the folders may import those in `BELOW`."""
BELOW = {
    "schemas": {"errors", "types"},
    "joiner": set(),
    "learners": {"features", "learner", "discount", "prefetch"},
    "monitoring": {
        "delays",
        "detectors",
        "labels",
        "diagnosis",
        "ending",
        "figures",
        "headline",
        "leadguard",
        "pairwise",
        "ratios",
        "standing",
        "statistics",
    },
    "pipelines": set(),
}
CLOCKS = {"time", "random", "socket", "secrets", "uuid"}


def modules_named(path: Path) -> set[str]:
    """Return the dotted names of everything that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def own(path: Path) -> set[tuple[str, str]]:
    """Return (package, folder or module in it) of everything a module imports from Headrace."""
    parts = [name.split(".") for name in modules_named(path)]
    return {(name[1], name[2] if len(name) > 2 else "") for name in parts if name[0] == "headrace"}


def foreign(path: Path) -> set[str]:
    return {name.split(".")[0] for name in modules_named(path)} - {"headrace"}


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"package {package} has no modules"
    return found


@pytest.mark.parametrize("package", OWN)
def test_a_package_imports_only_packages_below_it(package):
    """Dependencies point one way."""
    for path in modules(package):
        assert {name for name, _ in own(path)} <= OWN[package] | {package}, path


@pytest.mark.parametrize(
    ("package", "folder"), [(package, name) for package in FOLDERS for name in FOLDERS[package]]
)
def test_a_folder_imports_only_the_folders_allowed_to_it(package, folder):
    """Inside a package dependencies point one way too."""
    allowed = FOLDERS[package][folder] | {folder} | BELOW[package]
    for path in modules(f"{package}/{folder}"):
        assert {name for of, name in own(path) if of == package} <= allowed, path


@pytest.mark.parametrize("package", OWN)
def test_every_folder_of_a_package_has_a_rule(package):
    """A new folder does not escape these rules."""
    found = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert found == FOLDERS[package].keys()


@pytest.mark.parametrize("package", THIRD_PARTY)
def test_a_core_imports_no_beam_clock_socket_or_randomness(package):
    """Only the listed third-party packages, and no module in `CLOCKS`."""
    for path in modules(package):
        assert foreign(path) - sys.stdlib_module_names <= THIRD_PARTY[package], path
        assert not foreign(path) & CLOCKS, path


@pytest.mark.parametrize("package", ["joiner", "learners", "monitoring"])
def test_a_core_takes_plans_not_configuration(package):
    """It imports no model of the configuration, except the base of learners' parameters."""
    models = "headrace.schemas.config.models."
    for path in modules(package):
        used = {name for name in modules_named(path) if name.startswith(models)}
        assert used <= {f"{models}Model"}, path


def test_only_the_folder_beam_imports_beam():
    """The rest of the pipelines does not depend on it directly."""
    using = {path for path in modules("pipelines") if "apache_beam" in foreign(path)}
    assert {path.parent.name for path in using} == {"beam"}


def test_only_the_folder_kafka_imports_clients_of_kafka():
    """The rest of the pipelines reads topics through its port."""
    clients = {"confluent_kafka", "kafka", "crc32c"}
    using = {path for path in modules("pipelines") if clients & foreign(path)}
    assert {path.parent.name for path in using} == {"kafka"}


def run_script(script: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def test_validate_and_generate_start_without_beam():
    """Only a replay loads it, and a trial of one."""
    script = (
        "import sys; from headrace.pipelines.app import commands, display\n"
        "from headrace.pipelines.jobs import generate\n"
        "sys.exit('apache_beam' in sys.modules)"
    )
    assert run_script(script)[0] == 0


def test_help_loads_no_large_package():
    """``headrace --help`` needs no Beam, numba, Arrow or pydantic."""
    script = (
        "import sys; from headrace.pipelines.app.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'apache_beam', 'numba', 'pyarrow', 'pydantic', 'numpy', 'rich', 'river'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or None)"
    )
    code, said = run_script(script)
    assert code == 0, said
    assert "replay" in said


def test_every_module_is_loaded_under_headrace_alone():
    """No package is importable under its bare name by accident."""
    script = (
        "import pkgutil, sys, headrace\n"
        "names = [m.name for m in pkgutil.walk_packages(headrace.__path__, 'headrace.')]\n"
        "assert len(names) > 80, names\n"
        "for name in names:\n"
        "    if name != 'headrace.__main__': __import__(name)\n"
        f"bare = {set(OWN)!r} & {{name.split('.')[0] for name in sys.modules}}\n"
        "sys.exit(', '.join(bare) or None)"
    )
    code, said = run_script(script)
    assert code == 0, said
