"""Learners that begin with what another run has learned, also if features have changed since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.learners.features import Features
from headrace.learners.learner import Learner
from headrace.learners.models.small import SmallModel
from headrace.learners.registry import Algorithms
from headrace.learners.snapshot import load_snapshot
from headrace.schemas.errors import SnapshotError
from headrace.schemas.records.signatures import Sign


@dataclass(frozen=True)
class Start:
    """What a learner begins with.

    Parameters
    ----------
    folder
        The snapshot.
    samples
        How many samples it has learned.
    kept, new, gone
        Features, such as ``cross:device*os``, that the learner has in common with it; that it
        alone has, which begin with nothing; and that the snapshot alone has. Of a hashed table
        the weights of these stay where they are, and are of no effect but by collisions.
    sign
        What must have signed it; None for nothing.
    """

    folder: Path
    samples: int
    kept: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    sign: Sign | None = None

    def load(self, algorithms: Algorithms) -> Learner:
        """Return the learner of the snapshot."""
        return load_snapshot(self.folder, algorithms, sign=self.sign)[0]


def start_of(
    folder: Path, algorithms: Algorithms, learner: Learner, algorithm: str,
    features: Features, before: Features, samples: int, sign: Sign | None = None,
) -> Start:  # fmt: skip
    """Return what a learner begins with.

    Parameters
    ----------
    folder
        The snapshot.
    algorithms
        The algorithms that it may have.
    learner, algorithm
        The learner as it would be without it, and the name of its algorithm.
    features, before
        The features of the learner, and those that the snapshot was learned from.
    samples
        How many samples the snapshot has learned.
    sign
        See `Start`.

    Raises
    ------
    SnapshotError
        If it cannot be read, or is of another algorithm, size, table or other parameters.
    """
    loaded, manifest = load_snapshot(folder, algorithms, sign=sign)
    if isinstance(loaded, SmallModel):
        raise SnapshotError(
            f"{folder}: has weights alone, which cannot be learned from; "
            "name the snapshot that it was made of"
        )
    pairs = [
        ("algorithm", manifest["algorithm"], algorithm),
        ("bits", loaded.bits, learner.bits),
        ("table", getattr(loaded, "plan", None), getattr(learner, "plan", None)),
    ]
    others = learner.parameters.model_dump()
    pairs += [(name, value, others.get(name))
              for name, value in loaded.parameters.model_dump().items()]  # fmt: skip
    for name, was, is_now in pairs:
        if was != is_now:
            raise SnapshotError(
                f"{folder}: was learned with {name} = {was} (got {is_now}); "
                f"set {name} as it was, or leave start out"
            )
    if features.by.mark != manifest.get("hash_key", ""):
        raise SnapshotError(
            f"{folder}: was learned with another features.hash_key, by which every feature has "
            "another place; set it as it was, or leave start out"
        )
    known, old = features.names, before.names
    return Start(
        folder,
        samples,
        tuple(name for name in known if name in old),
        tuple(name for name in known if name not in old),
        tuple(name for name in old if name not in known),
        sign,
    )
