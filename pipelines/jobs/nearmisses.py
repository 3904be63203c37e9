"""Orphans whose key would match if case, blanks, leading zeros and type were ignored."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from headrace.pipelines.sources.inputs import Inputs
from headrace.schemas.records.events import IMPRESSIONS, Reason

_CHUNK_ROWS = 65_536
_MOST_ORPHANS = 100_000


def near_misses(folder: Path, inputs: Inputs) -> list[str]:
    """Compare the keys of orphans loosely with those of all impressions.

    Reads the impression files again. The join never matches keys this way; it only
    shows what may be wrong with them. Keys of bytes are not compared, and of each
    stream only the first `_MOST_ORPHANS` orphans.

    Parameters
    ----------
    folder
        Outputs of the run, with the orphans among its dead letters.
    inputs
        Inputs of the run.

    Returns
    -------
    list
        A finding for each action stream that has near misses.
    """
    letters = ds.dataset(folder / "dead_letters", format="parquet").to_table(
        columns=["stream", "record"], filter=pc.field("reason") == Reason.ORPHAN.value
    )
    orphans: dict[str, pa.Array] = {}
    kinds = [inputs.schema_of(stream.number).field(key).type for stream in inputs.streams
             for key in stream.events.key]  # fmt: skip
    if any(pa.types.is_binary(kind) for kind in kinds):
        return []
    for stream in inputs.streams[1:]:
        records = letters.filter(pc.equal(letters["stream"], stream.name))["record"]
        rows = [json.loads(record) for record in records.slice(0, _MOST_ORPHANS).to_pylist()]
        columns = [
            pa.array([str(row[key]) for row in rows], pa.string()) for key in stream.events.key
        ]
        if rows:
            orphans[stream.name] = _key_texts(columns)
    if not orphans:
        return []
    wanted = pa.concat_arrays(list(orphans.values()))
    loose = loosened(wanted).unique()
    found: dict[str, str] = {}
    for log in inputs.logs_of(IMPRESSIONS):
        for chunk in log.chunks(_CHUNK_ROWS):
            columns = [
                chunk.records.batch.column(key).cast(pa.string())
                for key in inputs.streams[IMPRESSIONS].events.key
            ]
            keys = _key_texts(columns)
            loosely = loosened(keys)
            near = pc.is_in(loosely, value_set=loose)
            found.update(zip(loosely.filter(near).to_pylist(), keys.filter(near).to_pylist(),
                             strict=True))  # fmt: skip
    findings = []
    for name, keys in orphans.items():
        pairs = [
            (key, found[loose])
            for key, loose in zip(keys.to_pylist(), loosened(keys).to_pylist(), strict=True)
            if loose in found
        ]
        if pairs:
            here, there = pairs[0]
            findings.append(
                f"{name}: {len(pairs):,} of {len(keys):,} orphans would match an impression if "
                f"case, blanks, leading zeros and types of keys were ignored, such as {here!r} "
                f"here and {there!r} there. Keys must be equal to match: correct them where "
                "they are written."
            )
    return findings


def loosened(keys: pa.Array) -> pa.Array:
    """Return keys without case, blanks and leading zeros, in which near misses may differ."""
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(keys))
    return pc.replace_substring_regex(plain, r"(^|\x1f)\s*0+([^\x1f])", r"\1\2")


def _key_texts(columns: list[pa.Array]) -> pa.Array:
    trimmed = [pc.utf8_trim_whitespace(column) for column in columns[1:]]
    return pc.binary_join_element_wise(columns[0], *trimmed, "\x1f", null_handling="replace")
