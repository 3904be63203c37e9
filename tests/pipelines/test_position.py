"""Learners that are corrected for positions, on whole replays of traffic that is examined less."""

from __future__ import annotations

import json
import tomllib
from copy import deepcopy

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.learners.learner import probability
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs.behaviour import THETA
from headrace.pipelines.jobs.explaining import explain
from headrace.pipelines.jobs.generate import Traffic, write_traffic
from headrace.pipelines.jobs.weighing import rows_of, weigh
from headrace.schemas.errors import TableError

GIVEN = {"column": "position", "theta": list(THETA)}
FEATURES = {"categorical": ["device", "os", "site", "ad"], "numeric": {"price": "log"}}
WITH_POSITION = {**FEATURES, "categorical": [*FEATURES["categorical"], "position"]}


def tables(folder, **learners):
    """Return the configuration of a generated log, with other learners."""
    found = tomllib.loads((folder / "headrace.toml").read_text())
    for stream in (found["impressions"], found["actions"]["click"]):
        stream["path"] = str(folder / stream["path"])
    del found["learner"]
    found["sampling"]["negative_rate"] = 1.0
    base = {"label": "click", "algorithm": "probit", "bits": 18, "features": FEATURES}
    found["learners"] = {name: {**base, **keys} for name, keys in learners.items()}
    return found


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """A million impressions, with learners that know of positions and one that does not."""
    folder = tmp_path_factory.mktemp("log")
    write_traffic(Traffic(1_000_000, rate=50, clean=True, examination=True), folder)
    by_slice = {"column": "position", "from": "randomised"}
    config = tables(
        folder,
        naive={},
        given={"position": {**GIVEN, "method": "offset"}},
        estimated={"position": {**by_slice, "method": "offset"}},
        clicks={"position": {**GIVEN, "method": "clicks"}},
        feature={"position": {"column": "position", "method": "feature"},
                 "features": WITH_POSITION},
    )  # fmt: skip
    result = headrace.replay(config, folder / "out")
    truth = json.loads((folder / "truth.json").read_text())
    shown = pq.read_table(folder / "impressions.parquet")
    models = {name: headrace.load_model(folder / "out" / learner.model.path)
              for name, learner in result.summary.learners.items()}  # fmt: skip
    return result, models, shown, truth


def recovered(replayed, name):
    """Return the mean prediction of a model over the true mean relevance."""
    _, models, shown, truth = replayed
    return models[name].predict_proba(shown).mean() / truth["relevance"]


@pytest.mark.parametrize(
    ("name", "tolerance"), [("given", 0.03), ("estimated", 0.05), ("clicks", 0.08)]
)
def test_a_correction_recovers_the_relevance(replayed, name, tolerance):
    """Given theta better than estimated; clicks that weigh more are a little too low."""
    assert recovered(replayed, name) == pytest.approx(1.0, abs=tolerance)


def test_without_a_correction_relevance_is_far_too_low(replayed):
    """So the corrections have something to correct."""
    assert recovered(replayed, "naive") < 0.8


@pytest.mark.parametrize("name", ["given", "estimated", "clicks", "feature"])
def test_predictions_as_shown_are_of_clicks(replayed, name):
    """As are the figures of the run: those of a learner without a correction."""
    result, models, shown, truth = replayed
    rate = truth["clicks"] / truth["impressions"]
    last = shown.slice(800_000)  # all thetas are known
    p = models[name].predict_proba(last, as_shown=True)
    assert p.mean() / rate == pytest.approx(1.0, abs=0.08)
    for figures in (result.summary.learners[name], result.summary.learners[name].served):
        late = figures.windows[-20:]
        predicted = sum(window.calibration * window.positives for window in late)
        assert predicted / sum(window.positives for window in late) == pytest.approx(1, abs=0.08)


def test_a_position_that_is_corrected_predicts_clicks_better_than_none(replayed):
    """Knowing theta is worth more than not knowing the position at all."""
    learners = replayed[0].summary.learners
    assert learners["given"].served.log_loss < 0.98 * learners["naive"].served.log_loss


