"""A log that goes on: runs that continue one another put out what one run would."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from bisect import bisect_left, bisect_right
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from examples.convert import convert
from headrace.joiner.state import hashqueue
from headrace.pipelines.app.cli import main
from headrace.pipelines.beam import reading
from headrace.pipelines.jobs import continuing
from headrace.pipelines.jobs import replay as replay_job
from headrace.pipelines.sources.blocks import LogBlocks
from headrace.schemas.types import type_name
from tests.pipelines.direct import run_directly
from tests.pipelines.outputs import contents
from tests.pipelines.random_logs import ACTIONS, IMPRESSIONS, START, random_log, small_guards

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs/operations.md"
ROWS = ("samples", "corrections", "joined", "quarantine", "guard", "dead_letters")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Run without Beam, merge even two small segments, and let guards decide early."""
    monkeypatch.setattr(replay_job, "run_graph", run_directly)
    monkeypatch.setattr(hashqueue, "_FEW", 2)
    small_guards(monkeypatch)


def run(config, out, *options):
    command = ["replay", str(config), "--out", str(out), "--quiet", "--allow-invalid", *options]
    assert main(command) == 0
    return out


def rows(folders, name):
    """Return the rows of an output of several runs, as sorted text."""
    found = []
    for folder in folders:
        if (folder / name).exists():
            table = ds.dataset(folder / name, format="parquet").to_table()
            if "offset" in table.column_names:
                # A file that is cut numbers its records anew.
                table = table.drop_columns(["offset", "source", "row"])
            found += [str(row) for row in table.to_pylist()]
    return sorted(found)


def arrays(snapshot):
    """Return the files of a snapshot but its manifest."""
    return {
        path.name: path.read_bytes() for path in snapshot.iterdir() if path.name != "manifest.json"
    }


def statistics(out):
    return pq.read_table(out / "statistics.parquet").to_pylist()


def check_equal(outs, whole):
    """Compare what runs put out one after the other, and the last model, with one run."""
    for name in ROWS:
        assert rows(outs, name) == rows([whole], name), name
    last, once = (json.loads((out / "summary.json").read_text()) for out in (outs[-1], whole))
    assert last["learners"].keys() == once["learners"].keys()
    for name, learner in once["learners"].items():
        found = last["learners"][name]
        for of in ("samples", "log_loss", "auc", "windows", "served", "calibrated", "compared"):
            assert found[of] == learner[of], (name, of)
        paths = [out / of["model"]["path"] for out, of in ((outs[-1], found), (whole, learner))]
        assert arrays(paths[0]) == arrays(paths[1])
    assert statistics(outs[-1]) == statistics(whole)


class Killed(BaseException):
    """Stands for the end of the process: no code handles it."""


def killed_and_resumed(random, monkeypatch, config, out, *options):
    """End a run before some of its blocks, and resume it each time; return how often."""
    monkeypatch.setattr(reading, "_BUNDLE_BLOCKS", random.choice((1, 3)))
    at, crashes = LogBlocks.at, []

    def dies(self, position):
        block = at(self, position)
        if len(crashes) < 3 and random.random() < 0.2:
            crashes.append(position)
            raise Killed
        return block

    with monkeypatch.context() as patch:
        patch.setattr(LogBlocks, "at", dies)
        while True:
            try:
                run(config, out, *options, *(["--resume"] if crashes else []))
                return len(crashes)
            except Killed:
                continue


class Files:
    """Where the rows of a log go as it goes on: to new files, or to the ends of old ones."""

    def __init__(self, log, folder, grows):
        self.log, self.folder, self.grows = log, folder, grows
        self.written = {}
        if grows:
            # What the first rows look like does not tell all types.
            for name, options in log.options.items():
                if "path" in options:
                    schema = IMPRESSIONS if name == "impressions" else ACTIONS
                    options["path"] = options["path"].replace("parquet", "jsonl")
                    options["types"] = {of.name: type_name(of.type) for of in schema}
        folder.mkdir(parents=True)
        self.config = folder / "headrace.toml"
        self.config.write_text(log.configuration())

    def write(self, part, until, ties):
        """Write what is left before a time, and some of the rows of just that time."""
        for name, files in {"impressions": self.log.impressions, **self.log.actions}.items():
            schema = IMPRESSIONS if name == "impressions" else ACTIONS
            for number, of in enumerate(files):
                times = [row["time"] for row in of]
                first, last = bisect_left(times, until), bisect_right(times, until)
                begin = self.written.get((name, number), 0)
                end = max(begin, ties.randint(first, last))
                self.written[name, number], own = end, of[begin:end]
                if self.grows:
                    with (self.folder / f"{name}-{number}.jsonl").open("a") as file:
                        file.writelines(json.dumps(row) + "\n" for row in own)
                else:
                    path = self.folder / f"{name}-{part}-{number}.parquet"
                    pq.write_table(pa.Table.from_pylist(own, schema), path, row_group_size=17)


