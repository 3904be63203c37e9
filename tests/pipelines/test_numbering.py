"""Positions as messages and rows, and dead letters that name them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipelines.sinks.encoding import Distinct
from headrace.pipelines.sinks.lettersort import sort_letters
from headrace.pipelines.sinks.parquet import ParquetFolder
from headrace.pipelines.sources.letters import PLACED_LETTERS, place_of_letter, rejected_letters
from headrace.pipelines.sources.numbering import BY_RECORD, Numbering, Origin
from headrace.schemas.records.decoding import Reject
from headrace.schemas.records.events import PLACE, Reason

BY_ROW = Numbering(row_bits=20)
LATE = 1 << 42
"""An offset that no topic has."""


def test_positions_are_messages_and_rows():
    position = BY_ROW.first(LATE) + 7
    assert (BY_ROW.message(position), BY_ROW.row(position)) == (LATE, 7)
    assert BY_ROW.text(position) == f"{LATE}, row 7"
    assert BY_ROW.text(BY_ROW.first(5)) == "5"
    assert BY_RECORD.first(5) == BY_RECORD.message(5) == 5
    assert BY_RECORD.text(5) == "5"
    positions = BY_ROW.first(np.array([1, LATE])) + 3
    assert BY_ROW.message(positions).tolist() == [1, LATE]


def test_letters_name_message_and_row_and_are_in_their_order(tmp_path):
    """Of late offsets of several sources too: what cannot be decoded is all of its message."""

    def letters(source, numbering, rejects):
        rejects = [Reject(number, reason, "", "") for number, reason in rejects]
        numbers = [reject.number for reject in rejects]
        return rejected_letters(source, Origin(f"s{source}", numbering), "x", rejects, numbers)

    first = BY_ROW.first(LATE)
    by_row = [(first + 2, Reason.NULL_KEY), (first, Reason.NULL_KEY),
              (first - (1 << 20), Reason.UNDECODABLE)]  # fmt: skip
    by_record = [(9, Reason.UNDECODABLE), (8, Reason.NULL_KEY)]
    files = ParquetFolder(
        tmp_path / "written", PLACED_LETTERS, Distinct(texts=("record", PLACE)), 100
    )
    for batch in (letters(2, BY_RECORD, by_record), letters(1, BY_ROW, by_row)):
        files.append(pa.Table.from_batches([batch]))
        source, _ = place_of_letter(batch.column(PLACE)[0].as_py())
        assert batch.column("source")[0].as_py() == f"s{source}"
    files.close()
    sort_letters(tmp_path / "written", tmp_path / "ordered", 1 << 20)
    table = pa.concat_tables(
        pq.read_table(path) for path in sorted((tmp_path / "ordered").glob("*.parquet"))
    )
    found = [(row["source"], row["offset"], row["row"]) for row in table.to_pylist()]
    assert found == [("s1", LATE - 1, None), ("s1", LATE, 0), ("s1", LATE, 2), ("s2", 8, None),
                     ("s2", 9, None)]  # fmt: skip
