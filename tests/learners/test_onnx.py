"""Graphs of ONNX predict what the learner predicts."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.learners.features import FeatureRows
from headrace.learners.onnx import linear_graph
from tests.learners.test_naming import learned

onnxruntime = pytest.importorskip("onnxruntime", reason="needs headrace[onnx] and onnxruntime")
onnx = pytest.importorskip("onnx")


def run(graph, rows, shift):
    session = onnxruntime.InferenceSession(graph)
    given = {
        "starts": rows.starts,
        "indices": rows.indices.astype(np.int64),
        "values": rows.values,
        "shift": shift,
    }
    return session.run(["margin", "p"], given)


@pytest.mark.parametrize("name", ["ftrl", "sgd"])
def test_the_graph_of_a_linear_learner_predicts_what_it_predicts(name):
    """Log-odds to the bit; rows of any number of features, also a single one."""
    learner, rows = learned(name)
    shift = np.linspace(-2, 2, rows.starts.size - 1)
    graph = linear_graph(learner, {"sha256": "abc"})
    said = onnx.load_from_string(graph).metadata_props
    assert {prop.key: prop.value for prop in said} == {"sha256": "abc"}
    margin, p = run(graph, rows, shift)
    expected = learner.predict(rows) + shift
    np.testing.assert_array_equal(margin, expected)
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-expected)), rtol=1e-14)
    one = FeatureRows(np.array([0, 1]), rows.indices[:1], rows.values[:1])
    margin, _ = run(graph, one, np.zeros(1))
    np.testing.assert_array_equal(margin, learner.predict(one))


@pytest.mark.parametrize("name", ["probit", "ffm"])
def test_a_learner_that_is_not_linear_is_refused(name):
    with pytest.raises(ValueError, match="is not linear; ONNX is written of ftrl and sgd"):
        linear_graph(learned(name, 20)[0], {})
