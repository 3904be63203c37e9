"""Parts of the live job on a cluster: its source, its files, its marks, the options of runners."""

from __future__ import annotations

import itertools
import pickle
import shutil
from dataclasses import replace
from random import Random

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.transforms.window import TimestampedValue

from headrace.learners.learning import TrainPlan
from headrace.learners.registry import parameter_models
from headrace.pipelines.beam import clusterreading
from headrace.pipelines.beam.clusterreading import (
    ReadGroups,
    SourceState,
    Spots,
    SpotsCoder,
    SpotsTracker,
    groups_of,
)
from headrace.pipelines.beam.joining import DEAD
from headrace.pipelines.beam.launching import RUNNERS, idle_slots, options_of
from headrace.pipelines.beam.stepstates import Bundle, StepStates
from headrace.pipelines.run.disk import files_under
from headrace.pipelines.run.remote import place_of
from headrace.pipelines.run.signing import signed
from headrace.pipelines.run.store import Store
from headrace.pipelines.sinks.encoding import Distinct
from headrace.pipelines.sinks.marks import Marks, Released
from headrace.pipelines.sinks.storedfiles import StoredEpochs, write_letters
from headrace.pipelines.sources.inputs import resolve
from headrace.pipelines.sources.letters import PLACED_LETTERS
from headrace.pipelines.training.job import TrainJob
from headrace.pipelines.training.state import TrainingState
from headrace.schemas.config.loading import load_config
from headrace.schemas.errors import ArgumentError, RunnerError, StateVersionError
from headrace.schemas.records.events import NEVER, PLACE
from tests.pipelines.growing import GrowingFiles, Pause
from tests.pipelines.livejobs import SCHEMA, rows_at, seconds
from tests.pipelines.random_logs import random_log

# --- marks ------------------------------------------------------------------------------


def test_marks_advance_when_all_files_are_written_in_any_order():
    """Releases form a chain, and files may be written before anybody tells of them."""
    told = [
        Released(NEVER, 10, [("samples", 0)]),
        Released(10, 30, [("corrections", 10), ("samples", 10), ("samples", 20)]),
        Released(30, 40, []),
    ]
    parts = [part for released in told for part in released.parts]
    for order in itertools.permutations([*told, *parts]):
        marks, written, seen = Marks(), set(), set()
        for one in order:
            if isinstance(one, Released):
                marks.release(one)
                seen.add(one.since)
            else:
                marks.wrote(one)
                written.add(one)
            again = Marks()
            again.restore(marks.export())
            marks = again
            expected = NEVER
            for released in told:
                if not (released.since in seen and written.issuperset(released.parts)):
                    break
                expected = released.until
            assert marks.until == expected
        assert marks.export() == {"until": 40, "released": [], "written": []}


# --- files ------------------------------------------------------------------------------


def test_a_file_an_epoch_has_the_same_bytes_however_rows_come(tmp_path):
    """Written again, or with other epochs at once; nothing else is left in the folder."""
    rows = rows_at(*seconds(0, 1, 11, 3_600))
    trees, distinct = [], Distinct(keys=("key",))
    for name, cuts in (("one", [0, 4]), ("two", [0, 2, 3, 4, 4])):
        files = StoredEpochs(Store(tmp_path / name), "samples", SCHEMA, distinct, 10_000_000)
        files.write_schema()
        times = [
            time
            for begin, end in itertools.pairwise(cuts)
            for _ in range(2)
            for time in files.write(rows.slice(begin, end - begin))
        ]
        assert set(times) == set(seconds(0, 10, 3_600))
        found = (tmp_path / name).rglob("*.*")
        trees.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in found})
    assert trees[0] == trees[1]
    assert sorted(trees[0]) == [
        f"samples/2026-01-01/{name}.000000Z.parquet"
        for name in ("00/20260101T000000", "00/20260101T000010", "01/20260101T010000")
    ]
    first = pq.read_table(tmp_path / "one" / min(trees[0]))
    assert first.column("key").to_pylist() == rows.slice(0, 2).column("key").to_pylist()


