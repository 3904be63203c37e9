"""Numbers that are meant to undo what a model has learned."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.learners.outliers import Outliers
from headrace.learners.registry import ALGORITHMS
from headrace.pipelines.jobs import replay as job
from tests.pipelines.direct import run_directly
from tests.pipelines.rows import START

COUNT = 3_000
AT = 2_000


@pytest.fixture
def quickly(monkeypatch):
    """Leave out of a replay what takes most of the time of a small one, and has its own tests."""
    monkeypatch.setattr(job, "run_graph", run_directly)
    monkeypatch.setattr(job, "render_report", lambda *_: "")
    monkeypatch.setattr("os.fsync", lambda _: None)


def replay(folder, algorithm="ftrl", value=None, rows=1_000, form="linear", **learner):
    """Learn from honest rows and, if a value is given, from it once; return model and learner."""
    random = np.random.default_rng(0)
    price, bid = np.exp(random.normal(3, 0.5, COUNT)), np.exp(random.normal(0, 0.3, COUNT))
    clicked = random.random(COUNT) < 0.02 * price**0.7
    if value is not None:
        column, far = value
        {"price": price, "bid": bid}[column][AT], clicked[AT] = far, True
    time = START + np.arange(COUNT)
    names = [f"k{n}" for n in range(COUNT)]
    shown = {"id": names, "time": time, "price": price, "bid": bid}
    pq.write_table(pa.table(shown), folder / "shown.parquet")
    ids = [name for name, click in zip(names, clicked, strict=True) if click]
    pq.write_table(pa.table({"id": ids, "time": time[clicked] + 1}), folder / "clicks.parquet")
    timed = {"key": "id", "time": {"column": "time", "unit": "s"}}
    config = {
        "impressions": {"path": str(folder / "shown.parquet"), **timed},
        "actions": {"click": {"path": str(folder / "clicks.parquet"), "window": "10m", **timed}},
        "join": {"end_of_log": "close"},
        "replay": {"batch_rows": rows},
        "learner": {
            "label": "click", "bits": 10, "algorithm": algorithm,
            "features": {"numeric": {"price": form}}, **learner,
        },
    }  # fmt: skip
    result = headrace.replay(config, folder / f"out-{len(list(folder.iterdir()))}")
    return headrace.load_model(result.models["click"]), result.summary.learners["click"]


TYPICAL = pa.table({"price": [5.0, 20.0, 60.0]})


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("value", [1e15, 1e20, -1e300], ids=["1e15", "1e20", "-1e300"])
def test_one_value_moves_no_model(quickly, tmp_path, algorithm, value):
    """It is not learned, and counted; a click on it neither."""
    before, honest = replay(tmp_path, algorithm)
    after, learner = replay(tmp_path, algorithm, ("price", value))
    assert honest.outliers == {}
    assert learner.outliers == {"price": 1}
    moved = np.abs(after.predict_proba(TYPICAL) - before.predict_proba(TYPICAL))
    assert moved.max() < 0.02


@pytest.mark.parametrize("form", ["linear", "log"])
def test_a_weight_far_beyond_the_others_is_not_learned(quickly, tmp_path, form):
    """Nor one whose gradient would not be finite."""
    before, _ = replay(tmp_path, form=form, weight="bid")
    for value in (1e6, 1e38, 1e300):
        after, learner = replay(tmp_path, value=("bid", value), form=form, weight="bid")
        assert learner.outliers == {"bid": 1}
        moved = np.abs(after.predict_proba(TYPICAL) - before.predict_proba(TYPICAL))
        assert moved.max() < 0.02


def test_an_offset_beyond_any_odds_is_not_learned(quickly, tmp_path):
    """It is among those that are refused."""
    _, learner = replay(tmp_path, value=("bid", 1e300), offset="bid")
    assert learner.refused == 1
    assert np.isfinite(learner.log_loss)


def test_what_is_not_learned_depends_on_no_block(quickly, tmp_path):
    """The model has the same bytes."""
    found = [
        replay(tmp_path, value=("price", 1e9), rows=rows)[1].model.sha256 for rows in (7, 100_000)
    ]
    assert found[0] == found[1]


def judge(*numbers, weight=1.0):
    """Return which numbers are far beyond those before them."""
    values = np.array(numbers, np.float64)
    far = Outliers(["x"]).judge("x", values, np.full(values.size, weight))
    return values[far].tolist()


def test_twice_the_largest_thousandth_may_be_too_much():
    """Of powers of two: 100 is below 2^7, so that anything below 2^8 is usual."""
    assert judge(*[100.0] * 1_000, 255.0) == []
    assert judge(*[100.0] * 1_000, 256.0, -1e300) == [256.0, -1e300]
    assert judge(*[1e-6] * 1_000, 1.0) == [1.0]


def test_zeros_and_nulls_say_nothing_of_a_column():
    """So one that is mostly zero is judged by its other values."""
    assert judge(*[0.0, np.nan, np.inf, 7.0] * 500) == []


def test_a_column_may_change():
    """Once more than a thousandth of its values are of another size, they are usual."""
    assert len(judge(*[1.0] * 10_000, *[1e6] * 5_000)) == pytest.approx(10, abs=2)


def test_the_first_numbers_are_judged_by_a_constant():
    """And the first hundreds by all but two of them."""
    assert judge(1e3, 1e4, *[1.0] * 13) == [1e4]
    assert judge(*[1.0] * 40, *[50.0] * 5) == [50.0] * 3


def test_the_state_of_outliers_can_be_exported():
    """A restored one judges as the first does."""
    first, second = Outliers(["x"]), Outliers(["x"])
    some = np.abs(np.random.default_rng(0).normal(size=500))
    first.judge("x", some, np.ones(500))
    second.restore(first.export())
    assert second.export() == first.export()
    assert second.judge("x", some * 4, np.ones(500)).tolist() == (
        first.judge("x", some * 4, np.ones(500)).tolist()
    )
