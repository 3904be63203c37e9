"""Durable cells on Beam state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec

from headrace.joiner.journal.cells import Wanted, chosen
from headrace.joiner.journal.rings import AHEAD, CELLS, RINGS
from headrace.pipelines.beam.stepstates import META

BAG_NAMES = (*(f"{ring}_{cell}" for ring in RINGS for cell in range(CELLS)), f"{AHEAD}_0")


def with_cells(*bags: str) -> Callable[[Any], Any]:
    """Declare a stateful ``process(self, element, *cells)``: `META` first, then `bags`.

    Beam finds state by the defaults of named parameters; this sets the signature,
    so that the cells of a ring need not be listed one by one.
    """

    def decorate(process: Any) -> Any:
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        specs = [ReadModifyWriteStateSpec(META, BytesCoder())]
        specs += [BagStateSpec(name, BytesCoder()) for name in bags]
        process.__signature__ = inspect.Signature(
            [
                inspect.Parameter("self", keyword),
                inspect.Parameter("element", keyword),
                *(
                    inspect.Parameter(spec.name, keyword, default=beam.DoFn.StateParam(spec))
                    for spec in specs
                ),
            ]
        )
        return process

    return decorate


class BeamCells:
    """The cells of a journal (`headrace.joiner.journal.cells`) on Beam's bags.

    Parameters
    ----------
    bags
        The bags in the order of `BAG_NAMES`.
    """

    durable = True
    compressed = True

    def __init__(self, bags: Iterable[Any]) -> None:
        self.bags = dict(zip(BAG_NAMES, bags, strict=True))

    def append(self, ring: str, cell: int, data: bytes) -> None:
        """Add one piece of data to a cell."""
        self.bags[f"{ring}_{cell}"].add(data)

    def read(self, ring: str, cell: int, wanted: Wanted | None = None) -> Iterable[bytes]:
        """Return the pieces of a cell that are wanted, in any order."""
        return chosen(self.bags[f"{ring}_{cell}"].read(), wanted)

    def clear(self, ring: str, cell: int) -> None:
        """Remove all pieces of a cell."""
        self.bags[f"{ring}_{cell}"].clear()
