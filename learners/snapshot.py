"""Model snapshots: complete, checked, and refused if unknown or damaged.

A snapshot is a folder with ``manifest.json`` and ``arrays.arrow``, which hold all
that the learner exports, so that learning can continue from it bit for bit. The
second is an Arrow IPC file of one row, in which each column is a list that holds
one array. Small ones (`headrace.learners.shrinking`) have weights alone, and a format
of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from headrace.learners import exact
from headrace.learners.calibration import CalibrationMap
from headrace.learners.exact import ExactLearner, ExactTable
from headrace.learners.learner import Arrays, Learner
from headrace.learners.models.small import SmallModel
from headrace.learners.registry import ALGORITHMS, Algorithm, Algorithms
from headrace.schemas.errors import DamagedError, SnapshotError
from headrace.schemas.records.restored import Count, checked, expect, restoring, written
from headrace.schemas.records.signatures import Sign, SignatureError, canonical, check_signature
from headrace.schemas.types import is_number

FORMAT_VERSION = 2
SMALL_FORMAT_VERSION = 3
"""Of weights alone, which versions that know only the other must not take for damaged."""

OWN_ENTRIES = frozenset(
    {
        "format", "algorithm", "version", "bits", "parameters", "table", "small", "calibration",
        "figures", "sha256",
    }
)  # fmt: skip
"""Entries of a manifest that are of the model; the others are about it."""

_MOST_BITS = 32
_Theta = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None

_HMAC = "hmac"
_ARRAYS = "arrays.arrow"
_MANIFEST = "manifest.json"


def save_snapshot(
    folder: Path,
    algorithm: str,
    learner: Learner,
    about: dict[str, Any],
    calibration: CalibrationMap | None = None,
    theta: list[float | None] | None = None,
    sign: Sign | None = None,
) -> dict[str, Any]:
    """Write a snapshot under a temporary name, then rename it to `folder`.

    Parameters
    ----------
    folder
        Its final name; a snapshot of this name is replaced.
    algorithm, learner
        Name of the algorithm, and the learner.
    calibration
        The map by which its predictions are calibrated.
    theta
        Theta of positions as estimated, null where it is not known; None if it was not.
    sign
        Signs the manifest; None for no signature.
    about
        More entries of the manifest: configuration, source positions, counts.

    Returns
    -------
    dict
        The manifest. Its ``sha256`` covers algorithm, version, bits, parameters, the table
        if it is exact, the form of small weights, calibration, theta and arrays, but neither
        compression nor `about`.

    Raises
    ------
    SnapshotError
        If the model is not finite; then nothing is written or replaced.
    """
    arrays = learner.export()
    what = {
        "algorithm": algorithm,
        "version": learner.version,
        "bits": learner.bits,
        "parameters": learner.parameters.model_dump(mode="json"),
    }
    if isinstance(learner, ExactLearner):
        what["table"] = {"version": exact.VERSION, **asdict(learner.plan)}
    if isinstance(learner, SmallModel):
        what["small"] = {"fraction_bits": learner.fraction_bits}
    if calibration is not None:
        what["calibration"] = calibration.as_json()
    if theta is not None:
        what["theta"] = theta
    hint = "lower sampling weights or the learner's rate; no model was written"
    _refuse_not_finite(folder, arrays, what, hint)
    manifest = {
        "format": SMALL_FORMAT_VERSION if "small" in what else FORMAT_VERSION,
        **what,
        "figures": learner.figures(),
        "sha256": _digest(what, arrays),
        **about,
    }
    if sign is not None:
        manifest[_HMAC] = sign(canonical(manifest))
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    row = pa.record_batch({name: _as_row(array) for name, array in arrays.items()})
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(str(partial / _ARRAYS), row.schema, options=options) as writer:
        writer.write_batch(row)
    (partial / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)
    return manifest


def load_snapshot(
    folder: Path,
    algorithms: Algorithms = ALGORITHMS,
    like: Learner | None = None,
    sign: Sign | None = None,
) -> tuple[Learner, dict[str, Any]]:
    """Read a snapshot; return the learner and the manifest.

    Parameters
    ----------
    folder
        The snapshot.
    algorithms
        The algorithms that it may have.
    like
        A learner whose size and table it must have; None for any.
    sign
        What must have signed it (`headrace.schemas.records.signatures.Signer`); None for nothing.

    Raises
    ------
    SnapshotError
        If it is missing, damaged or not finite, or if its format, algorithm or the
        version of its arrays is not one of those that this version reads. Whatever the
        files hold, nothing else is raised.
    """
    try:
        with restoring(_MANIFEST):
            manifest = _read_manifest(folder, algorithms)
            if sign is not None:
                _check_signature(folder, manifest, sign)
            arrays = _read_arrays(folder)
            what = _digested(folder, manifest, arrays)
            _refuse_not_finite(folder, arrays, what, "use an older snapshot")
            learner = _made(folder, manifest, algorithms[manifest["algorithm"]], like)
        with restoring(_ARRAYS):
            learner.restore(arrays)
    except DamagedError as error:
        raise SnapshotError(f"{folder}: {error}; use another snapshot") from error
    return learner, manifest


def _read_manifest(folder: Path, algorithms: Algorithms) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{folder}: holds no readable {_MANIFEST} ({error})") from error
    if not isinstance(manifest, dict):
        raise SnapshotError(f"{folder}: holds no readable {_MANIFEST} (not a JSON object)")
    if manifest.get("format") not in (FORMAT_VERSION, SMALL_FORMAT_VERSION):
        raise SnapshotError(
            f"{folder}: expected format {FORMAT_VERSION}, or {SMALL_FORMAT_VERSION} of small ones "
            f"(got {manifest.get('format')!r}); "
            "load it with the version of Headrace that wrote it"
        )
    name: Any = manifest.get("algorithm")
    if name not in algorithms:
        raise SnapshotError(
            f"{folder}: expected an algorithm of {sorted(algorithms)} (got {name!r}); "
            "load it with a registry that has this algorithm"
        )
    return manifest


def _check_signature(folder: Path, manifest: dict[str, Any], sign: Sign) -> None:
    content = {name: of for name, of in manifest.items() if name != _HMAC}
    try:
        check_signature(manifest.get(_HMAC), canonical(content), sign)
    except SignatureError as error:
        hint = f"{error.hint}, or use another snapshot"
        raise SnapshotError(f"{folder}: {_MANIFEST}: {error}; {hint}") from error


def _digested(folder: Path, manifest: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    """Return what the checksum of a manifest covers besides arrays, if it is right."""
    what = {key: manifest.get(key) for key in ("algorithm", "version", "bits", "parameters")}
    for key in ("table", "small", "calibration", "theta"):
        if key in manifest:
            what[key] = manifest[key]
    found = _digest(what, arrays)
    if found != manifest.get("sha256"):
        raise SnapshotError(
            f"{folder}: is damaged: expected checksum {manifest.get('sha256')} (got {found}); "
            "use an older snapshot"
        )
    return what


@written
class _Table:
    version: Count
    admit: Annotated[int, Field(strict=True, ge=1, lt=2**31)]
    expire: Annotated[int, Field(strict=True, ge=0, lt=2**53)] | None


@written
class _Small:
    fraction_bits: Annotated[int, Field(strict=True, ge=-1100, le=1100)]


def _made(
    folder: Path, manifest: dict[str, Any], algorithm: Algorithm, like: Learner | None
) -> Learner:
    """Make the learner that a manifest describes; it has learned nothing yet."""
    name = manifest["algorithm"]
    table: dict[str, Any] = dict(manifest.get("table") or {})
    version = table.get("version", exact.VERSION)
    if version != exact.VERSION:
        raise SnapshotError(
            f"{folder}: expected version {exact.VERSION} of its exact table (got {version}); "
            "load it with the version of Headrace that wrote it"
        )
    if table and algorithm.growing is None:
        raise SnapshotError(
            f"{folder}: expected a hashed table of {name} (got an exact one); "
            "load it with the registry of the run that wrote it"
        )
    plan = None
    if table:
        checked(_Table, table, "table")
        plan = ExactTable(table["admit"], table["expire"])
    bits = checked(Count, manifest.get("bits"), "bits")
    is_code = bits == exact.CODE_BITS and (table or "small" in manifest)
    expect(is_code or (1 <= bits <= _MOST_BITS and not table), "bits", f"are {bits}")
    if like is not None:
        _refuse_unlike(folder, like, bits, plan)
    if "calibration" in manifest:
        CalibrationMap.from_json(manifest["calibration"])
    checked(list[_Theta] | None, manifest.get("theta"), "theta")
    parameters = algorithm.parameters.model_validate(manifest["parameters"])
    learner: Learner
    if "small" in manifest:
        small = checked(_Small, manifest["small"], "small")
        learner = SmallModel(parameters, bits, **small)
    else:
        learner = algorithm.make(parameters, bits, plan)
    if learner.version != manifest["version"]:
        raise SnapshotError(
            f"{folder}: expected version {learner.version} of {name} "
            f"(got {manifest['version']}); load it with the version of Headrace that wrote it"
        )
    return learner


def _refuse_unlike(folder: Path, like: Learner, bits: int, plan: ExactTable | None) -> None:
    """Refuse a table of another size than rows are encoded for: kernels do not look."""
    for what, found, wanted in (
        ("bits", bits, like.bits), ("table", plan, getattr(like, "plan", None))
    ):  # fmt: skip
        if found != wanted:
            raise SnapshotError(
                f"{folder}: expected {what} = {wanted} (got {found}); "
                "it is the snapshot of another learner"
            )


def _read_arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with pa.ipc.open_file(str(folder / _ARRAYS)) as reader:
            row = reader.read_all()
        # Or damaged offsets would be followed to wherever they point.
        row.validate(full=True)
    # Damaged lengths may ask for more memory than there is.
    except (OSError, ValueError, pa.ArrowException, MemoryError) as error:
        why = " ".join(str(error).split())
        raise SnapshotError(f"{folder}: {_ARRAYS} is not readable ({why})") from error
    lists = [column.chunk(0) for column in row.columns if column.num_chunks == 1]
    if row.num_rows != 1 or len(lists) != row.num_columns or not all(map(_is_array, lists)):
        raise SnapshotError(f"{folder}: {_ARRAYS} is not readable (not one row of lists)")
    return {name: one.values.to_numpy() for name, one in zip(row.column_names, lists, strict=True)}


def _is_array(one: pa.Array) -> bool:
    """Return whether an array of one row is what `_as_row` makes."""
    return (
        pa.types.is_large_list(one.type)
        and one.null_count == one.values.null_count == 0
        and is_number(one.type.value_type)
    )


def model_folder(folder: Path) -> Path:
    """Return the folder of the one model in a folder of this machine.

    Raises
    ------
    SnapshotError
        If there is none, or more than one.
    """
    if (folder / "manifest.json").exists():
        return folder
    found = sorted(inner.parent for inner in folder.glob("**/manifest.json"))
    refused = [inner for inner in found if inner.name.startswith(("refused-", "withdrawn-"))]
    found = [inner for inner in found if inner not in refused]
    if not found and refused:
        raise SnapshotError(
            f"{folder}: its model was refused or withdrawn; name {refused[-1]} to use it "
            "all the same"
        )
    if len(found) != 1:
        names = ", ".join(str(inner.relative_to(folder)) for inner in found)
        raise SnapshotError(
            f"{folder}: expected one model (got {names or 'none'}); "
            "name the folder of one, such as result/model/click"
        )
    return found[0]


def schema_fingerprint(schema: pa.Schema) -> str:
    """Return 16 hexadecimal digits that identify column names and types, in order."""
    text = "\n".join(f"{field.name}:{field.type}" for field in schema)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_row(array: Any) -> pa.Array:
    """Return one row that is a list of all the array's values."""
    values = pa.array(array)
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


def _refuse_not_finite(folder: Path, arrays: Arrays, what: dict[str, Any], hint: str) -> None:
    for name, entry in what.items():
        try:
            json.dumps(entry, allow_nan=False)
        except ValueError as error:
            raise SnapshotError(
                f"{folder}: every number of {name} must be finite (got {entry}); {hint}"
            ) from error
    for name, array in arrays.items():
        broken = array.size - int(np.count_nonzero(np.isfinite(array)))
        if broken:
            raise SnapshotError(
                f"{folder}: every value of {name} must be finite "
                f"(got {broken} of {array.size} that are not); {hint}"
            )


def _digest(what: dict[str, Any], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    for name, array in arrays.items():
        digest.update(f"{name}:{array.dtype.str}:{array.size}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
