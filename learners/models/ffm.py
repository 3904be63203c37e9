"""A field-aware factorisation machine over hashed features: each pair of features has an effect.

References
----------
.. [1] Juan et al., Field-aware Factorization Machines for CTR Prediction, RecSys 2016,
   equations 4 to 7 and section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numba as nb
import numpy as np
import numpy.typing as npt
from pydantic import Field

from headrace.learners.discount import NONE, weight_of
from headrace.learners.features import FeatureRows
from headrace.learners.learner import collisions
from headrace.schemas.config.models import Model
from headrace.schemas.records.hashing import Int64s, fmix64
from headrace.schemas.records.prefetch import LINE, prefetch
from headrace.schemas.records.restored import expect, exported, places

Floats = npt.NDArray[np.float64]

SPREAD = 0.5
"""Factors begin within plus or minus this, over the square root of their number.

Those of the paper begin above 0: then each pair never seen would add to the log-odds."""

_MOST_FIELDS = 1 << 16
_GREATEST = float(np.finfo(np.float32).max)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class FfmParameters(Model):
    """Rate, regularisation and size of the factors in [1]_."""

    alpha: float = Field(default=0.2, gt=0)
    l2: float = Field(default=2e-5, ge=0)
    factors: int = Field(default=4, ge=1, le=64)


@nb.njit(inline="always")
def _first(name, k, count):
    """Return where a factor begins: scattered around 0, the same on every machine."""
    bits = fmix64((name * np.uint64(count) + np.uint64(k)) * _GOLDEN + _GOLDEN)
    unit = np.float64(bits >> np.uint64(11)) / 9007199254740992.0
    return np.float32(SPREAD * (2 * unit - 1) / np.sqrt(count))


@nb.njit(cache=True, nogil=True)
def _fill(factors):
    for i in range(len(factors)):
        for k in range(factors.shape[1]):
            factors[i, k] = _first(np.uint64(i), k, factors.shape[1])


@nb.njit(inline="always")
def _first_of(code, field, k, count):
    """Return where a factor begins that a feature of a table without collisions has."""
    return _first(fmix64(np.uint64(code) * _GOLDEN + np.uint64(field)), k, count)


@nb.njit(cache=True, nogil=True)
def _fill_runs(factors, codes, begin, end, since):
    """Fill the runs of coordinates of a table without collisions, from a field on."""
    for index in range(begin, end):
        for field in range(since, factors.shape[1]):
            for k in range(factors.shape[2]):
                factors[index, field, k] = _first_of(codes[index], field, k, factors.shape[2])


@nb.njit(inline="always")
def _run(index, slots, stride):
    """Return the slot of a feature's factors for field 0; those for other fields follow.

    `stride` is how many each coordinate has to itself, 0 if features share the table.
    """
    if stride:
        return np.int64(index) * stride
    return np.int64(fmix64(np.uint64(index) * _GOLDEN) & np.uint64(slots - 1))


# The factors of a feature for all fields are one run of numbers, and so are those that they
# are multiplied by: loops over runs are what the compiler makes vector instructions of. It
# does so with slices, and where nothing tests whether a divisor is 0; none can be here.


@nb.njit(inline="always")
def _add(factors, at, size, x, sums):
    """Add a feature's run of factors to the first `size` sums, each multiplied by x."""
    done = 0
    while done < size:
        # At the end of the table a run goes on at its beginning.
        here = min(size - done, factors.size - at)
        run, out = factors[at : at + here], sums[done : done + here]
        for e in range(here):
            out[e] += x * run[e]
        done, at = done + here, 0


