"""Parquet files that unfold to more than they should are read in small parts, or refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.pipelines.sources import parquetfiles
from headrace.pipelines.sources.locations import find
from headrace.pipelines.sources.parquetfiles import batches, open_parquet
from headrace.schemas.errors import UnreadableInputError


def read(path, rows=1 << 16):
    """Return the rows of each batch, and the most bytes that one has."""
    (location,) = find(path.name, path.parent)
    with open_parquet(location) as file:
        found = [
            (batch.num_rows, batch.nbytes)
            for group in range(file.num_row_groups)
            for batch in batches(location, file, group, rows, file.schema_arrow.names)
        ]
    return [rows for rows, _ in found], max(size for _, size in found)


COLUMNS = {
    "text": lambda text, n: pa.array([text] * n),
    "a field of a struct": lambda text, n: pa.array([{"x": text}] * n),
    "lists": lambda text, n: pa.array([[text, text]] * n),
    "text of fixed length": lambda text, n: pa.array([text] * n, pa.binary(len(text))),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_repeated_value_is_read_some_rows_at_a_time(tmp_path, monkeypatch, kind):
    """The file has it once: a batch of all rows would take 40 MB of 20 kB."""
    monkeypatch.setattr(parquetfiles, "BATCH_BYTES", 1 << 20)
    table = pa.table({"a": COLUMNS[kind]("x" * 10_000, 4_000), "b": pa.array(range(4_000))})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    rows, most = read(tmp_path / "a.parquet")
    assert sum(rows) == 4_000
    assert most <= 1 << 20


def test_honest_columns_are_read_with_as_many_rows_as_asked_for(tmp_path):
    """Codes of text among them, and keys that are all different."""
    table = pa.table({
        "key": [f"k{n}" for n in range(100_000)], "tag": ["abc", "de"] * 50_000,
        "list": [["a", "b"]] * 100_000,
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0] == [65536, 100_000 - 65536]


@pytest.mark.parametrize(
    ("limit", "fact"),
    [
        ("_LONGEST", "has a value of 5,000 bytes, more than 100"),
        ("_MOST_CHUNK", "unfolds from"),
        ("_MOST_ITEMS", "has lists of 4,000 items together"),
    ],
    ids=["a long value", "well compressed bytes", "long lists"],
)
def test_what_cannot_be_meant_is_refused_in_a_line(tmp_path, monkeypatch, limit, fact):
    """It is not called corrupt, and nothing of it is read."""
    monkeypatch.setattr(parquetfiles, "BATCH_BYTES", 1000)
    monkeypatch.setattr(parquetfiles, limit, 100)
    coded = limit != "_MOST_CHUNK"
    table = pa.table({"a": [["x" * 5_000] * 4] * 1_000})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=coded)
    with pytest.raises(UnreadableInputError) as caught:
        read(tmp_path / "a.parquet")
    message = str(caught.value)
    assert f"a.parquet: column a.list.element of row group 0 {fact}" in message
    assert message.endswith(
        "; check who wrote the file, or write shorter values and smaller row groups"
    )
