"""Logs to learn from in any way, in the order in which a run would learn them, and their scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from examples.convert import convert
from headrace.learners.discount import NONE
from headrace.learners.exact import CODE_BITS, ExactTable
from headrace.learners.features import FeatureEncoder, FeatureRows, Features
from headrace.learners.learner import Learner, probability
from headrace.learners.registry import ALGORITHMS, parameter_models
from headrace.pipelines.app.commands import quiet_beam
from headrace.pipelines.jobs.generate import Traffic, impressions_of
from headrace.pipelines.sources.inputs import resolve
from headrace.schemas.config.loading import load_config

BITS = 22
REAL = ("talkingdata", "mind", "avazu")
"""The data sets with enough positives to learn from."""


@dataclass(frozen=True)
class Log:
    """Samples in the order in which they are learned.

    Parameters
    ----------
    name, features, batch, label
        What they are called, what is learned of them, their columns, and 0 or 1 for each, (n,).
    parameters
        Of ``ftrl``, as the example's configuration has them.
    bits
        Of a hashed table.
    truth
        Log-odds of the best prediction from the columns, shape (n,); None if they are not known.
    """

    name: str
    features: Features
    batch: pa.RecordBatch
    label: np.ndarray
    parameters: dict[str, Any] = field(default_factory=dict)
    truth: np.ndarray | None = None
    bits: int = BITS

    @property
    def half(self) -> slice:
        """The second half, which is scored."""
        return slice(self.label.size // 2, None)

    @property
    def rate(self) -> np.ndarray:
        """Log-odds of the share of positives before each row."""
        positives = np.cumsum(self.label) - self.label + 1
        return np.log(positives / (np.arange(self.label.size) + 2 - positives))

    def rows(self, bits: int | None = None) -> FeatureRows:
        """Encode the samples, for a hashed table unless bits are given."""
        return FeatureEncoder(self.features, bits or self.bits).encode(self.batch)

    def learner(
        self, algorithm: str = "ftrl", table: ExactTable | None = None, **parameters: Any
    ) -> Learner:
        """Make a learner; FTRL has the parameters of the log but for those that are given."""
        kind = ALGORITHMS[algorithm]
        given = {**(self.parameters if algorithm == "ftrl" else {}), **parameters}
        bits = self.bits if table is None else CODE_BITS
        return kind.make(kind.parameters.model_validate(given), bits, table)

    def learn(
        self, learner: Learner, rows: FeatureRows, importance: np.ndarray | float = 1.0,
        offset: np.ndarray | float = 0.0, label: np.ndarray | None = None,
        part: slice = slice(None),
    ) -> np.ndarray:  # fmt: skip
        """Learn rows in order; return the log-odds from before each."""
        order = np.arange(self.label.size)[part]
        own = (self.label if label is None else label)[part]
        weight = np.broadcast_to(importance, self.label.size)[part].astype(float)
        more = np.broadcast_to(offset, self.label.size)[part].astype(float)
        return learner.learn(rows, order, own, weight, more, NONE)


def losses(label: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Return the log loss of each row; of a label between 0 and 1 the expected one."""
    return np.logaddexp(0.0, margin) - label * margin


def auc(label: np.ndarray, score: np.ndarray) -> float:
    values, rank = np.unique(score, return_inverse=True)
    negatives = np.bincount(rank, 1 - label, values.size)
    below = np.cumsum(negatives) - negatives
    positive = label > 0
    wins = (below + negatives / 2)[rank][positive].sum()
    return float(wins / (positive.sum() * (~positive).sum()))


def more(log: Log, margin: np.ndarray, than: np.ndarray) -> tuple[float, float]:
    """Return by which share log loss of the second half is higher, and its 95 % half-width.

    Where the truth is known losses are expected ones, which have less noise.
    """
    half = log.half
    label = log.label if log.truth is None else probability(log.truth)
    own, other = (losses(label[half], one[half]) for one in (margin, than))
    width = 1.96 * float((own - other).std() / np.sqrt(own.size))
    return float(own.mean() / other.mean() - 1), width / float(other.mean())


