"""The exact table: which features have a coordinate, and when they lose it."""

import dataclasses
import pickle

import numpy as np
import pyarrow as pa
import pytest

from headrace.learners import exact
from headrace.learners.exact import ExactLearner, ExactTable
from headrace.learners.features import FeatureEncoder, FeatureRows, Features
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.learners.registry import ALGORITHMS
from headrace.learners.snapshot import load_snapshot, save_snapshot
from headrace.schemas.records.hashing import fmix64
from tests.learners.conformance import Lesson, bits_of, lesson, state

ONES = np.empty(0, np.float32)


def learner_of(name, **plan):
    algorithm = ALGORITHMS[name]
    return algorithm.make(algorithm.parameters(), 64, ExactTable(**plan))


def rows_of(*rows, times=()):
    """Return rows of features without values, each a list of codes."""
    starts = np.cumsum([0, *map(len, rows)])
    codes = np.array([code for row in rows for code in row], np.uint64)
    return FeatureRows(starts, codes, ONES, times=np.array(times, np.int64))


def taught(learner, *rows, times=(), importance=1.0):
    count = len(rows)
    ones = np.ones(count)
    return learner.learn(
        rows_of(*rows, times=times), np.arange(count), ones, importance * ones, np.zeros(count)
    )


def counting(learner, *rows):
    """Return how many features of each row count."""
    return np.diff(learner.located(rows_of(*rows)).starts).tolist()


def simulated(given, admit, expire):
    """Return a lesson by coordinates that were given out by a dictionary, and how many."""
    held, coordinates, starts, places, given_out = {}, [], [0], [], 0
    rows, now = given.rows, -(1 << 62)
    for at, row in enumerate(given.order):
        now = max(now, int(rows.times[row]))
        met = set()
        for k in range(rows.starts[row], rows.starts[row + 1]):
            code = int(rows.indices[k])
            coordinate, count, seen = held.get(code, (None, 0, now))
            if expire is not None and now - seen > expire:
                coordinate, count = None, 0
            if given.importance[at] == 0:
                if coordinate is None and count + 1 >= admit:
                    coordinate = 0
            else:
                if code not in met and coordinate is None:
                    count += 1
                    if count >= admit:
                        given_out += 1
                        coordinate = given_out
                met.add(code)
                held[code] = coordinate, count, now
            if coordinate is not None:
                coordinates.append(coordinate)
                places.append(k)
        starts.append(len(coordinates))
    values = rows.values[places] if rows.values.size else rows.values
    found = FeatureRows(np.array(starts), np.array(coordinates, np.uint32), values)
    return dataclasses.replace(given, rows=found, order=np.arange(given.order.size))


@pytest.mark.parametrize("name", ["ftrl", "probit", "sgd"])
@pytest.mark.parametrize("admit", [1, 2, 5])
@pytest.mark.parametrize("expire", [None, 60, 200])
@pytest.mark.parametrize("valued", [True, False], ids=["values", "no values"])
def test_margins_are_those_of_features_that_a_dictionary_counts(name, admit, expire, valued):
    """Bit for bit, whatever the cuts; a ninth of the rows weigh nothing."""
    given = lesson(1, rows=2_000, bits=8, valued=valued)
    given.importance[::9] = 0.0
    algorithm = ALGORITHMS[name]
    plain = algorithm.learner(algorithm.parameters(), 14)
    expected = simulated(given, admit, expire).taught(plain)
    learner = learner_of(name, admit=admit, expire=expire)
    parts = [given.cut(0, 3), given.cut(3, 900), given.cut(900, 2_000)]
    margins = np.concatenate([part.taught(learner) for part in parts])
    assert bits_of(margins) == bits_of(expected)
    assert np.unique(margins).size > 20


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("admit", [1, 2])
def test_when_the_table_is_rearranged_shows_in_no_bit(name, admit, monkeypatch):
    """One that is swept and grows all the time learns what one does that never has to."""
    given = lesson(2, rows=3_000, bits=12)
    found = {}
    for bits in (3, 14):
        monkeypatch.setattr(exact, "_FEWEST_BITS", bits)
        learner = learner_of(name, admit=admit, expire=300)
        margins = given.taught(learner)
        found[bits] = bits_of(margins), state(learner), bits_of(learner.predict(given.rows))
    assert found[3] == found[14]


