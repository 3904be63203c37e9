"""What a run that does not end does between two bundles: outputs, models, checkpoints, its stop."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from headrace.pipelines.beam.run import Checkpoints, Run
from headrace.pipelines.jobs.checkpoint import Checkpointer
from headrace.pipelines.jobs.raises import RaiseJournal
from headrace.pipelines.run.interrupts import Stopping
from headrace.pipelines.sinks.liveoutputs import STATISTICS
from headrace.pipelines.sinks.sink import LiveWriter
from headrace.pipelines.sources.source import SourceState
from headrace.pipelines.training.state import TrainingState

MODELS_KEPT = 3
_VERIFIED_EVERY_S = 1.0


class Models:
    """The models of a run, of which a new one is written from time to time.

    A reader finds each under its name when it is whole; the last few are kept.

    Parameters
    ----------
    folder
        Where they are, as ``NAME/snapshot-SAMPLES`` for each learner.
    every_s
        How long from one to the next, seconds.
    """

    def __init__(self, folder: Path, every_s: float) -> None:
        self.folder, self.every_s = folder, every_s
        self.due = time.monotonic() + every_s
        self.written_at: float | None = None
        """When the last models were written, seconds since 1970."""

    def write(self, state: TrainingState) -> None:
        """Write the models as they are, unless there are no newer samples."""
        self.due = time.monotonic() + self.every_s
        names = state.snapshot_names
        if all((self.folder / learner / name).exists() for learner, name in names.items()):
            return
        state.save_models(self.folder)
        self.written_at = time.time()
        for learner in names:
            self._remove_old(self.folder / learner)

    def _remove_old(self, folder: Path) -> None:
        for kind in ("snapshot", "refused"):
            for old in sorted(folder.glob(f"{kind}-*[0-9]"))[:-MODELS_KEPT]:
                old.rename(old.with_name(f".{old.name}"))
            for hidden in folder.glob(f".{kind}-*"):
                shutil.rmtree(hidden)


class LiveCheckpoints(Checkpoints):
    """Publishes what is complete, and takes checkpoints and models when they are due.

    The files that a sink shows for a mark are shown when the next checkpoint is taken: until
    then the run may be resumed from the checkpoint before, which two are kept for.

    Parameters
    ----------
    run
        The run.
    taker
        Takes the checkpoints.
    sinks
        The sinks of the run.
    models, raises
        The models, and the journal that has a file from each checkpoint to the next.
    verify
        Returns whether what was read may be made durable.
    delay
        The longest time from the event time of a sample to its emit time, microseconds.
    stopping
        When it is set the run ends, after a last checkpoint.
    announce
        Called with a line about what a user should know.
    """

    def __init__(
        self,
        run: Run,
        taker: Checkpointer,
        sinks: Mapping[str, LiveWriter],
        models: Models,
        raises: RaiseJournal,
        verify: Callable[[], bool],
        delay: int,
        stopping: Stopping,
        announce: Callable[[str], None],
    ) -> None:
        self.run, self.taker, self.sinks = run, taker, sinks
        self.models, self.raises, self.verify = models, raises, verify
        self.delay, self.stopping, self.announce = delay, stopping, announce
        self.verified_s = 0.0
        self.stopped = False
        self.taken_at: float | None = None
        """When the last checkpoint was taken, seconds since 1970."""

    @property
    def _training(self) -> TrainingState | None:
        states: dict[int, TrainingState] = self.run.training.values()
        return next(iter(states.values()), None)

    def offer(self, block: int, states: Mapping[int, SourceState]) -> bool:
        """Do what is due before block number `block`; return whether to read on."""
        training = self._training
        if training is not None:
            self._publish(training)
        if self.stopping.is_set():
            self._stop(block, states)
            return False
        if self.taker.is_due(block) and self._is_verified():
            self._take(block, states)
        if training is not None and time.monotonic() >= self.models.due:
            self.models.write(training)
        return True

    def _publish(self, training: TrainingState) -> None:
        statistics = training.take_statistics(self.delay)
        if statistics.num_rows:
            self.sinks[STATISTICS].put(lambda: statistics)
        for sink in self.sinks.values():
            sink.complete_until(training.trainer.order.released)

    def _is_verified(self) -> bool:
        # Brokers that do not answer are not asked at every bundle.
        now = time.monotonic()
        if now < self.verified_s + _VERIFIED_EVERY_S:
            return False
        verified = self.verify()
        if not verified:
            self.verified_s = time.monotonic()
        return verified

    def _take(self, block: int, states: Mapping[int, SourceState]) -> None:
        for sink in self.sinks.values():
            sink.confirm()
        self.taker.take(block, states)
        self.raises.begin(block)
        self.taken_at = time.time()

    def _stop(self, block: int, states: Mapping[int, SourceState]) -> None:
        self.stopped = True
        if block != self.taker.last:
            if not self.verify():
                self.announce(
                    "brokers do not answer, so the last checkpoint is the one before; "
                    "what came after it will be read again"
                )
                return
            self._take(block, states)
        for sink in self.sinks.values():
            sink.confirm()

    def finish(self, block: int, states: Mapping[int, SourceState]) -> None:
        """Take the last checkpoint of a run whose logs have ended, and show everything."""
        training = self._training
        if training is not None:
            self._publish(training)
        self._take(block, states)
        for sink in self.sinks.values():
            sink.confirm()

    def close(self) -> None:
        """Take no more checkpoints, and wait for one that is being taken."""
        self.taker.close()