def test_theta_is_estimated_on_the_randomised_pages(replayed):
    """Within the noise of a tenth of the clicks, of which the last position has fewest."""
    result, models, _, _ = replayed
    theta = models["estimated"].theta
    np.testing.assert_allclose(theta, THETA, rtol=0.15)
    assert models["given"].theta == THETA
    assert models["naive"].theta == models["feature"].theta == ()
    # Between the first estimate and theirs, rows of rarer positions have no theta.
    assert 0 < result.summary.learners["estimated"].refused < 100_000
    assert any("learner estimated" in found and "theta" in found for found in result.findings)


@pytest.mark.parametrize("name", ["given", "clicks"])
def test_a_prediction_is_of_the_relevance_unless_it_is_asked_for_the_position(replayed, name):
    """Log theta is added then, and only then the column is needed."""
    _, models, shown, _ = replayed
    model, some = models[name], shown.slice(0, 1_000)
    without = some.drop_columns(["position", "randomised"])
    relevance = model.predict_proba(without)
    np.testing.assert_array_equal(model.predict_proba(some), relevance)
    log_theta = np.log(THETA)[some["position"].to_numpy() - 1]
    margin = np.log(relevance / (1 - relevance)) + log_theta
    np.testing.assert_allclose(model.predict_proba(some, as_shown=True), probability(margin))
    with pytest.raises(TableError, match="position"):
        model.predict_proba(without, as_shown=True)
    beyond = without.append_column("position", pa.array([6, None] * 500))
    assert np.isnan(model.predict_proba(beyond, as_shown=True)).all()
    with headrace.Scorer(replayed[0].out / replayed[0].summary.learners[name].model.path) as scorer:
        np.testing.assert_array_equal(scorer.predict_proba(without), relevance)
        np.testing.assert_array_equal(
            scorer.predict_proba(some, as_shown=True), model.predict_proba(some, as_shown=True)
        )


def test_a_feature_is_fixed_in_predictions(replayed, tmp_path):
    """To position 1, whether the table has positions or not; other rows change nothing."""
    _, models, shown, _ = replayed
    model, some = models["feature"], shown.slice(0, 1_000)
    first = np.flatnonzero(some["position"].to_numpy() == 1)
    moved = model.predict_proba(some)
    as_shown = model.predict_proba(some, as_shown=True)
    np.testing.assert_array_equal(moved[first], as_shown[first])
    assert (np.delete(moved, first) > np.delete(as_shown, first)).all()
    without = some.drop_columns(["position"])
    np.testing.assert_array_equal(model.predict_proba(without), moved)
    terms = {term.name for term in explain(model, without.slice(0, 1)).terms}
    assert "position=1" in terms
    csv.write_csv(some, tmp_path / "rows.csv")
    rows = rows_of(model, str(tmp_path / "rows.csv"))
    named = {name for weight in weigh(model, rows, 1_000_000).largest
             for name in weight.names}  # fmt: skip
    assert {f"position={position}" for position in range(1, 6)} <= named


def test_an_explanation_adds_up(replayed):
    """To the prediction of relevance: no part is of the position."""
    _, models, shown, _ = replayed
    row = shown.slice(7, 1)
    found = explain(models["given"], row)
    assert found.p == models["given"].predict_proba(row)[0]
    assert not [term.name for term in found.terms if "position" in term.name]
    assert sum(term.contribution for term in found.terms) == pytest.approx(found.margin)