@nb.njit(inline="always")
def _add_first(code, since, count, x, sums):
    """Do the same with a run as it begins, except for the factors before one of them."""
    for e in range(since, sums.size):
        sums[e] += x * _first_of(code, e // count, e % count, count)


@nb.njit(inline="always")
def _step_run(factors, squares, at, size, shrinkage, pull, kappa, alpha):
    """Take a step with a feature's run of factors."""
    greatest, one = np.float32(_GREATEST), np.float32(1)
    done = 0
    while done < size:
        here = min(size - done, factors.size - at)
        run, grown = factors[at : at + here], squares[at : at + here]
        by, to = shrinkage[done : done + here], pull[done : done + here]
        for e in range(here):
            g = by[e] * run[e] + kappa * to[e]
            n = grown[e] + g * g
            n = n if n < greatest else greatest
            grown[e] = n
            run[e] -= alpha * g / np.sqrt(one + n)
        done, at = done + here, 0


@nb.njit(inline="always")
def _room(starts, fields, count):
    """Return room for what is known of one row, whichever has the most features and fields.

    That is, of each feature where its run begins and its share of the row's length; of each
    two fields the sum of factors that features of the one have for the other, and the same
    the other way round; products of these, and what shrinks factors; and how many features
    each field has.
    """
    widest, most = 0, 0
    for i in range(starts.size - 1):
        widest = max(widest, starts[i + 1] - starts[i])
    for a in range(fields.size):
        most = max(most, fields[a] + 1)
    return (
        np.empty(widest, np.int64), np.empty(widest, np.float32),
        np.empty(most * most * count, np.float32), np.empty(most * most * count, np.float32),
        np.empty(most * count, np.float32), np.empty(most * count, np.float32),
        np.empty(most, np.int64),
    )  # fmt: skip


@nb.njit(inline="always")
def _ask_ahead(factors, squares, slots, stride, count, begin, end, indices, fields):
    """Ask for the runs of a row that comes soon."""
    size = (np.int64(fields[end - 1]) + 1) * count if end > begin else 0
    for a in range(begin, end):
        at = _run(indices[a], slots, stride) * count
        for e in range(at, min(at + size, factors.size), LINE // 4):
            prefetch(factors, e)
            prefetch(squares, e)


@nb.njit(inline="always")
def _margin(
    weights, factors, lanes, stride, begin, end, indices, codes, values, fields, room
):  # fmt: skip
    """Return the log-odds, and how many fields the row has."""
    runs, share, sums, across, products, _, present = room
    count, slots = len(lanes), factors.size // len(lanes)
    margin, square = 0.0, 0.0
    for a in range(begin, end):
        x = np.float64(values[a]) if values.size else 1.0
        margin += weights[indices[a], 0] * x
        square += x * x
    length = np.sqrt(square)
    width = np.int64(fields[end - 1]) + 1 if end > begin else 0
    size = width * count
    sums[: width * size] = 0
    present[:width] = 0
    for a in range(begin, end):
        x = np.float64(values[a]) if values.size else 1.0
        at, field = _run(indices[a], slots, stride) * count, np.int64(fields[a])
        runs[a - begin] = at
        share[a - begin] = x / length if square > 0 else 0.0
        present[field] += 1
        out = sums[field * size : (field + 1) * size]
        if stride:
            # A feature that is not known has no factors yet, nor has any for a new field.
            there = min(size, stride * count) if indices[a] > 0 else 0
            _add(factors, at, there, share[a - begin], out)
            _add_first(codes[a], there, count, share[a - begin], out)
        else:
            _add(factors, at, size, share[a - begin], out)
    for f in range(width):
        for g in range(width):
            to = across[f * size + g * count : f * size + (g + 1) * count]
            of = sums[g * size + f * count : g * size + (f + 1) * count]
            for k in range(count):
                to[k] = of[k]
        if present[f] < 2:
            # No feature has an effect with itself.
            across[f * size + f * count : f * size + (f + 1) * count] = 0
    # By lanes, as vector instructions need it; each pair is counted twice.
    products[:size] = 0
    for f in range(width):
        one, other = sums[f * size : (f + 1) * size], across[f * size : (f + 1) * size]
        total = products[:size]
        for e in range(size):
            total[e] += one[e] * other[e]
    pairs = 0.0
    for e in range(size):
        pairs += products[e]
    for a in range(begin, end):
        if present[fields[a]] > 1:
            for k in range(count):
                if stride and (indices[a] == 0 or fields[a] >= stride):
                    own = _first_of(codes[a], fields[a], k, count)
                else:
                    own = _own(factors, runs[a - begin], fields[a], count, k)
                pairs -= np.float64(share[a - begin] * own) ** 2
    return margin + 0.5 * pairs, width


@nb.njit(inline="always")
def _own(factors, at, field, count, k):
    """Return a factor that a feature has for its own field."""
    return factors[(at + np.int64(field) * count + k) % factors.size]


@nb.njit(inline="always")
def _step(value, squares, g, alpha):
    """Return a parameter and its sum of squared gradients after a gradient."""
    grown = min(squares + g * g, _GREATEST)
    return value - alpha / np.sqrt(1 + grown) * g, grown


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _learn(
    weights, factors, squares, lanes, stride, starts, indices, codes, values, fields, order, label,
    importance, offset, discount, alpha, l2, margins,
):  # fmt: skip
    count, slots = len(lanes), factors.size // len(lanes)
    room = _room(starts, fields, count)
    runs, share, sums, across, _, shrinkage, present = room
    for at in range(order.size):
        if at + 1 < order.size:
            i = order[at + 1]
            _ask_ahead(
                factors, squares, slots, stride, count, starts[i], starts[i + 1], indices, fields
            )
        begin, end = starts[order[at]], starts[order[at] + 1]
        margin, width = _margin(
            weights, factors, lanes, stride, begin, end, indices, codes, values, fields, room
        )
        p = 1.0 / (1.0 + np.exp(-(margin + offset[at])))
        weight = weight_of(at, label, importance, discount, margin)
        gradient = (p - label[at]) * weight
        if not (np.isfinite(margin) and np.isfinite(gradient)):
            # To go on would spread it: as yet only the coordinates at fault are not finite.
            margins[at:] = np.nan
            return
        margins[at] = margin
        if weight == 0:
            continue
        size = width * count
        for f in range(width):
            shrinkage[f * count : (f + 1) * count] = l2 if present[f] else 0.0
        for a in range(begin, end):
            x = np.float64(values[a]) if values.size else 1.0
            w, field = weights[indices[a]], np.int64(fields[a])
            w[0], w[1] = _step(w[0], w[1], l2 * w[0] + gradient * x, alpha)
            run, unit = runs[a - begin], share[a - begin]
            own, alone = field * count, present[field] == 1
            pull = across[field * size : (field + 1) * size]
            for k in range(count):
                if alone:
                    shrinkage[own + k] = 0
                else:
                    itself = unit * _own(factors, run, field, count, k)
                    pull[own + k] = sums[field * size + own + k] - itself
            _step_run(
                factors, squares, run, size, shrinkage, pull, np.float32(gradient * unit),
                np.float32(alpha),
            )  # fmt: skip
            if alone:
                shrinkage[own : own + count] = l2


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _predict(weights, factors, lanes, stride, starts, indices, codes, values, fields, margins):
    room = _room(starts, fields, len(lanes))
    for i in range(margins.size):
        begin, end = starts[i], starts[i + 1]
        margins[i], _ = _margin(
            weights, factors, lanes, stride, begin, end, indices, codes, values, fields, room
        )


class FfmModel:
    """State and kernels of a field-aware factorisation machine.

    It is a `headrace.learners.learner.Learner`. A row's weight multiplies its gradient.

    Parameters
    ----------
    parameters
        Rate, regularisation, and how many factors a feature has for each field.
    bits
        Size of both tables: ``2^bits`` weights, and as many slots for factors.

    Attributes
    ----------
    weights
        Weight and sum of squared gradients of each coordinate, float32, shape (2^bits, 2).
    factors, factor_squares
        The factors of each slot, and the sum of squared gradients of each factor; float32,
        shape (2^bits, factors). In a model for an exact table each coordinate has slots of its
        own, shape (2^bits, fields so far, factors).
    codes
        The codes of coordinates, for an exact table; uint64, shape (2^bits,), else (0,).
    begun
        The first coordinate that has no code yet.
    """

    version: ClassVar[int] = 2
    weight: ClassVar[Literal["gradient", "repetition", "likelihood"]] = "gradient"

    def __init__(self, parameters: FfmParameters, bits: int) -> None:
        self.parameters = parameters
        self.bits = bits
        self.weights = np.zeros((1 << bits, 2), np.float32)
        self.codes = np.empty(0, np.uint64)
        self.begun = 0
        self.factors = np.empty((1 << bits, parameters.factors), np.float32)
        self.factors = self._first_factors()
        self.factor_squares = np.zeros_like(self.factors)

    @classmethod
    def growing(cls, parameters: FfmParameters, bits: int) -> FfmModel:
        """Make a model for an exact table, in which no factors of two features collide."""
        model = cls(parameters, 1)
        model.bits = bits
        model.weights = np.zeros((1 << bits, 2), np.float32)
        model.codes = np.zeros(1 << bits, np.uint64)
        model.begun = 1
        model.factors = np.zeros((1 << bits, 1, parameters.factors), np.float32)
        model.factor_squares = np.zeros_like(model.factors)
        return model

    @property
    def state_bytes(self) -> int:
        """Eight bytes a coordinate, and eight for each factor of a slot; codes, if it has them."""
        factors = self.factors.nbytes + self.factor_squares.nbytes
        return self.weights.nbytes + factors + self.codes.nbytes

    def learn(
        self,
        rows: FeatureRows,
        order: Int64s,
        label: Floats,
        importance: Floats,
        offset: Floats,
        discount: Floats = NONE,
    ) -> Floats:
        """Predict, then learn, row after row; see `headrace.learners.learner.Learner.learn`."""
        margins = np.empty(order.size)
        fields, codes = rows.fields(), self._codes_of(rows)
        if self.codes.size:
            learned = np.zeros(rows.starts.size - 1, np.bool_)
            learned[order[importance != 0]] = True
            met = fields[np.repeat(learned, np.diff(rows.starts))]
            self._begin(rows.indices, codes, 1 + int(met.max(initial=0)))
        _learn(
            self.weights, self.factors.reshape(-1), self.factor_squares.reshape(-1), self._lanes(),
            self._stride, rows.starts, rows.indices, codes, rows.values, fields, order, label,
            importance, offset, discount, self.parameters.alpha, self.parameters.l2, margins,
        )  # fmt: skip
        return margins

    def predict(self, rows: FeatureRows) -> Floats:
        """Return the log-odds of each row without learning it, float64, shape (n,)."""
        margins = np.empty(rows.starts.size - 1)
        _predict(
            self.weights, self.factors.reshape(-1), self._lanes(), self._stride, rows.starts,
            rows.indices, self._codes_of(rows), rows.values, rows.fields(), margins,
        )  # fmt: skip
        return margins

    def export(self) -> dict[str, npt.NDArray[Any]]:
        """Return what differs from the beginning.

        That is ``index`` (uint32), ``weight`` and ``squares`` (float32) of coordinates; and
        ``slot`` (uint32), ``factors`` and ``factor_squares`` (float32, as many values for
        each slot as there are factors) of slots. In an exact table slots are numbered by
        coordinate, then field, uint64, and ``fields`` (int64, shape (1,)) is how many of them a
        coordinate has.
        """
        index, slot = self._touched()
        count = self.parameters.factors
        arrays = {} if not self.codes.size else {"fields": np.array([self._stride])}
        return {
            **arrays,
            "index": index.astype(np.uint32),
            "weight": self.weights[index, 0],
            "squares": self.weights[index, 1],
            "slot": slot.astype(np.uint64 if self.codes.size else np.uint32),
            "factors": self.factors.reshape(-1, count)[slot].ravel(),
            "factor_squares": self.factor_squares.reshape(-1, count)[slot].ravel(),
        }

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Replace the state by what `export` returned; all else is as in the beginning.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        kind = FfmModel.growing if self.codes.size else FfmModel
        model, count = kind(self.parameters, self.bits), self.parameters.factors
        if self.codes.size:
            code = exported(arrays, "code", np.uint64)
            fields = int(exported(arrays, "fields", np.int64, 1, least=1)[0])
            expect(fields <= _MOST_FIELDS and code.size < len(self.codes), "fields", "are too many")
            model._begin(np.arange(1, 1 + code.size), code, fields)
        index = places(arrays, "index", np.uint32, 1 << self.bits)
        model.weights[index, 0] = exported(arrays, "weight", np.float32, index.size)
        model.weights[index, 1] = exported(arrays, "squares", np.float32, index.size, least=0)
        numbers = np.uint64 if self.codes.size else np.uint32
        slot = places(arrays, "slot", numbers, model.factors.size // count)
        for name, of, least in (
            ("factors", model.factors, -np.inf), ("factor_squares", model.factor_squares, 0)
        ):  # fmt: skip
            values = exported(arrays, name, np.float32, slot.size * count, least)
            of.reshape(-1, count)[slot] = values.reshape(-1, count)
        self.__dict__.update(model.__dict__)

    def rearranged(self, kept: Int64s, bits: int) -> FfmModel:
        """Return a model with other coordinates, for an exact table.

        See `headrace.learners.exact.GrowingLearner.rearranged`.
        """
        model = FfmModel.growing(self.parameters, bits)
        model.codes[: kept.size] = self.codes[kept]
        model.begun = kept.size
        model.weights[: kept.size] = self.weights[kept]
        model.factors = np.zeros((1 << bits, *self.factors.shape[1:]), np.float32)
        model.factor_squares = np.zeros_like(model.factors)
        model.factors[: kept.size] = self.factors[kept]
        model.factor_squares[: kept.size] = self.factor_squares[kept]
        return model

    def figures(self) -> dict[str, int]:
        """Count touched coordinates and slots, features, and collisions of coordinates."""
        index, slot = self._touched()
        return {
            "coordinates": index.size, "slots": slot.size, **collisions(index.size, self.bits)
        }  # fmt: skip

    @property
    def _stride(self) -> int:
        return self.factors.shape[1] if self.codes.size else 0

    def _lanes(self) -> tuple[int, ...]:
        # Kernels take the number of factors from a type: it is a constant for their compiler.
        return (0,) * self.parameters.factors

    def _codes_of(self, rows: FeatureRows) -> npt.NDArray[Any]:
        """Return the code of each feature; without an exact table nothing depends on it."""
        if rows.source is None:
            return rows.indices
        source, places = rows.source
        return source.indices[places]

    def _begin(self, indices: npt.NDArray[Any], codes: npt.NDArray[Any], fields: int) -> None:
        """Set up coordinates that are new, and the factors of all for fields that are."""
        stride = self._stride
        if fields > stride:
            for name in ("factors", "factor_squares"):
                old = getattr(self, name)
                wider = np.zeros((old.shape[0], fields, old.shape[2]), np.float32)
                wider[:, :stride] = old
                setattr(self, name, wider)
            _fill_runs(self.factors, self.codes, 1, self.begun, stride)
        new = indices >= self.begun
        self.codes[indices[new]] = codes[new]
        end = 1 + int(indices.max(initial=self.begun - 1))
        _fill_runs(self.factors, self.codes, self.begun, end, 0)
        self.begun = end

    def _first_factors(self) -> npt.NDArray[np.float32]:
        first = np.zeros_like(self.factors)
        if self.codes.size:
            _fill_runs(first, self.codes, 1, self.begun, 0)
        else:
            _fill(first)
        return first

    def _touched(self) -> tuple[Int64s, Int64s]:
        changed = (self.factors != self._first_factors()) | (self.factor_squares != 0)
        return np.flatnonzero(self.weights.any(axis=1)), np.flatnonzero(changed.any(axis=-1))
