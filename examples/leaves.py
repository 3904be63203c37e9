"""Leaves of boosted trees as features of FTRL (He et al., ADKDD 2014, section 3).

Usage, after ``pip install lightgbm``::

    python -m examples.leaves RESULT

``RESULT`` is what ``headrace replay`` wrote, with one learner of ``ftrl`` and without sampling.
Trees learn the first quarter of its samples; from there on a sample has a feature for the leaf of
each tree that it is in. FTRL learns the samples with their own features, with the leaves in
place of these, and with both; the second half is scored. To serve such a model, a program
computes the leaves before it asks the scorer.

By how much more is lost than with the own features alone, ± the half-width of 95 %:

============================================ ============= ===============
log                                          leaves alone  leaves, and own
============================================ ============= ===============
talkingdata (80 installs scored)             +10.8 ± 7.3 % +8.6 ± 6.6 %
mind                                         +2.5 ± 0.5 %  +1.7 ± 0.4 %
avazu                                        +3.4 ± 1.3 %  +3.6 ± 1.4 %
generated traffic, 400,000 (additive)        +0.5 ± 0.1 %  +0.5 ± 0.1 %
effects of pairs, 300,000 (benchmarks.logs)  -8.1 ± 0.3 %  -8.2 ± 0.3 %
============================================ ============= ===============

In the paper LR of leaves had 2.9 % less normalised entropy than LR of the own features, with
numbers such as counts of clicks for columns, and far more samples. Here columns are mostly
identifiers, which trees can do little with, and the trees are of a quarter of the log and never
renewed: leaves pay only where effects depend on each other, and ``ffm`` does better there.
"""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

import headrace
from headrace.learners.features import FeatureEncoder, Features
from headrace.learners.registry import ALGORITHMS

TREES = {
    "objective": "binary", "num_leaves": 12, "learning_rate": 0.1, "min_data_in_leaf": 50,
    "min_sum_hessian_in_leaf": 1.0,
    "cat_smooth": 20.0, "seed": 1, "deterministic": True, "num_threads": 2, "verbosity": -1,
}  # fmt: skip
ROUNDS = 100
BITS = 22
ALPHA = 0.03
"""The rate of FTRL with leaves: with a hundred features more, steps are to be smaller."""


def with_leaves(
    features: Features, batch: pa.RecordBatch, label: np.ndarray, fitted: slice
) -> tuple[Features, pa.RecordBatch]:
    """Return the columns of leaves as features, and samples that have these columns.

    Parameters
    ----------
    features, batch, label
        The own features, and n samples with their labels. Columns with several values are left
        out, and crosses are for trees to find.
    fitted
        The samples from which trees are learned.
    """
    import lightgbm

    columns = [
        batch.column(name).dictionary_encode().indices.to_numpy(zero_copy_only=False)
        for name in features.categorical
    ]
    columns += [
        batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
        for name in features.numeric
    ]
    table = np.column_stack(columns).astype(float)
    given = lightgbm.Dataset(
        table[fitted], label[fitted], categorical_feature=list(range(len(features.categorical)))
    )
    leaves = lightgbm.train(TREES, given, ROUNDS).predict(table, pred_leaf=True)
    names = tuple(f"leaf {tree}" for tree in range(leaves.shape[1]))
    for name, column in zip(names, leaves.T, strict=True):
        batch = batch.append_column(name, pa.array(column))
    return Features(names), batch


def compared(
    features: Features, batch: pa.RecordBatch, label: np.ndarray, parameters: dict[str, float]
) -> dict[str, np.ndarray]:
    """Return the log loss of each sample of the second half, with each kind of features."""
    quarter, half = label.size // 4, slice(label.size // 2, None)
    leaves, more = with_leaves(features, batch, label, slice(0, quarter))
    both = replace(features, categorical=(*features.categorical, *leaves.categorical))
    algorithm, found = ALGORITHMS["ftrl"], {}
    for name, own in {"own": features, "leaves alone": leaves, "leaves, and own": both}.items():
        given = parameters if name == "own" else {**parameters, "alpha": ALPHA}
        learner = algorithm.make(algorithm.parameters.model_validate(given), BITS)
        # What trees have learned from tells nothing of their leaves.
        weight = np.ones(label.size)
        weight[: 0 if name == "own" else quarter] = 0
        order = np.arange(label.size)
        rows = FeatureEncoder(own, BITS).encode(more)
        margin = learner.learn(rows, order, label, weight, np.zeros(label.size))
        found[name] = np.logaddexp(0.0, np.where(label > 0, -margin, margin))[half]
    return found


def show(losses: dict[str, np.ndarray]) -> None:
    own = losses["own"]
    print(f"own features: log loss {own.mean():.5f}, {own.size:,} samples scored")
    for name, loss in losses.items():
        if name != "own":
            width = 1.96 * (loss - own).std() / np.sqrt(own.size)
            share, noise = loss.mean() / own.mean() - 1, width / own.mean()
            print(f"{name}: {share:+.1%} ±{noise:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Boosted trees, then FTRL.")
    parser.add_argument("result", type=Path, help="folder of a result with one learner, of ftrl")
    options = parser.parse_args()
    if importlib.util.find_spec("lightgbm") is None:
        parser.error("needs lightgbm: pip install lightgbm")
    result = headrace.load_result(options.result)
    (folder,) = result.models.values()
    model = headrace.load_model(folder)
    (batch,) = result.samples.to_table().combine_chunks().to_batches()
    label = batch.column(model.label).to_numpy(zero_copy_only=False).astype(float)
    parameters = model.manifest["parameters"]
    show(compared(model.encoder.features, batch, label, parameters))


if __name__ == "__main__":
    main()
