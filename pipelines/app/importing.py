"""A log from text of Vowpal Wabbit: ``headrace import-vw``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from headrace.learners.vowpaltext import Feature, VowpalRows, columns_of, read_lines
from headrace.pipelines.app.tablefiles import check_new
from headrace.schemas.errors import ArgumentError, UnreadableInputError

_START = 1_000_000_000_000_000
"""The time of the first line, 2001-09-09 01:46:40; each comes a millisecond after the last."""

_STEP = 1_000
_MOST_VALUED = 1_000
_BLOCK = 16 << 20
_NO_DELIMITER = "\x01"


@dataclass
class Imported:
    """How many lines were read, how many of them are in the log, and its positives."""

    lines: int = 0
    rows: int = 0
    positives: int = 0


def import_vowpal(path: str | Path, out: str | Path) -> Imported:
    """Write a log and its configuration from lines of Vowpal Wabbit's text format.

    A line is an impression, with a column of lists for each namespace; a feature with another
    value than 1 anywhere is a column of numbers. Lines with a label above 0 have a click at
    once. Times are made up: each line comes a millisecond after the one before.

    Parameters
    ----------
    path
        The text; it may be compressed (.gz, .zst, .bz2).
    out
        The folder to write; there must be nothing of this name.

    Raises
    ------
    ArgumentError
        If no line can be read, or too many features have values.
    FolderError
        If there is something of the folder's name.
    UnreadableInputError
        If the file cannot be read.
    """
    folder = Path(out)
    check_new(folder)
    spaces: dict[str, None] = {}
    valued: set[Feature] = set()
    weighs = shifts = good = False
    for rows in _read(Path(path)):
        spaces |= dict.fromkeys(pc.unique(rows.space).to_pylist())
        valued |= rows.valued()
        good |= bool(rows.good.any())
        weighs |= bool((rows.importance[rows.good] != 1).any())
        shifts |= bool((rows.base[rows.good] != 0).any())
        if len(valued) > _MOST_VALUED:
            raise ArgumentError(
                "FILE", str(path), f"has more than {_MOST_VALUED:,} features with values",
                "leave values out, or give them as columns of a table",
            )  # fmt: skip
    if not good:
        raise ArgumentError(
            "FILE", str(path), "has no line of Vowpal Wabbit's format with a label",
            "a line is such as: 1 |site a |price usd:2.5",
        )  # fmt: skip
    found = Imported()
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}

        def write(name: str, batch: pa.RecordBatch) -> None:
            if name not in writers:
                file = folder / f"{name}.parquet"
                writers[name] = stack.enter_context(pq.ParquetWriter(file, batch.schema))
            writers[name].write_batch(batch)

        for rows in _read(Path(path)):
            number = found.lines + np.flatnonzero(rows.good)
            identity = {
                "line": pa.array(number + 1),
                "time": pa.array(_START + _STEP * number, pa.timestamp("us", "UTC")),
            }
            features = columns_of(rows, list(spaces), valued)
            columns = {
                **identity,
                **dict(zip(features.schema.names, features.columns, strict=True)),
            }
            for name, values, wanted in (
                ("importance", rows.importance, weighs), ("base", rows.base, shifts),
            ):  # fmt: skip
                if wanted:
                    columns[name] = pa.array(values[rows.good])
            write("impressions", pa.RecordBatch.from_pydict(columns))
            clicked = pa.array(rows.label[rows.good])
            clicks = pa.RecordBatch.from_pydict(identity).filter(clicked)
            write("clicks", clicks)
            found.lines += rows.good.size
            found.rows += number.size
            found.positives += clicks.num_rows
    (folder / "headrace.toml").write_text(_config(list(spaces), valued, weighs, shifts))
    return found


def _read(path: Path) -> Iterator[VowpalRows]:
    """Read a file of lines in blocks; lines that are blank count as none."""
    options = {
        "read_options": csv.ReadOptions(column_names=["line"], block_size=_BLOCK),
        "parse_options": csv.ParseOptions(
            delimiter=_NO_DELIMITER, quote_char=False, newlines_in_values=False
        ),
        "convert_options": csv.ConvertOptions(
            column_types={"line": pa.string()}, strings_can_be_null=False
        ),
    }
    try:
        with csv.open_csv(str(path), **options) as reader:
            for batch in reader:
                yield read_lines(batch.column(0))
    except (OSError, pa.ArrowInvalid) as error:
        raise UnreadableInputError(f"{path}: cannot be read ({error})") from error


def _config(spaces: list[str], valued: set[Feature], weighs: bool, shifts: bool) -> str:
    keys = "".join(
        f'{key} = "{column}"\n'
        for key, column, wanted in (("weight", "importance", weighs), ("offset", "base", shifts))
        if wanted
    )
    multi = ", ".join(f"{{ column = {json.dumps(space)} }}" for space in spaces)
    numeric = ", ".join(
        f'{json.dumps(f"{space}:{name}")} = "linear"' for space, name in sorted(valued)
    )
    return f"""[impressions]
path = "impressions.parquet"
key = ["line"]
time = {{ column = "time" }}

[actions.label]
path = "clicks.parquet"
key = ["line"]
time = {{ column = "time" }}
window = "1ms"

[join]
end_of_log = "close"

[learner]
label = "label"
{keys}
[learner.features]
multi_valued = [{multi}]
numeric = {{ {numeric} }}
"""
