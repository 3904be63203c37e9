"""How columns are written to Parquet files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Distinct:
    """The columns of which nearly all values differ: a dictionary of them saves nothing.

    All other columns are written with dictionaries.

    Parameters
    ----------
    keys
        Compressing them saves next to nothing.
    times
        In order, or nearly: differences of neighbours are small.
    texts
        The others.
    """

    keys: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    def options(self, schema: pa.Schema) -> dict[str, Any]:
        """Return the options of a `pyarrow.parquet.ParquetWriter` for files of a schema.

        If there are keys and times, row groups have statistics of these alone: by others readers
        skip next to nothing.
        """
        keys = [name for name in self.keys if name in schema.names]
        times = [name for name in self.times if name in schema.names]
        distinct = {*keys, *times, *self.texts}
        return {
            "compression": {path: "none" if path in keys else "lz4" for path in _leaves(schema)},
            "use_dictionary": [name for name in schema.names if name not in distinct] or False,
            "write_statistics": [*keys, *times] or True,
            "column_encoding": dict.fromkeys(times, "DELTA_BINARY_PACKED") or None,
        }


NONE = Distinct()
"""Values of every column repeat."""

RECORDS = Distinct(texts=("record",))
"""Of dead letters."""


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the paths of all columns in a file: those of lists and structs are longer."""
    sink = pa.BufferOutputStream()
    pq.write_metadata(schema, sink)
    written = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    return [written.column(at).path for at in range(len(written))]