def test_dead_letters_are_named_by_what_is_in_them(tmp_path):
    """The same letters go to the same file, others to another one, and never over it."""
    store = Store(tmp_path)
    schema = PLACED_LETTERS

    def letters(*positions):
        columns = {name: ["x"] * len(positions) for name in schema.names}
        columns |= {"offset": list(positions), "row": [None] * len(positions)}
        columns[PLACE] = [2 * 2**43 + at for at in positions]
        return pa.RecordBatch.from_pydict(columns, schema)

    for batch in (letters(7, 5), letters(5, 7), letters(5, 8)):
        write_letters(store, batch, seconds(0)[0])
    names = sorted(path.name for path in tmp_path.rglob("*.parquet"))
    assert len(names) == 2
    assert {name.rpartition("-")[0] for name in names} == {
        "20260101T000000.000000Z-0002-000000000005"
    }


# --- the source -------------------------------------------------------------------------


class Call:
    """What ``ReadGroups`` asks of a tracker and of a watermark in one call.

    The runner may stop it after some claims.
    """

    def __init__(self, spots, claims=None):
        self.tracker, self.claims = SpotsTracker(spots), claims
        self.rest = self.watermark = None

    def current_restriction(self):
        return self.tracker.current_restriction()

    def try_claim(self, spots):
        if self.claims == 0:
            self.defer_remainder(None)
        elif self.claims is not None:
            self.claims -= 1
        return self.tracker.try_claim(spots)

    def defer_remainder(self, delay):
        _, self.rest = self.tracker.try_split(0) or (None, self.rest)

    def set_watermark(self, time):
        assert self.watermark is None or time >= self.watermark
        self.watermark = time


def committed(outputs):
    """Return envelopes and letters, and forget their times."""
    found = []
    for output in outputs:
        if isinstance(output, beam.pvalue.TaggedOutput):
            assert output.tag == DEAD
            found.append(output.value.value)
        else:
            assert isinstance(output, TimestampedValue)
            found.append(output.value)
    return found


def read_all(inputs, growing, random, faults=(None,), between=lambda spots: None):
    """Read as a runner does that fails, forgets or stops calls; return what it commits."""
    read = ReadGroups(inputs, growing, str(random.random()))
    read.setup()
    (group,) = groups_of(inputs, growing.starts(), 1)
    spots = Spots(tuple(SourceState.at(at) for at in group.starts))
    found = []
    while not spots.done:
        fault = random.choice(faults)
        if fault == "forgets":
            read.open.forget()
        call = Call(
            SpotsCoder().decode(SpotsCoder().encode(spots)),
            random.randrange(3) if fault == "stops" else None,
        )
        outputs = list(read.process(group, call, call))
        if fault == "fails":
            continue
        assert call.tracker.check_done()
        spots = call.tracker.spots if call.rest is None else call.rest
        found += committed(outputs)
        between(spots)
    read.teardown()
    return found


def joined(found):
    """Return what envelopes say however blocks were cut: rows, rejects and the last progress."""
    rows, letters, last = {}, [], {}
    for one in found:
        if isinstance(one, pa.RecordBatch):
            letters += one.to_pylist()
            continue
        shard, envelope = one
        key = (shard, envelope.source)
        expected = last[key].end if key in last else 0
        assert envelope.begin == expected
        last[key] = envelope
        if envelope.batch is not None:
            rows.setdefault(key, []).extend(envelope.batch.to_pylist())
    ends = {key: (of.end, of.rejected, of.ended) for key, of in last.items()}
    # Which of the partitions of a stream ends last, and tells how far all of them came, is chance.
    ends["clock"] = min(of.progress for of in last.values())
    return rows, sorted(letters, key=lambda row: row[PLACE]), ends


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(clusterreading, "_IDLE_S", 0.02)
    monkeypatch.setattr(clusterreading, "_BUSY_S", 0.005)
    monkeypatch.setattr(clusterreading, "_MOST_ROWS", 30)
    monkeypatch.setattr("headrace.pipelines.sources.livemerge._GATHERED_S", 0.0)


def job_of(folder, random):
    log = random_log(random)
    for table in log.options.values():
        if table.get("order") == "sort":
            table["order"] = "sorted"
    log.options["replay"] = {"batch_rows": 7}
    return resolve(load_config(log.write(folder / "log"), parameter_models()))