def check_continued(seed, folder, monkeypatch):
    """Compare one run over all of a log with runs over what has come by some times."""
    random = Random(seed)
    log = random_log(random, tidy=True)
    log.options["join"]["end_of_log"] = "open"
    for options in log.options.values():
        options.pop("complete_until", None)
    kills = random.random() < 0.3
    if kills:
        log.options["replay"] = {"checkpoint": "0s", "batch_rows": random.choice((5, 20))}
    files = Files(log, folder / "log", grows=random.random() < 0.3)
    streams = log.impressions, *log.actions.values()
    times = [row["time"] for of in streams for rows in of for row in rows]
    drawn = range(random.choice((1, 1, 3)))
    # Times are whole seconds: several rows have the one at which a part ends.
    cuts = sorted(random.choice(times) for _ in drawn)
    outs, options = [], ["--shards", str(random.choice((1, 2, 8)))]
    for part, until in enumerate([*cuts, 2**62]):
        files.write(part, until, random)
        past = ["--continue", str(outs[-1])] if outs else []
        arguments = files.config, folder / f"out-{part}", *options, *past
        if kills:
            killed_and_resumed(random, monkeypatch, *arguments)
        else:
            run(*arguments)
        outs.append(folder / f"out-{part}")
    config = files.config
    whole = run(config, folder / "whole", *options)
    check_equal(outs, whole)
    shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(10), ids=lambda seed: f"random log {seed}")
def test_runs_that_continue_put_out_what_one_does(tmp_path, seed, monkeypatch, capsys):
    """With any options, cut at random times; some grow, and some are killed and resumed."""
    check_continued(seed, tmp_path / "log", monkeypatch)


TABLES = """
[impressions]
path = "impressions-*.csv"
key = ["key"]
time = { column = "time", unit = "s", any_year = true }
[actions.click]
path = "clicks-*.csv"
key = ["key"]
time = { column = "time", unit = "s", any_year = true }
window = "10s"
[join]
retention = "30s"
[learner]
label = "click"
bits = 8
alpha = 0.1
[learner.features]
categorical = ["ad"]
"""


@pytest.fixture
def day(tmp_path):
    """Write the files of a day, each a list of times and keys, and replay them after the last."""
    config = tmp_path / "headrace.toml"
    config.write_text(TABLES)
    days = []

    def go_on(impressions=None, clicks=None, *options):
        number = len(days) + 1
        for name, lines in (("impressions", impressions), ("clicks", clicks)):
            if lines is not None:
                text = "time,key,ad,site\n" + "".join(f"{time},{key},x,s\n" for time, key in lines)
                (tmp_path / f"{name}-{number}.csv").write_text(text)
        past = ["--continue", str(days[-1])] if days else []
        days.append(run(config, tmp_path / f"day-{number}", *past, *options))
        return json.loads((days[-1] / "summary.json").read_text())

    go_on.days, go_on.config = days, config
    return go_on


def refused(day, capsys, *options):
    """Return what is said when the run after the last is refused."""
    command = ["replay", str(day.config), "--out", str(day.config.parent / "refused"), "--quiet"]
    capsys.readouterr()
    assert main([*command, "--continue", str(day.days[-1]), *options]) == 2
    assert not (day.config.parent / "refused").exists()
    return capsys.readouterr().err


def table(folder, name):
    return ds.dataset(folder / name, format="parquet").to_table().to_pylist()


