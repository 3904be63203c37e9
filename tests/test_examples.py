"""Examples that are programs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from examples.leaves import compared, with_leaves
from headrace.learners.features import Features


def test_leaves_find_what_depends_on_two_columns():
    """Where the label is that of no column alone, but of both together."""
    pytest.importorskip("lightgbm", reason="needs lightgbm")
    random = np.random.default_rng(1)
    one, other = random.integers(0, 2, (2, 4_000))
    label = (random.random(4_000) < np.where(one == other, 0.9, 0.1)).astype(float)
    batch = pa.RecordBatch.from_pydict({"one": one, "other": other, "price": random.random(4_000)})
    features = Features(("one", "other"), numeric={"price": "linear"})
    leaves, more = with_leaves(features, batch, label, slice(0, 1_000))
    assert set(leaves.categorical) <= set(more.schema.names)
    losses = compared(features, batch, label, {"alpha": 0.1})
    assert {name: loss.size for name, loss in losses.items()} == dict.fromkeys(losses, 2_000)
    assert losses["own"].mean() > 0.68
    assert losses["leaves alone"].mean() < 0.45
    assert losses["leaves, and own"].mean() < 0.45


def test_without_lightgbm_it_says_what_to_install():
    """In one line after its usage."""
    code = "import sys; sys.modules['lightgbm'] = None; from examples.leaves import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "result"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].endswith("needs lightgbm: pip install lightgbm")
