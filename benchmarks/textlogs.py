"""The log of the benchmark as text: CSV and JSON lines, plain and compressed."""

from __future__ import annotations

from pathlib import Path

FORMATS = ("csv", "jsonl", "csv.gz", "jsonl.gz", "jsonl.zst")


def make_text(folder: Path, kind: str) -> Path:
    """Write the Parquet log of a folder in another format, once; return its configuration."""
    import polars as pl
    import pyarrow as pa

    config = folder / f"{kind}.toml"
    if config.exists():
        return config
    text = (folder / "bench.toml").read_text()
    plain, _, compression = kind.partition(".")
    for name in ("impressions", "clicks"):
        rows = pl.read_parquet(folder / f"{name}.parquet")
        path = folder / f"{name}.{kind}"
        raw = rows.write_csv() if plain == "csv" else rows.write_ndjson()
        codec = {"gz": "gzip", "zst": "zstd"}.get(compression)
        with pa.output_stream(str(path), compression=codec) as stream:
            stream.write(raw.encode())
        text = text.replace(f"{name}.parquet", path.name)
    config.write_text(text)
    return config
