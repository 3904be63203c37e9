"""The files of a case, and its configuration."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pipelines.fuzz.cases import Case, Column, File, Row, Stream


def write(case: Case, folder: Path) -> dict[str, Any]:
    """Write all files to a folder; return the tables of the configuration."""
    for stream in case.streams:
        for number, file in enumerate(stream.files):
            path = folder / f"{stream.name}-{number}{stream.suffix}"
            if stream.form == "parquet":
                pq.write_table(_table(stream, file), path, compression="none", row_group_size=3)
            else:
                lines = _csv(stream, file) if stream.form == "csv" else _jsonl(stream, file)
                path.write_bytes(_packed(stream, _text(stream, lines)))
    shown, *actions = (
        {"path": str(folder / stream.pattern()), **stream.options} for stream in case.streams
    )
    names = [stream.name for stream in case.streams[1:]]
    return {
        "impressions": shown, "actions": dict(zip(names, actions, strict=True)), **case.tables,
    }  # fmt: skip


def toml(tables: dict[str, Any]) -> str:
    """Return tables as TOML, each on a line."""
    return "".join(f"{_toml(name)} = {_toml(table)}\n" for name, table in tables.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(name)} = {_toml(v)}" for name, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _text(stream: Stream, lines: list[bytes]) -> bytes:
    newline = stream.style["newline"].encode()
    text = newline.join(lines) + (b"" if stream.style["last"] or not lines else newline)
    return b"\xef\xbb\xbf" + text if stream.style["bom"] and lines else text


def _packed(stream: Stream, text: bytes) -> bytes:
    """Return a text compressed, perhaps as two parts one after another."""
    half = len(text) // 2 if stream.style["parts"] == 2 else 0
    parts = [part for part in (text[:half], text[half:]) if part] or [b""]
    if stream.packed == ".gz":
        return b"".join(gzip.compress(part, 1, mtime=0) for part in parts)
    if stream.packed == ".zst":
        return b"".join(_zstd(part) for part in parts)
    return text


def _zstd(part: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(part)
    return sink.getvalue().to_pybytes()


def _csv(stream: Stream, file: File) -> list[bytes]:
    if file.columns is None:
        return []
    delimiter, quote = stream.options.get("delimiter", ","), stream.options.get("quote", '"')

    def line(fields: list[str]) -> str:
        return delimiter.join(field(text) for text in fields)

    def field(text: str) -> str:
        special = delimiter in text or (quote and quote in text)
        if quote and (special or (text and stream.style["quoted"])):
            return quote + text.replace(quote, quote * 2) + quote
        return text

    lines = [line(file.columns).encode()]
    for row in file.rows:
        whole = line([row.cells[name].raw for name in file.columns])
        lines.append({
            "": whole.encode(),
            "cut": b"x",
            "long": f"{whole}{delimiter}x".encode(),
            "bytes": whole.encode() + b"\xff",
            "quote": f"{quote}{whole.replace(quote, '') if quote else whole}".encode(),
        }[row.damage])  # fmt: skip
    return lines


def _jsonl(stream: Stream, file: File) -> list[bytes]:
    return [_object(stream, file, row) for row in file.rows] if file.columns is not None else []


def _object(stream: Stream, file: File, row: Row) -> bytes:
    tree: dict[str, Any] = {}
    for name in file.columns or ():
        raw = row.cells[name].raw
        if raw is not None:
            _put(tree, _path(stream.columns[name]), raw)
    whole = _braced(tree, stream.style["ascii"], " " if stream.style["blanks"] else "")
    return {
        "": whole.encode(),
        "cut": whole[:-1].encode(),
        "array": f"[{whole}]".encode(),
        "number": b"7",
        "null": b"null",
        "text": b"not json",
        "bytes": b"\xff" + whole.encode(),
    }[row.damage]


def _braced(tree: dict[str, Any], ascii_only: bool, blank: str) -> str:
    members = (
        f"{json.dumps(name, ensure_ascii=ascii_only)}:{blank}"
        + (_braced(value, ascii_only, blank) if isinstance(value, dict) else value)
        for name, value in tree.items()
    )
    return "{" + f",{blank}".join(members) + "}"


def _path(column: Column) -> list[str]:
    return column.name.split(".") if column.nested else [column.name]


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _table(stream: Stream, file: File) -> pa.Table:
    tree: dict[str, Any] = {}
    for name in file.columns or ():
        column = stream.columns[name]
        assert column.stored is not None
        cells = [row.cells[name].raw for row in file.rows]
        if pa.types.is_dictionary(column.stored):
            array = pa.array(cells, column.stored.value_type).dictionary_encode()
        else:
            array = pa.array(cells, column.stored)
        _put(tree, _path(column), array)
    return pa.table(_arrays(tree))


def _arrays(tree: dict[str, Any]) -> dict[str, pa.Array]:
    arrays = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            inner = _arrays(value)
            value = pa.StructArray.from_arrays(list(inner.values()), list(inner))
        arrays[name] = value
    return arrays
