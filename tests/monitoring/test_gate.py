"""Whether a new model may take over, by the last window whose labels are final."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.monitoring.gate import Gate, GatePlan

HOUR = 3_600_000_000


def observed(candidate=lambda s: s, serving=lambda s: s, rows=20_000, plan=None, hours=3):
    """Return a gate that has seen labels drawn by log-odds of which both models know something."""
    random = np.random.default_rng(1)
    truth = random.normal(-2, 1, rows)
    label = (random.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.float64)
    time = np.sort(random.integers(0, hours * HOUR, rows))
    gate = Gate(plan or GatePlan(), HOUR)
    gate.observe(time, label, candidate(truth), serving(truth))
    return gate, time, label, truth


def test_an_equal_model_is_accepted_by_the_last_whole_window():
    """With figures of both, on the rows of that window."""
    gate, time, label, truth = observed()
    found = gate.verdict()
    assert found.accepted
    assert found.window == HOUR
    inside = time // HOUR == 1
    assert found.impressions == inside.sum()
    assert found.positives == label[inside].sum()
    p = 1 / (1 + np.exp(-truth[inside]))
    loss = -np.where(label[inside] > 0, np.log(p), np.log(1 - p)).mean()
    assert found.candidate.log_loss == pytest.approx(loss)
    assert found.candidate == found.serving


@pytest.mark.parametrize(
    ("candidate", "serving", "reasons"),
    [
        (lambda s: s + 0.5, lambda s: s, ["log loss", "times the labels"]),
        (lambda s: s, lambda s: s + 0.5, []),
        (lambda s: s + 0.3, lambda s: s + 0.5, []),
        (lambda s: -1.7 + 0 * s, lambda s: s, ["log loss", "AUC"]),
        (lambda s: s + 0.05, lambda s: s, []),
        (lambda s: s - 40, lambda s: s, ["log loss", "times the labels", "AUC"]),
    ],
    ids=["too high", "better", "off, but less", "knows nothing", "hardly off", "far too low"],
)
def test_a_model_that_is_worse_is_refused(candidate, serving, reasons):
    """With a sentence for each figure that is too bad."""
    found = observed(candidate, serving)[0].verdict()
    assert found.accepted == (not reasons)
    assert len(found.reasons) == len(reasons)
    for reason, said in zip(reasons, found.reasons, strict=True):
        assert reason in said
    json.dumps(found.as_json(), allow_nan=False)


def test_how_much_worse_it_may_be_can_be_set():
    worse = GatePlan(entropy=1.0, calibration=2.0, auc=1.0)
    assert observed(lambda s: s + 0.5, plan=worse)[0].verdict().accepted
    strict = GatePlan(entropy=0.0, calibration=0.0, auc=0.0)
    assert not observed(lambda s: s + 0.05, plan=strict)[0].verdict().accepted


def test_nothing_is_said_of_too_few_positives():
    """Nor of nothing; a log of one window is judged by that."""
    assert Gate(GatePlan(), HOUR).verdict() is None
    assert observed(rows=300)[0].verdict() is None
    assert observed(hours=1)[0].verdict().window == 0


@given(st.lists(st.integers(0, 400), max_size=8), st.integers(0, 7))
def test_neither_cuts_nor_saving_change_a_verdict(sizes, saved):
    random = np.random.default_rng(2)
    rows = sum(sizes)
    time = np.sort(random.integers(0, 3 * HOUR, rows))
    label = (random.random(rows) < 0.5).astype(np.float64)
    one, other = random.normal(size=(2, rows))
    whole, parts, at = Gate(GatePlan(), HOUR), Gate(GatePlan(), HOUR), 0
    whole.observe(time, label, one, other)
    for number, size in enumerate(sizes):
        if number == saved:
            state = json.loads(json.dumps(parts.export()))
            parts = Gate(GatePlan(), HOUR)
            parts.restore(state)
        here = slice(at, at + size)
        parts.observe(time[here], label[here], one[here], other[here])
        at += size
    assert parts.verdict() == whole.verdict()
