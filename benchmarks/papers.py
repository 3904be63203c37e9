"""Tables of papers, measured with this project's learners.

Usage: ``python -m benchmarks.papers [FOLDER_OF_DATA_SETS]`` (``make papers``), on generated
traffic, and on the data sets if they are given. The samples of a log are learned in each way, in
the order in which a run learns them, and the second half is scored. What differs by less than
its 95 % half-width is marked with ``~``: the log is too small to show it. On generated traffic
losses are expected ones, as probabilities are known. Settings with a grid are the best in
hindsight.

References
----------
.. [1] McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013.
.. [2] He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.logs import REAL, Log, auc, crossed, generated, losses, more, real
from headrace.learners.exact import CODE_BITS, ExactTable
from headrace.learners.features import FeatureRows
from headrace.learners.learner import Learner, probability
from headrace.learners.shrinking import small
from headrace.learners.snapshot import save_snapshot
from headrace.learners.uncertainty import uncertainty_of

IMPRESSIONS, RATE = 1_000_000, 2
CROSSES = (("site", "ad"), ("site", "hour", "position"), ("ad", "device", "os"))
"""Of generated traffic for table 2, whose columns have few rare values."""

ALPHAS = {
    "per-coordinate": (0.05, 0.1, 0.3, 1.0),
    "per-weight-sqrt": (0.1, 0.3, 1.0, 3.0),
    "per-weight": (0.3, 1.0, 3.0, 10.0, 30.0),
    "global": (0.3, 1.0, 3.0, 10.0, 30.0),
    "constant": (0.001, 0.002, 0.005, 0.02, 0.05, 0.2),
}
"""By scheme of rates of ``sgd``; the best counts."""


def show(title: str, theirs: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    print(f"\n{title}\n  theirs: {theirs}")
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  " + "  ".join([row[0].ljust(len(first)), *others]))


def beyond(log: Log, margin: np.ndarray, than: np.ndarray) -> str:
    """Return by which share more is lost, and whether the log is large enough to say so."""
    share, width = more(log, margin, than)
    return f"{share:+.2%} ±{width:.2%}{' ~' if abs(share) < width else '  '}"


def table_2(log: Log) -> None:
    """[1]_, Table 2: what it saves, and costs, to admit features that came often enough.

    The paper's filter is a counting Bloom filter, this one counts exactly. Its other way,
    to admit each occurrence with a probability, is not built: on public data sets a
    probability of 0.1 cost up to 6 % of loss, where two occurrences cost 1 %.
    """
    if log.name == "generated":
        log = crossed(log, CROSSES)
    theirs = {2: ("55%", "+0.003%"), 3: ("66%", "+0.008%")}
    half, found = log.half, []
    tables = [None, *(ExactTable(admit=admit) for admit in (1, 2, 3))]
    for table in tables:
        learner = log.learner(table=table)
        margin = log.learn(learner, log.rows() if table is None else log.rows(CODE_BITS))
        figures = learner.figures()
        size, count = learner.state_bytes, figures.get("admitted", figures["coordinates"])
        ranked = 1 - auc(log.label[half], margin[half])
        found.append((table, count, figures.get("bytes", size), ranked, margin))
    _, all_features, _, own_auc, exact = found[1]
    show(
        f"features that came twice (McMahan, Table 2): {log.name}",
        "memory saved and AUC loss more, on the right",
        ("table", "coordinates", "saved", "MB", "log loss more", "AUC loss more", "theirs"),
        (
            (
                f"hashed, 2^{log.bits}" if table is None else f"exact, admit = {table.admit}",
                f"{count:,}", f"{1 - count / all_features:.0%}", f"{size / 1e6:.1f}",
                beyond(log, margin, exact), f"{ranked / own_auc - 1:+.2%}",
                ", ".join(theirs.get(table.admit if table else 0, ())),
            )
            for table, count, size, ranked, margin in found
        ),
    )  # fmt: skip


def rates(log: Log) -> None:
    """[2]_, section 3.2; [1]_, section 3.1: schemes of learning rates."""
    rows, half, found = log.rows(), log.half, {}
    for scheme, alphas in ALPHAS.items():
        margins = {
            alpha: log.learn(log.learner("sgd", rate=scheme, alpha=alpha), rows)
            for alpha in alphas
        }  # fmt: skip
        best = min(alphas, key=lambda alpha: losses(log.label[half], margins[alpha][half]).mean())
        found[scheme] = (best, margins[best])
    own = found["per-coordinate"][1]
    base = 1 - auc(log.label[half], own[half])
    theirs = {
        "per-weight-sqrt": "slightly worse", "per-weight": "worst, about 5%",
        "global": "significantly worse; AUC loss +12.6%", "constant": "slightly worse",
    }  # fmt: skip
    show(
        f"learning rates (He, section 3.2; McMahan, section 3.1): {log.name}",
        "per coordinate is best",
        ("rate", "best alpha", "log loss more", "AUC loss more", "theirs"),
        (
            (
                scheme, f"{alpha:g}", beyond(log, margin, own),
                f"{(1 - auc(log.label[half], margin[half])) / base - 1:+.1%}",
                theirs.get(scheme, "-"),
            )
            for scheme, (alpha, margin) in found.items()
        ),
    )  # fmt: skip


def subsampling(log: Log) -> None:
    """[2]_, section 6.1: only a share of all rows is learned; all are predicted."""
    rows, chance = log.rows(), np.random.default_rng(5).random(log.label.size)
    whole = log.learn(log.learner(), rows)
    found = []
    for share in (1.0, 0.5, 0.1, 0.01, 0.001):
        kept = chance < share
        margin = log.learn(log.learner(), rows, kept.astype(float))
        positives = int(log.label[kept].sum())
        found.append((share, positives, beyond(log, margin, whole)))
    show(
        f"a share of the rows (He, section 6.1): {log.name}",
        "a tenth of the rows costs 1 %",
        ("share learned", "positives", "log loss more"),
        ((f"{share:g}", f"{positives:,}", cost) for share, positives, cost in found),
    )


def negatives(log: Log) -> None:
    """[2]_, sections 6.2 and 6.3: negatives are dropped, and how that is put right."""
    rows, chance = log.rows(), np.random.default_rng(6).random(log.label.size)
    whole = log.learn(log.learner(), rows)
    half, positive = log.half, log.label > 0

    def calibration(margin: np.ndarray) -> str:
        return f"{probability(margin[half]).mean() / log.label[half].mean():.2f}"

    found = [("1", "", f"{int((~positive).sum()):,}", calibration(whole), "")]
    for rate in (0.1, 0.01, 0.001, 0.0001):
        kept = (positive | (chance < rate)).astype(float)
        weight = kept * np.where(positive, 1.0, 1 / rate)
        dropped = log.learn(log.learner(), rows, kept)
        ways = {
            "none": dropped,
            "recalibrate": dropped + np.log(rate),
            "weight": log.learn(log.learner(), rows, weight),
            "logit": log.learn(log.learner(), rows, kept, -np.log(rate)),
        }
        few = f"{int(kept[~positive].sum()):,}"
        found += [
            (f"{rate:g}", way, few, calibration(margin), beyond(log, margin, whole))
            for way, margin in ways.items()
        ]
    show(
        f"a share of the negatives (He, sections 6.2 and 6.3): {log.name}",
        "a rate of 0.025 was best, and 0.0001 clearly worse; recalibrated as here",
        ("rate", "correction", "negatives", "predicted / true", "log loss more"),
        found,
    )


def uncertainty(log: Log) -> None:
    """[1]_, section 6: errors of log-odds by bins of u(x), where the truth is known.

    Of real data, as in the paper, labels are drawn anew from what a model predicts.
    """
    rows, truth = log.rows(), log.truth
    label = log.label
    if truth is None:
        teacher = log.learner()
        log.learn(teacher, rows)
        truth = teacher.predict(rows)
        drawn = np.random.default_rng(7).random(label.size) < probability(truth)
        label = drawn.astype(float)
    found = []
    for name in ("ftrl", "probit"):
        learner = log.learner(name)
        log.learn(learner, rows, label=label, part=slice(0, label.size // 2))
        told = uncertainty_of(learner)
        assert told is not None
        score, error = told(rows)[log.half], np.abs(learner.predict(rows) - truth)[log.half]
        ranks = [np.argsort(np.argsort(figures)) for figures in (score, error)]
        bins = np.array_split(np.argsort(score), 10)
        found.append((name, f"{np.corrcoef(*ranks)[0, 1]:.2f}",
                      *(f"{error[part].mean():.2f}" for part in bins)))  # fmt: skip
    show(
        f"uncertainty, error of log-odds by tenths of it (McMahan, section 6): {log.name}",
        "the error rises with u(x)",
        ("", "rank correlation", *(str(at) for at in range(1, 11))),
        found,
    )


def rounding(log: Log) -> None:
    """[1]_, section 4.2: weights of 16 bits; those of the first half predict the second."""
    rows, half = log.rows(), log.half
    found = []
    for name in ("ftrl", "sgd", "probit"):
        learner = log.learner(name)
        log.learn(learner, rows, part=slice(0, half.start))
        own = learner.predict(rows)
        rounded = small(learner)
        form = f"q{15 - rounded.fraction_bits}.{rounded.fraction_bits}, at random"
        found.append((name, "as learned", disk(name, learner), ""))
        found.append((name, form, disk(name, rounded), beyond(log, rounded.predict(rows), own)))
        if name == "ftrl":
            weights = np.clip(learner.weights().astype(float), -4, 4)  # type: ignore[attr-defined]
            for bits in (13, 6):
                near = np.ldexp(np.round(np.ldexp(weights, bits)), -bits)
                margin = sums(near, rows)
                form = f"q2.{bits}, clipped, nearest"
                found.append((name, form, "-", beyond(log, margin, own)))
    show(
        f"weights of few bits (McMahan, section 4.2): {log.name}",
        "q2.13 costs nothing that can be measured, and saves 75 % of memory beside 64 bits",
        ("", "weights", "MB on disk", "log loss more"),
        found,
    )


def sums(weights: np.ndarray, rows: FeatureRows) -> np.ndarray:
    effects = weights[rows.indices] * (rows.values if rows.values.size else 1)
    return np.add.reduceat(effects, rows.starts[:-1])


def disk(name: str, learner: Learner) -> str:
    with TemporaryDirectory() as folder:
        save_snapshot(Path(folder, "it"), name, learner, {})
        return f"{sum(path.stat().st_size for path in Path(folder, 'it').iterdir()) / 1e6:.3f}"


def freshness(log: Log) -> None:
    """[2]_, section 3.1: models that are not renewed with each row."""
    rows, size = log.rows(), log.label.size
    online = log.learn(log.learner(), rows)
    found = [("each row", "", "")]
    for parts in (100, 10, 2, 1):
        learner, margin = log.learner(), online.copy()
        ends = np.linspace(size // 2, size, parts + 1).astype(int)
        log.learn(learner, rows, part=slice(0, size // 2))
        for begin, end in itertools.pairwise(ends):
            margin[begin:end] = learner.predict(rows)[begin:end]
            log.learn(learner, rows, part=slice(begin, end))
        found.append((f"1/{2 * parts} of the log", f"{int(ends[1] - ends[0]):,}",
                      beyond(log, margin, online)))  # fmt: skip
    show(
        f"freshness (He, section 3.1): {log.name}",
        "about 1 % less loss if a model is trained each day in place of each week",
        ("renewed after", "rows", "log loss more"),
        found,
    )
    if log.name == "generated":
        print("  generated traffic does not drift: an old model lacks only what it has not seen")


TABLES = (table_2, rates, subsampling, negatives, uncertainty, rounding, freshness)


def main() -> None:
    """Print the tables of each log."""
    print("~ is less than its 95 % half-width: the log is too small to show it")
    sets = real(REAL, Path(sys.argv[1])) if len(sys.argv) > 1 else ()
    for log in itertools.chain([generated(IMPRESSIONS, RATE)], sets):
        print(f"\n== {log.name}: {log.label.size:,} samples, {int(log.label.sum()):,} positives ==")
        for table in TABLES:
            table(log)


if __name__ == "__main__":
    main()
