"""What every learner must fulfil: one suite for all of them.

`CHECKS` are functions of a `Subject`; ``test_conformance.py`` runs each of them for every
registered learner, and a learner from elsewhere can be checked in the same way.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.learners.exact import ExactTable
from headrace.learners.features import FeatureRows
from headrace.learners.learner import Learner
from headrace.learners.registry import Algorithm
from headrace.learners.snapshot import load_snapshot, save_snapshot
from headrace.schemas.config.models import Model

BITS = 10
ROWS = 240


@dataclass(frozen=True)
class Subject:
    """A learner to check.

    Parameters
    ----------
    name, algorithm
        Name of its algorithm, and the entry of a registry under it.
    parameters
        An instance of ``algorithm.parameters``.
    scratch
        A folder to write to.
    table
        An exact table for it, None for a hashed one.
    """

    name: str
    algorithm: Algorithm
    parameters: Model
    scratch: Path
    table: ExactTable | None = None

    def make(self) -> Learner:
        bits = BITS if self.table is None else 64
        return self.algorithm.make(self.parameters, bits, self.table)


@dataclass(frozen=True)
class Lesson:
    """Rows to learn, with all arguments of `Learner.learn`."""

    rows: FeatureRows
    order: np.ndarray
    label: np.ndarray
    importance: np.ndarray
    offset: np.ndarray

    def cut(self, begin: int, end: int) -> Lesson:
        """Return the part of the lesson that visits ``order[begin:end]``."""
        here = slice(begin, end)
        return Lesson(
            self.rows, self.order[here], self.label[here], self.importance[here], self.offset[here]
        )

    def weighing(self, importance: float) -> Lesson:
        """Return the same lesson with this weight for every row."""
        return Lesson(
            self.rows, self.order, self.label, np.full(self.order.size, importance), self.offset
        )

    def taught(self, learner: Learner) -> np.ndarray:
        return learner.learn(self.rows, self.order, self.label, self.importance, self.offset)


def lesson(seed: int, rows: int = ROWS, bits: int = BITS, valued: bool = True) -> Lesson:
    """Make rows of one to six features, some of them repeated, to be visited in random order.

    Their times rise in that order, by a microsecond on average.
    """
    random = np.random.default_rng(seed)
    widths = random.integers(1, 7, rows)
    starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    indices = random.integers(0, 1 << bits, starts[-1]).astype(np.uint32)
    twice = np.flatnonzero(widths > 1)[::5]
    indices[starts[twice] + 1] = indices[starts[twice]]
    values = random.normal(0, 1, starts[-1] if valued else 0).astype(np.float32)
    order = random.permutation(rows).astype(np.int64)
    label = (random.random(rows) < 0.3).astype(np.float64)
    importance = random.choice([1.0, 1.0, 0.25, 3.0], rows)
    offset = random.choice([0.0, 0.0, 1.5], rows)
    times = np.empty(rows, np.int64)
    times[order] = np.cumsum(random.integers(0, 3, rows))
    return Lesson(FeatureRows(starts, indices, values, times=times), order, label, importance,
                  offset)  # fmt: skip


def state(learner: Learner) -> dict[str, Any]:
    """Return the whole state in a form that compares bit for bit."""
    return {name: (a.dtype.str, a.tobytes()) for name, a in learner.export().items()}


def bits_of(margins: np.ndarray) -> bytes:
    return margins.astype(np.float64).tobytes()


def same_rows_same_bits(subject: Subject) -> None:
    """Two learners that learn the same rows have the same state, with and without values."""
    for valued in (True, False):
        one, other = subject.make(), subject.make()
        taught = lesson(1, valued=valued)
        assert bits_of(taught.taught(one)) == bits_of(taught.taught(other))
        assert state(one) == state(other)


def learning_changes_state_and_predictions(subject: Subject) -> None:
    """A learner that ignores its rows fails here."""
    learner = subject.make()
    before, taught = state(learner), lesson(1)
    margins = [bits_of(learner.predict(taught.rows))]
    taught.taught(learner)
    assert state(learner) != before
    for _ in range(20):
        taught.taught(learner)
    assert bits_of(learner.predict(taught.rows)) != margins[0]


def cuts_change_nothing(subject: Subject) -> None:
    """However rows are split over calls, margins and state are the same; empty calls included."""
    whole, parts, taught = subject.make(), subject.make(), lesson(2)
    expected = taught.taught(whole)
    edges = [0, 0, 1, 2, 50, 51, 133, ROWS]
    got = [taught.cut(begin, end).taught(parts) for begin, end in itertools.pairwise(edges)]
    assert bits_of(np.concatenate(got)) == bits_of(expected)
    assert state(parts) == state(whole)


def margins_are_those_of_predict(subject: Subject) -> None:
    """The margin of a row is its prediction just before, without its offset."""
    learner, taught = subject.make(), lesson(3, rows=40)
    for at in range(40):
        expected = learner.predict(taught.rows)[taught.order[at]]
        (margin,) = taught.cut(at, at + 1).taught(learner)
        assert bits_of(np.array([margin])) == bits_of(np.array([expected]))


def predict_is_pure(subject: Subject) -> None:
    """Predicting changes nothing: neither state nor later predictions nor what is learned."""
    asked, left, taught = subject.make(), subject.make(), lesson(4)
    for begin in range(0, ROWS, 60):
        here = taught.cut(begin, begin + 60)
        before = state(asked)
        first = asked.predict(taught.rows)
        assert bits_of(asked.predict(taught.rows)) == bits_of(first)
        assert state(asked) == before
        assert bits_of(here.taught(asked)) == bits_of(here.taught(left))


def arguments_are_not_changed(subject: Subject) -> None:
    """Features, labels, weights and offsets are only read."""
    given = lesson(5)
    before = pickle.dumps(given)
    given.taught(subject.make())
    assert pickle.dumps(given) == before


def learning_continues_from_a_snapshot_bit_for_bit(subject: Subject) -> None:
    """At every point, also before the first row, a loaded learner continues as the saved one."""
    learner, taught = subject.make(), lesson(6)
    algorithms = {subject.name: subject.algorithm}
    for begin in range(0, ROWS, 60):
        folder = subject.scratch / f"snapshot-{begin}"
        manifest = save_snapshot(folder, subject.name, learner, {})
        again, read = load_snapshot(folder, algorithms)
        assert read == manifest
        assert (again.parameters, again.bits) == (learner.parameters, learner.bits)
        assert state(again) == state(learner)
        rest = taught.cut(begin, ROWS)
        rest.taught(again)
        here = taught.cut(begin, begin + 60)
        here.taught(learner)
        through = pickle.loads(pickle.dumps(learner))
        taught.cut(begin + 60, ROWS).taught(through)
        assert state(through) == state(again)


def restoring_replaces_the_whole_state(subject: Subject) -> None:
    """Nothing that a learner learned before `restore` shows after it."""
    one, other = subject.make(), subject.make()
    lesson(7).taught(one)
    lesson(8).taught(other)
    other.restore(one.export())
    assert state(other) == state(one)
    assert bits_of(lesson(9).taught(other)) == bits_of(lesson(9).taught(one))


def exported_arrays_can_be_stored(subject: Subject) -> None:
    """They have one dimension, are finite, and always have the same names and types."""
    learner = subject.make()
    empty = learner.export()
    lesson(10).taught(learner)
    full = learner.export()
    assert list(empty) == list(full)
    for name, array in full.items():
        assert array.ndim == 1, name
        assert array.dtype.kind in "iuf", name
        assert array.dtype == empty[name].dtype, name
        assert np.isfinite(array).all(), name


def learner_and_parameters_pickle(subject: Subject) -> None:
    """Learners travel to workers; parameters are part of plans."""
    learner = subject.make()
    lesson(11).taught(learner)
    again = pickle.loads(pickle.dumps(learner))
    assert state(again) == state(learner)
    assert pickle.loads(pickle.dumps(subject.parameters)) == subject.parameters
    assert pickle.loads(pickle.dumps(subject.algorithm)) == subject.algorithm


def memory_is_bounded(subject: Subject) -> None:
    """State takes no more than `state_bytes`, however much is learned.

    An exact table grows with its features, of which there are 1,024 here.
    """
    learner, sizes = subject.make(), []
    for seed in range(30):
        lesson(seed, rows=1_000).taught(learner)
        sizes.append(learner.state_bytes)
        # A pickle has the whole object, and some hundred bytes of names.
        assert len(pickle.dumps(learner)) <= learner.state_bytes + 4_096
    assert len(set(sizes[10:])) == 1
    assert subject.table is not None or set(sizes) == {subject.make().state_bytes}


def figures_are_counts(subject: Subject) -> None:
    """Figures for manifest and summary are integers, zero or more."""
    learner = subject.make()
    lesson(12).taught(learner)
    for name, figure in learner.figures().items():
        assert isinstance(figure, int), name
        assert figure >= 0, name


def a_weight_of_zero_changes_nothing(subject: Subject) -> None:
    """Neither at the start nor later; such a row has a margin like any other."""
    learner = subject.make()
    for seed in (13, 14):
        before = state(learner)
        nothing = lesson(15).weighing(0.0)
        expected = learner.predict(nothing.rows)[nothing.order]
        assert bits_of(nothing.taught(learner)) == bits_of(expected)
        assert state(learner) == before
        lesson(seed).taught(learner)


def a_weight_has_its_declared_effect(subject: Subject) -> None:
    """It is a factor of the gradient, or a number of repetitions, or a power of the likelihood."""
    learner = subject.make()
    lesson(16).taught(learner)
    # Twice, so that a table admits every feature.
    lesson(17).taught(learner)
    lesson(17).taught(learner)
    _EFFECTS[learner.weight](learner, [lesson(17).cut(at, at + 1) for at in range(20)])


def _multiplies_the_gradient(learner: Learner, rows: list[Lesson]) -> None:
    other = pickle.loads(pickle.dumps(learner))
    for row in rows:
        # The gradient of log loss is p - y; a label half way to p halves it.
        p = 1 / (1 + np.exp(-(other.predict(row.rows)[row.order] + row.offset)))
        row.weighing(0.5).taught(learner)
        half = Lesson(row.rows, row.order, (p + row.label) / 2, np.ones(1), row.offset)
        half.taught(other)
    _assert_equal(learner, other)


def _repeats_the_row(learner: Learner, rows: list[Lesson]) -> None:
    other = pickle.loads(pickle.dumps(learner))
    for row in rows:
        row.weighing(3.0).taught(learner)
        for _ in range(3):
            row.weighing(1.0).taught(other)
    _assert_equal(learner, other)


def _is_a_power_of_the_likelihood(learner: Learner, rows: list[Lesson]) -> None:
    # Of an approximate posterior no equation holds, but it moves by less than in proportion:
    # what a row says is bounded.
    before = learner.export()
    moved = {1.0: 0.0, 30.0: 0.0}
    for row, weight in itertools.product(rows, moved):
        other = pickle.loads(pickle.dumps(learner))
        row.weighing(weight).taught(other)
        for name, array in other.export().items():
            if array.dtype.kind == "f":
                moved[weight] += float(np.abs(array - before[name]).sum())
    assert 1.01 * moved[1.0] < moved[30.0] < 29 * moved[1.0]


def _assert_equal(learner: Learner, other: Learner) -> None:
    for name, array in learner.export().items():
        assert np.allclose(array, other.export()[name], rtol=1e-4, atol=1e-6), name


_EFFECTS: dict[str, Callable[[Learner, list[Lesson]], None]] = {
    "gradient": _multiplies_the_gradient,
    "repetition": _repeats_the_row,
    "likelihood": _is_a_power_of_the_likelihood,
}


def a_discount_weighs_negatives_by_their_predictions(subject: Subject) -> None:
    """As a weight that is computed from the prediction just before; also in parts."""
    whole, parts, other = subject.make(), subject.make(), subject.make()
    taught, discount = lesson(19), np.random.default_rng(19).normal(0, 1, ROWS)
    learned = taught.rows, taught.order, taught.label, taught.importance, taught.offset
    whole.learn(*learned, discount)
    for at in range(ROWS):
        row, by = taught.cut(at, at + 1), discount[at : at + 1]
        rest = row.order, row.label, row.importance, row.offset
        parts.learn(row.rows, *rest, by)
        share = 1 / (1 + np.exp(other.predict(row.rows)[row.order] + by))
        row.weighing(float((row.importance * np.where(row.label == 0, share, 1)).item())).taught(
            other
        )
    assert state(parts) == state(whole)
    _assert_equal(other, whole)
    without = subject.make()
    taught.taught(without)
    assert state(without) != state(whole)


def the_label_raises_the_margin(subject: Subject) -> None:
    """After many positives a prediction is higher than after many negatives."""
    margins = []
    for label in (0.0, 1.0):
        learner = subject.make()
        taught = lesson(18, valued=False)
        for _ in range(20):
            learner.learn(
                taught.rows, taught.order, np.full(ROWS, label), np.ones(ROWS), np.zeros(ROWS)
            )
        margins.append(learner.predict(taught.rows))
    assert (margins[1] > margins[0]).mean() > 0.9


CHECKS: list[Callable[[Subject], None]] = [
    same_rows_same_bits,
    learning_changes_state_and_predictions,
    cuts_change_nothing,
    margins_are_those_of_predict,
    predict_is_pure,
    arguments_are_not_changed,
    learning_continues_from_a_snapshot_bit_for_bit,
    restoring_replaces_the_whole_state,
    exported_arrays_can_be_stored,
    learner_and_parameters_pickle,
    memory_is_bounded,
    figures_are_counts,
    a_weight_of_zero_changes_nothing,
    a_weight_has_its_declared_effect,
    a_discount_weighs_negatives_by_their_predictions,
    the_label_raises_the_margin,
]
