"""Every registered learner through the checks of `tests.learners.conformance`."""

from __future__ import annotations

import pytest

from headrace.learners.registry import ALGORITHMS
from tests.learners.conformance import CHECKS, Subject

FURTHER = {"ftrl": [{"alpha": 0.5, "beta": 0.1, "l1": 0.0, "l2": 0.0}]}
"""Parameters, besides the defaults, under which a learner is checked."""

CASES = [
    pytest.param(name, given, id=f"{name}{number or ''}")
    for name in ALGORITHMS
    for number, given in enumerate([{}, *FURTHER.get(name, [])])
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "given"), CASES)
def test_a_learner_holds_to_what_all_do(name, given, check, tmp_path):
    """Each check for each learner, with its defaults and with further parameters."""
    algorithm = ALGORITHMS[name]
    check(Subject(name, algorithm, algorithm.parameters(**given), tmp_path))
