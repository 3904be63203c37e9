"""What the command line sets before it imports large packages, and prepares beside a run.

A start is mostly imports: of 3,000 modules, of which libraries import many in case that somebody
uses them with pandas, MongoDB or a cloud. The Python API does none of this, as its process is not
its own.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from abc import abstractmethod
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

UNUSED = frozenset(
    {
        "IPython", "apache_beam.io.gcp.bigquery", "apitools", "boto3", "bson", "cffi",
        "google.cloud", "pandas", "pymongo", "sklearn",
    }
)  # fmt: skip
"""What no command uses, and what Beam, pyarrow, numba and river do without if it is missing."""

DEFERRED = frozenset({"scipy.stats"})
"""What river imports for detectors that nobody uses here; it takes longer than all of river."""

_ALLOCATED = 100_000
"""So many objects are made before the collector looks at them: 700, Python's choice, makes it look
a thousand times during the imports alone, after which all are still in use."""


class _Finder(MetaPathFinder):
    """Finds some modules before others do.

    Parameters
    ----------
    names
        Their names, with those of the packages that they are in.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a specification of one of the modules, None of others."""
        return self._spec(fullname, path) if fullname in self._names else None

    @abstractmethod
    def _spec(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None: ...


class Hidden(_Finder, Loader):
    """Lets modules seem to be missing: they are found, and cannot be imported."""

    def _spec(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec:
        return ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        """Refuse to import.

        Raises
        ------
        ModuleNotFoundError
            Always.
        """
        name = module.__name__
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class Deferred(_Finder):
    """Lets modules be imported when the first of their attributes is asked for."""

    def _spec(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def set_up(command: str, runner: str | None) -> None:
    """Set up the process of a command.

    Parameters
    ----------
    command
        Its name.
    runner
        The distributed runner, if there is one: it may need any cloud's packages.
    """
    gc.set_threshold(_ALLOCATED, 10, 10)
    # Nothing here multiplies large matrices: threads for it would be started for nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if runner is None:
        sys.meta_path[:0] = [Hidden(UNUSED), Deferred(DEFERRED)]
    from headrace.pipelines.run.memory import choose_pool

    choose_pool()
    if command == "replay":
        from headrace.monitoring.report.svg import draw_with
        from headrace.pipelines.app.drawing import DrawingProcess

        draw_with(DrawingProcess().draw)


def prepare_report() -> None:
    """Import what the end of a replay needs, beside reading: much of that is not done in Python."""
    # Nobody waits for it: what fails here fails again where it is needed.
    threading.Thread(target=_import_for_report, name="prepare-report", daemon=True).start()


def _import_for_report() -> None:
    from headrace.monitoring.quantiles import normal_quantile
    from headrace.monitoring.report.page import report_template

    report_template()
    normal_quantile(0.5)
