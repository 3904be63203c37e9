"""Model snapshots: complete, checked, and refused if not understood.

A snapshot is a folder with ``manifest.json`` and ``coordinates.arrow``: index,
``z`` and ``n`` of every coordinate that was ever touched, so that learning can
go on from it bit by bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.schemas.errors import SnapshotError

FORMAT_VERSION = 1
_SCHEMA = pa.schema([("index", pa.uint32()), ("z", pa.float32()), ("n", pa.float32())])


def save_snapshot(
    folder: Path, model: FtrlModel, about: dict[str, Any], beside: dict[str, str] | None = None
) -> dict[str, Any]:
    """Write a snapshot aside and rename it to `folder`.

    Parameters
    ----------
    folder
        Its final name; one that is there already is replaced.
    model
        The model.
    about
        Further entries of the manifest: configuration, source positions, counts.
    beside
        Further files of the folder, by name.

    Returns
    -------
    dict
        The manifest. Its ``sha256`` covers parameters, indices, ``z`` and ``n``,
        and neither compression nor `about`.

    Raises
    ------
    SnapshotError
        If the model is not finite; nothing is written then, nor replaced.
    """
    # A gradient may be too small for its square: look at both halves at once.
    touched = np.flatnonzero(model.zn.view(np.uint64)).astype(np.uint32)
    z, n = model.zn[touched, 0], model.zn[touched, 1]
    _refuse_not_finite(folder, z, n, "no model was written: lower sampling weights or alpha")
    manifest = {
        "format": FORMAT_VERSION,
        "algorithm": "ftrl",
        "bits": model.bits,
        "parameters": vars(model.parameters),
        "coordinates": int(touched.size),
        "nonzero_weights": int(np.count_nonzero(np.abs(z) > np.float32(model.parameters.l1))),
        "sha256": _digest(model.bits, model.parameters, touched, z, n),
        **about,
    }
    aside = folder.with_name(folder.name + ".partial")
    if aside.exists():
        shutil.rmtree(aside)
    aside.mkdir(parents=True)
    batch = pa.RecordBatch.from_arrays(
        [pa.array(column) for column in (touched, z, n)], schema=_SCHEMA
    )
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(str(aside / "coordinates.arrow"), _SCHEMA, options=options) as writer:
        writer.write_batch(batch)
    (aside / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for name, text in (beside or {}).items():
        (aside / name).write_text(text, encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(aside, folder)
    return manifest


def load_snapshot(folder: Path) -> tuple[FtrlModel, dict[str, Any]]:
    """Read a snapshot.

    Raises
    ------
    SnapshotError
        If it is of another format, damaged, not finite, or not there.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{folder}: holds no readable manifest.json ({error})") from error
    if manifest.get("format") != FORMAT_VERSION or manifest.get("algorithm") != "ftrl":
        raise SnapshotError(
            f"{folder}: expected format {FORMAT_VERSION} of ftrl (got format "
            f"{manifest.get('format')!r} of {manifest.get('algorithm')!r}); "
            "load it with the version of Headrace that wrote it"
        )
    model = FtrlModel(FtrlParameters(**manifest["parameters"]), manifest["bits"])
    try:
        with pa.ipc.open_file(str(folder / "coordinates.arrow")) as reader:
            batch = reader.read_all().combine_chunks()
    except (OSError, pa.ArrowInvalid) as error:
        raise SnapshotError(f"{folder}: coordinates.arrow is not readable ({error})") from error
    index, z, n = (batch.column(name).to_numpy() for name in _SCHEMA.names)
    found = _digest(model.bits, model.parameters, index, z, n)
    if found != manifest["sha256"]:
        raise SnapshotError(
            f"{folder}: checksum is {manifest['sha256']}, the coordinates have {found}; "
            "the snapshot is damaged: use an older one"
        )
    _refuse_not_finite(folder, z, n, "nothing can be learned from there: use an older one")
    model.zn[index, 0] = z
    model.zn[index, 1] = n
    return model, manifest


def schema_fingerprint(schema: pa.Schema) -> str:
    """Return a digest of column names and types, in order."""
    text = "\n".join(f"{field.name}:{field.type}" for field in schema)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _refuse_not_finite(
    folder: Path, z: npt.NDArray[np.float32], n: npt.NDArray[np.float32], hint: str
) -> None:
    broken = z.size - int(np.count_nonzero(np.isfinite(z) & np.isfinite(n)))
    if broken:
        raise SnapshotError(
            f"{folder}: every coordinate must be finite "
            f"(got {broken} of {z.size} that are not); {hint}"
        )


def _digest(
    bits: int,
    parameters: FtrlParameters,
    index: npt.NDArray[np.uint32],
    z: npt.NDArray[np.float32],
    n: npt.NDArray[np.float32],
) -> str:
    digest = hashlib.sha256(json.dumps([bits, vars(parameters)]).encode())
    for column in (index, z, n):
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()
