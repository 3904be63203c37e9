"""Lines that Vowpal Wabbit reads as they are meant."""

from __future__ import annotations

from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from hypothesis import given

from headrace.learners.features import FeatureEncoder
from headrace.learners.naming import feature_names
from headrace.learners.vowpal import vowpal_lines
from tests.learners.test_naming import FEATURES, rows, table

CONSTANT = 128
"""Namespace of the intercept."""

ENCODER = FeatureEncoder(FEATURES, 12)


def test_a_line_has_label_importance_and_a_namespace_for_each_column():
    """Names are those of weights and explanations; what would end a name is escaped."""
    batch = table([
        {"site": "a:b |c%", "n": 7, "tags": ["x", "y"], "words": None, "price": 2.5, "age": 18.0},
        {"site": None, "n": 1, "tags": [], "words": "u", "price": 1.0, "age": 2.0},
        {"site": "é\n", "n": 1, "tags": [], "words": "u", "price": float("nan"), "age": 2.0},
    ])  # fmt: skip
    label = pa.array([True, False, None])
    lines = vowpal_lines(ENCODER, batch, label, np.array([0.1, 2, 1]), np.array([0, -1.5, 0]))
    assert lines.to_pylist() == [
        "1 0.1 0 |site site=a%3Ab%20%7Cc%25 |n n=7 |n*site n*site=7*a%3Ab%20%7Cc%25 "
        "|price price:2.5 |age age%20in%20[18,%2030) |tags tags=x tags=y |words words%20is%20null "
        "|site*tags*n site*tags*n=a%3Ab%20%7Cc%25*x*7 site*tags*n=a%3Ab%20%7Cc%25*y*7",
        "-1 2 -1.5 |site site%20is%20null |n n=1 |n*site n*site=1*null |price price "
        "|age age%20<%2018 |words words=u",
        "|site site=é%0A |n n=1 |n*site n*site=1*é%0A |price price%20is%20null |age age%20<%2018 "
        "|words words=u",
    ]
    plain = vowpal_lines(ENCODER, batch).to_pylist()
    assert plain[1].startswith("|site")


@given(rows)
def test_names_are_read_back_from_lines(found):
    """Each feature of a row but the intercept, in its order."""
    batch = table(found)
    names = [name for name in feature_names(FEATURES, batch).to_pylist() if name != "intercept"]
    read = []
    for line in vowpal_lines(ENCODER, batch).to_pylist():
        words = [word for word in line.split(" ") if not word.startswith("|")]
        read += [unquote(word.partition(":")[0]) for word in words]
    assert read == names


def test_vowpal_wabbit_reads_every_feature():
    """In its namespace and with its value."""
    from vowpalwabbit import Workspace

    batch = table([
        {"site": "a:b |c%", "n": 7, "tags": ["x", "y"], "words": None, "price": -2.5, "age": 18.0},
        {"site": "b", "n": 1, "tags": [], "words": "u,v", "price": 1e12, "age": 2.0},
    ])  # fmt: skip
    lines = vowpal_lines(ENCODER, batch, pa.array([True, False]), np.array([2.0, 0.5]))
    vw = Workspace("--quiet --loss_function logistic")
    features = ENCODER.encode(batch)
    given = zip(lines.to_pylist(), (1, -1), (2, 0.5), strict=True)
    for row, (line, label, weight) in enumerate(given):
        example = vw.parse(line)
        read = (example.get_simplelabel_label(), example.get_simplelabel_weight())
        assert read == (label, weight)
        values = [example.feature_weight(space, at) for space in range(example.num_namespaces())
                  if example.get_ns(space).ord_ns != CONSTANT
                  for at in range(example.num_features_in(space))]  # fmt: skip
        expected = features.values[features.starts[row] + 1 : features.starts[row + 1]]
        np.testing.assert_array_equal(np.sort(values), np.sort(expected))
        vw.finish_example(example)
    vw.finish()
