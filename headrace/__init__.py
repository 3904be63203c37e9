"""Streaming sample joining and online learning with exact, replayable results.

The names in ``__all__`` are the public interface; docs/api.md shows it at work. Each is
loaded on first use, so that the command line starts without delay.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace.kernels import keep_safe as _keep_safe

if TYPE_CHECKING:
    from headrace.learners.registry import ALGORITHMS as ALGORITHMS
    from headrace.learners.registry import Algorithm as Algorithm
    from headrace.learners.river import FTRLProximalClassifier as FTRLProximalClassifier
    from headrace.learners.sklearn import FTRLClassifier as FTRLClassifier
    from headrace.pipelines.app.api import ReplayResult as ReplayResult
    from headrace.pipelines.app.api import generate as generate
    from headrace.pipelines.app.api import load_config as load_config
    from headrace.pipelines.app.api import load_result as load_result
    from headrace.pipelines.app.api import replay as replay
    from headrace.pipelines.app.api import study_windows as study_windows
    from headrace.pipelines.app.api import validate as validate
    from headrace.pipelines.app.api import verify as verify
    from headrace.pipelines.app.live import LiveResult as LiveResult
    from headrace.pipelines.app.live import load_live as load_live
    from headrace.pipelines.app.live import stream as stream
    from headrace.pipelines.app.producing import Produced as Produced
    from headrace.pipelines.app.producing import generate_to_kafka as generate_to_kafka
    from headrace.pipelines.app.scoring import Scored as Scored
    from headrace.pipelines.app.scoring import score as score
    from headrace.pipelines.jobs.prediction import Model as Model
    from headrace.pipelines.jobs.prediction import load_model as load_model
    from headrace.pipelines.jobs.quarantine import Quarantine as Quarantine
    from headrace.pipelines.jobs.quarantine import discard_quarantine as discard_quarantine
    from headrace.pipelines.jobs.quarantine import load_quarantine as load_quarantine
    from headrace.pipelines.jobs.releasing import Released as Released
    from headrace.pipelines.jobs.releasing import release_quarantine as release_quarantine
    from headrace.pipelines.jobs.serving import Scorer as Scorer
    from headrace.pipelines.jobs.serving import Serving as Serving
    from headrace.pipelines.jobs.validation import Validation as Validation
    from headrace.pipelines.jobs.windows import Measured as Measured
    from headrace.schemas.config.models import Config as Config
    from headrace.schemas.errors import ArgumentError as ArgumentError
    from headrace.schemas.errors import ConfigError as ConfigError
    from headrace.schemas.errors import FolderError as FolderError
    from headrace.schemas.errors import HeadraceError as HeadraceError
    from headrace.schemas.summary import Summary as Summary

_WHERE = {
    "ALGORITHMS": "learners.registry",
    "Algorithm": "learners.registry",
    "ArgumentError": "schemas.errors",
    "Config": "schemas.config.models",
    "ConfigError": "schemas.errors",
    "FTRLClassifier": "learners.sklearn",
    "FTRLProximalClassifier": "learners.river",
    "FolderError": "schemas.errors",
    "HeadraceError": "schemas.errors",
    "LiveResult": "pipelines.app.live",
    "Measured": "pipelines.jobs.windows",
    "Model": "pipelines.jobs.prediction",
    "Produced": "pipelines.app.producing",
    "Quarantine": "pipelines.jobs.quarantine",
    "Released": "pipelines.jobs.releasing",
    "ReplayResult": "pipelines.app.api",
    "Scored": "pipelines.app.scoring",
    "Scorer": "pipelines.jobs.serving",
    "Serving": "pipelines.jobs.serving",
    "Summary": "schemas.summary",
    "discard_quarantine": "pipelines.jobs.quarantine",
    "Validation": "pipelines.jobs.validation",
    "generate": "pipelines.app.api",
    "generate_to_kafka": "pipelines.app.producing",
    "load_config": "pipelines.app.api",
    "load_live": "pipelines.app.live",
    "load_model": "pipelines.jobs.prediction",
    "load_quarantine": "pipelines.jobs.quarantine",
    "load_result": "pipelines.app.api",
    "release_quarantine": "pipelines.jobs.releasing",
    "replay": "pipelines.app.api",
    "score": "pipelines.app.scoring",
    "stream": "pipelines.app.live",
    "study_windows": "pipelines.app.api",
    "validate": "pipelines.app.api",
    "verify": "pipelines.app.api",
}

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "ArgumentError",
    "Config",
    "ConfigError",
    "FTRLClassifier",
    "FTRLProximalClassifier",
    "FolderError",
    "HeadraceError",
    "LiveResult",
    "Measured",
    "Model",
    "Produced",
    "Quarantine",
    "Released",
    "ReplayResult",
    "Scored",
    "Scorer",
    "Serving",
    "Summary",
    "Validation",
    "discard_quarantine",
    "generate",
    "generate_to_kafka",
    "load_config",
    "load_live",
    "load_model",
    "load_quarantine",
    "load_result",
    "release_quarantine",
    "replay",
    "score",
    "stream",
    "study_windows",
    "validate",
    "verify",
]


_keep_safe()


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    try:
        return getattr(import_module(f"headrace.{_WHERE[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sklearn":
            raise
        raise ImportError(
            f"headrace.{name} needs scikit-learn: pip install 'headrace[sklearn]'"
        ) from error


def __dir__() -> list[str]:
    return __all__