def real(names: tuple[str, ...], data: Path) -> Iterator[Log]:
    """Convert and replay data sets, and yield them."""
    quiet_beam()
    from headrace.pipelines.jobs.replay import replay
    from headrace.pipelines.run.folder import opened

    for name in names:
        with TemporaryDirectory() as folder:
            work = Path(folder)
            config = convert(name, data / name, work)
            inputs = resolve(load_config(config, parameter_models()))
            with opened(work / "result", inputs.files) as place:
                replay(inputs, place)
            samples = ds.dataset(work / "result" / "samples", format="parquet").to_table()
        (batch,) = samples.combine_chunks().to_batches()
        (plan,) = inputs.train.learners.values()
        label = batch.column(plan.label).to_numpy(zero_copy_only=False).astype(float)
        parameters = plan.parameters.model_dump()
        yield Log(name, plan.features, batch, label, parameters, bits=plan.bits)


GENERATED_FTRL = {"alpha": 0.1, "beta": 0.1, "l2": 0.0}
GENERATED = Features(
    categorical=("device", "os", "site", "ad", "campaign", "position", "hour"),
    numeric={"price": "log"},
    crosses=(("device", "os"),),
)


def generated(count: int, rate: int = 100) -> Log:
    """Return traffic of ``headrace generate``, all of it, with the best possible prediction.

    That is the mean over the users of a site, as `user` is no column. With a rate of a few a
    second it has many days, and no hour of the day is new in its second half.
    """
    traffic = Traffic(impressions=count, rate=rate)
    shown, p = impressions_of(traffic, np.random.default_rng(traffic.seed), 0, count)
    (batch,) = shown.combine_chunks().to_batches()
    label = (np.random.default_rng(2).random(count) < p).astype(float)
    column = {name: batch.column(name).to_numpy(zero_copy_only=False)
              for name in ("ad", "position", "price", "site", "os", "device")}  # fmt: skip
    devices = {"phone": 0.3, "desktop": -0.2, "tablet": 0.1, "tv": -1.0}
    systems = {"android": 0.2, "ios": -0.3, "windows": 0.0, "macos": 0.1, "linux": 0.0}
    known = (
        np.log(traffic.click_rate / (1 - traffic.click_rate)) + 0.15
        + np.array([devices[one] for one in column["device"]])
        + np.array([systems[one] for one in column["os"]])
        + 0.9 * np.sin(column["ad"] * 12.9898)
        - 0.25 * (column["position"] - 1)
        - 0.1 * np.log1p(column["price"])
    )  # fmt: skip
    assert np.abs(np.log(p / (1 - p)) - known).max() < 0.3 + 1e-6, "the generator has changed"
    site = np.array([int(one[-3:]) for one in column["site"]])
    mean = np.zeros(count)
    for user in range(250):
        mean += probability(known + 0.3 * np.sin((site + 200 * user) * 78.233)) / 250
    truth = np.log(mean / (1 - mean))
    return Log("generated", GENERATED, batch, label, GENERATED_FTRL, truth)


def interacting(count: int, columns: int = 5, values: int = 30) -> Log:
    """Return samples whose log-odds have an effect for each pair of values, of low rank."""
    random = np.random.default_rng(3)
    value = (values * random.random((count, columns)) ** 1.5).astype(int)
    effect = random.normal(0, 0.4, (columns, values))
    latent = random.normal(0, 0.5, (columns, values, columns, 3))
    truth = effect[np.arange(columns), value].sum(axis=1) - 2
    for a in range(columns):
        for b in range(a):
            truth += (latent[a, value[:, a], b] * latent[b, value[:, b], a]).sum(axis=1)
    label = (random.random(count) < probability(truth)).astype(float)
    batch = pa.RecordBatch.from_pydict({f"c{at}": value[:, at] for at in range(columns)})
    return Log("interactions", Features(tuple(batch.schema.names)), batch, label, {}, truth)


def crossed(log: Log, crosses: tuple[tuple[str, ...], ...]) -> Log:
    return replace(log, features=replace(log.features, crosses=crosses))
