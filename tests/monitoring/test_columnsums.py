import numpy as np
import pytest

from headrace.monitoring.columnsums import Addends, ColumnSums


def added(starts, values, window, code, column=None):
    """Add samples of weight 1, 2, 3, and so on, each with a loss of 1."""
    column = ColumnSums(9) if column is None else column
    n = len(window)
    one, weight = np.ones(n), np.arange(1.0, n + 1)
    of = Addends(np.zeros(n), weight, one, one, np.ones(n, bool))
    column.add(starts, np.array(window, np.int32), values, np.array(code, np.int32), of)
    return column


def weights(column):
    """Return the sum of weights by window and value."""
    cells = column.cells()
    names = [cells.values[code] for code in cells.codes]
    return dict(zip(zip(cells.starts.tolist(), names, strict=True), cells.sums[:, 2], strict=True))


def test_only_windows_of_values_with_samples_have_cells():
    """They are in order of window, then value, whatever the order of samples."""
    column = added([20, 10], ["b", "a"], [0, 0, 1, 0], [0, 1, 0, 0])
    assert list(weights(column).items()) == [((10, "b"), 3), ((20, "a"), 2), ((20, "b"), 5)]
    assert {value: sums[2] for value, sums in column.totals().items()} == {"a": 2, "b": 8}
    assert {value: sums[2] for value, sums in column.totals(20).items()} == {"a": 2, "b": 5}
    assert {value: sums[2] for value, sums in column.totals(last=10).items()} == {"b": 3}
    assert [(start, sums[2]) for start, sums in column.of_value("b")] == [(10, 3), (20, 5)]
    assert list(column.of_value("c")) == []


def test_what_is_given_up_is_added_to_another_value_in_each_window():
    """Its place is free for a new value, with nothing left in it."""
    column = added([10, 20], ["a", "b", "c"], [0, 1, 1, 1], [0, 0, 1, 2])
    column.give_up(["a", "b", "absent"], "rest")
    assert weights(column) == {(10, "rest"): 1, (20, "c"): 4, (20, "rest"): 5}
    added([10], ["new"], [0], [0], column)
    assert weights(column) == {(10, "new"): 1, (10, "rest"): 1, (20, "c"): 4, (20, "rest"): 5}


def test_windows_that_are_taken_out_are_empty_when_they_come_again():
    """Those that begin later stay."""
    column = added([10, 20], ["a"], [0, 1], [0, 0])
    taken = column.take_before(20)
    assert (taken.starts.tolist(), taken.sums[:, 2].tolist()) == ([10], [1.0])
    assert weights(column) == {(20, "a"): 2}
    assert column.take_before(20).starts.size == 0
    added([10], ["a"], [0], [0], column)
    assert weights(column) == {(10, "a"): 1, (20, "a"): 2}


@pytest.mark.parametrize("cuts", [1, 7])
def test_many_windows_and_values_find_room(cuts):
    """However samples are cut, and after being restored from the cells."""
    random = np.random.default_rng(0)
    window, code = random.integers(0, 30, 2_000), random.integers(0, 40, 2_000)
    starts, values = list(range(0, 300, 10)), [f"v{n}" for n in range(40)]
    column = ColumnSums(9)
    for part in np.array_split(np.arange(2_000), cuts):
        added(starts, values, window[part], code[part], column)
    cells = column.cells()
    samples = np.zeros((30, 40))
    np.add.at(samples, (window, code), 1)
    assert cells.sums[:, 0].sum() == 2_000
    for start, of, sums in zip(cells.starts, cells.codes, cells.sums, strict=True):
        assert sums[0] == samples[start // 10, values.index(cells.values[of])]
    names = [cells.values[of] for of in cells.codes]
    again = ColumnSums.of_cells(cells.starts.tolist(), names, cells.sums)
    assert weights(again) == weights(column)
    again.add_all(column)
    assert weights(again) == {cell: 2 * weight for cell, weight in weights(column).items()}


def test_new_values_in_many_windows_take_memory_for_what_occurs():
    """Not for values by windows, which here would be 576 MB."""
    n = 12_000
    column = added(list(range(n)), [f"v{i}" for i in range(n)], np.arange(n), np.arange(n))
    taken = column.sums.nbytes + column.table.pages.nbytes + column.table.cells.nbytes
    assert taken < 40e6
    assert len(weights(column)) == n
    column.give_up([f"v{i}" for i in range(1, n)], "rest")
    assert weights(column)[n - 1, "rest"] == n
    assert column.take_before(n).starts.size == n
    assert column.table.pages.nbytes + column.table.cells.nbytes < 1e6
