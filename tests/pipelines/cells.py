"""Beam state of one step, as a runner keeps it: attempts that are committed or not."""

from __future__ import annotations

import copy
from typing import Any

import apache_beam as beam


class Bag:
    def __init__(self) -> None:
        self.items: list[bytes] = []

    def add(self, item: bytes) -> None:
        assert isinstance(item, bytes)
        self.items.append(item)

    def read(self) -> list[bytes]:
        return list(self.items)

    def clear(self) -> None:
        self.items = []


class Value:
    def __init__(self) -> None:
        self.item: bytes | None = None

    def read(self) -> bytes | None:
        return self.item

    def write(self, item: bytes) -> None:
        assert isinstance(item, bytes)
        self.item = item


class Step:
    """A stateful step with its committed state and outputs.

    Parameters
    ----------
    make
        Makes an instance of the step.
    bags
        How many bags its ``process`` takes after the value cell.
    """

    def __init__(self, make: Any, bags: int) -> None:
        self.make = make
        self.bags = bags
        self.dofn = make()
        self.state: dict[int, list[Any]] = {}
        self.outputs: list[list[Any]] = []

    def attempt(self, elements: list[Any], finish: bool = True) -> tuple[dict, list[Any]]:
        """Run a bundle; return the state and outputs to commit. The step's own state stays."""
        state = copy.deepcopy(self.state)
        outputs: list[Any] = []
        self.dofn.start_bundle()
        for element in elements:
            cells = state.setdefault(element[0], [Value(), *(Bag() for _ in range(self.bags))])
            outputs += list(self.dofn.process(element, *cells))
        if finish:
            self.finish(self.dofn, outputs)
        return state, outputs

    def finish(self, dofn: Any, outputs: list[Any]) -> None:
        """Finish a bundle, and add what that emits to its outputs."""
        for output in dofn.finish_bundle() or ():
            if isinstance(output, beam.pvalue.TaggedOutput):
                outputs.append(beam.pvalue.TaggedOutput(output.tag, output.value.value))
            else:
                outputs.append(output.value)

    def commit(self, attempt: tuple[dict, list[Any]]) -> None:
        """Make an attempt's state and outputs the step's own."""
        self.state, outputs = attempt
        self.outputs.append(outputs)

    def run(self, elements: list[Any]) -> None:
        """Run a bundle and commit it."""
        self.commit(self.attempt(elements))

    def main(self) -> list[Any]:
        """Return all committed outputs without a tag."""
        return [o for bundle in self.outputs for o in bundle
                if not isinstance(o, beam.pvalue.TaggedOutput)]  # fmt: skip

    def tagged(self, tag: str) -> list[Any]:
        """Return all committed outputs of a tag."""
        return [o.value for bundle in self.outputs for o in bundle
                if isinstance(o, beam.pvalue.TaggedOutput) and o.tag == tag]  # fmt: skip