def test_what_was_open_settles_on_the_next_day(day):
    """The click of the second day is of an impression of the first, which stays as it is."""
    first = day([(100, "a"), (120, "b")], [(101, "a"), (121, "z")])
    assert first["outcomes"]["impressions"]["open"] == 1
    before = {path: path.read_bytes() for path in day.days[0].rglob("*") if path.is_file()}
    second = day([(145, "c")], [(125, "b"), (150, "z")])
    assert second["input"] == {"impressions": 1, "click": 2}
    assert second["carried"] == {"impressions": 1, "click": 1}
    assert [(row["key"], row["click"]) for row in table(day.days[1], "samples")] == [("b", True)]
    assert [row["source"] for row in table(day.days[1], "dead_letters")] == ["clicks-1.csv"]
    assert before == {path: path.read_bytes() for path in day.days[0].rglob("*") if path.is_file()}


def test_what_comes_too_late_is_late_and_leaves_a_correction(day):
    """The first day was complete until 160 and 165; b is retained until 180, a was until 140."""
    day([(100, "a"), (140, "b"), (160, "c")], [(165, "c")])
    second = day([(105, "d"), (170, "e")], [(104, "a"), (145, "b"), (171, "e")])
    assert second["outcomes"]["impressions"]["late"] == 1
    assert second["outcomes"]["click"]["late"] == 2
    assert second["outcomes"]["click"]["orphan"] == 0
    assert [row["key"] for row in table(day.days[1], "corrections")] == ["b"]


def test_without_anything_new_nothing_is_written_and_the_run_after_goes_on(day):
    """As when an export has not come yet; a file that was moved is known, too."""
    day([(100, "a"), (120, "b")], [(101, "a"), (121, "z")])
    root = day.config.parent
    (root / "clicks-1.csv").rename(root / "clicks-0.csv")
    second = day()
    assert second["input"] == {"impressions": 0, "click": 0}
    assert second["samples"]["rows"] == 0
    third = day([(140, "c")], [(125, "b"), (150, "z")])
    assert third["samples"]["rows"] == 1
    assert third["learners"]["click"]["samples"] == 2


def test_a_file_that_is_gone_when_all_was_read_is_known(day, monkeypatch):
    """What was read of it counts, not what is there by then."""
    keep = replay_job.keep_state

    def gone(*arguments, **named):
        (day.config.parent / "clicks-1.csv").unlink()
        keep(*arguments, **named)

    monkeypatch.setattr(replay_job, "keep_state", gone)
    day([(100, "a"), (120, "b")], [(101, "a"), (121, "z")])
    monkeypatch.undo()
    monkeypatch.setattr(replay_job, "run_graph", run_directly)
    assert day([(140, "c")], [(125, "b"), (150, "z")])["samples"]["rows"] == 1


def test_a_stream_that_is_declared_complete_until_later_lets_the_others_settle(day):
    """Without a click for hours, the impressions would wait."""
    day([(100, "a"), (120, "b")], [(101, "a")])
    assert day([(150, "c")], None)["samples"]["rows"] == 0
    text = TABLES.replace(
        "[actions.click]", '[actions.click]\ncomplete_until = "1970-01-01T00:02:25Z"'
    )
    day.config.write_text(text)
    assert day(None, None)["samples"]["rows"] == 2


def test_of_files_that_cannot_grow_no_witnesses_are_kept(day):
    """Of Parquet; a file of lines that grows goes on where it ended."""
    day.config.write_text(TABLES.replace("impressions-*.csv", "impressions-*.parquet"))
    shown = {"time": [100, 110, 120, 160], "key": [*"abcd"], "ad": ["x"] * 4, "site": ["s"] * 4}
    pq.write_table(pa.table(shown), day.config.parent / "impressions-1.parquet")
    day(None, [(101, "a"), (161, "z")])
    streams = json.loads((day.days[0] / "state/manifest.json").read_text())["streams"]
    ((times, _),) = (file["state"]["recent"] for file in streams["actions.click"]["files"])
    assert times == [101_000_000, 161_000_000]
    (file,) = streams["impressions"]["files"]
    assert file["state"]["recent"] == [[], []]
    pq.write_table(
        pa.table({**shown, "time": [200] * 4, "key": [*"efgh"]}),
        day.config.parent / "impressions-2.parquet",
    )
    assert day(None, [(165, "d"), (205, "e")])["outcomes"]["click"]["settled"] == 1


