import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.learners.features import MAX_MAGNITUDE, FeatureEncoder, Features, MultiValued
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.pipelines.sources.plans import features_plan
from headrace.schemas.config.models import FeaturesConfig


def encode(config, columns, bits=20):
    return FeatureEncoder(features_plan(FeaturesConfig(**config)), bits).encode(
        pa.RecordBatch.from_pydict(columns)
    )


def rows_of(rows):
    return [
        rows.indices[a:b].tolist() for a, b in zip(rows.starts[:-1], rows.starts[1:], strict=True)
    ]


def test_equal_values_share_an_index_within_a_column_only():
    """The same value in two columns is two features."""
    rows = rows_of(
        encode({"categorical": ("a", "b")}, {"a": ["x", "y", "x"], "b": ["x", "x", "x"]})
    )
    intercept = {row[0] for row in rows}
    assert len(intercept) == 1
    assert rows[0] == rows[2]
    assert rows[0][1] != rows[1][1]
    assert rows[0][1] != rows[0][2]


def test_null_and_empty_text_are_different_values():
    """A null is a value of its own."""
    rows = rows_of(encode({"categorical": ("a",)}, {"a": ["", None, "0"]}))
    assert len({row[1] for row in rows}) == 3


def test_each_item_of_a_list_is_a_feature():
    """Lists and separated text give the same features; an empty list gives none."""
    lists = pa.array([["x", "y"], [], None, ["y"]])
    text = pa.array(["x y", "", None, "y"])
    whole = encode({"multi_valued": ({"column": "t"},)}, {"t": lists})
    assert whole.starts.tolist() == [0, 3, 4, 6, 8]
    rows = rows_of(whole)
    assert rows[3][1] == rows[0][2]
    parts = rows_of(encode({"multi_valued": ({"column": "t"},)}, {"t": text}))
    assert [parts[0], *parts[2:]] == [rows[0], *rows[2:]]
    assert len(parts[1]) == 2  # a text has one part at least, here the empty one


def test_each_feature_knows_its_field():
    """All items of a list are of one field, and all combinations of a cross with a list."""
    columns = {
        "a": ["x", "y", "x"],
        "t": pa.array([["x", "y"], [], None]),
        "n": [1.0, 2.0, None],
    }
    config = {
        "categorical": ("a",),
        "multi_valued": ({"column": "t"},),
        "numeric": {"n": "linear"},
        "crosses": (("a", "n"), ("a", "t")),
    }
    whole = encode(config, columns)
    fields = whole.fields()
    assert fields.dtype == np.uint16
    ends = whole.starts[1:]
    assert [fields[a:b].tolist() for a, b in zip(whole.starts, ends, strict=False)] == [
        [0, 1, 2, 3, 4, 4, 5, 5],
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4, 5],
    ]
    assert encode({"categorical": ("a",)}, columns).fields().tolist() == [0, 1] * 3
    assert encode(config, {"a": pa.array([], pa.string()), "t": pa.array([], pa.list_(pa.string())),
                           "n": pa.array([], pa.float64())}).fields().size == 0  # fmt: skip


def test_a_null_list_is_one_feature():
    """It is that of a null item, whatever slices and other columns there are."""
    lists = pa.array([["x"], None, [], [None, "y"], None, ["z"]])
    columns = {"t": lists, "u": pa.array([None, "a b", None, "", "c", None])}
    config = {"multi_valued": ({"column": "t"}, {"column": "u"})}
    whole = encode(config, columns)
    rows = rows_of(whole)
    assert [len(row) - 1 for row in rows] == [2, 3, 1, 3, 2, 2]
    null = rows[1][1]
    assert rows[3][1] == rows[4][1] == null
    assert rows[0][2] == rows[2][1] == rows[5][2] != null
    batch = pa.RecordBatch.from_pydict(columns)
    encoder = FeatureEncoder(features_plan(FeaturesConfig(**config)), 20)
    for begin in range(6):
        assert rows_of(encoder.encode(batch.slice(begin))) == rows[begin:]
    nothing = encode({"multi_valued": ({"column": "t"},)}, {"t": pa.nulls(2, lists.type)})
    assert rows_of(nothing) == [[rows[0][0], null]] * 2


def test_slices_of_lists_encode_as_copies():
    """A slice of lists starts in the middle of their values."""
    batch = pa.RecordBatch.from_pydict({"t": pa.array([["a"], ["b", "c"], ["d"]])})
    encoder = FeatureEncoder(Features(multi_valued=(MultiValued("t"),)), 20)
    assert rows_of(encoder.encode(batch.slice(1, 2))) == rows_of(encoder.encode(batch))[1:]


