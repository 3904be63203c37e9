"""The kernels as they are compared with their plain form, bit for bit."""

import numpy as np
import pytest

from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.learners.models.probit import ProbitModel, ProbitParameters
from headrace.learners.models.sgd import SgdModel, SgdParameters
from tests.learners import plain
from tests.learners.conformance import bits_of, lesson

BITS = 6
CASES = {
    "ftrl": (FtrlModel, FtrlParameters(l1=0.1)),
    "ftrl without beta and l2": (FtrlModel, FtrlParameters(alpha=0.5, beta=0.0, l2=0.0)),
    "sgd": (SgdModel, SgdParameters()),
    "probit": (ProbitModel, ProbitParameters()),
}


def plainly(learner, parameters, given, table):
    arguments = (table, given.rows.starts, given.rows.indices, given.rows.values, given.order,
                 given.label, given.importance, given.offset)  # fmt: skip
    if learner is FtrlModel:
        return plain.ftrl(*arguments, parameters.as_array())
    if learner is SgdModel:
        return plain.sgd(*arguments, parameters.alpha, parameters.beta)
    return plain.probit(*arguments, parameters.beta)


def table_of(model):
    (table,) = (a for a in vars(model).values() if isinstance(a, np.ndarray) and a.ndim == 2)
    return table


def assert_same(learner, parameters, given):
    """Compare margins, table and predictions; return the margins."""
    model, table = learner(parameters, BITS), table_of(learner(parameters, BITS)).copy()
    margins = given.taught(model)
    assert bits_of(margins) == bits_of(plainly(learner, parameters, given, table))
    assert table_of(model).tobytes() == table.tobytes()
    again = learner(parameters, BITS)
    again.restore(model.export())
    nothing = given.weighing(0.0)
    assert bits_of(model.predict(given.rows)[given.order]) == bits_of(nothing.taught(again))
    return margins


@pytest.mark.parametrize("valued", [True, False], ids=["values", "no values"])
@pytest.mark.parametrize("case", CASES)
def test_every_bit_is_that_of_the_plain_form(case, valued):
    """In 64 coordinates many features of a row share one; a tenth of the rows weigh nothing."""
    given = lesson(1, rows=3_000, bits=BITS, valued=valued)
    given.importance[::10] = 0.0
    margins = assert_same(*CASES[case], given)
    assert np.isfinite(margins).all()
    assert np.abs(margins).max() > 0.5


@pytest.mark.parametrize("case", CASES)
def test_a_row_without_any_number_ends_learning_alike(case):
    """The last rows ask for no coordinate of a row behind them."""
    given = lesson(2, rows=100, bits=BITS)
    given.rows.values[given.rows.starts[given.order[90]]] = np.nan
    learner, parameters = CASES[case]
    model, table = learner(parameters, BITS), table_of(learner(parameters, BITS)).copy()
    margins = given.taught(model)
    assert np.isfinite(margins).tolist() == [True] * 90 + [False] * 10
    assert bits_of(margins) == bits_of(plainly(learner, parameters, given, table))
    assert table_of(model).tobytes() == table.tobytes()


@pytest.mark.parametrize("rows", range(7))
@pytest.mark.parametrize("case", CASES)
def test_fewer_rows_than_are_asked_for_ahead(case, rows):
    """Also none at all."""
    assert_same(*CASES[case], lesson(3, rows=rows, bits=BITS))
