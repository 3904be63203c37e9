"""Figures of a run, as JSON types, to watch."""

from __future__ import annotations

import json

import numpy as np

from headrace.monitoring.figures import (
    Cells,
    Decision,
    Figures,
    GuardScope,
    Predictions,
    SourceFigures,
    Window,
)
from headrace.schemas.config.durations import MINUTE, SECOND

NOON = 1_767_268_800 * SECOND
HOSTILE = "<img src=x onerror=alert(1)>\"'\x1b[31m\u202e"


def sums(samples, positives, expected, loss=None, mature=None):
    """Return a row of sums of samples of weight 1."""
    loss = samples * 0.25 if loss is None else loss
    mature = samples if mature is None else mature
    return [samples, positives, samples, positives, expected, loss, samples, positives, mature]


def cells(rows):
    return Cells(
        tuple(column for column, _ in rows), tuple(value for _, value in rows),
        np.array(list(rows.values()), float).reshape(-1, 9),
    )  # fmt: skip


def figures(totals=None, window=None, served=None, guard=None, decisions=(), **more):
    """Return figures of a learner of clicks, which are a minute behind."""
    totals = {("", ""): sums(1000, 100, 100)} if totals is None else totals
    guard = (GuardScope("click", "", "", "watching", 30, 31.0),) if guard is None else guard
    values = {column: [] for column, _ in totals if column}
    for column, value in totals:
        if column:
            values[column].append(value)
    kinds = {"learned": totals, "served": served or {}}
    found = Figures(**{
        "published_s": 1_767_268_801.5, "events": 2_000, "samples": 1_000,
        "outcomes": {"views": {"settled": 1_000, "late": 0}, "click": {"settled": 90, "late": 2}},
        "sources": (
            SourceFigures("views-0", "views", 1_000, 0, NOON, NOON - SECOND, 7, False),
            SourceFigures("click-0", "click", 92, 3, NOON - MINUTE, NOON - MINUTE, 5, False),
        ),
        "clock": NOON - MINUTE, "held_back_by": "click-0", "window": MINUTE,
        "predictions": tuple(
            Predictions(
                "ctr", "click", predicted, cells(rows),
                None if window is None or not rows else
                Window(NOON - MINUTE, NOON, cells(window)), np.zeros((2, 20)),
            )
            for predicted, rows in kinds.items()
        ),
        "shown": {column: tuple(of) for column, of in values.items()},
        "guard": guard, "decisions": decisions, "held": {"click": 0}, **more,
    })  # fmt: skip
    return json.loads(json.dumps(found.as_json()))


def decision(event="disconnect", reason="click: 0 positives", value=""):
    return Decision(NOON, "click", "app" if value else "", value, event, reason)