def test_a_number_is_a_value_a_logarithm_or_a_bucket():
    """As its form says; what is not a finite number is a feature of value 1."""
    numeric = {"x": "linear", "y": "log", "z": (0.0, 10.0)}
    columns = {
        "x": [2.0, None, float("nan"), 3.0],
        "y": [-1.0, 0.0, 1.0, None],
        "z": [-5.0, 0.0, 9.0, 10.0],
    }
    rows = encode({"numeric": numeric}, columns)
    values = rows.values.reshape(4, 4)
    assert values[:, 0].tolist() == [1, 1, 1, 1]
    assert values[:, 1].tolist() == [2, 1, 1, 3]
    assert np.allclose(values[:, 2], [-np.log(2), 0, np.log(2), 1])
    indices = rows.indices.reshape(4, 4)
    assert indices[0, 1] == indices[3, 1] != indices[1, 1] == indices[2, 1]
    assert indices[0, 3] != indices[1, 3] == indices[2, 3] != indices[3, 3]


def test_numbers_are_clipped_after_the_transform():
    """So that float32 sums stay finite, whatever the number."""
    numbers = [1.797e308, -1.797e308, 1.1e9, -1e9, 0.9e9, 5e-324]
    columns = {"x": numbers, "y": numbers}
    values = encode({"numeric": {"x": "linear", "y": "log"}}, columns).values.reshape(6, 3)
    assert values[:, 1].tolist() == [1e9, -1e9, 1e9, -1e9, 0.9e9, 0]
    assert np.allclose(values[:, 2], np.sign(numbers) * np.log1p(np.abs(numbers)))
    assert MAX_MAGNITUDE == 1e9


def test_integers_beyond_two_to_the_53_are_rounded():
    """An integer that float64 cannot hold exactly is accepted all the same."""
    columns = {"x": pa.array([2**53 + 1, -(2**63)]), "y": pa.array([2**64 - 1, None], pa.uint64())}
    rows = encode({"numeric": {"x": (0.0,), "y": "log"}}, columns)
    assert rows.values.reshape(2, 3)[:, 2].tolist() == pytest.approx([64 * np.log(2), 1])


ANY_NUMBER = st.none() | st.floats(width=64) | st.sampled_from(
    [1.7976931348623157e308, -1.7976931348623157e308, 3.5e38, 1e9, 1e-19, 5e-324, -0.0]
)  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(ANY_NUMBER, ANY_NUMBER, ANY_NUMBER, st.booleans(), st.floats(0.0, 1e4)),
        min_size=1, max_size=30,
    ),
    st.integers(1, 200),
)  # fmt: skip
def test_a_model_stays_finite_whatever_the_numbers(samples, times):
    """However often they come: z, n and predictions."""
    x, y, z, label, weight = zip(*samples, strict=True)
    columns = {name: pa.array(c, pa.float64()) for name, c in (("x", x), ("y", y), ("z", z))}
    numeric = {"x": "linear", "y": "log", "z": (-1.0, 0.0, 1e300)}
    rows = encode({"numeric": numeric}, columns, bits=4)
    model = FtrlModel(FtrlParameters(), 4)
    order = np.tile(np.arange(len(x)), times)
    margin = model.learn(
        rows, order, np.array(label, float)[order], np.array(weight)[order], np.zeros(order.size)
    )
    assert np.isfinite(rows.values).all()
    assert np.isfinite(model.zn).all()
    assert np.isfinite(margin).all()


def test_a_cross_depends_on_all_its_columns_and_their_order():
    """Equal pairs share an index, others do not."""
    rows = rows_of(
        encode(
            {"crosses": (("a", "b"), ("b", "a"))},
            {"a": ["x", "x", "y", "x"], "b": ["u", "v", "u", "u"]},
        )
    )
    assert rows[0] == rows[3]
    assert len({row[1] for row in rows}) == 3
    assert rows[0][1] != rows[0][2]


def test_a_missing_feature_column_is_named():
    """There is no silent default for a declared column."""
    with pytest.raises(KeyError, match="nowhere"):
        encode({"categorical": ("nowhere",)}, {"a": [1]})


def test_the_columns_of_features_are_listed_once_in_order_of_first_use():
    """Whatever they are used for."""
    features = Features(("a", "b"), (MultiValued("c"),), {"b": "log", "d": "linear"}, (("a", "e"),))
    assert features.columns == ("a", "b", "c", "d", "e")


def test_clipped_values_are_counted_by_column():
    """After the transform; a value at the bound, one that is missing, and edges are not clipped."""
    features = Features(numeric={"a": "linear", "b": "log", "c": (0.0,), "d": "linear"})
    big = [1e9, 1.1e9, -1e300, None, float("inf")]
    batch = pa.RecordBatch.from_pydict({"a": big, "b": big, "c": big, "d": [1.0] * 5})
    rows = FeatureEncoder(features, 10).encode(batch)
    assert rows.clipped == {"a": 2}
    assert np.abs(rows.values).max() == 1e9
