"""What exported states have in common: arrays as text, and a version."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.schemas.errors import StateVersionError


def packed(array: npt.NDArray[Any]) -> str:
    """Return an array's values as text, in base 64, the least byte first."""
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def unpacked(text: str, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return what `packed` made text of, flat: values of a kind, which may be written to."""
    data = base64.b64decode(text)
    return np.frombuffer(data, np.dtype(kind).newbyteorder("<")).astype(kind)


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
