"""The live job: topics in; samples, models and dead letters out, until it is stopped."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from headrace.pipelines.beam.graph import run_graph
from headrace.pipelines.beam.run import Run
from headrace.pipelines.jobs.checkpoint import Checkpointer, Resumed, SavedRun
from headrace.pipelines.jobs.failures import raise_origin
from headrace.pipelines.jobs.figures import FiguresKeeper
from headrace.pipelines.jobs.identity import check_identity, live_identity_of
from headrace.pipelines.jobs.livecheckpoints import LiveCheckpoints, Models
from headrace.pipelines.jobs.raises import RaiseJournal
from headrace.pipelines.jobs.replay import train_job
from headrace.pipelines.jobs.status import Status, StatusKeeper
from headrace.pipelines.run.board import Board
from headrace.pipelines.run.disk import aside, flush
from headrace.pipelines.run.interrupts import Stopping
from headrace.pipelines.run.liveplace import BEGUN, LivePlace
from headrace.pipelines.run.manifest import refusing
from headrace.pipelines.run.signing import read_signed, write_signed
from headrace.pipelines.run.spill import CACHE_BYTES, Spill
from headrace.pipelines.sinks.liveoutputs import open_live_outputs
from headrace.pipelines.sinks.several import Several
from headrace.pipelines.sinks.sink import LiveSink, LiveWriter
from headrace.pipelines.sources.blocks import LiveBlocks
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.livemerge import Keepers, LiveMerge, Patience
from headrace.pipelines.sources.secrethash import PUBLIC_KEYS
from headrace.pipelines.sources.source import Block, Growing, SourceState
from headrace.pipelines.sources.sourcereader import SourceReader
from headrace.pipelines.training.job import Finished
from headrace.schemas.config.durations import SECOND
from headrace.schemas.errors import CheckpointError, ConfigError, FolderError
from headrace.schemas.records.restored import expect
from headrace.schemas.records.signatures import Sign

_HINT = "write to another folder to begin anew"
_CHECKPOINTS_KEPT = 2
_STEPS = 10
"""Steps of the clock in an epoch."""


OpenTopics = Callable[[Inputs, str, bool], Mapping[str, LiveSink]]
"""Opens more sinks of outputs by their names, for a run that has a name, and may just begin."""


@dataclass(frozen=True)
class Begun:
    """What a run is named, and where it began: the position of each source, by number."""

    run: str
    starts: list[int]


@dataclass(frozen=True)
class Stood:
    """Where a run stood when it was stopped.

    Parameters
    ----------
    events
        How many records were read, since the run began.
    states
        How far each source was read, by number.
    finished
        The results of the training step; None unless the logs have ended.
    """

    events: int
    states: Mapping[int, SourceState]
    finished: Finished | None = None

    @property
    def ended(self) -> bool:
        """Whether all logs have been read to their end."""
        return all(state.ended for state in self.states.values())


def stream(
    inputs: Inputs,
    growing: Growing,
    place: LivePlace,
    stopping: Stopping,
    open_topics: OpenTopics = lambda inputs, run, begins: {},
    beam_options: Sequence[str] = (),
    watch: Callable[[Status], None] = lambda status: None,
    announce: Callable[[str], None] = lambda line: None,
    show: Callable[[Board], None] = lambda board: None,
) -> Stood:
    """Run until `stopping` is set, or until logs that end have ended.

    Started again in the same place it goes on where it stood.

    Parameters
    ----------
    inputs, growing
        The job, and its logs.
    place
        Folder of the outputs, from `headrace.pipelines.run.liveplace.opened_live`.
    stopping
        When it is set, the run takes a last checkpoint and ends.
    open_topics
        Opens the sinks of outputs that go to topics too.
    beam_options
        More options for Beam.
    watch
        Called every second with where the run stands, on another thread.
    announce
        Called with a line about what a user should know.
    show
        Called once with the live figures, before the job starts; they change while it runs.

    Raises
    ------
    HeadraceError
        If the run fails; it can be started again.
    """
    identity = live_identity_of(inputs, growing)
    if inputs.secret.is_public and not (place.partial / BEGUN).exists():
        announce(PUBLIC_KEYS)
    begun = _begun(place, identity, growing, inputs.config.file)
    with _origin(place):
        journals = Spill(place.partial / "spill", CACHE_BYTES // inputs.join.shards)
        step = _step(inputs.join.epoch)
        job = replace(train_job(inputs, place.result / "model"), step=step)
        saved = _newest(place, announce, job.sign)
        states = {number: SourceState.at(start) for number, start in enumerate(begun.starts)}
        resumed = Resumed(states=states)
        if saved is not None:
            resumed = saved.restore(inputs.join, job, journals)
        positions = {number: state.position for number, state in resumed.states.items()}
        inputs = replace(inputs, join=replace(inputs.join, starts=positions))
        sinks = open_live_outputs(place.result, inputs, job.window)
        for name, topic in open_topics(inputs, begun.run, not resumed.marks).items():
            sinks[name] = Several([sinks[name], topic])
        if saved is not None:
            with refusing(saved.folder, _HINT):
                expect(set(resumed.marks) == set(sinks), "sinks", "are others than the outputs")
                for name, mark in resumed.marks.items():
                    sinks[name].resume(mark)
        raises = RaiseJournal(place.partial, resumed.block, resumed.states)
        blocks = _blocks(inputs, growing, place, raises, resumed, step, stopping, announce)
        writers = {name: LiveWriter(sink) for name, sink in sinks.items()}
        board = Board(events=resumed.events)
        show(board)
        run = Run(blocks, dict(writers), journals, board)
        for shard, join in resumed.joins.items():
            run.joins.begin_with(shard, join)
        if resumed.training is not None:
            run.training.begin_with(0, resumed.training)
        live = inputs.config.live
        taker = Checkpointer(
            run,
            place,
            identity,
            live.checkpoint / SECOND,
            resumed,
            _CHECKPOINTS_KEPT,
            job.sign,
        )
        run.checkpoints = checkpoints = LiveCheckpoints(
            run, taker, writers, Models(place.result / "model", live.snapshot / SECOND), raises,
            growing.verify, inputs.join.release_delay, stopping, announce,
        )  # fmt: skip
        with contextlib.ExitStack() as stack:
            keeper = StatusKeeper(place, run, checkpoints, growing, inputs.streams, watch)
            figures = FiguresKeeper(
                run, inputs, growing.partitions, lambda: keeper.ends,
                lambda: (checkpoints.taken_at, checkpoints.models.written_at),
            )  # fmt: skip
            run.between = figures.offer
            stack.enter_context(keeper.keeping())
            stack.enter_context(run.closing())
            ended_before = blocks.ended
            if not ended_before:
                run_graph(run, inputs, job, resumed.block, tuple(beam_options))
            if blocks.ended and not ended_before:
                checkpoints.finish(blocks.position, blocks.states)
            figures.publish()
    return Stood(run.board.events, blocks.states, run.finished)


def _begun(place: LivePlace, identity: dict[str, Any], growing: Growing, file: str) -> Begun:
    """Return where the run began; note it if that is now.

    Raises
    ------
    ConfigError
        If another run began in this place.
    """
    path = place.partial / BEGUN
    try:
        found = read_signed(path)
    except FileNotFoundError:
        begun = Begun(uuid.uuid4().hex, growing.starts())
        with aside(path) as hidden:
            write_signed(hidden, {"identity": identity, **asdict(begun)})
        flush(path.parent)
        return begun
    except ValueError as error:
        raise FolderError(path, f"is damaged ({error})", _HINT) from error
    with refusing(path, _HINT):
        then = found.pop("identity")
        _check_topics(then["files"], identity["files"], file)
        check_identity(then, identity, file, _HINT)
        return Begun(**found)


def _check_topics(then: dict[str, Any], now: dict[str, Any], file: str) -> None:
    """Refuse other partitions: records of a key would be in two, with no order between them."""
    added, lost = sorted(now.keys() - then.keys()), sorted(then.keys() - now.keys())
    if not added and not lost:
        return
    what = f"{added[0]} was not there" if added else f"{lost[0]} was there"
    raise ConfigError(
        file, "kafka", f"the topics have other partitions than when the run began ({what})",
        hint="begin anew in another folder, with live.start after what this run has read",
    )  # fmt: skip


def _newest(
    place: LivePlace, announce: Callable[[str], None], sign: Sign | None
) -> SavedRun | None:
    """Return the newest checkpoint that is whole, None without any.

    Raises
    ------
    CheckpointError
        If there are some, and none is whole.
    """
    failed: CheckpointError | None = None
    for folder in place.checkpoints():
        try:
            saved = SavedRun(folder, _HINT, sign)
            saved.check_files()
        except CheckpointError as error:
            announce(f"{error}")
            failed = error
        else:
            return saved
    if failed is not None:
        raise failed
    return None


def _step(epoch: int) -> int:
    """Return the length of the steps in which the clock goes on: an epoch is some of them."""
    step = max(epoch // _STEPS, 1)
    return epoch if epoch % step else step


def _blocks(
    inputs: Inputs,
    growing: Growing,
    place: LivePlace,
    raises: RaiseJournal,
    resumed: Resumed,
    step: int,
    stopping: Stopping,
    announce: Callable[[str], None],
) -> LiveBlocks:
    live = inputs.config.live
    patience = Patience(live.idle_after / SECOND, live.stall_after / SECOND, live.max_skew)
    keepers = Keepers(growing.ends, raises.note, partial(_stalled, announce))

    def read(states: Mapping[int, SourceState]) -> Iterator[Block | None]:
        scratch = str(place.partial)
        readers = [
            SourceReader(inputs, partition, scratch, states[number], raises.found[number], step)
            for number, partition in enumerate(growing.partitions)
        ]
        return iter(LiveMerge(inputs, readers, inputs.config.batch_rows, patience, keepers))

    return LiveBlocks(read, resumed.block, resumed.states, stopping)


def _stalled(announce: Callable[[str], None], source: SourceReader, end: int | None) -> None:
    """Tell of a source that delivers nothing though it has records, and open it again."""
    name = source.partition.name
    if end is None:
        announce(f"{name}: no records, and brokers do not answer")
        return
    numbering = source.plan.numbering
    announce(
        f"{name}: no records come from {numbering.text(source.read_until)} on, although the log "
        f"ends at {numbering.text(end)} (a transaction may be open); connecting again"
    )
    source.pause()


@contextlib.contextmanager
def _origin(place: LivePlace) -> Iterator[None]:
    """Raise the error that a user should read."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except Exception as error:
        raise_origin(error, place.out)
