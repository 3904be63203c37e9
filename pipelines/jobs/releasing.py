"""Rows that a guard held back, learned after all, with labels of a log that was joined again.

The quarantine has the rows, but with the labels that were wrong; and of impressions that looked
like negatives it has only those that sampling kept. So what is learned is what the join of the
repaired log has in the place of a disconnect: its samples of these event times, of this value if
it was of one, but for those that were learned at the time. Each is learned as a run would have,
by the learning step itself, in canonical order.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from headrace.joiner.plan.sampling import SamplingPlan
from headrace.learners.calibration import CalibrationMap
from headrace.learners.exact import CODE_BITS, ExactTable
from headrace.learners.learning import LearnerPlan, LearningStep, TrainPlan
from headrace.learners.ordering import Epoch
from headrace.learners.position import PositionPlan
from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.learners.snapshot import OWN_ENTRIES, save_snapshot
from headrace.learners.starting import Start
from headrace.monitoring.guard import HELD_FOR, HELD_WHY, QUARANTINE, quarantine_schema
from headrace.monitoring.statistics import OTHER
from headrace.pipelines.jobs.quarantine import (
    Decision,
    Held,
    Quarantine,
    deciding,
    load_quarantine,
    note,
)
from headrace.pipelines.jobs.runfolder import RunFolder, open_run, read_manifest
from headrace.pipelines.run.disk import flush, flush_tree, writing
from headrace.pipelines.run.remote import Address, place_of
from headrace.pipelines.sinks.outputs import SAMPLES
from headrace.pipelines.sources.plans import learned_features, sampling_plan
from headrace.schemas.config.models import PositionConfig, SamplingConfig
from headrace.schemas.config.predicates import Predicate
from headrace.schemas.errors import ArgumentError, FolderError, SnapshotError
from headrace.schemas.records.events import EMIT, FOREVER, NEVER, RATE
from headrace.schemas.records.hashing import Bools, Int64s, hash_columns
from headrace.schemas.records.slicing import NULL

_ROWS = 1 << 15
"""About how many rows are read and learned at a time; no result depends on it."""

_IDENTITY = 24
"""Bytes of what tells a row: 16 of its key's digest, 8 of its event time."""

_TIME = "event_time"
_AGAIN = "replay the repaired log from its beginning instead"
_MAY_DIFFER = frozenset(
    {"out_of_orderness", "max_jump", "end_of_log", "retention", "joined"}
)  # fmt: skip
"""Keys of ``[join]`` that change no label and no weight of a row that is there."""


@dataclass
class Released:
    """What was released.

    Parameters
    ----------
    numbers
        The disconnects.
    models
        Folder of the snapshot of each learner.
    learned
        How many rows each learner has learned.
    held
        How many rows of the disconnects were held back.
    missing
        Those of them that the other join does not have, and that were not learned.
    still_held
        Rows of the other join that its own guard holds back, and that were not learned.
    added
        Rows of the other join among those learned that were not held back, since the join of the
        run did not have them.
    changed
        Rows that were held back and have another label now.
    """

    numbers: tuple[int, ...]
    models: dict[str, Path] = field(default_factory=dict)
    learned: dict[str, int] = field(default_factory=dict)
    held: int = 0
    missing: int = 0
    still_held: int = 0
    added: int = 0
    changed: int = 0

    def lines(self) -> Iterator[str]:
        """Yield what a user should know."""
        yield (
            f"{self.held:,} rows were held back: {self.changed:,} have another label now, "
            f"{self.missing:,} are not in the other join and are left out; {self.added:,} are "
            "there beside them"
        )
        if self.still_held:
            yield f"{self.still_held:,} rows are held back by the guard of the other join too"
        for name, folder in self.models.items():
            yield f"learner {name}: {self.learned[name]:,} rows learned: {folder}"


