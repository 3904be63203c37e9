"""A learner from elsewhere: a class and an entry in a registry are enough."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import Field

from headrace.learners.registry import ALGORITHMS, Algorithm, parameter_models
from headrace.learners.snapshot import load_snapshot
from headrace.pipelines.app.commands import quiet_beam
from headrace.pipelines.jobs.generate import Traffic, write_traffic
from headrace.pipelines.sources.inputs import resolve
from headrace.schemas.config.loading import load_config
from headrace.schemas.config.models import Model
from headrace.schemas.errors import ConfigError, SnapshotError
from tests.learners.conformance import CHECKS, Subject


class PlainParameters(Model):
    rate: float = Field(default=0.05, gt=0)


class Plain:
    """Logistic regression by stochastic gradient descent, a row at a time."""

    version = 1
    weight = "gradient"

    def __init__(self, parameters, bits):
        self.parameters, self.bits = parameters, bits
        self.w = np.zeros(1 << bits)
        self.state_bytes = self.w.nbytes

    def learn(self, rows, order, label, importance, offset, discount=()):
        margins = np.empty(order.size)
        for at, row in enumerate(order):
            index, value, margins[at] = self._margin(rows, row)
            p = 1 / (1 + np.exp(-(margins[at] + offset[at])))
            weight = importance[at]
            if len(discount) and label[at] == 0:
                weight /= 1 + np.exp(margins[at] + discount[at])
            np.add.at(self.w, index, self.parameters.rate * weight * (label[at] - p) * value)
        return margins

    def predict(self, rows):
        return np.array([self._margin(rows, row)[2] for row in range(rows.starts.size - 1)])

    def _margin(self, rows, row):
        here = slice(rows.starts[row], rows.starts[row + 1])
        index, value = rows.indices[here], rows.values[here] if rows.values.size else np.float32(1)
        return index, value, (self.w[index] * value).sum()

    def export(self):
        return {"w": self.w}

    def restore(self, arrays):
        self.w = arrays["w"].copy()

    def figures(self):
        return {"nonzero_weights": int(np.count_nonzero(self.w))}


EXTENDED = {**ALGORITHMS, "plain": Algorithm(PlainParameters, Plain)}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_learner_from_elsewhere_passes_the_checks_of_all_learners(check, tmp_path):
    """The suite uses nothing but the protocol."""
    check(Subject("plain", EXTENDED["plain"], PlainParameters(), tmp_path))


class Forgetful(Plain):
    """Loses precision when it is restored."""

    def restore(self, arrays):
        self.w = arrays["w"].astype(np.float32).astype(np.float64)


class Curious(Plain):
    """Changes its state when it predicts."""

    def predict(self, rows):
        self.w[0] += 1e-9
        return super().predict(rows)


class Batchwise(Plain):
    """Learns all rows of a call from the weights at its beginning."""

    def learn(self, rows, order, *given):
        margins, start, step = [], self.w.copy(), np.zeros_like(self.w)
        for at in range(order.size):
            self.w = start.copy()
            margins.append(
                super().learn(rows, order[at : at + 1], *(x[at : at + 1] for x in given))
            )
            step += self.w - start
        self.w = start + step
        return np.concatenate([np.empty(0), *margins])


class Hoarder(Plain):
    """Keeps all rows that it learned."""

    def learn(self, rows, *given):
        self.hoard = [*getattr(self, "hoard", []), rows.indices]
        return super().learn(rows, *given)


class Deaf(Plain):
    """Ignores weights."""

    def learn(self, rows, order, label, importance, offset, discount=()):
        return super().learn(rows, order, label, np.ones(order.size), offset, discount)


class Repetitive(Plain):
    """Declares that a weight repeats a row, which a gradient step does not do."""

    weight = "repetition"


class Proportional(Plain):
    """Declares that a weight is a power of the likelihood, and steps in proportion to it."""

    weight = "likelihood"


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (Forgetful, {"learning_continues_from_a_snapshot_bit_for_bit",
                     "restoring_replaces_the_whole_state"}),
        (Curious, {"predict_is_pure", "a_weight_of_zero_changes_nothing"}),
        (
            Batchwise,
            {
                "cuts_change_nothing",
                "learning_continues_from_a_snapshot_bit_for_bit",
                "a_discount_weighs_negatives_by_their_predictions",
            },
        ),
        (Hoarder, {"memory_is_bounded"}),
        (
            Deaf,
            {
                "a_weight_of_zero_changes_nothing",
                "a_weight_has_its_declared_effect",
                "a_discount_weighs_negatives_by_their_predictions",
            },
        ),
        (Repetitive, {"a_weight_has_its_declared_effect"}),
        (Proportional, {"a_weight_has_its_declared_effect"}),
    ],
    ids=["loses precision on restoring", "changes on predicting", "learns a call as one batch",
         "keeps all rows", "ignores weights", "declares that a weight repeats",
         "declares that a weight is a power"],
)  # fmt: skip
def test_a_learner_with_one_fault_fails_the_checks_of_that_fault(broken, checks, tmp_path):
    """And no others."""
    failed = set()
    for check in CHECKS:
        try:
            check(Subject("plain", Algorithm(PlainParameters, broken), PlainParameters(), tmp_path))
        except AssertionError:
            failed.add(check.__name__)
    assert failed == checks


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """A small log, and a configuration with three learners."""
    quiet_beam()
    folder = tmp_path_factory.mktemp("log")
    write_traffic(Traffic(impressions=1_500, rate=1, seed=3, click_rate=0.2), folder)
    path = folder / "headrace.toml"
    text = path.read_text()
    begin, end = text.index("[learner]"), text.index("[monitor]")
    path.write_text(
        f"""{text[:begin]}