def test_a_line_that_was_not_complete_is_not_read_on(day, capsys):
    """Its rest would be a record of its own."""
    day([(100, "a"), (120, "b")], [(101, "a")])
    path = day.config.parent / "clicks-1.csv"
    path.write_text(path.read_text().removesuffix("\n"))
    day.config.parent.joinpath("impressions-2.csv").write_text("time,key,ad,site\n")
    said = refused(day, capsys)
    assert "actions.click.path: has changed since it was read" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("10s", "11s"), "actions.click.window: has changed since"),
        (('["ad"]', '["ad", "key"]'), "learner.features.categorical: has changed since"),
        (("bits = 8", "bits = 9"), "learner.bits: has changed since"),
    ],
    ids=["the window", "features", "the size of a model"],
)
def test_another_configuration_is_refused(day, capsys, change, said):
    """What has left would have left otherwise."""
    day([(100, "a")], [(101, "a")])
    day.config.write_text(TABLES.replace(*change))
    assert said in refused(day, capsys)


def test_rates_of_learning_may_change(day):
    """A learner goes on with what it has learned, and learns otherwise from then on."""
    day([(100, "a"), (120, "b")], [(101, "a"), (121, "z")])
    day.config.write_text(TABLES.replace("alpha = 0.1", "alpha = 0.2"))
    summary = day([(140, "c")], [(125, "b"), (150, "z")])
    path = day.days[1] / summary["learners"]["click"]["model"]["path"] / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["parameters"]["alpha"] == 0.2
    assert manifest["samples"] == 2


def test_other_slices_may_be_watched(day):
    """Figures by the new column begin on the day; the sums of all samples go on."""
    sliced = '[monitor]\nserved_share = 1.0\nslices = ["{}"]\n'
    day.config.write_text(TABLES + sliced.format("ad"))
    day([(100, "a"), (120, "b"), (121, "c")], [(101, "a"), (124, "z")])
    day.config.write_text(TABLES + sliced.format("key"))
    assert day([(145, "d")], [(125, "b"), (150, "z")])["learners"]["click"]["samples"] == 3
    rows = pq.read_table(day.days[1] / "statistics.parquet").to_pylist()
    learned = [row for row in rows if row["predicted"] == "learned"]
    assert sum(row["samples"] for row in learned if row["slice"] is None) == 3
    assert {(row["slice"], row["value"]) for row in learned if row["slice"]} == {
        ("key", "b"), ("key", "c")
    }  # fmt: skip


def test_other_slices_may_be_ranked(day):
    """Values of the new column have histograms from then on; those of all impressions go on."""
    day.config.write_text(
        TABLES.replace("time = {", 'types = { site = "float64" }\ntime = {', 1)
        + '[monitor]\nserved_share = 1.0\npropensity = "site"\nslices = ["ad"]\n'
    )
    day([(100, "a"), (120, "b")], [(101, "a"), (124, "z")])
    day.config.write_text(day.config.read_text().replace('slices = ["ad"]', 'slices = ["key"]'))
    assert day([(145, "d")], [(125, "b"), (150, "z")])["learners"]["click"]["pairwise"] is not None


def test_a_slice_that_was_not_read_is_refused(day, capsys):
    """What is open has no such column."""
    tables = TABLES.replace("time = {", 'columns = ["ad"]\ntime = {', 1)
    day.config.write_text(tables)
    day([(100, "a"), (120, "b")], [(101, "a"), (124, "z")])
    day.config.write_text(tables + '[monitor]\nslices = ["site"]\n')
    said = refused(day, capsys)
    assert "impressions.columns: was not read by the run that is continued" in said


def test_a_file_that_has_changed_is_refused(day, capsys):
    """By other contents, by fewer, or by none that is known."""
    day([(100, "a"), (120, "b")], [(101, "a"), (121, "z")])
    path = day.config.parent / "clicks-1.csv"
    whole = path.read_text()
    path.write_text(whole.replace("101", "102") + "130,b,x,s\n")
    assert "clicks-1.csv" in (said := refused(day, capsys))
    assert "has other contents than when it was read" in said
    path.write_text(whole[:-10])
    assert "has changed since it was read by the run that is continued" in refused(day, capsys)


