import pyarrow as pa
import pytest

from headrace.schemas.records.slicing import NULL, as_texts

LONG = "é" * 200 + "…"


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([5, None, 5]), ["5", NULL, "5"]),
        (pa.array(["a", NULL, None]), ["a", NULL, NULL]),
        (pa.array(["b", "a", None]).dictionary_encode(), ["b", "a", NULL]),
        (
            pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array(["a", None, NULL])),
            ["a", NULL, NULL],
        ),
        (pa.DictionaryArray.from_arrays([1], pa.array(["a", "b", "c"])), ["b"]),
        (pa.array([], pa.int64()), []),
        (pa.array(["é" * 200, "é" * 201, "é" * 200 + "…"]), ["é" * 200, LONG, LONG]),
        (pa.array([LONG + "b", None, LONG + "c"]), [LONG, NULL, LONG]),
    ],
    ids=[
        "integers", "the text of null", "a dictionary", "null in a dictionary",
        "a dictionary larger than its rows", "no rows", "200 characters and more",
        "equal in 200 characters",
    ],
)  # fmt: skip
def test_each_text_has_one_code(column, texts):
    """So equal codes are equal texts; what is a dictionary of texts stays as it is."""
    found = as_texts(column)
    assert found.type == pa.dictionary(pa.int32(), pa.string())
    assert found.to_pylist() == texts
    assert len(found.dictionary.unique()) == len(found.dictionary)
    assert as_texts(found).equals(found)