@pytest.mark.parametrize("name", ["ftrl", "probit", "sgd"])
def test_without_collisions_it_learns_what_a_hashed_table_learns(name):
    """Codes of 64 bits whose low bits differ."""
    given = lesson(3, rows=2_000, bits=8)
    codes = fmix64(np.arange(256, dtype=np.uint64))
    assert np.unique(codes & np.uint64((1 << 20) - 1)).size == 256
    algorithm = ALGORITHMS[name]
    hashed = algorithm.learner(algorithm.parameters(), 20)
    rows = dataclasses.replace(
        given.rows, indices=(codes & np.uint64((1 << 20) - 1)).astype(np.uint32)[given.rows.indices]
    )
    expected = dataclasses.replace(given, rows=rows).taught(hashed)
    rows = dataclasses.replace(given.rows, indices=codes[given.rows.indices])
    found = dataclasses.replace(given, rows=rows).taught(learner_of(name))
    assert bits_of(found) == bits_of(expected)


def test_a_feature_counts_from_its_nth_row_on():
    """Twice in a row is once; a row that weighs nothing is none."""
    learner = learner_of("ftrl", admit=3)
    taught(learner, [7, 7], [7])
    taught(learner, [7], importance=0.0)
    assert learner.figures()["waiting"] == 1
    assert counting(learner, [8], [7, 7]) == [0, 2]
    taught(learner, [7, 8, 7])
    assert counting(learner, [8], [7]) == [0, 1]
    figures = learner.figures()
    assert [figures[name] for name in ("features", "admitted", "waiting", "expired")] == [
        2,
        1,
        1,
        0,
    ]


def test_a_feature_starts_anew_if_it_comes_after_more_than_that():
    """Also one that waits; one that comes in time goes on."""
    for pause, known in ((10, True), (11, False)):
        learner = learner_of("ftrl", expire=10)
        taught(learner, [7], times=[100])
        (margin,) = taught(learner, [7], times=[100 + pause])
        assert bool(margin > 0) is known
        waiting = learner_of("ftrl", admit=2, expire=10)
        taught(waiting, [7], [7], times=[100, 100 + pause])
        assert waiting.figures()["admitted"] == known
        assert waiting.figures()["expired"] == (not known)


def test_predictions_are_of_the_time_of_their_rows_or_the_last_that_was_learned():
    learner = learner_of("ftrl", expire=10)
    taught(learner, [7], [8], times=[100, 105])
    asked = rows_of([7], [8], times=[112, 112])
    assert (learner.predict(asked) > 0).tolist() == [False, True]
    assert (learner.predict(rows_of([7], [8])) > 0).tolist() == [True, True]
    taught(learner, [9], times=[111])
    assert (learner.predict(rows_of([7], [8])) > 0).tolist() == [False, True]
    assert learner.figures()["expired"] == 1


def test_memory_follows_what_has_not_expired():
    """Ever new features fill it without `expire`; with it their number at a time does."""
    sizes = {}
    for expire in (None, 1_000):
        learner, sizes[expire] = learner_of("ftrl", expire=expire), []
        for begin in range(0, 100_000, 10_000):
            rows = [[code] for code in range(begin, begin + 10_000)]
            taught(learner, *rows, times=range(begin, begin + 10_000))
            sizes[expire].append(learner.state_bytes)
    assert len(set(sizes[1_000])) == 1
    assert sizes[1_000][-1] < 300_000
    assert sizes[None][-1] > 2_000_000
    assert learner.figures()["features"] == 1_001


def test_a_table_of_unknown_and_forgotten_features_can_be_empty():
    learner = learner_of("probit", admit=2)
    before = state(learner)
    assert learner.predict(rows_of([1, 2], [])).tolist() == [0.0, 0.0]
    assert taught(learner, [], importance=1.0).tolist() == [0.0]
    assert state(pickle.loads(pickle.dumps(learner))) == before


