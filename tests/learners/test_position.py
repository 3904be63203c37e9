"""Corrections for positions: what is known of theta, and what is learned with it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from headrace.joiner.plan.emission import EMISSIONS
from headrace.learners.calibration import REFIT
from headrace.learners.features import Features
from headrace.learners.learning import LearnerPlan, TrainPlan
from headrace.learners.models.ftrl import FtrlParameters
from headrace.learners.position import (
    LEAST,
    MOST,
    PositionPlan,
    Positions,
    Randomised,
    as_log_theta,
    as_theta,
    estimated,
    log_theta_of,
)
from headrace.learners.registry import ALGORITHMS
from headrace.learners.snapshot import load_snapshot
from headrace.learners.trainer import Trainer
from headrace.schemas.errors import SnapshotError
from headrace.schemas.records.envelope import SampleEnvelope
from headrace.schemas.records.events import EMIT, FOREVER, KEY0, KEY1, RATE, TIME

GIVEN = PositionPlan("position", "offset", (1.0, 0.5))
ESTIMATED = PositionPlan("position", "offset", None, "randomised")


def sums(*rates):
    """Make sums of positions from (impressions, positives)."""
    found = np.zeros((2, MOST))
    found[:, : len(rates)] = np.array(rates).T
    return found


@pytest.mark.parametrize(
    ("rates", "theta"),
    [
        ([(1000, 200), (1000, 100), (4000, 100)], [1.0, 0.5, 0.125]),
        ([(1000, 200), (1000, LEAST - 1), (1000, 100)], [1.0, None, 0.5]),
        ([(1000, 200), (1000, LEAST - 1)], [1.0]),
        ([(1000, LEAST - 1), (1000, 100)], []),
        ([], []),
    ],
    ids=["ratios", "one too rare", "the last too rare", "the first too rare", "nothing"],
)
def test_theta_is_the_click_rate_over_that_of_position_1(rates, theta):
    """Where either has enough positives; else nothing is said of it."""
    found = as_theta(estimated(sums(*rates)))
    assert found == [None if value is None else pytest.approx(value) for value in theta]
    again = as_theta(as_log_theta(found))
    assert again == [None if value is None else pytest.approx(value) for value in found]


@pytest.mark.parametrize("position", [0.0, -1.0, 1.5, 3.0, np.nan, np.inf, 1e300])
def test_what_is_no_position_has_no_theta(position):
    """Nor has one beyond the last."""
    assert np.isnan(log_theta_of(np.log([1.0, 0.5]), np.array([position])))[0]


def test_an_estimate_holds_for_a_period_and_is_made_from_all_before_it():
    """Of impressions that are randomised; before there is one nothing is corrected."""
    positions = Positions(ESTIMATED)
    count = 1_000
    position, label = np.tile([1.0, 2.0], count), np.tile([1.0, 1.0, 1.0, 0.0], count // 2)
    rows = np.arange(2 * count)

    def of(period, label):
        emit = np.full(2 * count, period * REFIT + 5)
        found = positions.of(position, emit, Randomised(rows, label, np.ones(label.size)))
        return found[:2].tolist()

    assert of(7, label) == [0.0, 0.0]
    assert of(7, label) == [0.0, 0.0]
    assert of(8, np.zeros(2 * count)) == [0.0, np.log(0.5)]
    # What was counted by then had half of the rate, at both positions.
    assert of(11, label) == [0.0, np.log(0.5)]
    assert positions.theta == [1.0, 0.5]


def test_rows_of_several_periods_in_one_epoch_have_each_its_estimate():
    """As if each period came alone, to the last bit, with weights that are no whole numbers."""
    random = np.random.default_rng(1)
    count = 6_000
    emit = np.sort(random.integers(0, 5 * REFIT, count))
    position = random.integers(1, 5, count).astype(np.float64)
    label = (random.random(count) < 0.3).astype(np.float64)
    weight = np.where(label > 0, 1.0, 1 / 0.3)
    chosen = np.flatnonzero(random.random(count) < 0.5)

    def run(cuts):
        positions, found = Positions(ESTIMATED), []
        for begin, end in zip([0, *cuts], [*cuts, count], strict=True):
            rows = chosen[(chosen >= begin) & (chosen < end)]
            part = Randomised(rows - begin, label[rows], weight[rows])
            found.append(positions.of(position[begin:end], emit[begin:end], part))
            again = Positions(ESTIMATED)
            again.restore(json.loads(json.dumps(positions.export())))
            positions = again
        return np.concatenate(found).tobytes(), positions.sums.tobytes(), positions.theta

    whole = run([])
    assert whole[2] is not None
    for cuts in ([3_000], [1, 2, 17, 4_444], range(500, count, 500)):
        assert run(cuts) == whole


def batch(rows):
    """Make samples from (emit time, key, position, randomised, label)."""
    emission = pa.array([0] * len(rows), pa.int8())
    emit = [row[0] for row in rows]
    return pa.RecordBatch.from_pydict(
        {
            "device": [f"d{row[1] % 3}" for row in rows],
            "position": pa.array([row[2] for row in rows], pa.int64()),
            "randomised": pa.array([row[3] for row in rows], pa.bool_()),
            "click": [row[4] for row in rows],
            "click_mature": [True for _ in rows],
            "emission": pa.DictionaryArray.from_arrays(emission, pa.array(EMISSIONS)),
            "event_time": pa.array(emit, pa.timestamp("us", "UTC")),
            "weight": [1.0 for _ in rows],
            "sampling_rate": [1.0 for _ in rows],
            EMIT: pa.array(emit, pa.int64()),
            KEY0: pa.array([row[1] for row in rows], pa.uint64()),
            KEY1: pa.array([row[1] * 7 for row in rows], pa.uint64()),
            RATE: [0.2 for _ in rows],
        }
    )


def learner(position, **keys):
    features = Features(categorical=("device",))
    return LearnerPlan("click", features, 8, "ftrl", ALGORITHMS["ftrl"], FtrlParameters(),
                       position=position, **keys)  # fmt: skip


def trained(plan, rows, correction="none", **columns):
    trainer = Trainer(1, 10, TrainPlan({"click": plan}, correction))
    sent = batch(rows)
    for name, values in columns.items():
        sent = sent.append_column(name, pa.array(values))
    (done,) = trainer.receive(SampleEnvelope(0, 1, 0, FOREVER, batches=[sent])).samples
    return trainer, done


ROWS = [(n, n, n % 2 + 1, True, n % 3 == 0) for n in range(60)]


@pytest.mark.parametrize("correction", ["none", "weight", "logit", "recalibrate"])
@pytest.mark.parametrize("delay", [None, "fnw", "fnc", "defer"])
def test_log_theta_is_an_offset_in_training_and_in_margins(correction, delay):
    """As a column with its values is, to the last bit, whatever else is corrected."""
    trainer, done = trained(learner(GIVEN, delay=delay), ROWS, correction)
    offset = [np.log([1.0, 0.5])[row[2] - 1] for row in ROWS]
    other, expected = trained(
        learner(None, delay=delay, offset="given"), ROWS, correction, given=offset
    )
    assert done.margins["click"].tolist() == expected.margins["click"].tolist()
    assert trainer.learners["click"].zn.tobytes() == other.learners["click"].zn.tobytes()


@pytest.mark.parametrize(("clip", "weight"), [(10.0, 2.0), (1.5, 1.5)])
def test_clicks_weigh_1_over_theta_and_negatives_1(clip, weight):
    """At most as much as the clip; margins are those of the position."""
    plan = replace(GIVEN, method="clicks", clip=clip)
    trainer, done = trained(learner(plan), ROWS)
    worth = [weight if row[2] == 2 and row[4] else 1.0 for row in ROWS]
    other, expected = trained(learner(None, weight="worth"), ROWS, worth=worth)
    assert trainer.learners["click"].zn.tobytes() == other.learners["click"].zn.tobytes()
    log_theta = np.log([[1.0, 0.5][row[2] - 1] for row in ROWS])
    np.testing.assert_array_equal(done.margins["click"], expected.margins["click"] + log_theta)


@pytest.mark.parametrize("position", [None, 3, 0, -1])
@pytest.mark.parametrize("method", ["offset", "clicks"])
def test_a_row_without_theta_is_refused_and_counted(position, method):
    """The others are learned as if it were not there."""
    plan = learner(replace(GIVEN, method=method))
    wrong = [(*row[:2], position, *row[3:]) for row in ROWS[:10]]
    trainer, done = trained(plan, [*wrong, *ROWS[10:]])
    alone, expected = trained(plan, ROWS[10:])
    assert trainer.step.refused == {"click": 10}
    assert trainer.step.learned == {"click": 50}
    assert done.margins["click"].tolist() == expected.margins["click"].tolist()
    assert trainer.learners["click"].zn.tobytes() == alone.learners["click"].zn.tobytes()


def test_an_impression_without_theta_is_not_scored():
    """Nor is it an error: what is known of the others is."""
    trainer = Trainer(1, 10, TrainPlan({"click": learner(GIVEN)}, "none"))
    trainer.receive(SampleEnvelope(0, 1, 0, 99, batches=[batch(ROWS)]))
    known = batch([(110, n, position, False, False) for n, position in enumerate((2, None, 9))])
    known = known.append_column(TIME, known.column(EMIT))
    for name in ("__source", "__offset"):
        known = known.append_column(name, pa.array([0, 0, 0]))
    final = known.set_column(known.schema.get_field_index(EMIT), EMIT, pa.array([130] * 3))
    sent = SampleEnvelope(0, 1, 1, FOREVER, beside={"served": [known], "mature": [final]})
    (done,) = trainer.receive(sent).samples
    assert np.isfinite(done.scored.margins["click"]).tolist() == [True, False, False]


@pytest.mark.parametrize("stop", [0, 3, 8])
def test_neither_epochs_nor_resuming_change_what_is_learned(tmp_path, stop):
    """With theta estimated in the middle of the log, to the last bit."""
    random = np.random.default_rng(2)
    emit = np.sort(random.choice(4 * REFIT, 3_000, replace=False))
    rows = [
        (int(at), n, int(random.integers(1, 4)), bool(random.random() < 0.7),
         bool(random.random() < 0.4))
        for n, at in enumerate(emit)
    ]  # fmt: skip
    plan = TrainPlan({"click": learner(ESTIMATED)}, "none")

    def run(epoch, cut, stop=None):
        trainer = Trainer(1, epoch, plan)
        for number, begin in enumerate(range(0, len(rows), cut)):
            if number == stop:
                state = json.loads(json.dumps(trainer.save(tmp_path / "state", {})))
                waiting = SampleEnvelope.decode(trainer.unlearned().encode())
                trainer = Trainer(1, epoch, plan)
                trainer.load(tmp_path / "state", state, waiting)
            part = rows[begin : begin + cut]
            until = FOREVER if begin + cut >= len(rows) else part[-1][0]
            trainer.receive(SampleEnvelope(0, 1, number, until, batches=[batch(part)]))
        manifests = trainer.save_models(lambda name: tmp_path / "models" / name, {})
        return trainer.learners["click"].zn.tobytes(), manifests["click"]["theta"]

    whole = run(4 * REFIT, 3_000)
    assert len(whole[1]) == 3
    assert run(REFIT // 7, 300, stop) == whole


def test_theta_is_covered_by_the_checksum_of_a_snapshot(tmp_path):
    """A changed one is damage."""
    trainer, _ = trained(learner(ESTIMATED), ROWS)
    trainer.save_models(lambda name: tmp_path / name, {})
    manifest = json.loads((tmp_path / "click" / "manifest.json").read_text())
    assert manifest["theta"] == []
    manifest["theta"] = [1.0, 0.5]
    (tmp_path / "click" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SnapshotError, match="is damaged"):
        load_snapshot(tmp_path / "click")
