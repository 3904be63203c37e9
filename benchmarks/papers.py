"""Tables of papers, measured with this project's learners.

Usage: ``python -m benchmarks.papers [FOLDER_OF_DATA_SETS]`` (``make papers``). Without data
sets a generated log is used. A log is replayed once; its samples, in the order in which they
were learned, are then learned again in each way, and the second half is scored.

- McMahan et al., *Ad Click Prediction: a View from the Trenches*, KDD 2013, Table 2: what it
  saves in memory, and costs in loss, to give coordinates only to features that came twice. The
  paper's filter is a counting Bloom filter, this one counts exactly. Its other way, to admit
  each occurrence with a probability, is not built: on three public data sets a probability of
  0.1 cost up to 6 % of loss, where two occurrences cost 1 %.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.floors import auc, log_loss, replayed
from examples.convert import CONVERTERS, convert
from headrace.learners.exact import CODE_BITS, ExactTable
from headrace.learners.features import FeatureEncoder

IMPRESSIONS = 400_000
CROSSES = '[["site", "ad"], ["site", "hour", "position"], ["ad", "device", "os"]]'
"""In place of those of the generated log, whose columns have few rare values."""

TABLES = {
    "hashed, 2^22": None,
    "exact": ExactTable(),
    "exact, admit = 2": ExactTable(admit=2),
    "exact, admit = 3": ExactTable(admit=3),
}


def generated(work: Path) -> Path:
    from headrace.pipelines.jobs.generate import Traffic, write_traffic

    write_traffic(Traffic(impressions=IMPRESSIONS, rate=100, clean=True), work)
    config = work / "headrace.toml"
    text = config.read_text()
    for old, new in (("rate = 0.5", "rate = 1.0"), ('[["device", "os"]]', CROSSES)):
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    return config


def table_2(name: str, config: Path, work: Path) -> None:
    """Print memory and loss of each table, and by how much they differ from exact counting."""
    plan, batch, label = replayed(config, work)
    count = label.size
    half = slice(count // 2, None)
    found = {}
    for way, table in TABLES.items():
        bits = 22 if table is None else CODE_BITS
        rows = FeatureEncoder(plan.features, bits).encode(batch)
        learner = plan.kind.make(plan.parameters, bits, table)
        margin = learner.learn(rows, np.arange(count), label, np.ones(count), np.zeros(count))
        p = 1 / (1 + np.exp(-margin[half]))
        figures = learner.figures()
        found[way] = (
            figures.get("bytes", learner.state_bytes),
            figures.get("admitted", figures["coordinates"]),
            log_loss(label[half], p),
            auc(label[half], margin[half]),
        )
    print(f"\n{name}, {count:,} samples")
    head = f"{'':<20}{'coordinates':>12}{'MB':>8}{'of exact':>10}"
    print(f"{head}{'log loss':>10}{'more':>9}{'AUC loss more':>15}")
    size, _, loss, ranked = found["exact"]
    for way, (own, features, own_loss, own_auc) in found.items():
        print(
            f"{way:<20}{features:>12,}{own / 1e6:>8.1f}{own / size:>10.0%}{own_loss:>10.5f}"
            f"{own_loss / loss - 1:>9.2%}{(1 - own_auc) / (1 - ranked) - 1:>15.2%}"
        )


def main() -> None:
    """Print the tables for each data set, or for a generated log."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for name in CONVERTERS if data else ("generated",):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            config = convert(name, data / name, work) if data else generated(work)
            table_2(name, config, work)
    print("\nadmission with a probability (the paper's Poisson inclusion): not built")


if __name__ == "__main__":
    main()
