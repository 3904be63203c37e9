"""The algorithms that a configuration can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from headrace.learners.exact import ExactLearner, ExactTable, GrowingLearner
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
    growing
        Makes one whose coordinates an exact table gives out; None if it can have no such table.
    """

    parameters: type[Model]
    learner: Callable[[Any, int], Learner]
    growing: Callable[[Any, int], GrowingLearner] | None = None

    def make(self, parameters: Any, bits: int, table: ExactTable | None = None) -> Learner:
        """Make a learner that has not learned anything.

        Raises
        ------
        ValueError
            If it is to have an exact table, and cannot.
        """
        if table is None:
            return self.learner(parameters, bits)
        if self.growing is None:
            raise ValueError("this algorithm can have no exact table")
        return ExactLearner(self.growing, parameters, table)


Algorithms = Mapping[str, Algorithm]

ALGORITHMS: Algorithms = MappingProxyType(
    {
        "ffm": Algorithm(FfmParameters, FfmModel, FfmModel.growing),
        "ftrl": Algorithm(FtrlParameters, FtrlModel, FtrlModel),
        "probit": Algorithm(ProbitParameters, ProbitModel, ProbitModel),
        "sgd": Algorithm(SgdParameters, SgdModel, SgdModel),
    }
)


def parameter_models(algorithms: Algorithms = ALGORITHMS) -> dict[str, type[Model]]:
    """Return the model of the parameters of each algorithm, for reading a configuration."""
    return {name: algorithm.parameters for name, algorithm in algorithms.items()}
