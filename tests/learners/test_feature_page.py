"""The vectors of docs/features.md, computed by the encoder and by plain Python."""

import datetime
import itertools
import json
import math
import struct
from decimal import Decimal
from pathlib import Path

import mmh3
import numpy as np
import pyarrow as pa
import pytest

from headrace.learners.features import FeatureEncoder
from headrace.pipelines.sources.plans import features_plan
from headrace.schemas.config.models import FeaturesConfig

PAGE = Path(__file__).parent.parent.parent / "docs" / "features.md"
BITS = 22
TYPES = {
    "string": pa.string(), "binary": pa.binary(), "int8": pa.int8(), "int64": pa.int64(),
    "uint64": pa.uint64(), "bool": pa.bool_(), "float": pa.float32(), "double": pa.float64(),
    "timestamp[us]": pa.timestamp("us"), "timestamp[s]": pa.timestamp("s"),
    "date32": pa.date32(), "list<string>": pa.list_(pa.string()),
    "list<int64>": pa.list_(pa.int64()), "decimal(20,0)": pa.decimal128(20, 0),
    "decimal(20,2)": pa.decimal128(20, 2),
}  # fmt: skip


def vectors():
    """Read the rows of the page's table of vectors, without their backquotes."""
    text = PAGE.read_text(encoding="utf-8").partition("## Vectors")[2]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines[2:]
    ]


def parsed(text):
    """Read a value such as ``int64 -1`` as its type and a Python value."""
    kind, _, literal = text.partition(" ")
    if literal == "null":
        return kind, None
    if kind.startswith("decimal"):
        return kind, Decimal(literal)
    if kind == "binary":
        return kind, bytes.fromhex(literal.removeprefix("0x"))
    if kind == "date32":
        return kind, datetime.date.fromisoformat(literal)
    if kind.startswith("timestamp"):
        return kind, datetime.datetime.fromisoformat(literal)
    return kind, json.loads(literal)


def declared(kind, columns):
    """Return the configuration of the features in a row of the table."""
    form, _, more = kind.partition(" ")
    if form == "cross":
        return {"crosses": (tuple(columns),)}
    if form == "categorical":
        return {"categorical": tuple(columns)}
    if form == "multi_valued":
        separator = json.loads(more) if more else " "
        return {"multi_valued": ({"column": columns[0], "separator": separator},)}
    if form == "edges":
        return {"numeric": {columns[0]: tuple(json.loads(more))}}
    return {} if form == "intercept" else {"numeric": {columns[0]: form}}


# What follows does not use the encoder: it follows the text of the page, in plain integers.

ALL = 2**64 - 1
NULL = 0x9AE16A3B2F90404F
GOLDEN = 0x9E3779B97F4A7C15


def murmur(data, seed=0):
    return mmh3.hash64(data, seed, signed=False)[0]


def fmix64(x):
    x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCD & ALL
    x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53 & ALL
    return x ^ (x >> 33)


def digest(kind, value):
    if value is None:
        return NULL
    if kind in ("string", "binary"):
        return murmur(value.encode() if kind == "string" else value)
    if kind.startswith("decimal"):
        kind = "int64" if kind == "decimal(20,0)" else "double"
    if kind == "float":
        (value,) = struct.unpack("<f", struct.pack("<f", value))
    if kind in ("float", "double"):
        return murmur(struct.pack("<d", value), 2)
    if kind == "date32":
        value = (value - datetime.date(1970, 1, 1)).days
    if kind.startswith("timestamp"):
        unit = datetime.timedelta(**{"microseconds" if "us" in kind else "seconds": 1})
        value = (value - datetime.datetime(1970, 1, 1)) // unit
    return murmur((int(value) & ALL).to_bytes(8, "little"), 3 if int(value) >= 2**63 else 1)


def number(form, value):
    """Return code and value of a numeric feature."""
    form, _, edges = form.partition(" ")
    if value is None or not math.isfinite(value):
        return NULL, 1.0
    if form == "edges":
        return 1 + sum(edge <= value for edge in json.loads(edges)), 1.0
    if form == "log":
        value = math.copysign(math.log1p(abs(value)), value)
    return 0, min(max(float(value), -1e9), 1e9)


def items(of_type, value):
    """Return type and value of each item of a list; of another value, of itself."""
    if not of_type.startswith("list<"):
        return [(of_type, value)]
    of_type = of_type.removeprefix("list<").removesuffix(">")
    return [(of_type, item) for item in ([None] if value is None else value)]


def plain(kind, columns, values):
    """Return (hash, value) of each feature."""
    form, _, more = kind.partition(" ")
    if form == "intercept":
        return [(murmur(b"intercept"), 1.0)]
    if form == "cross":
        lists = [items(of_type, value) for of_type, value in values]
        hashes = []
        for combination in itertools.product(*lists):
            folded = murmur(f"cross:{'*'.join(columns)}".encode())
            for of_type, value in combination:
                folded = fmix64((folded * GOLDEN & ALL) ^ digest(of_type, value))
            hashes.append((fmix64(folded), 1.0))
        return hashes
    ((of_type, value),) = values
    if form == "categorical":
        return [
            (fmix64(digest(of_type, value) ^ murmur(f"categorical:{columns[0]}".encode())), 1.0)
        ]
    if form == "multi_valued":
        name = murmur(f"multi_valued:{columns[0]}".encode())
        if of_type == "string":
            of_type = "list<string>"
            value = None if value is None else value.split(json.loads(more) if more else " ")
        return [(fmix64(digest(*item) ^ name), 1.0) for item in items(of_type, value)]
    code, value = number(kind, value)
    return [(fmix64(code ^ murmur(f"numeric:{columns[0]}".encode())), value)]


