"""The algorithms that a configuration can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from headrace.learners.learner import Learner
from headrace.learners.models.ffm import FfmModel, FfmParameters
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.learners.models.probit import ProbitModel, ProbitParameters
from headrace.learners.models.sgd import SgdModel, SgdParameters
from headrace.schemas.config.models import Model


@dataclass(frozen=True)
class Algorithm:
    """A kind of learner, as a registry holds it.

    Parameters
    ----------
    parameters
        Model of its parameters, whose fields are keys of a learner's table.
    learner
        Makes a learner from parameters and bits.
    """

    parameters: type[Model]
    learner: Callable[[Any, int], Learner]


Algorithms = Mapping[str, Algorithm]

ALGORITHMS: Algorithms = MappingProxyType(
    {
        "ffm": Algorithm(FfmParameters, FfmModel),
        "ftrl": Algorithm(FtrlParameters, FtrlModel),
        "probit": Algorithm(ProbitParameters, ProbitModel),
        "sgd": Algorithm(SgdParameters, SgdModel),
    }
)


def parameter_models(algorithms: Algorithms = ALGORITHMS) -> dict[str, type[Model]]:
    """Return the model of the parameters of each algorithm, for reading a configuration."""
    return {name: algorithm.parameters for name, algorithm in algorithms.items()}
