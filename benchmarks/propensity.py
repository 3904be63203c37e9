"""The click rate of a policy, estimated from the log of another by propensities, on public data.

Usage: ``python -m benchmarks.propensity FOLDER_OF_DATA_SETS``. The Open Bandit Dataset has the
logs of two policies over the same weeks, so what is estimated for the random one from the log of
the other can be compared with its own log. The estimate is self-normalised; with its error it
prints the effective sample size, the number of equally weighted rows that would tell as much.

References
----------
.. [1] Saito et al. 2021, Open Bandit Dataset and Pipeline, section 3: the estimator.
.. [2] Kong 1992, A note on importance sampling using standardized weights: the sample size.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.csv as pa_csv

Floats = npt.NDArray[np.float64]


def self_normalised(clicked: Floats, weight: Floats) -> tuple[float, float, float]:
    """Return the weighted rate, its standard error, and the effective sample size."""
    total = weight.sum()
    rate = float((weight * clicked).sum() / total)
    error = float(np.sqrt(((weight * (clicked - rate)) ** 2).sum()) / total)
    return rate, error, float(total**2 / (weight**2).sum())


def rows_of(path: Path) -> tuple[Floats, Floats]:
    """Return whether rows were clicked, and with which probability their item was shown there."""
    table = pa_csv.read_csv(path)
    return tuple(table.column(name).to_numpy().astype(np.float64)
                 for name in ("click", "propensity_score"))  # type: ignore[return-value]  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1]) / "obd"
    for campaign in ("all", "men"):
        print(f"{campaign}: click rate of the random policy")
        clicked, _ = rows_of(folder / f"random_{campaign}.csv.gz")
        own = self_normalised(clicked, np.ones(clicked.size))
        clicked, propensity = rows_of(folder / f"bts_{campaign}.csv.gz")
        # The random policy shows every item alike: its probability cancels.
        estimated = self_normalised(clicked, 1.0 / propensity)
        unweighted = self_normalised(clicked, np.ones(clicked.size))
        for name, (rate, error, size) in (
            ("its own log", own),
            ("estimated from the other's log", estimated),
            ("the other's log as it is", unweighted),
        ):
            print(f"  {name:32} {rate:.5f} +- {error:.5f}, effective sample {size:,.0f}")


if __name__ == "__main__":
    main()
