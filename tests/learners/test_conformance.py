"""The checks of `tests.learners.conformance`, for every registered learner."""

from __future__ import annotations

import pytest

from headrace.learners.exact import ExactTable
from headrace.learners.registry import ALGORITHMS
from tests.learners.conformance import CHECKS, Subject

FURTHER = {
    "ffm": [{"alpha": 0.3, "l2": 0.01, "factors": 3}],
    "ftrl": [{"alpha": 0.5, "beta": 0.1, "l1": 0.0, "l2": 0.0}],
    "probit": [{"prior_variance": 10.0, "beta": 0.1}, {"prior_variance": 0.01}],
    "sgd": [
        {"rate": "per-coordinate", "alpha": 0.5, "beta": 0.0},
        {"rate": "per-weight-sqrt", "alpha": 0.5},
        {"rate": "per-weight", "alpha": 0.5},
        {"rate": "global", "alpha": 0.5},
        {"rate": "constant", "alpha": 0.05},
    ],
}
"""Sets of parameters, besides the defaults, with which a learner is checked."""


def _said(parameters):
    return ", ".join(f"{key}={value}" for key, value in parameters.items()) or "defaults"


CASES = [
    pytest.param(name, given, id=f"{name} with {_said(given)}")
    for name in ALGORITHMS
    for given in [{}, *FURTHER.get(name, [])]
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "given"), CASES)
def test_every_registered_learner_passes(name, given, check, tmp_path):
    """Each check for each learner, with its defaults and with other parameters."""
    algorithm = ALGORITHMS[name]
    check(Subject(name, algorithm, algorithm.parameters(**given), tmp_path))


TABLES = {
    "exact": ExactTable(),
    "exact, admitted at the second occurrence": ExactTable(admit=2),
    "exact, that expires": ExactTable(expire=60),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_registered_learner_passes_with_an_exact_table(name, table, check, tmp_path):
    """Each check for each learner: growing, admitting and forgetting show in no bit."""
    algorithm = ALGORITHMS[name]
    check(Subject(name, algorithm, algorithm.parameters(), tmp_path, TABLES[table]))
