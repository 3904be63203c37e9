"""Turn public data sets, as their publishers wrote them, into logs to replay.

Usage::

    python -m examples.convert NAME SOURCE_FOLDER OUT_FOLDER
    headrace replay OUT_FOLDER/headrace.toml --out OUT_FOLDER/result

``NAME`` is one of talkingdata, mind, taobao, obd, avazu. The configuration
``examples/NAME.toml`` is copied to the folder of the logs.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

HERE = Path(__file__).parent
Logs = dict[str, pa.Table]


def _read(path: Path, names: list[str] | None = None, delimiter: str = ",") -> pa.Table:
    """Read a CSV file as text throughout."""
    header = names or pa_csv.open_csv(path).schema.names
    return pa_csv.read_csv(
        path,
        pa_csv.ReadOptions(column_names=header, skip_rows=0 if names else 1),
        pa_csv.ParseOptions(delimiter=delimiter, quote_char=False),
        pa_csv.ConvertOptions(column_types={name: pa.string() for name in header}),
    )


def _numbered(table: pa.Table, name: str) -> pa.Table:
    """Put the number of the data row, from 1, before the other columns."""
    return table.add_column(0, name, pa.array(np.arange(1, table.num_rows + 1)))


def _simulated_delay(rows: int, seed: int) -> np.ndarray:
    """Return click delays in microseconds: the data sets say that a click came, not when."""
    return (np.random.default_rng(seed).exponential(30.0, rows) * 1e6).astype(np.int64)


def talkingdata(source: Path) -> Logs:
    """Ad clicks, and the installs that followed some of them; both times are real."""
    table = _numbered(_read(source / "clicks_before_2017-11-09.csv.gz"), "click_id")
    hour = pc.utf8_slice_codeunits(table.column("click_time"), 11, 13)
    installed = table.filter(pc.equal(table.column("is_attributed"), "1"))
    columns = ["click_id", "ip", "app", "device", "os", "channel", "click_time"]
    return {
        "clicks": table.select(columns).append_column("hour", hour),
        "installs": installed.select(["click_id", "attributed_time"]),
    }


def mind(source: Path) -> Logs:
    """News items shown in lists, and the clicks on them; click times are simulated."""
    names = ["list_id", "user", "time", "history", "items"]
    lists = _read(source / "behaviors_before_2019-11-14.tsv.gz", names, "\t")
    items = pc.split_pattern(lists.column("items").combine_chunks(), " ")
    row = pc.list_parent_indices(items)
    shown = items.flatten()
    parts = pc.split_pattern(shown, "-")
    recent = pc.list_slice(pc.split_pattern(lists.column("history").combine_chunks(), " "), 0, 10)
    impressions = pa.table(
        {
            "list_id": lists.column("list_id").take(row),
            "item": pc.list_element(parts, 0),
            "time": lists.column("time").take(row),
            "user": lists.column("user").take(row),
            "list_length": pc.list_value_length(items).take(row),
            "history": recent.take(row),
        }
    )
    clicked = impressions.filter(pc.equal(pc.list_element(parts, 1), "1"))
    time = pc.strptime(clicked.column("time"), "%m/%d/%Y %I:%M:%S %p", "us").cast(pa.int64())
    clicks = clicked.select(["list_id", "item"]).append_column(
        "time", pc.add(time, _simulated_delay(clicked.num_rows, seed=1))
    )
    return {"impressions": impressions, "clicks": clicks}


def taobao(source: Path) -> Logs:
    """Read views, carts, favourites and purchases: four separate streams."""
    table = _read(source / "UserBehavior.csv.gz", ["user", "item", "category", "kind", "time"])
    table = table.set_column(4, "time", table.column("time").cast(pa.int64()))
    logs = {}
    for kind, name in (("pv", "views"), ("cart", "carts"), ("fav", "favs"), ("buy", "buys")):
        logs[name] = table.filter(pc.equal(table.column("kind"), kind)).drop_columns(["kind"])
    return logs


def obd(source: Path) -> Logs:
    """Fashion items shown by two policies in two campaigns; click times are simulated."""
    logs = {}
    clicks = []
    for name in ("random_all", "bts_all", "random_men", "bts_men"):
        table = _read(source / f"{name}.csv.gz")
        wanted = ["timestamp", "item_id", "position", "propensity_score", "click"]
        wanted += [f"user_feature_{i}" for i in range(4)]
        table = table.select(wanted)
        row = pa.array([f"{name}-{i}" for i in range(table.num_rows)])
        campaign = pa.array([name] * table.num_rows)
        table = table.add_column(0, "row", row).append_column("campaign", campaign)
        for column, kind in (("position", pa.int64()), ("propensity_score", pa.float64())):
            at = table.schema.get_field_index(column)
            table = table.set_column(at, column, table.column(column).cast(kind))
        logs[f"impressions_{name}"] = table.drop_columns(["click"])
        clicked = table.filter(pc.equal(table.column("click"), "1"))
        time = clicked.column("timestamp").cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        clicks.append(
            clicked.select(["row"]).append_column(
                "time", pc.add(time, _simulated_delay(clicked.num_rows, seed=2))
            )
        )
    logs["clicks"] = pa.concat_tables(clicks)
    return logs


def avazu(source: Path) -> Logs:
    """Ad impressions of one hour, and the clicks on them; times are hours."""
    table = _read(source / "avazu_train.csv.gz")
    clicked = table.filter(pc.equal(table.column("click"), "1"))
    return {
        "impressions": table.drop_columns(["click"]),
        "clicks": clicked.select(["id", "hour"]),
    }


CONVERTERS: dict[str, Callable[[Path], Logs]] = {
    function.__name__: function for function in (talkingdata, mind, taobao, obd, avazu)
}


def convert(name: str, source: Path, out: Path) -> Path:
    """Convert a data set; return the path of its configuration."""
    out.mkdir(parents=True, exist_ok=True)
    for log, table in CONVERTERS[name](source).items():
        pq.write_table(table, out / f"{log}.parquet")
    shutil.copyfile(HERE / f"{name}.toml", out / "headrace.toml")
    return out / "headrace.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn a public data set into logs to replay.")
    parser.add_argument("name", choices=sorted(CONVERTERS))
    parser.add_argument("source", type=Path, help="folder with the publisher's files")
    parser.add_argument("out", type=Path, help="folder to write to")
    options = parser.parse_args()
    path = convert(options.name, options.source, options.out)
    print(f"next: headrace replay {path} --out {options.out / 'result'}")


if __name__ == "__main__":
    main()