def test_a_folder_without_a_state_is_refused(day, capsys):
    """As that of a run that closed its log, or kept no state, or is none."""
    day.config.write_text(TABLES.replace("[join]", '[join]\nend_of_log = "close"'))
    day([(100, "a")], [(101, "a")])
    assert "has no state to continue from" in refused(day, capsys)
    day.days.append(day.config.parent / "nowhere")
    assert "is no folder" in refused(day, capsys)


def test_a_damaged_state_is_refused(day, capsys):
    """Before anything is written."""
    day([(100, "a")], [(101, "a")])
    path = day.days[0] / "state/join.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    assert "has changed since it was written; replay all files again" in refused(day, capsys)


def test_the_folder_that_is_continued_is_not_replaced(day, capsys):
    """It holds what the run reads."""
    day([(100, "a")], [(101, "a")])
    command = ["replay", str(day.config), "--quiet", "--continue", str(day.days[0])]
    assert main([*command, "--out", str(day.days[0])]) == 2
    assert "holds an input of the replay" in capsys.readouterr().err


def test_old_windows_are_forgotten(day):
    """They are in the results of the days before; the sums over all of them stay."""
    day.config.write_text(TABLES + '[monitor]\nwindow = "1m"\nhistory = "2m"\n')
    day([(100, "a"), (300, "b")], [(101, "a"), (300, "z")])
    day([(400, "c"), (900, "d")], [(400, "z"), (900, "z")])
    last = day([(1_000, "e")], [(1_000, "z")])["learners"]["click"]
    assert (last["samples"], len(last["windows"])) == (4, 1)
    starts = [min(row["window"].timestamp() for row in pq.read_table(
        out / "statistics.parquet").to_pylist()) for out in day.days]  # fmt: skip
    assert starts == [60, 300, 900]


