"""What exported states have in common: arrays as text, and a version."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.schemas.errors import StateVersionError
from headrace.schemas.records.restored import Text, checked, expect, places, restoring


def packed(array: npt.NDArray[Any]) -> str:
    """Return an array's values as text, in base 64, the least byte first."""
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def unpacked(
    text: Any, kind: npt.DTypeLike, shape: tuple[int, ...] = (-1,), finite: bool = True
) -> npt.NDArray[Any]:
    """Return what `packed` made text of: values that may be written to.

    Parameters
    ----------
    text, kind
        The text, and the type of the values.
    shape
        Their shape; the first number may be -1, for any.
    finite
        Whether all must be finite; if not, they must still be numbers.

    Raises
    ------
    DamagedError
        If it is no such text, or of other values.
    """
    with restoring("array"):
        data = base64.b64decode(checked(Text, text, "text"), validate=True)
        values = np.frombuffer(data, np.dtype(kind).newbyteorder("<")).astype(kind).reshape(shape)
    if values.dtype.kind == "f":
        good = np.isfinite(values) if finite else ~np.isnan(values)
        expect(good.all(), "array", "has values that are not finite")
    return values


def unpacked_places(text: Any, size: int) -> npt.NDArray[np.int64]:
    """Return places in a table of a size, that `packed` made text of: each once, ascending.

    Raises
    ------
    DamagedError
        If they are others.
    """
    found = unpacked(text, np.int64)
    return places({"array": found}, "array", np.int64, size)


def check_version(state: Mapping[str, Any], version: int, what: str) -> None:
    """Check the entry ``version`` of a state; `what` is what it is called.

    Raises
    ------
    StateVersionError
        If it is another one.
    """
    if (found := state.get("version")) != version:
        raise StateVersionError(
            f"{what} must have version {version} (got {found}); "
            "continue with the version that wrote the state, or start over"
        )
