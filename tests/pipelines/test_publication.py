"""Publication: whole or not at all, wherever a kill or an interrupt ends it."""

from __future__ import annotations

import json
import os
import shutil

import pyarrow as pa
import pytest

from headrace.pipelines.beam.run import Run
from headrace.pipelines.jobs.checkpoint import Checkpointer, Resumed
from headrace.pipelines.run.disk import files_under
from headrace.pipelines.run.manifest import check_files, read_manifest
from headrace.pipelines.run.place import Place
from headrace.pipelines.run.publication import publish, recover
from headrace.pipelines.run.seal import SEAL, SUMMARY, read_seal, verify, write_seal
from headrace.pipelines.run.spill import Spill
from headrace.pipelines.sinks.parquet import ParquetFolder
from headrace.pipelines.sources.blocks import LogBlocks
from tests.pipelines import kills
from tests.pipelines.kills import in_new_process

OLD = {"samples": 7, "dead_letters": 2, "corrections": 3, "joined/click": 4}
NEW = {"samples": 5, "dead_letters": 0}


def write_result(place, name, outputs):
    """Stage a small result, with files of two rows."""
    inventory = {}
    for output, rows in outputs.items():
        table = pa.table({"row": [f"{name} {output} {row}" for row in range(rows)]})
        files = ParquetFolder(place.result / output, table.schema.with_metadata(None), file_rows=2)
        files.append(table.cast(files.schema))
        files.close()
        inventory.update({f"{output}/{part}": noted for part, noted in files.inventory.items()})
    model = place.result / "model" / f"snapshot-{name}"
    model.mkdir(parents=True)
    (model / "manifest.json").write_text(name)
    (place.result / "report.html").write_text(f"report of {name}")
    summary = {"samples": {"rows": outputs["samples"]}, "of": name}
    (place.result / SUMMARY).write_text(json.dumps(summary))
    write_seal(place.result, name, f"identity of {name}", inventory)


def write_checkpoint(place):
    """Put a checkpoint and scratch files beside the staged result."""
    checkpointer(place).offer(1, {})
    (place.partial / "spill" / "0").mkdir(parents=True)
    (place.partial / "spill" / "0" / "impressions-1").write_text("spilled")


def checkpointer(place):
    blocks = LogBlocks(lambda states: iter(()), 0)
    run = Run(blocks, {}, Spill(place.partial / "spill", 0))
    return Checkpointer(run, place, {}, 0, Resumed())


def read_tree(folder):
    return {name: path.read_bytes() for name, path in files_under(folder).items()}


class Scene:
    """A complete result about to be published, over an older one if `over` says so."""

    def __init__(self, folder, over):
        self.template = folder / "template"
        place = Place(self.template)
        self.template.mkdir()
        if over:
            place.stage()
            write_result(place, "old", OLD)
            publish(place)
            (self.template / "notes.txt").write_text("mine")
        place.stage()
        write_result(place, "new", NEW)
        write_checkpoint(place)
        self.before = read_tree(self.template)
        self.old = {n: data for n, data in self.before.items() if not n.startswith(".headrace")}
        self.place = Place(folder / "out")
        self.reset()
        publish(self.place)
        self.after = read_tree(self.place.out)
        assert not any(name.startswith((".headrace", "joined")) for name in self.after)
        assert [path.name for path in self.place.home.iterdir()] == []

    def reset(self):
        shutil.rmtree(self.place.out, ignore_errors=True)
        shutil.copytree(self.template, self.place.out)

    def state(self):
        """Return all files by name, inode and size: cheaper than reading them."""
        found = set()
        for where, folders, names in os.walk(self.place.out):
            for name in [*folders, *names]:
                stat = os.lstat(os.path.join(where, name))
                found.add((where, name, stat.st_ino, stat.st_size))
        return found

    def is_committed(self):
        """Return whether the new result is being published, or has been."""
        if self.place.publishing.exists():
            return True
        seal = self.place.out / SEAL
        return seal.exists() and read_seal(seal).run == "new"

    def check_reader(self):
        """Check that a reader finds one whole result under final names, or no seal."""
        if (self.place.out / SEAL).exists():
            assert verify(self.place.out).problems == []
            assert (self.place.out / SUMMARY).exists()
        tree = read_tree(self.place.out)
        if SUMMARY in tree and SEAL not in tree:
            # The first instant or the last: everything except the seal is in place.
            assert any(
                {name: data for name, data in whole.items() if name != SEAL}.items() <= tree.items()
                for whole in (self.old, self.after)
            )

    def check_recovered(self):
        """Recover; check that nothing was published, or everything; return which."""
        finished = recover(self.place)
        tree = read_tree(self.place.out)
        if tree == self.before:
            assert finished is None
            return False
        assert tree == self.after
        assert list(self.place.home.iterdir()) == []
        assert finished is None or finished.run == "new"
        assert recover(self.place) is None
        return True


@pytest.fixture(scope="module", autouse=True)
def _traceable():
    if not in_new_process(kills.traceable):
        pytest.skip("tracing child processes is not permitted here")


def changing_stops(scene, action, about=2):
    """Return the stops at which the disk differs from that at the stop before, and those near."""
    scene.reset()
    changing, last = [], [scene.state()]

    def look(stop):
        state = scene.state()
        if state != last[0]:
            changing.extend(range(max(stop - about, 0), stop + max(about, 1)))
            last[0] = state

    code, stops = kills.run_traced(action, look=look)
    assert code == 0
    return sorted({0, *changing}), stops