@pytest.mark.parametrize("name", ALGORITHMS)
def test_numbers_of_any_size_and_none(name):
    """They have a coordinate for each column, and one for what is not a number."""
    numbers = [1e300, float("nan"), None, -1e300, 0.0, float("inf"), 1e-320, 1.0]
    batch = pa.RecordBatch.from_pydict({"x": pa.array(numbers), "c": list("abcdefgh")})
    encoder = FeatureEncoder(Features(categorical=("c",), numeric={"x": "log"}), 64)
    rows = encoder.encode(batch)
    assert rows.indices.dtype == np.uint64
    learner = learner_of(name)
    label = np.arange(8) % 2.0
    for _ in range(30):
        margins = learner.learn(rows, np.arange(8), label, np.ones(8), np.zeros(8))
    assert np.isfinite(margins).all()
    assert learner.figures()["features"] == 1 + 8 + 2


@pytest.mark.parametrize("name", ALGORITHMS)
def test_figures_do_not_depend_on_a_resumption(name, tmp_path):
    """Nor on rows that weigh nothing, also if they have more fields than any other."""
    whole, resumed = learner_of(name, expire=200), learner_of(name, expire=200)
    given = lesson(4, rows=1_000, bits=9)
    for begin in range(0, 1_000, 100):
        part = given.cut(begin, begin + 100)
        part.taught(whole)
        part.taught(resumed)
        taught(whole, list(range(20)), importance=0.0)
        save_snapshot(tmp_path / "s", name, resumed, {})
        resumed, manifest = load_snapshot(tmp_path / "s")
        assert manifest["figures"] == whole.figures() == resumed.figures()
        assert state(resumed) == state(whole)


def test_nothing_is_learned_after_a_number_that_is_not_finite():
    learner = learner_of("ftrl")
    rows = dataclasses.replace(
        rows_of(*[[code] for code in range(1_000)]), values=np.ones(1_000, np.float32)
    )
    rows.values[600] = np.nan
    given = Lesson(rows, np.arange(1_000), np.ones(1_000), np.ones(1_000), np.zeros(1_000))
    margins = given.taught(learner)
    assert np.isfinite(margins).tolist() == [True] * 600 + [False] * 400


def test_codes_are_those_whose_low_bits_are_hashed():
    """An exact table knows features by the codes of which another takes the low bits."""
    features = Features(categorical=("a",), numeric={"n": (1.0, 2.0)}, crosses=(("a", "n"),))
    batch = pa.RecordBatch.from_pydict({"a": ["x", None, "y"], "n": [0.5, 1.5, None]})
    codes = FeatureEncoder(features, 64).encode(batch).indices
    hashed = FeatureEncoder(features, 18).encode(batch).indices
    assert (codes & np.uint64((1 << 18) - 1)).tolist() == hashed.tolist()


def test_its_arrays_say_what_each_coordinate_is():
    learner = learner_of("ftrl", admit=2, expire=100)
    taught(learner, [5, 9], [9, 6], [6], times=[1, 2, 3])
    arrays = learner.export()
    assert arrays["code"].tolist() == [9, 6]
    assert arrays["index"].tolist() == [1, 2]
    assert arrays["seen"].tolist() == [2, 3]
    assert (arrays["waiting"].tolist(), arrays["occurrences"].tolist()) == ([5], [1])
    assert arrays["last"].tolist() == [3, 3]
    alone = FtrlModel(FtrlParameters(), 4)
    alone.restore(arrays)
    found = alone.weights()[1:3].tolist()
    assert found == learner.model.weights()[1:3].tolist()


def test_an_algorithm_without_growing_coordinates_has_no_exact_table():
    algorithm = dataclasses.replace(ALGORITHMS["ftrl"], growing=None)
    with pytest.raises(ValueError, match=r"^this algorithm can have no exact table$"):
        algorithm.make(FtrlParameters(), 64, ExactTable())
    assert isinstance(ALGORITHMS["ftrl"].make(FtrlParameters(), 64, ExactTable()), ExactLearner)
