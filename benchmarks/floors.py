"""What the learner reaches on real data: progressive, second half of the rows.

Usage: ``python -m benchmarks.floors FOLDER_OF_DATA_SETS``. Each set is
converted and replayed; its samples, in the order in which they were learned,
are then learned again to score the second half alone. The rival always
predicts the rate so far.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from examples.convert import CONVERTERS, convert
from headrace.learners.features import FeatureEncoder
from headrace.learners.learning import LearnerPlan
from headrace.learners.registry import parameter_models
from headrace.pipelines.app.commands import quiet_beam
from headrace.pipelines.sources.inputs import resolve
from headrace.schemas.config.loading import load_config

FLOORS = {"mind": (0.07, 0.70), "talkingdata": (0.33, 0.95), "avazu": (0.08, 0.69)}


def replayed(config: Path, work: Path) -> tuple[LearnerPlan, pa.RecordBatch, np.ndarray]:
    """Replay; return the plan of the only learner, the samples in order, and their labels."""
    quiet_beam()
    from headrace.pipelines.jobs.replay import replay
    from headrace.pipelines.run.folder import opened

    inputs = resolve(load_config(config, parameter_models()))
    with opened(work / "result", inputs.files) as place:
        replay(inputs, place)
    samples = ds.dataset(work / "result" / "samples", format="parquet").to_table()
    batch = samples.combine_chunks().to_batches()[0]
    (plan,) = inputs.train.learners.values()
    return plan, batch, batch.column(plan.label).to_numpy(zero_copy_only=False).astype(float)


def score(name: str, data: Path, work: Path) -> tuple[float, float, int]:
    """Return (share by which log loss is lower, AUC, positives scored)."""
    plan, batch, label = replayed(convert(name, data / name, work), work)
    rows = FeatureEncoder(plan.features, plan.bits).encode(batch)
    ones = np.ones(label.size)
    margin = plan.make().learn(rows, np.arange(label.size), label, ones, np.zeros(label.size))
    before = np.arange(label.size)
    rate = (np.cumsum(label) - label + 1) / (before + 2)
    half = slice(label.size // 2, None)
    ours = log_loss(label[half], 1 / (1 + np.exp(-margin[half])))
    theirs = log_loss(label[half], rate[half])
    return 1 - ours / theirs, auc(label[half], margin[half]), int(label[half].sum())


def log_loss(label: np.ndarray, p: np.ndarray) -> float:
    return float(-np.mean(np.where(label > 0, np.log(p), np.log1p(-p))))


def auc(label: np.ndarray, score: np.ndarray) -> float:
    values, rank = np.unique(score, return_inverse=True)
    negatives = np.bincount(rank, 1 - label, values.size)
    below = np.cumsum(negatives) - negatives
    positive = label > 0
    wins = (below + negatives / 2)[rank][positive].sum()
    return float(wins / (positive.sum() * (~positive).sum()))


def main() -> None:
    """Print a line for each data set."""
    data = Path(sys.argv[1])
    print(f"{'set':<12} {'lower log loss':>14} {'AUC':>6} {'positives':>9}  floor")
    for name in CONVERTERS:
        with tempfile.TemporaryDirectory() as folder:
            lower, ranked, positives = score(name, data, Path(folder))
        floor = FLOORS.get(name)
        said = f"{floor[0]:.0%}, {floor[1]:.2f}" if floor else "-"
        print(f"{name:<12} {lower:>14.1%} {ranked:>6.3f} {positives:>9}  {said}")


if __name__ == "__main__":
    main()