def listed(cell):
    return [] if cell == "none" else cell.split(", ")


def test_the_page_has_vectors_of_every_kind_and_type():
    """At least one of each."""
    rows = vectors()
    assert len(rows) >= 20
    assert {row[0].partition(" ")[0] for row in rows} == {
        "intercept", "categorical", "multi_valued", "linear", "log", "edges", "cross",
    }  # fmt: skip
    types = {value.partition(" ")[0] for row in rows for value in row[2].split(" ; ") if value}
    assert types == set(TYPES)


@pytest.mark.parametrize("row", vectors(), ids=lambda row: f"{row[0]} {row[2]}")
def test_a_vector_of_the_page_is_right(row):
    """The encoder and plain Python that follows the page's text both give it."""
    kind, columns, values = row[0], listed(row[1]), [parsed(v) for v in row[2].split(" ; ") if v]
    hashes = [int(text, 16) for text in listed(row[3])]
    indices, numbers = [int(text) for text in listed(row[4])], [float(n) for n in listed(row[5])]
    numbers = [float(np.float32(n)) for n in numbers]
    assert all(index == of & (2**BITS - 1) for index, of in zip(indices, hashes, strict=True))

    found = [(of, float(np.float32(value))) for of, value in plain(kind, columns, values)]
    assert found == list(zip(hashes, numbers, strict=True))

    arrays = [pa.array([value], TYPES[of_type]) for of_type, value in values]
    # The intercept needs no column, but a batch needs a row.
    batch = pa.RecordBatch.from_arrays(arrays or [pa.nulls(1)], names=columns or ["any"])
    at = 0 if kind == "intercept" else 1
    for bits, expected in ((BITS, indices), (32, [of & (2**32 - 1) for of in hashes])):
        encoded = FeatureEncoder(
            features_plan(FeaturesConfig(**declared(kind, columns))), bits
        ).encode(batch)
        assert encoded.indices[at:].tolist() == expected
        if encoded.values.size:
            assert encoded.values[at:].tolist() == numbers
        else:
            assert numbers == [1.0] * len(hashes)


def test_features_are_encoded_in_the_order_of_the_page():
    """Intercept, categorical, crosses, numeric, multi-valued, each as declared."""
    batch = pa.RecordBatch.from_pydict({"a": ["x"], "b": ["y"], "n": [2.0], "t": [["u", "v"]]})
    config = {
        "categorical": ("b", "a"), "crosses": (("a", "b"),), "numeric": {"n": "linear"},
        "multi_valued": ("t",),
    }  # fmt: skip
    config["crosses"] = (("a", "t"), *config["crosses"])
    text = {name: [("string", value)] for name, value in (("a", "x"), ("b", "y"))}
    expected = [
        *plain("intercept", [], []),
        *plain("categorical", ["b"], text["b"]),
        *plain("categorical", ["a"], text["a"]),
        *plain("cross", ["a", "b"], [*text["a"], *text["b"]]),
        *plain("linear", ["n"], [("double", 2.0)]),
        *plain("multi_valued", ["t"], [("list<string>", ["u", "v"])]),
        *plain("cross", ["a", "t"], [*text["a"], ("list<string>", ["u", "v"])]),
    ]
    rows = FeatureEncoder(features_plan(FeaturesConfig(**config)), 32).encode(batch)
    assert rows.indices.tolist() == [of & (2**32 - 1) for of, _ in expected]
    assert rows.values.tolist() == [value for _, value in expected]


def test_text_that_is_split_has_items_in_a_cross_too():
    """In every row its own; the columns of a batch may be cut anywhere."""
    texts = ["u,v", None, "", "w", "u,v,w"]
    batch = pa.RecordBatch.from_pydict({"t": texts, "n": [1, 2, 3, None, 5]})
    config = FeaturesConfig(
        multi_valued=({"column": "t", "separator": ","},), crosses=(("t", "n"), ("n", "t", "t"))
    )
    encoder = FeatureEncoder(features_plan(config), 32)
    rows = encoder.encode(batch.slice(1))
    assert encoder.encode(batch).indices.tolist()[-rows.starts[-1] :] == rows.indices.tolist()
    for row, text in enumerate(texts[1:]):
        split = ("list<string>", None if text is None else text.split(","))
        whole = ("int64", batch.column("n")[row + 1].as_py())
        expected = [
            *plain("intercept", [], []),
            *plain("multi_valued", ["t"], [split]),
            *plain("cross", ["t", "n"], [split, whole]),
            *plain("cross", ["n", "t", "t"], [whole, split, split]),
        ]
        found = rows.indices[rows.starts[row] : rows.starts[row + 1]]
        assert found.tolist() == [of & (2**32 - 1) for of, _ in expected]
