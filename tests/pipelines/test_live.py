"""Reading the outputs of a run that does not end while it writes and merges them."""

from __future__ import annotations

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import headrace
from headrace.pipelines.sinks.completion import Completion
from headrace.pipelines.sinks.epochs import EpochFolder
from headrace.pipelines.sinks.hours import HourFolder, microseconds
from headrace.pipelines.sinks.sink import LiveWriter
from headrace.schemas.config.durations import HOUR, SECOND
from headrace.schemas.errors import FolderError
from headrace.schemas.records.events import FOREVER
from tests.pipelines.livejobs import (
    SCHEMA,
    START,
    letters_at,
    letters_opened,
    opened,
    rows_at,
    seconds,
    tree,
)


def test_a_reader_beside_the_run_always_finds_a_prefix(tmp_path):
    """It never fails, and sees no row twice or out of order; times only grow."""
    emitted = seconds(*range(0, 4 * 3_600, 31))
    rows = rows_at(*emitted)
    opened(tmp_path)
    ended = []

    def read():
        untils, kept = [], []
        done = False
        while not done:
            done = bool(ended)  # from before it reads, so that it sees the end
            live = headrace.load_live(tmp_path)
            until = live.complete["samples"]
            count = 0 if until is None else int(np.searchsorted(emitted, microseconds(until)))
            kept.append((live.samples, count))
            # The newest, and one from before the last merges.
            for dataset, count in (kept[-1], kept[len(kept) // 2]):
                keys = dataset.to_table(columns=["key"]).column("key").to_pylist()
                assert keys == rows.column("key").to_pylist()[:count]
            untils.append(kept[-1][1])
            del kept[:-40]
        assert untils == sorted(untils)
        return untils

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read), pool.submit(read)]
        writer = LiveWriter(opened(tmp_path, epoch=30 * SECOND))
        for begin in range(0, len(emitted), 5):
            writer.put(lambda begin=begin: rows.slice(begin, 5))
            writer.complete_until(emitted[min(begin + 5, len(emitted) - 1)])
            if begin % 40 == 0:
                writer.commit()
                writer.confirm()
        writer.complete_until(FOREVER)
        writer.commit()
        writer.confirm()
        writer.close()
        ended.append(True)
        for one in reading:
            untils = one.result()
            assert untils[-1] == len(emitted)
            assert len(set(untils)) > 5
    names = [f"2026-01-01/0{hour}.parquet" for hour in range(4)]
    assert [*tree(tmp_path / "samples")] == [*names, "_common_metadata"]


def test_an_old_dataset_survives_the_merge_of_its_files(tmp_path):
    """Files that were removed since are still open in it."""
    sink = opened(tmp_path)
    sink.append(rows_at(*seconds(1, 20, 3_700)))
    sink.complete_until(START + 2 * HOUR)
    before = headrace.load_live(tmp_path).samples
    sink.commit()
    sink.confirm()
    after = headrace.load_live(tmp_path).samples
    assert [before.to_table().num_rows, before.count_rows(), after.count_rows()] == [3, 3, 3]
    assert str(before.to_table().to_pylist()) == str(after.to_table().to_pylist())
    assert [Path(path).name for path in after.files] == ["00.parquet", "01.parquet"]


def test_load_live_offers_each_output(tmp_path):
    """With the time until which it is complete; before the first there are no rows."""
    with pytest.raises(FolderError, match=r"has no complete\.json; name the --out folder"):
        headrace.load_live(tmp_path)
    completion = Completion(tmp_path, 0.0)
    for output in ("samples", "corrections", "joined/click"):
        sink = EpochFolder(HourFolder(tmp_path / output, SCHEMA), SECOND, completion, output)
        if output != "corrections":
            sink.append(rows_at(*seconds(1)))
            sink.complete_until(FOREVER if output == "samples" else START + 5 * SECOND)
    sink = letters_opened(tmp_path)
    sink.append(letters_at(4, 2))
    sink.commit()
    live = headrace.load_live(tmp_path)
    assert live.complete == {
        "corrections": None,
        "dead_letters": None,
        "joined/click": datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC),
        "samples": datetime.max.replace(tzinfo=UTC),
    }
    assert live.samples.count_rows() == live.joined["click"].count_rows() == 1
    assert live.corrections is not None
    assert live.corrections.to_table().schema.equals(SCHEMA)
    assert live.corrections.count_rows() == live.dead_letters.count_rows() == 0
    sink.confirm()
    assert live.dead_letters.to_table().column("source").to_pylist() == ["s2", "s4"]


# What is refused.


@pytest.mark.parametrize("moment", ["before the list", "after it", "while the folder is removed"])
def test_a_merge_while_files_are_listed_is_noticed(tmp_path, monkeypatch, moment):
    """The list may fail, be of files that are gone, or be of a part of the folder."""
    sink = opened(tmp_path)
    sink.append(rows_at(*seconds(1, 20, 40)))
    sink.complete_until(START + 2 * HOUR)
    sink.commit()
    live, listdir = headrace.load_live(tmp_path), os.listdir

    def merging(path):
        names = listdir(path)
        if not str(path).endswith("/00"):
            return names
        monkeypatch.undo()
        sink.confirm()
        if moment == "before the list":
            return listdir(path)
        return names if moment == "after it" else []

    monkeypatch.setattr(os, "listdir", merging)
    dataset = live.samples
    assert dataset.count_rows() == 3
    assert [Path(path).name for path in dataset.files] == ["00.parquet"]


def test_too_many_files_are_an_error_with_a_hint(tmp_path):
    """The files of an hour that is not merged are held open."""
    sink = opened(tmp_path)
    sink.append(rows_at(*seconds(*range(0, 3_000, 10))))
    sink.complete_until(START + HOUR)
    sink.commit()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
    try:
        with pytest.raises(FolderError, match=r"Too many open files.*\(ulimit -n\)"):
            headrace.load_live(tmp_path).samples  # noqa: B018
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert headrace.load_live(tmp_path).samples.count_rows() == 300