[learners.click]
label = "click"
alpha = 0.05
bits = 10
features.categorical = ["device", "position"]

[learners.slow]
label = "click"
algorithm = "plain"
bits = 10
rate = 0.01
epoch = "3s"
features.categorical = ["device", "position"]

[learners.wide]
label = "click"
algorithm = "plain"
bits = 12
features = {{ categorical = ["ad", "site"], numeric = {{ price = "log" }} }}

{text[end:]}"""
    )
    return path


def replay(config: Path, out: Path) -> dict:
    from headrace.pipelines.jobs.replay import replay
    from headrace.pipelines.run.folder import opened

    inputs = resolve(load_config(config, parameter_models(EXTENDED)), EXTENDED)
    with opened(out, inputs.files) as place:
        return replay(inputs, place).summary


def test_a_learner_from_elsewhere_learns_in_a_replay(config, tmp_path):
    """Beside others, with a snapshot that can be loaded by a registry with its algorithm."""
    summary = replay(config, tmp_path / "out")
    learners = summary["learners"]
    assert {name: learner["algorithm"] for name, learner in learners.items()} == {
        "click": "ftrl", "slow": "plain", "wide": "plain",
    }  # fmt: skip
    for learner in learners.values():
        assert learner["samples"] == summary["samples"]["rows"] > 700
        assert learner["model"]["figures"]["nonzero_weights"] > 0
    assert len({learner["log_loss"] for learner in learners.values()}) == 3
    folder = tmp_path / "out" / learners["slow"]["model"]["path"]
    assert folder.parent == tmp_path / "out" / "model" / "slow"
    learner, manifest = load_snapshot(folder, EXTENDED)
    assert manifest["sha256"] == learners["slow"]["model"]["sha256"]
    assert manifest["parameters"] == {"rate": 0.01}
    assert learner.parameters == PlainParameters(rate=0.01)
    with pytest.raises(
        SnapshotError,
        match=r"expected an algorithm of \['ffm', 'ftrl', 'probit', 'sgd'\] \(got 'plain'\)",
    ):
        load_snapshot(folder)
    report = (tmp_path / "out" / "report.html").read_text()
    assert [f"Learner {name}: " in report for name in learners] == [True] * 3


def test_a_model_does_not_depend_on_other_learners(config, tmp_path):
    """Alone, in the short form and with another epoch, the model is the same."""
    among = replay(config, tmp_path / "among")["learners"]["click"]
    text = config.read_text()
    alone = config.with_name("alone.toml")
    begin, end = text.index("[learners.slow]"), text.index("[monitor]")
    alone.write_text(text[:begin].replace("[learners.click]", "[learner]") + text[end:])
    assert replay(alone, tmp_path / "alone")["learners"] == {"click": among}
    named = config.with_name("named.toml")
    named.write_text(text[:begin] + text[end:])
    replay(named, tmp_path / "named")
    manifest = Path(among["model"]["path"]) / "manifest.json"
    found = [(tmp_path / run / manifest).read_text() for run in ("alone", "named")]
    assert found[0] == found[1]
    assert list(json.loads(found[0])["config"]["learners"]) == ["click"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('algorithm = "plain"\nbits = 10', 'algorithm = "palin"\nbits = 10',
         "learners.slow.algorithm: there is no learner of this name (got 'palin'); "
         "use one of ffm, ftrl, plain, probit, sgd"),
        ("rate = 0.01", "rate = 0.0",
         "learners.slow.rate: input should be greater than 0 (got 0.0); "
         "use a value above 0, for a rate at most 1"),
        ("rate = 0.01", "alpha = 0.1",
         "learners.slow.alpha: unknown key (got 0.1); use one of admit, algorithm, "
         "bits, calibration, delay, epoch, expire, features, filter, label, offset, position, "
         "rate, table, weight"),
        ("rate = 0.01", "rates = 0.1",
         "learners.slow.rates: unknown key (got 0.1); did you mean rate?"),
    ],
    ids=["an unknown algorithm", "a parameter out of range", "a parameter of another algorithm",
         "a misspelt parameter"],
)  # fmt: skip
def test_an_error_in_the_table_of_a_learner_from_elsewhere_is_named(config, old, new, message):
    """With file, key path, value and hint, by the model of its parameters."""
    wrong = config.with_name("wrong.toml")
    wrong.write_text(config.read_text().replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_config(wrong, parameter_models(EXTENDED))
    assert str(caught.value) == f"{wrong}: {message}"


def test_a_learner_from_elsewhere_may_be_unable_to_have_an_exact_table(config):
    """It is refused before anything is read."""
    text, wrong = config.read_text(), config.with_name("exact.toml")
    wrong.write_text(text.replace("rate = 0.01", 'rate = 0.01\ntable = "exact"'))
    with pytest.raises(ConfigError) as caught:
        resolve(load_config(wrong, parameter_models(EXTENDED)), EXTENDED)
    assert str(caught.value) == (
        f"{wrong}: learners.slow.table: plain can have no such table (got 'exact'); use \"hashed\""
    )


def test_its_log_can_be_studied(config):
    """Choosing a window asks for nothing of learners, whatever they are."""
    from headrace.pipelines.app import api

    (click,) = api.study_windows(config, longest="30m", algorithms=EXTENDED)
    assert click.impressions > 1_000