def test_the_recipe_for_every_day_runs(tmp_path):
    """As cron would run it, on the second day on top of the first."""
    (script,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", OPERATIONS.read_text(), re.DOTALL)
    script = script.replace("/srv/headrace", str(tmp_path))
    (tmp_path / "headrace.toml").write_text(TABLES)
    command = f'headrace() {{ PYTHONPATH="{ROOT}" "{sys.executable}" -m headrace "$@"; }}'
    for day, time in (("01", 100), ("02", 150)):
        for name in ("impressions", "clicks"):
            lines = f"time,key,ad\n{time},a{day},x\n{time + 20},b{day},x\n"
            (tmp_path / f"{name}-{day}.csv").write_text(lines)
        on_day = script.replace("$(date -u -d yesterday +%F)", f"2026-01-{day}")
        assert on_day != script
        subprocess.run(["sh", "-c", f"{command}\n{on_day}"], check=True)
    last = tmp_path / "runs/2026-01-02"
    assert json.loads((last / "summary.json").read_text())["continues"] == "runs/2026-01-01"
    found = [row["key"] for row in table(last, "samples")]
    assert found == ["b01", "a02"]


def cut_by_time(source, folder, config, cuts, column, moments):
    """Write a table's parts between `cuts`, and the path to all of them to the configuration."""
    table = pq.read_table(source)
    times = moments(table.column(column))
    name = source.stem
    config.write_text(config.read_text().replace(f'"{name}.parquet"', f'"{name}-*.parquet"'))
    return [
        (
            folder / f"{name}-{part:02d}.parquet",
            table.filter(pc.and_(pc.greater_equal(times, begin), pc.less(times, end))),
        )
        for part, (begin, end) in enumerate(pairwise([-(2**62), *cuts, 2**62]))
    ]


DELAYED = """
[impressions]
path = "views.parquet"
key = ["key"]
time = { column = "time", unit = "s" }
[actions.order]
path = "orders.parquet"
key = ["key"]
time = { column = "time", unit = "s" }
window = "3d"
[join]
end_of_log = "close"
joined = true
[learner]
label = "order"
bits = 12
features.categorical = ["ad"]
[monitor]
window = "6h"
slices = ["ad"]
"""


def delayed(folder):
    """Write a log of eight days, whose orders come up to four days after their views."""
    folder.mkdir()
    day, random = 86_400, np.random.default_rng(3)
    shown = np.sort(random.integers(0, 8 * day, 6_000)) + START // 1_000_000
    keys = np.array([f"k{number}" for number in range(shown.size)])
    views = {"key": keys, "time": shown, "ad": random.integers(0, 9, shown.size)}
    pq.write_table(pa.table(views), folder / "views.parquet")
    ordered = np.flatnonzero(random.random(shown.size) < 0.1)
    at = shown[ordered] + random.integers(0, 4 * day, ordered.size)
    orders = pa.table({"key": keys[ordered], "time": at}).sort_by("time")
    pq.write_table(orders, folder / "orders.parquet")
    (folder / "headrace.toml").write_text(DELAYED)
    return folder / "headrace.toml"


def check_pieces(config, folder, pieces):
    """Compare one run over the files beside a configuration with runs over some parts of time."""
    text = config.read_text()
    config.write_text(text.replace('end_of_log = "close"', "retention = '1h'"))
    columns = {"clicks": "click_time", "installs": "attributed_time"}

    def moments(column):
        if pa.types.is_integer(column.type):
            return column
        return pc.strptime(column, format="%Y-%m-%d %H:%M:%S", unit="s").cast(pa.int64())

    sources = sorted(config.parent.glob("*.parquet"))
    times = [moments(pq.read_table(of).column(columns.get(of.stem, "time"))) for of in sources]
    first, last = min(pc.min(of).as_py() for of in times), max(pc.max(of).as_py() for of in times)
    random = Random(pieces)
    cuts = sorted(random.randint(first, last) for _ in range(pieces - 1))
    parts = [
        cut_by_time(of, of.parent, config, cuts, columns.get(of.stem, "time"), moments)
        for of in sources
    ]
    for of in sources:
        of.unlink()
    outs = []
    for number, files in enumerate(zip(*parts, strict=True)):
        for path, table_of in files:
            pq.write_table(table_of, path)
        past = ["--continue", str(outs[-1])] if outs else []
        outs.append(run(config, folder / f"out-{number}", *past))
    check_equal(outs, run(config, folder / "whole"))


PIECES = pytest.mark.parametrize("pieces", [2, 5, pytest.param(24, marks=pytest.mark.slow)])


@PIECES
@pytest.mark.parametrize("name", ["talkingdata", "taobao"])
def test_real_logs_go_on_as_one(data, tmp_path, name, pieces):
    """Days of clicks and installs, and of views and three kinds of actions, cut at random times."""
    config = convert(name, data / name, tmp_path / "log")
    check_pieces(config, tmp_path, pieces)


@PIECES
def test_a_log_whose_labels_come_days_later_goes_on_as_one(tmp_path, pieces):
    """Most pieces are shorter than the window."""
    check_pieces(delayed(tmp_path / "log"), tmp_path, pieces)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("step", ["write_join", "write_training", "describe", "write_signed"])
def test_a_run_that_ends_while_it_keeps_its_state_keeps_it_when_resumed(
    tmp_path, monkeypatch, step, before
):
    """Before and after each step of it."""
    random = Random(44)
    log = random_log(random, tidy=True)
    log.options["join"]["end_of_log"] = "open"
    log.options["replay"] = {"checkpoint": "0s", "batch_rows": 20}
    config = log.write(tmp_path / "log")
    whole = run(config, tmp_path / "whole")
    called = getattr(continuing, step)

    def ends(*arguments, **named):
        if not before:
            called(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(continuing, step, ends)
        with pytest.raises(Killed):
            run(config, tmp_path / "out")
    out = run(config, tmp_path / "out", "--resume")
    assert main(["verify", str(out)]) == 0
    kept = [
        {path.relative_to(of): path.read_bytes() for path in (of / "state/train").rglob("*.arrow")}
        for of in (out, whole)
    ]
    assert kept[0] == kept[1]
    again = [
        run(config, tmp_path / f"next-{of.name}", "--continue", str(of)) for of in (out, whole)
    ]
    assert contents(again[0]) | {"summary.json": None} == contents(again[1]) | {
        "summary.json": None
    }


@pytest.mark.slow
def test_five_hundred_random_logs_go_on_as_one(tmp_path, monkeypatch, capsys):
    """As with the ten logs."""
    for seed in range(1_000, 1_500):
        check_continued(seed, tmp_path / str(seed), monkeypatch)
        if seed % 100 == 99:
            with capsys.disabled():
                print(f"\n{seed - 999} logs that went on equal to one run")
