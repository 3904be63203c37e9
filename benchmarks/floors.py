"""What the learners reach beside floors: progressive, second half of the rows.

Usage: ``python -m benchmarks.floors [FOLDER_OF_DATA_SETS]`` (``make floors``).

- Data sets with the settings of ``examples/``: by which share log loss is lower than that of
  a rival that always predicts the rate so far, and AUC. Floors that are met narrowly are within
  the noise of other settings: the half-width of the share is printed too.
- Generated traffic: log loss above that of the best prediction from the columns, as its
  configuration has them; and with edges for the price, without campaign, hour and cross, which tell
  nothing that the others do not.
- A log with effects of pairs: the field-aware factorisation machine beside FTRL, without
  crosses and with those that are best. Each has the best of a grid, in hindsight.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.logs import Log, auc, crossed, generated, interacting, losses, more, real
from examples.convert import CONVERTERS
from headrace.learners.features import Features
from headrace.learners.learner import probability

FLOORS = {"talkingdata": (0.50, 0.945), "mind": (0.084, 0.71), "avazu": (0.077, 0.688)}
EXCESS = {"ftrl": ({"alpha": 0.1}, 0.0011), "probit": ({"prior_variance": 0.1}, 0.0008)}
PRICED = Features(
    categorical=("device", "os", "site", "ad", "position"),
    numeric={"price": (2.0, 5.0, 10.0, 20.0)},
)
IMPRESSIONS, PAIRED = 1_000_000, 300_000


def said(met: bool) -> str:
    return "met" if met else "NOT MET"


def sets(data: Path) -> None:
    print(f"{'set':<12} {'lower log loss':>18} {'AUC':>7} {'positives':>9}  floor")
    for log in real(tuple(CONVERTERS), data):
        margin, half = log.learn(log.learner(), log.rows()), log.half
        share, width = more(log, margin, log.rate)
        lower, ranked = -share, auc(log.label[half], margin[half])
        floor = FLOORS.get(log.name)
        text = "-: too few positives to learn from" if floor is None else (
            f"{floor[0]:.1%}, {floor[1]:.3f}: {said(lower >= floor[0] and ranked >= floor[1])}"
        )  # fmt: skip
        print(f"{log.name:<12} {lower:>10.1%} ±{width:>6.1%} {ranked:>7.3f} "
              f"{int(log.label[half].sum()):>9}  {text}")  # fmt: skip


def above(log: Log, margin: np.ndarray) -> float:
    """Return the expected log loss of the second half above that of the truth."""
    assert log.truth is not None
    p, half = probability(log.truth), log.half
    own, best = (losses(p[half], one[half]).mean() for one in (margin, log.truth))
    return float(own - best)


def attainable() -> None:
    print(f"\n{'generated':<32} {'above the best':>14}  floor")
    shipped = generated(IMPRESSIONS)
    for columns, features in (("its columns", shipped.features), ("with edges", PRICED)):
        log = replace(shipped, features=features)
        rows = log.rows()
        for name, (parameters, floor) in EXCESS.items():
            found = above(log, log.learn(log.learner(name, **parameters), rows))
            text = f"{floor}: {said(found <= floor)}"
            print(f"{f'{name}, {columns}':<32} {found:>14.5f}  {text}")


def interactions() -> None:
    print(f"\n{'effects of pairs':<32} {'above the best':>14}")
    log = interacting(PAIRED)
    pairs = tuple(itertools.combinations(log.features.categorical, 2))
    grid = [{"alpha": alpha, "l2": l2} for alpha in (0.05, 0.1, 0.2, 0.4) for l2 in (0.0, 1.0)]
    found = {}
    for count in (0, 2, 4, 6, len(pairs)):
        # Those that help most alone are the best crosses.
        best = crossed(log, ranked_pairs(log, pairs)[:count])
        rows = best.rows()
        found[f"ftrl, {count} of {len(pairs)} crosses"] = min(
            above(best, best.learn(best.learner(**given), rows)) for given in grid
        )
    rows = log.rows()
    ffm = min(above(log, log.learn(log.learner("ffm", alpha=alpha), rows))
              for alpha in (0.1, 0.2, 0.4))  # fmt: skip
    for name, loss in {**found, "ffm": ffm}.items():
        print(f"{name:<32} {loss:>14.5f}")
    print(f"ffm below ftrl with the best crosses: {said(ffm < min(found.values()))}")


def ranked_pairs(log: Log, pairs: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    def alone(pair: tuple[str, ...]) -> float:
        one = crossed(log, (pair,))
        return above(one, one.learn(one.learner(alpha=0.2), one.rows()))

    return tuple(sorted(pairs, key=alone))


def main() -> None:
    """Print what is reached, and whether that is the floor."""
    if len(sys.argv) > 1:
        sets(Path(sys.argv[1]))
    attainable()
    interactions()


if __name__ == "__main__":
    main()