@pytest.mark.parametrize("seed", range(8), ids=lambda seed: f"random log {seed}")
@pytest.mark.usefixtures("hasty")
def test_whatever_happens_to_calls_every_record_comes_once(seed, tmp_path):
    """Failed, stopped by the runner, or in a process that has forgotten what was open."""
    random = Random(seed)
    inputs = job_of(tmp_path, random)
    runs = [
        joined(read_all(inputs, GrowingFiles(inputs, random), random, faults))
        for faults in ((None,), (None, "forgets", "stops", "fails"))
    ]
    assert all(end[2] for key, end in runs[0][2].items() if key != "clock")
    assert runs[1] == runs[0]


@pytest.mark.usefixtures("hasty")
def test_a_decision_about_an_idle_partition_is_in_the_restriction(tmp_path):
    """A process that knows nothing but the restriction goes on with the raised progress."""
    random = Random(6)
    inputs = job_of(tmp_path, random)
    live = inputs.config.live.model_copy(update={"idle_after": 30_000})
    inputs = replace(inputs, config=inputs.config.model_copy(update={"live": live}))
    pause = Pause(1, 5, 1.0)
    growing = GrowingFiles(inputs, random, [pause])
    waiting = []

    def note(spots):
        if pause.since and pause.holds(pause.position):
            waiting.append(spots.states[1])

    found = read_all(inputs, growing, random, [*[None] * 9, "forgets"], note)
    waiting = [state for state in waiting if state.position == pause.position]
    assert waiting[-1].progress > waiting[0].progress
    envelopes = [item[1] for item in found if isinstance(item, tuple) and item[0] == 0]
    progress = [envelope.progress for envelope in envelopes if envelope.source == 1]
    assert progress == sorted(progress)
    assert waiting[-1].progress in progress


def test_a_restriction_of_another_version_is_refused():
    """State that outlives a process says of which version it is."""
    data = SpotsCoder().encode(Spots((SourceState.at(7),)))
    assert SpotsCoder().decode(data) == Spots((SourceState.at(7),))
    with pytest.raises(StateVersionError, match="has layout 9, this version reads 2"):
        SpotsCoder().decode(data.replace(b'"layout":2', b'"layout":9'))


def test_a_restriction_is_split_at_the_current_place_alone():
    """Two parts read beside one another would be two orders of one log."""
    spots = Spots((SourceState.at(7),))
    tracker = SpotsTracker(spots)
    assert tracker.try_split(0.5) is None
    with pytest.raises(ValueError, match="without a word about the rest"):
        tracker.check_done()
    assert tracker.try_split(0) == (replace(spots, done=True), spots)
    assert not tracker.try_claim(Spots((SourceState.at(8),)))
    assert tracker.try_split(0) is None
    assert tracker.check_done()


# --- runners ----------------------------------------------------------------------------


def test_a_runner_that_runs_nothing_twice_and_loses_state_is_noticed():
    """Two bundles on one state, or a bundle on an older state; others may do that."""

    def run(states, meta):
        bundle = Bundle(states)
        bundle.touch(4, lambda: meta, lambda described: object())
        sealed = bundle.sealed(4, {})
        bundle.finish()
        return sealed

    for retried in (True, False):
        states = StepStates(f"job {retried}", "join", retried)
        first = run(states, None)
        second = run(states, first)
        if retried:
            run(states, first)
            continue
        with pytest.raises(RunnerError, match="step join, key 4: the state is not what the last"):
            run(states, first)
        run(StepStates("job elsewhere", "join", retried), second)  # a new process
    bundle = Bundle(StepStates("job beside", "join", retried=False))
    bundle.touch(4, lambda: None, lambda described: object())
    with pytest.raises(RunnerError, match="key 4"):
        Bundle(bundle.states).touch(4, lambda: None, lambda described: object())


FLINK = ("--flink_master=h:1", "--parallelism=2", "--checkpointing_interval=2000")


