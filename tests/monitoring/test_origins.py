import pytest

from headrace.monitoring.origins import SourceResult, in_words, outliers


def sources(*of):
    """Return sources of (records, orphans), named by number."""
    return [SourceResult(f"part-{n}.csv", *one) for n, one in enumerate(of)]


def orphans(*of):
    return sources(*((records, {"orphans": lost}) for records, lost in of))


def test_the_one_file_that_all_orphans_are_from_is_named():
    """With its rate and that of the others."""
    assert in_words("click", "orphans", orphans((1000, 0), (1000, 310), (1000, 0))) == (
        "click: all 310 orphans are from part-1.csv (31.0% of the records there, 0.0% of the "
        "others). What is different there: who writes it, its keys, its clock?"
    )


def test_several_files_that_are_alike_are_named_together():
    """The first three of them."""
    found = in_words("click", "orphans", orphans(*[(1000, 2)] * 20, *[(1000, 300)] * 4))
    assert found is not None
    assert found.startswith(
        "click: 1,200 of 1,240 orphans are from 4 of 24 sources, part-20.csv, part-21.csv, "
        "part-22.csv and 1 more (30.0% of the records there, 0.2% of the others)."
    )


@pytest.mark.parametrize(
    "of",
    [
        [(1000, 100)],
        [(1000, 100)] * 8,
        [(1000, 100), (1000, 130), (1000, 90)],
        [(100, 49), (1000, 0), (1000, 0)],
        [(1000, 100), (100_000, 1000), (100_000, 1000)],
        [(1000, 300), (1000, 300), (1000, 300), (1000, 2)],
        [(10_000, 60), (10_000, 0)],
        [(0, 0), (0, 0)],
    ],
    ids=["one file", "all alike", "by chance", "few", "a small part of all", "most files",
         "five points are not reached", "empty files"],
)  # fmt: skip
def test_files_that_do_not_stand_out_are_not_named(of):
    """Of those that are all alike no one is to blame."""
    assert outliers(orphans(*of), "orphans") == []
    assert in_words("click", "orphans", orphans(*of)) is None


def test_what_is_lost_wherever_a_log_begins_is_not_held_against_the_first_file():
    """It is counted, though, where a file stands out for more than that."""
    first = SourceResult("a.csv", 1000, {"orphans": 300}, {"orphans": 290})
    bad = SourceResult("b.csv", 1000, {"orphans": 300}, {"orphans": 100})
    good = SourceResult("c.csv", 1000, {"orphans": 0})
    assert outliers((first, good), "orphans") == []
    assert outliers((first, bad, good), "orphans") == [bad]
    found = in_words("click", "orphans", (bad, good))
    assert found is not None
    assert found.startswith("click: all 300 orphans are from b.csv (30.0% of the records there")