def release_quarantine(
    out: str | Path,
    numbers: Sequence[int] = (),
    *,
    joined_again: str | Path,
    models: str | Path,
    algorithms: Algorithms = ALGORITHMS,
) -> Released:
    """Have the models of a run learn what a guard held back, with the labels of another join.

    Memory is bounded, however many rows there are. Nothing in the run is changed but that the
    decision is noted; a run that goes on goes on without these rows.

    Parameters
    ----------
    out
        The folder of the run: its newest published models learn.
    numbers
        Those of the disconnects; all that are over and not decided about if there are none.
    joined_again
        The folder of another run, of the same configuration over the repaired log.
    models
        A new or empty folder, for ``NAME/snapshot-N`` of each learner that learns.
    algorithms
        The algorithms that the models may have.

    Raises
    ------
    ArgumentError
        If a disconnect cannot be released, or the other run has no other labels.
    FolderError
        If a folder is not as it must be, the other run was joined in another way, or a learner
        cannot learn the rows as a run would have.
    SnapshotError
        If a model cannot be read.
    LearningError
        If a model is no longer finite; then nothing is written.
    OutputError
        If it cannot be written.
    """
    run, again = open_run(out), open_run(joined_again)
    if os.path.samefile(run.folder, again.folder) or run.run == again.run:
        raise ArgumentError(
            "joined_again", str(joined_again),
            "must be another run: the labels of this one are those that were wrong",
            "repair the log, replay it into another folder, and name that",
        )  # fmt: skip
    target = _target(models, run, again)
    with deciding(run):
        quarantine = load_quarantine(out)
        chosen = _chosen(quarantine, numbers)
        learners = _learners(run, {of.disconnect.label for of in chosen}, algorithms)
        _refuse_released(quarantine, learners)
        _refuse_other_join(run, again)
        released = Released(tuple(of.disconnect.number for of in chosen))
        lessons = _learn(quarantine, again, chosen, learners, released)
        _refuse_the_same(released, lessons, again)
        about: dict[str, Any] = {
            "run": os.path.abspath(run.folder), "joined_again": os.path.abspath(again.folder),
            "disconnects": [of.described() for of in chosen],
        }  # fmt: skip
        _write(target, lessons, learners, about, released)
        decision = Decision(True, os.path.abspath(target), about["joined_again"])
        note(quarantine, [of.disconnect for of in chosen], decision)
    return released


