import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.monitoring.frequent import FrequentValues

WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=80)


def counts_of(values):
    found = Counter(values)
    return list(found), list(found.values())


def counted(values, cuts=(), most=3, block=8):
    """Count values, cut into batches."""
    frequent = FrequentValues(most, block)
    edges = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    for begin, end in itertools.pairwise(edges):
        batch = values[begin:end]
        for low, high in frequent.parts(len(batch)):
            frequent.count(*counts_of(batch[low:high]))
            frequent.advance(high - low)
    return frequent


def test_a_value_that_becomes_frequent_is_kept_from_the_end_of_its_block():
    """And the least frequent is given up."""
    frequent = FrequentValues(2, 4)
    assert frequent.count(["a", "b", "c"], [2, 1, 1]) == [True, True, False]
    assert frequent.advance(4) == []
    assert (frequent.kept, frequent.floor) == ({"a": 2, "b": 1}, 1)
    assert frequent.count(["c"], [4]) == [False]
    assert frequent.advance(4) == ["b"]
    # It may have been in one of the rows before, so its estimate is 5.
    assert (frequent.kept, frequent.floor) == ({"c": 5, "a": 2}, 1)
    assert frequent.count(["c", "b"], [1, 3]) == [True, False]


@given(WORDS, st.lists(st.integers(0, 80), max_size=5))
def test_cuts_of_batches_change_nothing(values, cuts):
    """Blocks are counted from the first row."""
    assert counted(values, cuts).export() == counted(values).export()


@given(WORDS)
def test_estimates_are_too_high_by_at_most_the_floor(values):
    """And the floor is at most the share of rows that the guarantee allows."""
    frequent, true = counted(values), Counter(values)
    done = len(values) - sum(frequent.waiting.values())
    assert frequent.floor <= done / (frequent.most + 1)
    for value, estimate in frequent.kept.items():
        assert estimate - frequent.floor <= true[value] <= estimate
    for value in true.keys() - frequent.kept.keys():
        assert true[value] <= frequent.floor + frequent.waiting.get(value, 0)


@given(st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 4), min_size=1))
def test_the_greatest_estimates_are_kept_and_of_equal_ones_the_first_by_name(counts):
    """And the floor is the greatest of those that are not."""
    frequent = FrequentValues(3, sum(counts.values()))
    frequent.count(list(counts), list(counts.values()))
    frequent.advance(frequent.block)
    order = sorted(counts, key=lambda value: (-counts[value], value))
    assert frequent.kept == {value: counts[value] for value in order[:3]}
    assert frequent.floor == (counts[order[3]] if len(order) > 3 else 0)


@given(WORDS, WORDS)
def test_merging_is_commutative_and_keeps_the_guarantee(first, second):
    """A value in more than 1 / (most + 1) of all rows is kept."""
    one, other = counted(first), counted(second)
    one.merge(counted(second))
    other.merge(counted(first))
    assert one.export() == other.export()
    for value, rows in Counter(first + second).items():
        assert value in one.kept or rows <= (len(first) + len(second)) / (one.most + 1)


def test_memory_is_bounded():
    """However many values there are."""
    frequent = counted([f"v{i}" for i in np.random.default_rng(0).permutation(5_000)], most=50)
    assert len(frequent.kept) == 50
    assert len(frequent.waiting) <= frequent.block
