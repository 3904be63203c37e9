"""Names, weights and contributions of features."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.learners.contributions import contributions
from headrace.learners.exact import CODE_BITS, ExactTable
from headrace.learners.features import FeatureEncoder, Features, MultiValued
from headrace.learners.naming import feature_names
from headrace.learners.registry import ALGORITHMS
from headrace.learners.weights import feature_effects, feature_weights, touched_weights
from tests.learners.test_ffm import slot

FEATURES = Features(
    categorical=("site", "n"),
    multi_valued=(MultiValued("tags"), MultiValued("words", ",")),
    numeric={"price": "linear", "age": (18.0, 30.0)},
    crosses=(("site", "tags", "n"), ("n", "site")),
)
TYPES = {
    "site": pa.string(), "n": pa.int64(), "tags": pa.list_(pa.string()), "words": pa.string(),
    "price": pa.float64(), "age": pa.float64(),
}  # fmt: skip

BITS = 16
"""With so many no two of these features collide."""

text = st.sampled_from(["a", "b", "", "x,y", None])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "site": text,
            "n": st.sampled_from([1, 2, None]),
            "tags": st.one_of(st.none(), st.lists(text, max_size=3)),
            "words": text,
            "price": st.sampled_from([0.0, -2.5, 1e12, float("nan"), None]),
            "age": st.sampled_from([3.0, 18.0, 29.9, 30.0, float("inf"), None]),
        }
    ),
    max_size=7,
)


def table(found):
    return pa.RecordBatch.from_pylist(found, pa.schema(list(TYPES.items())))


@given(rows)
def test_a_name_stands_for_a_hash(found):
    """There is one for each feature, and names differ where hashes do."""
    batch = table(found)
    encoded = FeatureEncoder(FEATURES, 30).encode(batch)
    names = feature_names(FEATURES, batch).to_pylist()
    assert len(names) == encoded.indices.size
    pairs = set(zip(names, encoded.indices.tolist(), strict=True))
    assert len(pairs) == len(set(names)) == len(set(encoded.indices.tolist()))


def test_names_say_column_and_value():
    """In the order of the features of a row."""
    batch = table([
        {"site": "a", "n": 7, "tags": ["x", None], "words": "u,,v", "price": 2.0, "age": 18.0},
        {"site": None, "n": None, "tags": None, "words": None, "price": None, "age": 2.0},
        {"site": "", "n": -1, "tags": [], "words": "", "price": 1.0, "age": 31.0},
    ])  # fmt: skip
    assert feature_names(FEATURES, batch).to_pylist() == [
        "intercept", "site=a", "n=7", "n*site=7*a", "price", "age in [18, 30)", "tags=x",
        "tags is null", "words=u", "words=", "words=v", "site*tags*n=a*x*7", "site*tags*n=a*null*7",
        "intercept", "site is null", "n is null", "n*site=null*null", "price is null", "age < 18",
        "tags is null", "words is null", "site*tags*n=null*null*null",
        "intercept", "site=", "n=-1", "n*site=-1*", "price", "age >= 30", "words=",
    ]  # fmt: skip
    kinds = {
        "blob": pa.array([b"\x00\xff", None]), "day": pa.array([0, None], pa.date32()),
        "on": pa.array([True, None]), "spent": pa.array([5, None], pa.duration("s")),
    }  # fmt: skip
    batch = pa.RecordBatch.from_pydict(kinds)
    assert feature_names(Features(tuple(kinds)), batch).to_pylist()[:5] == [
        "intercept", "blob=0x00ff", "day=1970-01-01", "on=true", "spent=5",
    ]  # fmt: skip


def learned(name, count=400, plan=None, **parameters):
    """Return a learner and what it has learned; with an exact table the rows have codes."""
    random = np.random.default_rng(5)
    batch = table([
        {
            "site": str(random.choice(["a", "b", "c"])), "n": int(random.integers(3)),
            "tags": random.choice(["x", "y", "z"], random.integers(3)).tolist(),
            "words": "u,v", "price": float(random.normal()), "age": float(random.integers(50)),
        }
        for _ in range(count)
    ])  # fmt: skip
    bits = BITS if plan is None else CODE_BITS
    encoded = FeatureEncoder(FEATURES, bits).encode(batch)
    algorithm = ALGORITHMS[name]
    learner = algorithm.make(algorithm.parameters.model_validate(parameters), bits, plan)
    label = (random.random(count) < 0.4).astype(float)
    learner.learn(encoded, np.arange(count), label, np.ones(count), np.zeros(count))
    return learner, encoded


@pytest.mark.parametrize("plan", [None, ExactTable(), ExactTable(admit=20)])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_contributions_add_up_to_the_margin(name, plan):
    """Of linear learners to the last bit; factors are multiplied in 32 bits."""
    learner, encoded = learned(name, plan=plan)
    margin = learner.predict(encoded)
    parts = contributions(learner, encoded, margin)
    sums = [np.add.accumulate(parts.features[a:b])[-1]
            for a, b in zip(encoded.starts[:-1], encoded.starts[1:], strict=True)]  # fmt: skip
    if name in ("ftrl", "sgd"):
        np.testing.assert_array_equal(sums, margin)
    np.testing.assert_allclose(
        sums + np.bincount(parts.row, parts.pairs, margin.size), margin, rtol=1e-5, atol=1e-7
    )
    counting = encoded if plan is None else learner.located(encoded)
    assert parts.pairs.size == (name == "ffm") * (
        sum(width * (width - 1) // 2 for width in np.diff(counting.starts))
    )
    assert (counting.indices.size < encoded.indices.size) == (plan == ExactTable(admit=20))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_exact_table_takes_a_margin_apart_as_a_hashed_one(name):
    """Without collisions to the bit; but for factors, which do not begin alike."""
    (learner, codes), (hashed, encoded) = (learned(name, plan=plan)
                                           for plan in (ExactTable(), None))  # fmt: skip
    found, expected = (contributions(one, rows, one.predict(rows))
                       for one, rows in ((learner, codes), (hashed, encoded)))  # fmt: skip
    for column in ("row", "first", "second"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
    if name != "ffm":
        np.testing.assert_array_equal(found.features, expected.features)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_an_exact_table_does_not_admit_adds_nothing(name):
    """It has the weight 0, is in no pair, and a row of nothing else has the margin 0."""
    learner, encoded = learned(name, count=60, plan=ExactTable(admit=12))
    admitted = np.isin(encoded.indices, learner.export()["code"])
    assert 0 < admitted.sum() < admitted.size
    parts = contributions(learner, encoded, learner.predict(encoded))
    assert (parts.features[~admitted] == 0).all()
    assert (feature_weights(learner, encoded.indices)[~admitted] == 0).all()
    assert admitted[parts.first].all()
    assert admitted[parts.second].all()
    unknown = FeatureEncoder(Features(("site",)), CODE_BITS).encode(
        pa.RecordBatch.from_pydict({"site": ["a", "a"]})
    )
    empty, _ = learned(name, count=0, plan=ExactTable(admit=2))
    parts = contributions(empty, unknown, empty.predict(unknown))
    assert parts.features.tolist() == [0, 0, 0, 0]
    assert parts.pairs.size == 0


def test_a_pair_adds_the_product_of_its_factors():
    """Equation 4 of the paper, over the sum of squared values; computed from the model's arrays."""
    learner, encoded = learned("ffm", count=30)
    parts = contributions(learner, encoded, learner.predict(encoded))
    fields = encoded.fields()

    def factors(feature, field):
        place = slot(int(encoded.indices[feature]), int(field), BITS)
        return learner.factors[place].astype(np.float64)

    for row, a, b, effect in zip(parts.row, parts.first, parts.second, parts.pairs, strict=True):
        values = encoded.values[encoded.starts[row] : encoded.starts[row + 1]].astype(np.float64)
        product = factors(a, fields[b]) @ factors(b, fields[a])
        x = float(encoded.values[a]) * float(encoded.values[b])
        np.testing.assert_allclose(effect, product * x / (values @ values), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_weights_are_those_of_the_arrays(name):
    """Of all coordinates that were learned, and of no others."""
    learner, encoded = learned(name)
    arrays = learner.export()
    parts = zip(*touched_weights(learner), strict=True)
    indices, weights = (np.concatenate(part) for part in parts)
    np.testing.assert_array_equal(indices, arrays["index"])
    if name == "ftrl":
        expected = learner.weights()[indices]
    else:
        expected = arrays["mean" if name == "probit" else "weight"]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    np.testing.assert_array_equal(feature_weights(learner, indices), weights)
    exact, codes = learned(name, plan=ExactTable())
    parts = zip(*touched_weights(exact), strict=True)
    found, own = (np.concatenate(part) for part in parts)
    np.testing.assert_array_equal(found, np.unique(codes.indices))
    # The low bits of a code are the index of a hashed table.
    order = np.argsort(found & np.uint64((1 << BITS) - 1))
    if name != "ffm":
        np.testing.assert_array_equal(own[order], weights)
    assert np.isin(encoded.indices, indices).all()
    effects = feature_effects(learner, encoded)
    np.testing.assert_allclose(
        effects, feature_weights(learner, encoded.indices) * encoded.values, rtol=1e-6, atol=1e-12
    )