def kill_everywhere(folder, over, every):
    """Kill a publication at stops; return how many, and how many of them undid it."""
    scene = Scene(folder, over)
    at, stops = changing_stops(scene, lambda: publish(scene.place))
    undone = []
    for stop in range(stops) if every else at:
        scene.reset()
        code, _ = kills.run_traced(lambda: publish(scene.place), kill_at=stop)
        assert code == -9 or (code == 0 and stop > stops - 5)
        scene.check_reader()
        committed = scene.is_committed()
        undone.append(not scene.check_recovered())
        assert undone[-1] is not committed, "a published result was lost"
    assert undone[0]
    assert not undone[-1]
    return len(undone), sum(undone)


def kill_recovery_everywhere(folder, every):
    """Kill a publication at its commit or later, and then the recovery; return how many pairs."""
    scene = Scene(folder, True)
    at, _ = changing_stops(scene, lambda: publish(scene.place), 0 if every else 2)
    count = 0
    for first in at:

        def broken(first=first):
            scene.reset()
            kills.run_traced(lambda: publish(scene.place), kill_at=first)

        broken()
        if not scene.place.publishing.exists():
            continue
        scene.template, template = scene.place.out.with_name("broken"), scene.template
        shutil.copytree(scene.place.out, scene.template)
        again, _ = changing_stops(scene, lambda: recover(scene.place) and None, 0 if every else 2)
        for second in again:
            scene.reset()
            kills.run_traced(lambda: recover(scene.place) and None, kill_at=second)
            scene.check_reader()
            assert scene.check_recovered()
            count += 1
        shutil.rmtree(scene.template)
        scene.template = template
        if not every:
            break
    return count


def interrupt_everywhere(folder, over, every):
    """Interrupt a publication twice in a row at stops; return how many, and how many it ended."""
    scene = Scene(folder, over)
    at, _ = changing_stops(scene, lambda: publish(scene.place))
    at = sorted({*at, *range(0, at[1], 5 if every else 60)})
    aparts = (0, 1, 7) if every else (1,)
    ended = 0
    for stop in at:
        for apart in aparts:
            scene.reset()
            interrupts = (stop, stop + apart)
            code, _ = kills.run_traced(lambda: publish(scene.place), interrupt_at=interrupts)
            assert code in (0, 2)
            scene.check_reader()
            done = scene.check_recovered()
            assert done or code == 2
            ended += code == 2
    return len(aparts) * len(at), ended


def kill_checkpointing(folder, every):
    """Kill the second checkpoint at stops: the newest one is always whole."""
    scene = Scene(folder, False)
    assert scene.place.checkpoint() is None
    at, stops = changing_stops(scene, lambda: checkpointer(scene.place).offer(2, {}))
    found = []
    for stop in range(stops) if every else at:
        scene.reset()
        kills.run_traced(lambda: checkpointer(scene.place).offer(2, {}), kill_at=stop)
        newest = scene.place.checkpoint()
        manifest = read_manifest(newest, "")
        assert check_files(newest, manifest["files"], "", "manifest.json") == []
        found.append(manifest["block"])
        outputs = read_tree(scene.place.result)
        recover(scene.place)
        scene.place.stage(resuming=True)
        left = sorted(path.name for path in scene.place.partial.iterdir())
        assert left[-1] == "result"
        assert all(name.startswith("checkpoint-") for name in left[:-1])
        assert outputs == read_tree(scene.place.result)
        assert [path.name for path in scene.place.home.iterdir()] == ["partial"]
    assert found == sorted(found)
    assert {1, 2} == set(found)
    return len(found)


over_what = pytest.mark.parametrize("over", [False, True], ids=["absent", "over a result"])


@over_what
def test_killed_at_any_call_a_publication_is_undone_or_finished(tmp_path, over):
    """Before the first rename nothing is published; after it the next start finishes it."""
    count, undone = in_new_process(kill_everywhere, tmp_path, over, False)
    assert count > 80
    assert 0 < undone < 8


@pytest.mark.slow
@over_what
def test_killed_at_every_call_a_publication_is_undone_or_finished(tmp_path, over, capsys):
    """Before and after every system call."""
    count, undone = in_new_process(kill_everywhere, tmp_path, over, True)
    with capsys.disabled():
        print(f"\n{count} kills, the first {undone} undone")


def test_a_killed_recovery_is_finished_by_the_next(tmp_path):
    """The publication is killed right after its commit, the recovery at each change of the disk."""
    assert in_new_process(kill_recovery_everywhere, tmp_path, False) > 80


@pytest.mark.slow
def test_a_kill_of_a_publication_and_of_its_recovery_leaves_a_whole_result(tmp_path, capsys):
    """At any two stops."""
    with capsys.disabled():
        print(f"\n{in_new_process(kill_recovery_everywhere, tmp_path, True)} pairs of kills")


some_or_every = pytest.mark.parametrize(
    "every",
    [
        pytest.param(False, id="at some stops"),
        pytest.param(True, id="at every stop", marks=pytest.mark.slow),
    ],
)


@some_or_every
def test_two_interrupts_of_a_publication_leave_all_or_nothing(tmp_path, every, capsys):
    """Before the commit they end the run, after it they are ignored until all is published."""
    count, ended = in_new_process(interrupt_everywhere, tmp_path, True, every)
    assert 0 < ended < count
    if every:
        with capsys.disabled():
            print(f"\n{count} times two interrupts, {ended} of them before the publication")


@some_or_every
def test_killed_at_any_call_the_newest_checkpoint_is_whole(tmp_path, every, capsys):
    """A checkpoint gets its name when it is complete, and loses it before it is removed."""
    count = in_new_process(kill_checkpointing, tmp_path, every)
    if every:
        with capsys.disabled():
            print(f"\n{count} kills")
