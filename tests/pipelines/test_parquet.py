"""Folders of Parquet files: a function of the rows alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from headrace.pipelines.sinks.encoding import Distinct
from headrace.pipelines.sinks.parquet import ParquetFolder


def rows(count):
    random = np.random.default_rng(1)
    return pa.table({
        "key": pa.array(random.integers(0, 1 << 60, count)),
        "history": pa.array([
            [f"N{item}" for item in random.integers(0, 99_999, random.integers(0, 40))]
            for _ in range(count)
        ]),
        "text": pa.array(["x" * length for length in random.integers(0, 200, count)]),
    })  # fmt: skip


def written(folder, table, cuts):
    files = ParquetFolder(
        folder, table.schema, Distinct(keys=("key",), texts=("history", "text")), 20_000
    )
    for begin, end in zip([0, *cuts], [*cuts, table.num_rows], strict=True):
        files.append(table.slice(begin, end - begin))
    files.close()
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    "cuts", [[7], list(range(1_000, 30_000, 1_000)), [19_999, 20_000, 20_001], [1, 2, 3, 29_000]],
    ids=["early", "even", "around a file", "uneven"],
)  # fmt: skip
def test_cuts_change_no_byte_of_wide_rows(tmp_path, cuts):
    """Long lists and texts fill many pages, which end where they would without cuts."""
    table = rows(30_000)
    whole = written(tmp_path / "whole", table, [])
    assert len(whole) == 2
    assert written(tmp_path / "cut", table, cuts) == whole
