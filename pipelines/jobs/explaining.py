"""Why a model predicts what it does: the parts of a margin, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.contributions import contributions
from headrace.learners.naming import feature_names
from headrace.learners.weights import feature_weights
from headrace.pipelines.jobs.prediction import Model, Prediction
from headrace.schemas.errors import TableError

_AND = " & "


@dataclass(frozen=True)
class Term:
    """A part of a margin.

    Parameters
    ----------
    name
        The feature, or the two of a pair; ``offset``, or ``correction for sampling``.
    value, weight
        Its value and its weight; None of what is no single feature.
    contribution
        What it adds to the margin.
    """

    name: str
    value: float | None
    weight: float | None
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """A prediction, and what it is made of.

    Parameters
    ----------
    terms
        The parts: features in their order, pairs of them, offset, correction for sampling.
    rest
        What the sum of the parts lacks to the margin: what rounding leaves, since a learner adds
        in its own order, or 0. A learner from elsewhere may be no sum over features at all.
    margin, p
        The prediction as log-odds and as a probability.
    uncertainty
        How uncertain the learner is; None if it does not tell.
    """

    terms: tuple[Term, ...]
    rest: float
    margin: float
    p: float
    uncertainty: float | None


def explain(model: Model, table: Any) -> Explanation:
    """Take the prediction of one row apart.

    Parameters
    ----------
    model
        The model.
    table
        A table as for `Model.predict_proba`, of one row.

    Raises
    ------
    TableError
        If it has not exactly one row, lacks a column or has it with another type.
    """
    prediction = model.prepare(table)
    if prediction.margin.size != 1:
        raise TableError(f"expected one row (got {prediction.margin.size}); cut the table")
    features = prediction.features
    parts = contributions(model.learner, features, prediction.own)
    names = feature_names(model.encoder.features, prediction.batch).to_pylist()
    values = features.values if features.values.size else np.ones(len(names), np.float32)
    weights = feature_weights(model.learner, features.indices)
    terms = [
        Term(name, float(value), float(weight), float(added))
        for name, value, weight, added in zip(names, values, weights, parts.features, strict=True)
    ]
    for first, second, added in zip(parts.first, parts.second, parts.pairs, strict=True):
        terms.append(Term(f"{names[first]}{_AND}{names[second]}", None, None, float(added)))
    for name, more in (
        ("offset", prediction.offset),
        ("correction for sampling", prediction.shift),
        ("correction for delay", prediction.delay),
        ("calibration", prediction.calibration),
    ):
        if more is not None:
            terms.append(Term(name, None, None, float(more[0])))
    margin = float(prediction.margin[0])
    rest = margin - sum(term.contribution for term in terms)
    uncertainty = model.uncertainty(prediction)
    return Explanation(
        tuple(terms), rest, margin, float(prediction.p[0]),
        None if uncertainty is None else float(uncertainty[0]),
    )  # fmt: skip


def top_contributions(model: Model, prediction: Prediction, most: int) -> pa.Array:
    """Return the features and pairs that move each margin most, such as ``site=a:+0.31``.

    Returns
    -------
    pyarrow.Array
        Lists of text, shape (n,), of at most `most` each, without the intercept and without
        features that add nothing.
    """
    parts = contributions(model.learner, prediction.features, prediction.own)
    starts, rows = prediction.features.starts, prediction.margin.size
    names = feature_names(model.encoder.features, prediction.batch)
    added = np.concatenate([parts.features, parts.pairs])
    row = np.concatenate([np.repeat(np.arange(rows), np.diff(starts)), parts.row])
    moves = added != 0
    moves[starts[:-1]] = False  # the intercept
    # Of equal ones the first feature comes first, whatever else is in the batch.
    ranked = np.lexsort((np.arange(added.size), -np.abs(added), ~moves, row))
    begins = np.searchsorted(row[ranked], np.arange(rows))
    chosen = ranked[(np.arange(added.size) - begins[row[ranked]] < most) & moves[ranked]]
    single = chosen < len(names)
    pair = np.where(single, 0, chosen - len(names))
    one = names.take(pa.array(np.where(single, chosen, _at(parts.first, pair))))
    other = names.take(pa.array(np.where(single, chosen, _at(parts.second, pair))))
    both = pc.binary_join_element_wise(one, other, _AND)
    figures = pa.array([f"{figure:+.3g}" for figure in added[chosen].tolist()], pa.string())
    texts = pc.binary_join_element_wise(pc.if_else(pa.array(single), one, both), figures, ":")
    offsets = np.searchsorted(row[chosen], np.arange(rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), texts)


def _at(places: Any, which: Any) -> Any:
    """Return places of pairs; without a pair there is nothing to be taken."""
    return places[which] if places.size else which