def test_rows_are_scored_without_their_position_and_not_exported(replayed, tmp_path, capsys):
    """Lines of Vowpal Wabbit would be those of another learner."""
    result, models, shown, _ = replayed
    rows = shown.slice(0, 100).drop_columns(["position", "randomised"])
    pq.write_table(rows, tmp_path / "rows.parquet")
    model = str(result.out / result.summary.learners["given"].model.path)
    scored = str(tmp_path / "scored.parquet")
    assert main(["score", model, str(tmp_path / "rows.parquet"), "--out", scored]) == 0
    p = pq.read_table(scored)["p"].to_numpy()
    np.testing.assert_array_equal(p, models["given"].predict_proba(rows))
    capsys.readouterr()
    assert main(["export", model, "--vw", str(tmp_path / "x.vw")]) == 2
    assert "is corrected for positions" in capsys.readouterr().err


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Twenty thousand impressions with every fault, most of which are clicked."""
    folder = tmp_path_factory.mktemp("small")
    write_traffic(Traffic(20_000, rate=5, click_rate=0.5, examination=True), folder)
    return folder


def test_neither_shards_nor_blocks_nor_epochs_change_an_estimate(small, tmp_path):
    """Nor anything that is learned with it, also when negatives are dropped."""
    found = {}
    for number, (shards, rows, epoch) in enumerate([(2, 65_536, "10s"), (3, 700, "47s")]):
        position = {"column": "position", "method": "offset", "from": "randomised"}
        config = tables(small, click={"position": position, "epoch": epoch, "bits": 12})
        config["sampling"] |= {"negative_rate": 0.3}
        config["join"]["shards"] = shards
        config["replay"] = {"batch_rows": rows}
        result = headrace.replay(config, tmp_path / str(number))
        learner = result.summary.learners["click"]
        model = headrace.load_model(result.out / learner.model.path)
        assert len(model.theta) == 4  # the fifth has too few clicks
        served = learner.served.log_loss, learner.served.samples
        found[number] = learner.model.sha256, model.theta, learner.refused, served
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"method": "offset"}, '"offset" needs theta, or from, and not both'),
        ({"method": "offset", "theta": [1], "from": "randomised"}, "and not both"),
        ({"method": "feature", "theta": [1]}, '"feature" needs no theta'),
        ({"method": "offset", "theta": []}, "learners.click.position.theta"),
        ({"method": "offset", "theta": [1, 0]}, "greater than 0"),
        ({"method": "offset", "theta": [1], "clip": 5}, 'clip is of method = "clicks"'),
        ({"method": "clicks", "theta": [1], "at": 2}, 'at is of method = "feature"'),
        ({"method": "clicks", "theta": [1], "clip": 0.5}, "greater than or equal to 1"),
        ({"method": "feature"}, "is to be a feature, and is none"),
        ({"method": "offset", "theta": [1], "column": "device"}, "a feature too"),
        ({"method": "offset", "theta": [1], "column": "request_id"}, "not a number"),
        ({"method": "offset", "theta": [1], "column": "place"}, "no such impression column"),
        ({"method": "offset", "from": "hour"}, "not true or false"),
        ({"method": "inverse", "theta": [1]}, "learners.click.position.method"),
    ],
)
def test_a_correction_that_cannot_be_is_refused(small, keys, said):
    """In one line, before anything is read."""
    config = tables(small, click={"position": {"column": "position", **keys}})
    with pytest.raises(headrace.ConfigError) as caught:
        headrace.validate(config)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "more", "said"),
    [
        ("join", {"emission": "immediate"}, "learners.click.position.from: needs labels that"),
        ("learners.click", {"calibration": {"kind": "sigmoid", "by": "position"}},
         "learners.click.calibration.by: is the position"),
    ],
)  # fmt: skip
def test_a_correction_that_does_not_go_with_another_key_is_refused(small, table, more, said):
    """It names the key that has to change."""
    position = {"column": "position", "method": "offset", "from": "randomised"}
    config = deepcopy(tables(small, click={"position": position}))
    changed = config["learners"]["click"] if table == "learners.click" else config["join"]
    changed.update(more)
    with pytest.raises(headrace.ConfigError) as caught:
        headrace.validate(config)
    assert said in str(caught.value)


def test_a_calibration_is_of_clicks_and_predictions_are_as_at_position_1(small, tmp_path):
    """The map is fitted to margins with log theta, and applied to those without."""
    position = {**GIVEN, "method": "offset"}
    keys = {"position": position, "calibration": "sigmoid", "bits": 12}
    config = tables(small, click=keys)
    config["monitor"]["served_share"] = 1.0
    result = headrace.replay(config, tmp_path / "out")
    model = headrace.load_model(result.out / result.summary.learners["click"].model.path)
    shown = pq.read_table(small / "impressions.parquet")
    first = shown.filter(pa.array(shown["position"].to_numpy() == 1))
    np.testing.assert_array_equal(
        model.predict_proba(first), model.predict_proba(first, as_shown=True)
    )
    assert model.prepare(first).calibration is not None