def test_options_without_which_data_is_lost_are_forced():
    """By runner."""
    assert "--experiments=prism_disable_sdf_split" in options_of("prism", (), False)
    assert "--finish_bundle_before_checkpointing" in options_of("flink", FLINK, False)
    cloud = ("--project=p", "--region=r", "--temp_location=gs://t")
    assert "--experiments=use_runner_v2" in options_of("dataflow", cloud, False)
    for runner in RUNNERS:
        given = {"flink": FLINK, "dataflow": cloud}.get(runner, ())
        assert {"--streaming", "--no_save_main_session"} < {*options_of(runner, given, False)}


def test_slots_without_a_shard_are_told():
    """The default has few shards, which is best without a cluster."""
    eight = options_of("flink", [FLINK[0], "--parallelism=8", FLINK[2]], until_end=False)
    assert idle_slots(eight, 2) == "join.shards = 2 leaves 6 of 8 slots idle in the join"
    assert idle_slots(eight, 8) is None
    assert idle_slots(options_of("prism", (), until_end=False), 2) is None


@pytest.mark.parametrize(
    ("runner", "given", "until_end", "said"),
    [
        ("prism", ["--environment_type=DOCKER"], True,
         "--environment_type cannot be given with prism (got 'DOCKER'); workers are in this "
         "process, which notices lost state"),
        ("flink", ["--parallelism=2"], False,
         "--flink_master is needed by flink (got None); write it after --"),
        ("flink", [*FLINK[:2], "--checkpointing_interval=-1"], False,
         "--checkpointing_interval must be a number of milliseconds (got '-1'); without "
         "checkpoints a failure loses all state"),
        ("flink", FLINK, True,
         "--shutdown_sources_after_idle_ms is needed with --until-end (got None); write "
         "--shutdown_sources_after_idle_ms=3000; without it Flink never ends"),
        ("flink", [*FLINK, "--shutdown_sources_after_idle_ms=5"], False,
         "--shutdown_sources_after_idle_ms would end the job at a silence (got '5'); leave it out"),
        ("dataflow", ["--runner=DirectRunner"], False,
         "--runner cannot be given with dataflow (got 'DirectRunner'); write --runner before --"),
    ],
)  # fmt: skip
def test_options_that_would_lose_data_are_refused(runner, given, until_end, said):
    with pytest.raises(ArgumentError) as raised:
        options_of(runner, given, until_end)
    assert str(raised.value) == said


# --- where everything is written --------------------------------------------------------


def check_store(store, folder):
    """Write, replace and read files and folders."""
    store = pickle.loads(pickle.dumps(store))
    assert store.read_signed("a b/c.json") is None
    for number in (1, 2):
        store.write("a b/c.json", signed({"n": number}).encode())
        assert store.read_signed("a b/c.json") == {"n": number}
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "x").write_bytes(b"x")
    (folder / "y").write_bytes(b"y")
    for _ in range(2):
        store.put(folder, "state/s-1")
    store.fetch("state/s-1", folder / "copy")
    assert (folder / "copy" / "inner" / "x").read_bytes() == b"x"
    assert (folder / "copy" / "y").read_bytes() == b"y"
    with pytest.raises(FileNotFoundError):
        store.fetch("state/s-2", folder / "other")
    for _ in range(2):
        store.delete("a b/c.json")
    assert sorted(files_under(store.root)) == ["state/s-1/inner/x", "state/s-1/y"]


def test_a_store_is_a_folder(tmp_path):
    check_store(Store(tmp_path / "out"), tmp_path / "folder")


def test_a_store_is_a_place_in_an_object_store(tmp_path, store):
    check_store(Store(place_of(f"s3://results/run{store.query}")), tmp_path / "folder")


def test_a_snapshot_that_was_deleted_is_named(tmp_path):
    """The state of a runner may name it for as long as it may be restored."""
    job = TrainJob(TrainPlan({}, "none"), 1, 10, 10, (), "model", store=Store(tmp_path))
    state = TrainingState(job)
    state.checkpoint()
    waiting = [state.trainer.unlearned().encode()]
    TrainingState(job).take_up(state.meta(), waiting, [])
    shutil.rmtree(tmp_path / ".headrace" / "training" / state.snapshot)
    with pytest.raises(StateVersionError, match=f"training/{state.snapshot}, which is not there"):
        TrainingState(job).take_up(state.meta(), waiting, [])
