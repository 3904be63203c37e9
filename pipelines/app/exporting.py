"""Rows for Vowpal Wabbit, models for ONNX and small ones: ``headrace export``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.shrinking import small
from headrace.learners.snapshot import OWN_ENTRIES, save_snapshot
from headrace.learners.vowpal import vowpal_lines
from headrace.pipelines.app.tablefiles import check_new, compression_of, written_file
from headrace.pipelines.jobs.prediction import Model
from headrace.pipelines.run.disk import writing
from headrace.pipelines.run.remote import Address, place_of
from headrace.pipelines.sources.rowfiles import RowsHead
from headrace.schemas.errors import ArgumentError, FolderError

_ROWS = 1 << 14


@dataclass
class Exported:
    """How many rows were read and written, and why the others were not.

    Parameters
    ----------
    rows, lines
        Rows that were read, and lines that were written.
    invalid, refused
        Rows that could not be read; and that lack a weight or an offset, or have a weight below
        zero, which a learner does not learn either.
    """

    rows: int = 0
    lines: int = 0
    invalid: int = 0
    refused: int = 0

    @property
    def findings(self) -> list[str]:
        """What needs attention, a sentence each."""
        why = {
            "cannot be read": self.invalid,
            "lack a weight or an offset, or have a weight below zero": self.refused,
        }
        return [f"{count:,} of {self.rows:,} rows {what}, and are left out"
                for what, count in why.items() if count]  # fmt: skip


def export_vowpal(
    model: Model, rows: str | Path, out: str | Path | Address, *, form: str | None = None
) -> Exported:
    """Write rows as text of Vowpal Wabbit, with the features that a model's learner gets of them.

    Parameters
    ----------
    model
        The model, of which only label and features count.
    rows, form
        Files of rows, see `headrace.pipelines.app.scoring.score`. If they have the label, lines
        have it too, with what the row counts for in learning: ``weight``, times the learner's
        weight, and its offset as base.
    out
        The file to write; with ``.gz`` or ``.zst`` it is compressed.

    Raises
    ------
    ArgumentError
        If the learner is corrected for positions.
    FolderError, OutputError
        If there is such a file already, or it cannot be written.
    ConfigError, TableError, UnreadableInputError
        See `headrace.pipelines.app.scoring.score`.
    """
    if model.position is not None:
        fact = "is corrected for positions, which such lines cannot express"
        hint = "export a learner without position"
        raise ArgumentError("learner", model.name, fact, hint)
    place = place_of(out)
    check_new(place)
    learner = model.manifest["config"]["learners"][model.name]
    weights = [name for name in ("weight", learner.get("weight")) if name is not None]
    also = {model.label: pa.bool_(), **dict.fromkeys(weights, pa.float64())}
    head = RowsHead(str(rows), form, replace(model.needed, also=also))
    weights = [name for name in weights if name in head.columns]
    found = Exported()
    with (
        written_file(place) as path,
        pa.output_stream(str(path), compression=compression_of(Path(place.name))) as stream,
    ):
        for file in head.files_with_rows():
            for chunk in file.chunks(_ROWS):
                batch = chunk.records.batch
                found.rows += len(chunk.records)
                found.invalid += len(chunk.records.rejects)
                lines = _lines(model, batch, weights)
                found.refused += lines.null_count
                lines = lines.drop_null()
                found.lines += len(lines)
                text = pc.binary_join_element_wise(lines, pa.scalar(""), "\n").cast(pa.binary())
                stream.write(b"".join(text.to_pylist()))
    return found


def _lines(model: Model, batch: pa.RecordBatch, weights: list[str]) -> pa.Array:
    """Return the line of each row, null where a learner would not learn it."""
    prediction = model.prepare(batch)
    if model.label not in batch.schema.names:
        return vowpal_lines(model.encoder, prediction.batch)
    label = batch.column(model.label)
    importance: npt.NDArray[np.float64] | None = None
    for name in weights:
        numbers: npt.NDArray[np.float64] = batch.column(name).to_numpy(zero_copy_only=False)
        importance = numbers if importance is None else importance * numbers
    good = np.ones(batch.num_rows, np.bool_)
    if importance is not None:
        good &= np.isfinite(importance) & (importance >= 0)
    if prediction.offset is not None:
        good &= np.isfinite(prediction.offset)
    lines = vowpal_lines(model.encoder, prediction.batch, label, importance, prediction.offset)
    return pc.if_else(pa.array(good), lines, pa.scalar(None, pa.string()))


def export_onnx(model: Model, out: str | Path | Address) -> None:
    """Write the learner of a model as a graph of ONNX, see `headrace.learners.onnx`.

    Parameters
    ----------
    model
        A model of FTRL or SGD.
    out
        The file to write.

    Raises
    ------
    ArgumentError
        If its learner is not linear, or the package onnx is not installed.
    FolderError, OutputError
        If there is such a file already, or it cannot be written.
    """
    from headrace.learners.onnx import linear_graph

    place = place_of(out)
    check_new(place)
    about = {
        "learner": model.name,
        "algorithm": model.manifest["algorithm"],
        "sha256": model.manifest["sha256"],
        "bits": str(model.learner.bits),
    }
    try:
        graph = linear_graph(model.learner, about)
    except ValueError as error:
        fact, _, hint = str(error).partition("; ")
        raise ArgumentError("learner", model.manifest["algorithm"], fact, hint) from error
    except ModuleNotFoundError as error:
        fact, hint = f"needs {error.name}, which is not installed", "pip install 'headrace[onnx]'"
        raise ArgumentError("onnx", str(place), fact, hint) from error
    with written_file(place) as path:
        path.write_bytes(graph)


def export_small(model: Model, out: str | Path | Address) -> dict[str, Any]:
    """Write a model as a snapshot of weights alone, see `headrace.learners.shrinking`.

    Parameters
    ----------
    model
        A model of FTRL, SGD or the probit, which then predicts without its variances.
    out
        The folder to write, on this machine.

    Returns
    -------
    dict
        The manifest. ``shrunk_from`` has the checksum of the model.

    Raises
    ------
    ArgumentError
        If its learner has more than a weight for each feature.
    FolderError, OutputError
        If there is such a folder already, it is not of this machine, or cannot be written.
    """
    place = place_of(out)
    if isinstance(place, Address):
        hint = "name a folder of this machine, and copy it"
        raise FolderError(str(place), "is not of this machine", hint)
    check_new(place)
    manifest = model.manifest
    try:
        learner = small(model.learner)
    except ValueError as error:
        fact, _, hint = str(error).partition("; ")
        raise ArgumentError("learner", manifest["algorithm"], fact, hint) from error
    about = {name: value for name, value in manifest.items() if name not in OWN_ENTRIES}
    about["shrunk_from"] = manifest["sha256"]
    with writing(place):
        return save_snapshot(
            place, manifest["algorithm"], learner, about, model.calibration, manifest.get("theta")
        )
