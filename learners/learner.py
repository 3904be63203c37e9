"""What a learner is: anything that learns hashed features row by row and exports its state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from headrace.learners.discount import NONE
from headrace.learners.features import FeatureRows
from headrace.schemas.config.models import Model
from headrace.schemas.records.hashing import Int64s

Floats = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]


class Learner(Protocol):
    """A model of the log-odds of a label, and how it learns.

    It is made from its parameters and ``bits``: its state may grow with ``2^bits``,
    but not with the number of rows (with an exact table it grows with that of features,
    `headrace.learners.exact`). Its state and its predictions are a function of
    parameters, ``bits`` and the rows it learned, in order; how rows are split over
    calls changes no bit. ``tests/learners/conformance.py`` checks all of this contract.
    """

    @property
    def version(self) -> int:
        """Version of its arrays. Raised when older arrays would be misread."""

    @property
    def weight(self) -> Literal["gradient", "repetition", "likelihood"]:
        """Effect of a row's weight w.

        It multiplies the gradient of the row's loss, or the row counts as w consecutive rows,
        or its likelihood is raised to the power w, which moves a posterior by less than w
        times. A row of weight 0 changes nothing.
        """

    @property
    def parameters(self) -> Model:
        """The parameters it was made with, an instance of its algorithm's model."""

    @property
    def bits(self) -> int:
        """Indices of features are below ``2^bits``."""

    @property
    def state_bytes(self) -> int:
        """The most bytes that its arrays take in memory.

        It depends on parameters and bits alone; with an exact table it is what they take now.
        """

    def learn(
        self,
        rows: FeatureRows,
        order: Int64s,
        label: Floats,
        importance: Floats,
        offset: Floats,
        discount: Floats = NONE,
    ) -> Floats:
        """Predict, then learn, row after row.

        Parameters
        ----------
        rows
            Features, shape (n, ...).
        order
            The order in which to visit rows, shape (m,).
        label, importance, offset
            Label in [0, 1], weight of the row, and what is added to the log-odds in
            training only; each float64, shape (m,), in visiting order.
        discount
            Float64, shape (m,): where the label is 0, the row weighs
            ``1 / (1 + exp(margin + discount))`` times as much, with the log-odds from before
            learning it. Of shape (0,) for no discount.

        Returns
        -------
        array
            Log-odds before learning the row, without the offset, as `predict` returns
            them; float64, shape (m,), in visiting order. One that is not finite ends the
            run.
        """

    def predict(self, rows: FeatureRows) -> Floats:
        """Return the log-odds of each row, float64, shape (n,), without changing anything."""

    def export(self) -> dict[str, npt.NDArray[Any]]:
        """Return the whole state as arrays of one dimension, each of any length and number type.

        A table that is mostly unused is best exported as the indices in use and their
        values.
        """

    def restore(self, arrays: Arrays) -> None:
        """Replace the state by what `export` of a learner of equal parameters and bits returned."""

    def figures(self) -> dict[str, int]:
        """Return counts that describe the model's size, for manifest and summary."""


def collisions(coordinates: int, bits: int) -> dict[str, int]:
    """Return figures of a hashed table: how many features it has, and how many of them collide.

    Both are estimated from how many of ``2^bits`` coordinates were touched, by linear counting
    [1]_: of n features that fall on any of m coordinates alike, ``m (1 - exp(-n / m))`` are
    touched. If all are, there are at least so many features as would leave half of one.

    References
    ----------
    .. [1] Whang et al., A Linear-Time Probabilistic Counting Algorithm for Database
       Applications, ACM TODS 1990, equation 2.

    Examples
    --------
    >>> collisions(632, 10), collisions(1_024, 10)
    ({'features': 983, 'colliding': 606}, {'features': 7808, 'colliding': 7804})
    """
    size = 1 << bits
    features = round(-size * math.log1p(-min(coordinates, size - 0.5) / size))
    sharing = -math.expm1(-max(features - 1, 0) / size)
    return {"features": features, "colliding": round(features * sharing)}


def probability(margin: Floats) -> Floats:
    """Return the probabilities of log-odds, of any shape; far below zero they are 0."""
    with np.errstate(over="ignore"):
        p: Floats = 1.0 / (1.0 + np.exp(-margin))
    return p