def _target(models: str | Path, run: RunFolder, again: RunFolder) -> Path:
    """Return the folder of the new models, if it is one to write to."""
    target = place_of(models)
    if isinstance(target, Address):
        raise FolderError(str(target), "is not of this machine", "name a folder of this machine")
    for one in (run, again):
        if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(one.folder)):
            fact = f"is in the folder of a run ({one.folder})"
            raise FolderError(target, fact, "choose another folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FolderError(target, "is not empty", "remove it, or choose another folder")
    return target


def _chosen(quarantine: Quarantine, numbers: Sequence[int]) -> list[Held]:
    """Return the disconnects to release."""
    chosen = quarantine.chosen(numbers) or [
        of for of in quarantine.held
        if of.decision is None and of.rows and not _may_go_on(quarantine, of)
    ]  # fmt: skip
    if not chosen:
        fact = "holds nothing back that is over and not decided about"
        raise FolderError(quarantine.run.folder, fact, "`headrace quarantine show` has all of it")
    for of in chosen:
        number = of.disconnect.number
        if of.decision is not None and of.decision.released:
            fact, hint = f"is that of a disconnect that was {of.decision}", "use that model"
        elif not of.rows:
            fact, hint = "is that of a disconnect that holds no rows back", "choose another one"
        elif _may_go_on(quarantine, of):
            fact = "is that of a disconnect that is not over"
            hint = "wait until the guard has reconnected, or accept labels as they are"
        elif of.disconnect.value == OTHER:
            fact = "is about values that are not counted one by one, so its rows are not known"
            hint = _AGAIN
        else:
            continue
        raise ArgumentError("number", number, fact, hint)
    return chosen


def _may_go_on(quarantine: Quarantine, of: Held) -> bool:
    return quarantine.run.goes_on and of.disconnect.end is None


@dataclass(frozen=True)
class _Learner:
    """A learner of the run that learns what is released.

    Parameters
    ----------
    plan
        How it learns; it begins with the snapshot.
    manifest
        That of the snapshot.
    labels
        The labels whose guards hold rows back from it.
    """

    plan: LearnerPlan
    manifest: dict[str, Any]

    @property
    def labels(self) -> frozenset[str]:
        return frozenset({self.plan.label, *self.plan.among})


def _learners(run: RunFolder, labels: set[str], algorithms: Algorithms) -> dict[str, _Learner]:
    """Return the learners from which guards of labels held rows back, by name."""
    found: dict[str, _Learner] = {}
    config = run.manifest()["config"]
    snapshots = run.models()
    for name, table in config["learners"].items():
        condition = None if table["filter"] is None else Predicate(table["filter"])
        among = () if condition is None else condition.columns
        among = tuple(column for column in among if column in config["actions"])
        if not labels & {table["label"], *among}:
            continue
        if name not in snapshots:
            fact = f"learner {name} has no published model"
            raise FolderError(run.folder / "model", fact, "it may be refused or withdrawn")
        manifest = read_manifest(snapshots[name])
        try:
            plan = _learner_plan(run, name, manifest, snapshots[name], algorithms)
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotError(
                f"{snapshots[name]}: manifest.json does not say how its model was learned; {_AGAIN}"
            ) from error
        found[name] = _Learner(plan, manifest)
    return found


def _learner_plan(
    run: RunFolder, name: str, manifest: dict[str, Any], snapshot: Path, algorithms: Algorithms
) -> LearnerPlan:
    """Return how a learner learns, from its manifest, if what it has is all in its snapshot."""
    config = manifest["config"]
    table = config["learners"][name]

    def refused(fact: str) -> FolderError:
        return FolderError(run.folder, f"learner {name}: {fact}", _AGAIN)

    if config["join"]["emission"] != "window":
        raise refused(
            f'samples leave early (join.emission = "{config["join"]["emission"]}"), and actions '
            "that were missing would have left samples that the quarantine does not have"
        )
    position = None
    if table["position"] is not None:
        of = PositionConfig.model_validate(table["position"])
        if of.randomised is not None:
            raise refused(
                f"theta of positions is estimated (from {of.randomised}), by sums that a "
                "snapshot does not have"
            )
        if of.method != "feature":
            position = PositionPlan(of.column, of.method, of.theta, None, of.clip)
    kind = algorithms.get(table["algorithm"])
    if kind is None:
        raise refused(f"there is no algorithm {table['algorithm']} here")
    condition = None if table["filter"] is None else Predicate(table["filter"])
    among = () if condition is None else condition.columns
    exact = ExactTable(table["admit"], table["expire"]) if table["table"] == "exact" else None
    return LearnerPlan(
        table["label"],
        learned_features(manifest),
        CODE_BITS if exact is not None else table["bits"],
        table["algorithm"],
        kind,
        kind.parameters.model_validate(manifest["parameters"]),
        condition,
        tuple(column for column in among if column in config["actions"]),
        table["weight"],
        table["offset"],
        table=exact,
        position=position,
        start=Start(snapshot, manifest["samples"], (), (), ()),
    )


def _refuse_released(quarantine: Quarantine, learners: Mapping[str, _Learner]) -> None:
    """Refuse a second model of a learner, which would lack what the first one has learned."""
    for of in quarantine.held:
        if of.decision is None or not of.decision.released:
            continue
        for name, learner in learners.items():
            if of.disconnect.label in learner.labels:
                fact = (
                    f"learner {name} was {of.decision} with disconnect {of.disconnect.number}, "
                    "whose rows another model would lack"
                )
                hint = "to release all of them into one, remove quarantine.json there first"
                raise FolderError(quarantine.run.folder, fact, hint)


def _refuse_other_join(run: RunFolder, again: RunFolder) -> None:
    ours, theirs = run.manifest(), again.manifest()
    fact = None
    for key, mine, other in zip(
        _join_of(ours), _join_of(ours).values(), _join_of(theirs).values(), strict=True
    ):
        if fact is None and mine != other:
            fact = f"was joined with another {key} than {run.folder} ({other}, not {mine})"
    if fact is None and ours["schema_fingerprint"] != theirs["schema_fingerprint"]:
        fact = f"has samples of other columns or types than {run.folder}"
    if fact is not None:
        raise FolderError(again.folder, fact, "join the repaired log with the same configuration")


def _join_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what labels, weights and keys of samples depend on, but for the log."""
    config = manifest["config"]
    join = {name: of for name, of in config["join"].items() if name not in _MAY_DIFFER}
    actions = {
        name: {key: of[key] for key in ("key", "window", "id", "columns")}
        for name, of in config["actions"].items()
    }
    return {
        "key": config["impressions"]["key"], "actions": actions, "join": join,
        "sampling": config["sampling"],
    }  # fmt: skip


class _Cursor:
    """Rows of an output in order of event time, taken up to a time.

    With ``emission = "window"`` all samples leave equally long after their event time, so that
    the order in which they are written is one of event time.
    """

    def __init__(
        self, run: RunFolder, output: str, span: tuple[int, int], columns: list[str] | None = None
    ) -> None:
        rows = run.output(output)
        if rows is None and output == QUARANTINE:  # nothing is guarded there
            samples = run.output(SAMPLES)
            if samples is not None:
                rows = ds.dataset(quarantine_schema(samples.schema).empty_table())
        if rows is None:
            raise FolderError(run.folder, f"has no {output}", "restore them")
        self.reading = partial(run.reading, run.folder / output)
        kind = rows.schema.field(_TIME).type
        first, last = (pa.scalar(time, pa.int64()).cast(kind) for time in span)
        within = (ds.field(_TIME) >= first) & (ds.field(_TIME) <= last)
        self.batches = rows.to_batches(columns=columns, filter=within, batch_size=_ROWS)
        names = rows.schema.names if columns is None else columns
        self.waiting = pa.schema([rows.schema.field(name) for name in names]).empty_table()
        self.reached = NEVER
        """The time before which all rows have been read, microseconds."""

    def more(self) -> None:
        """Read on."""
        with self.reading():
            batch = next((batch for batch in self.batches if batch.num_rows), None)
        if batch is None:
            self.reached = FOREVER
        else:
            self.waiting = pa.concat_tables([self.waiting, pa.Table.from_batches([batch])])
            self.reached = int(batch.column(_TIME)[-1].cast(pa.int64()).as_py())

    def before(self, bound: int) -> pa.Table:
        """Take the rows before a time, microseconds."""
        while self.reached < bound:
            self.more()
        cut = int(np.searchsorted(_times(self.waiting), bound))
        taken, self.waiting = self.waiting.slice(0, cut), self.waiting.slice(cut)
        return taken


def _times(rows: pa.Table) -> Int64s:
    times: Int64s = rows[_TIME].cast(pa.int64()).to_numpy()
    return times


def _identities(rows: pa.Table, key: Sequence[str]) -> pa.Array:
    """Return the digest of the key and the event time of each row as one value, shape (n,)."""
    halves = hash_columns([_whole(rows, name) for name in key])
    whole = np.column_stack([*halves, _times(rows).view(np.uint64)])
    buffer = pa.py_buffer(np.ascontiguousarray(whole))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(_IDENTITY), len(whole), [None, buffer])


def _whole(rows: pa.Table, name: str) -> pa.Array:
    whole = rows[name].combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _bools(rows: pa.Table, name: str) -> Bools:
    values: Bools = _whole(rows, name).to_numpy(zero_copy_only=False)
    return values


class _Lesson:
    """Learners that learn the same rows.

    Parameters
    ----------
    learners
        The learners, whose guards are those of the same labels.
    config
        The configuration of the run, as its manifests have it.
    """

    def __init__(self, learners: Mapping[str, _Learner], config: dict[str, Any]) -> None:
        (self.labels,) = {learner.labels for learner in learners.values()}
        sampling = SamplingConfig.model_validate(config["sampling"])
        self.sampling: SamplingPlan = sampling_plan(sampling)
        plans = {name: learner.plan for name, learner in learners.items()}
        # Where an epoch ends changes nothing of what is learned.
        self.step = LearningStep(TrainPlan(plans, sampling.correction), 1)
        self.digests = {name: hashlib.sha256() for name in plans}

    def learn(self, rows: pa.Table, identities: pa.Array) -> None:
        """Learn rows in their order."""
        if not rows.num_rows:
            return
        (batch,) = rows.combine_chunks().to_batches()
        emit = _times(rows) + rows["observed_for"].cast(pa.int64()).to_numpy()
        rates = self.sampling.strata(batch).rates
        batch = batch.append_column(EMIT, pa.array(emit)).append_column(RATE, pa.array(rates))
        learned = self.step.learn(Epoch([batch], np.arange(batch.num_rows)))
        for name, own in learned.rows.items():
            taken = identities.take(pa.array(own))
            self.digests[name].update(taken.buffers()[1][: _IDENTITY * len(taken)])


class _Sorting:
    """Tells which rows of the other join are to be learned, and counts.

    Parameters
    ----------
    quarantine, chosen
        What was held back, and the disconnects that are released.
    key, slices
        The columns of the key, and the slice columns in the order in which a guard looks at them.
    released
        Where it counts.
    """

    def __init__(
        self,
        quarantine: Quarantine,
        chosen: list[Held],
        key: list[str],
        slices: list[str],
        released: Released,
    ) -> None:
        self.quarantine, self.key, self.slices, self.released = quarantine, key, slices, released
        self.wanted = np.zeros(len(quarantine.held) + 1, np.bool_)
        self.wanted[[of.disconnect.number for of in chosen]] = True

    def due(self, label: str, rows: pa.Table, ids: pa.Array, new: Bools, held: pa.Table) -> Int64s:
        """Return the number of the disconnect in whose place each row is, 0 for none, (n,).

        Parameters
        ----------
        label
            Whose guard it is.
        rows, ids
            Rows of the other join, and their identities.
        new
            Which of them the run does not have, shape (n,).
        held
            What the run held back in the same time.
        """
        own = held.filter(pc.equal(held[HELD_FOR], label))
        numbers, own_ids = self.quarantine.numbers_of(own), _identities(own, self.key)
        at = _places(ids, own_ids)
        found: Int64s = np.append(numbers, 0)[at]
        found[new] = self._by_place(label, rows)[new]
        wanted, counts = self.wanted[numbers], self.released
        counts.held += int(np.count_nonzero(wanted))
        counts.missing += int(np.count_nonzero(wanted & (_places(own_ids, ids) < 0)))
        differs = np.append(_bools(own, label), False)[at] != _bools(rows, label)
        counts.changed += int(np.count_nonzero(differs & self.wanted[found] & ~new))
        counts.added += int(np.count_nonzero(self.wanted[found] & new))
        return found

    def _by_place(self, label: str, rows: pa.Table) -> Int64s:
        """Return in which disconnect rows would have been held back, by time and value."""
        found = np.zeros(rows.num_rows, np.int64)
        times = _times(rows)
        # As in a guard: labels of all samples come before those of a value, and arrivals last.
        scopes = [(None, True), *((name, False) for name in reversed(self.slices)), (None, False)]
        for column, arrivals in scopes:
            for of in self.quarantine.held:
                scope = of.disconnect.label, of.disconnect.slice, of.disconnect.arrivals
                if scope != (label, column, arrivals) or not of.rows:
                    continue
                within = (of.span[0] <= times) & (times <= of.span[1])
                if column is not None and within.any():
                    texts = rows[column].cast(pa.string()).fill_null(NULL)
                    within &= pc.equal(texts, of.disconnect.value).to_numpy()
                found[within] = of.disconnect.number
        return found

    def to_learn(self, labels: frozenset[str], due: Mapping[str, Int64s]) -> Bools:
        """Return which rows learners of labels are to learn: no guard of theirs holds them now."""
        of_labels = np.stack([due[label] for label in sorted(labels)])
        wanted = self.wanted[of_labels]
        some: Bools = wanted.any(axis=0) & (wanted | (of_labels == 0)).all(axis=0)
        return some


def _learn(
    quarantine: Quarantine,
    again: RunFolder,
    chosen: list[Held],
    learners: Mapping[str, _Learner],
    released: Released,
) -> list[_Lesson]:
    """Have learners learn what the other join has in the place of disconnects, and count."""
    run = quarantine.run
    config = run.manifest()["config"]
    key = list(config["impressions"]["key"])
    sorting = _Sorting(quarantine, chosen, key, config["monitor"]["slices"], released)
    together: dict[frozenset[str], dict[str, _Learner]] = {}
    for name, learner in learners.items():
        together.setdefault(learner.labels, {})[name] = learner
    lessons = {labels: _Lesson(of, config) for labels, of in together.items()}
    every = sorted(frozenset().union(*together))
    span = min(of.span[0] for of in chosen), max(of.span[1] for of in chosen)
    theirs = _Cursor(again, SAMPLES, span)
    ours = _Cursor(run, SAMPLES, span, [*key, _TIME])
    held = _Cursor(run, QUARANTINE, span, [*key, _TIME, *every, HELD_FOR, HELD_WHY])
    back = _Cursor(again, QUARANTINE, span, [*key, _TIME, HELD_FOR])
    while theirs.reached < FOREVER:
        theirs.more()
        bound = theirs.reached
        rows, before, still = theirs.before(bound), held.before(bound), back.before(bound)
        ids = _identities(rows, key)
        new = _places(ids, _identities(ours.before(bound), key)) < 0
        due = {label: sorting.due(label, rows, ids, new, before) for label in every}
        still_ids = _identities(still, key)
        for labels, lesson in lessons.items():
            some = sorting.to_learn(labels, due)
            theirs_too = pc.is_in(_whole(still, HELD_FOR), pa.array(sorted(labels)))
            wrong = _places(ids, still_ids.filter(theirs_too)) >= 0
            released.still_held += int(np.count_nonzero(some & wrong))
            learned = pa.array(some & ~wrong)
            lesson.learn(rows.filter(learned), ids.filter(learned))
    return list(lessons.values())


def _places(ids: pa.Array, among: pa.Array) -> Int64s:
    """Return where each identity is among others, -1 for nowhere, int64, shape (n,)."""
    at: Int64s = pc.fill_null(pc.index_in(ids, value_set=among), -1).to_numpy().astype(np.int64)
    return at


def _refuse_the_same(released: Released, lessons: list[_Lesson], again: RunFolder) -> None:
    """Refuse a join that has nothing to learn, or nothing that is repaired."""
    if not any(of for lesson in lessons for of in lesson.step.learned.values()):
        fact = f"has none of the {released.held:,} rows that were held back, or holds them back too"
        raise FolderError(again.folder, fact, "join the whole repaired log again")
    if not released.changed + released.missing + released.added:
        fact = (
            f"has the labels with which the {released.held:,} rows were held back, so nothing "
            "was repaired"
        )
        hint = "if they were right, replay with guard.accept"
        raise FolderError(again.folder, fact, hint)


def _write(
    target: Path,
    lessons: list[_Lesson],
    learners: Mapping[str, _Learner],
    about: dict[str, Any],
    released: Released,
) -> None:
    """Write the models; the folder has its name when all of them are there."""
    place = Path(os.path.abspath(target))
    hidden = place.with_name(f".{place.name}.partial")
    with writing(target):
        if hidden.exists():
            shutil.rmtree(hidden)
        hidden.mkdir(parents=True)
        for lesson in lessons:
            for name in lesson.digests:
                path = Path(name) / _save(hidden, lesson, name, learners[name], about)
                released.models[name] = target / path
                released.learned[name] = lesson.step.learned[name]
        flush_tree(hidden)
        os.rename(hidden, place)
        flush(place.parent)


def _save(
    folder: Path, lesson: _Lesson, name: str, learner: _Learner, about: dict[str, Any]
) -> str:
    """Write the snapshot of a learner; return its name."""
    manifest, start = learner.manifest, learner.plan.start
    assert start is not None
    count = lesson.step.learned[name]
    described = {key: of for key, of in manifest.items() if key not in OWN_ENTRIES}
    described.pop("gate", None)  # it judged the model before
    described["samples"] = start.samples + count
    described["release"] = {
        "from": {"snapshot": os.path.abspath(start.folder), "sha256": manifest["sha256"]}, **about,
        "rows": count, "rows_sha256": lesson.digests[name].hexdigest(),
    }  # fmt: skip
    # A map is fitted to what was predicted and came; nothing of that has changed.
    maps = manifest.get("calibration")
    calibration = None if maps is None else CalibrationMap.from_json(maps)
    snapshot = f"snapshot-{described['samples']:015d}"
    try:
        save_snapshot(
            folder / name / snapshot, learner.plan.algorithm, lesson.step.learners[name],
            described, calibration,
        )  # fmt: skip
    except SnapshotError as error:  # it is not finite: say so by its columns
        raise lesson.step.diverged(name, f"after {count:,} released rows") from error
    return snapshot
