"""Topics whose messages are Arrow IPC streams give what topics of JSON give."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading

import pyarrow as pa
import pytest

import headrace
from headrace.pipelines.app.cli import main
from headrace.pipelines.kafka.topicsink import encode_arrow
from headrace.schemas.records.events import EMIT
from headrace.schemas.types import parse_type
from tests.pipelines import forked
from tests.pipelines.kafka.test_stream import check_equal, live_config, status_of, wait_for
from tests.pipelines.kafka.test_topiclogs import (
    ROOT,
    TYPES,
    as_topics,
    config,
    logs,
    results,
    write_config,
)

__all__ = ["logs"]

SCHEMAS = {
    name: pa.schema([(column, parse_type(kind)) for column, kind in types.items()])
    for name, types in TYPES.items()
}


def as_stream(rows, schema):
    """Return rows as an IPC stream."""
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as to:
        to.write_batch(pa.RecordBatch.from_pylist(rows, schema))
    return out.getvalue().to_pybytes()


def as_arrow(broker, rows, size):
    """Put records into topics of one partition each, so many to a message."""
    places = {}
    for name, records in rows.items():
        topic = broker.create()
        cut = [records[at : at + size] for at in range(0, len(records), size)]
        # A broker refuses a batch of more than a megabyte.
        broker.produce(topic, [as_stream(part, SCHEMAS[name]) for part in cut], batch=500)
        places[name] = {"topic": topic, "value": "arrow"}
    return places


def replayed(broker, places, out, **tables):
    whole = {**config(places), "kafka": {"servers": broker.servers}, **tables}
    return headrace.replay(whole, out)


def letters_of(result):
    return result.dead_letters.to_table().to_pylist()


@pytest.mark.parametrize("size", [1, 7, 5_000])
def test_arrow_gives_the_bytes_that_json_gives(broker, tmp_path, logs, size):
    """Samples, model, and dead letters, whose offset and row say which record it is."""
    expected = replayed(broker, as_topics(broker, logs["dirty"], 1), tmp_path / "json")
    # Blocks of few rows, so that they end inside of messages.
    found = replayed(
        broker,
        as_arrow(broker, logs["dirty"], size),
        tmp_path / "arrow",
        replay={"batch_rows": 300},
    )
    assert results(tmp_path / "arrow") == results(tmp_path / "json")
    names = ["stream", "reason", "detail", "record"]
    dead = [[letter[name] for name in names] for letter in letters_of(found)]
    assert dead == [[letter[name] for name in names] for letter in letters_of(expected)]
    assert len(dead) > 3
    places = [letter["offset"] * size + letter["row"] for letter in letters_of(found)]
    assert places == [letter["offset"] for letter in letters_of(expected)]
    assert {letter["row"] for letter in letters_of(expected)} == {None}
    assert found.summary.input == expected.summary.input


def test_a_schema_may_be_in_a_file(broker, tmp_path, logs):
    """Then no types are declared."""
    places = as_arrow(broker, logs["clean"], 100)
    replayed(broker, places, tmp_path / "declared")
    for name, place in places.items():
        (tmp_path / f"{name}.arrow").write_bytes(SCHEMAS[name].serialize())
        place |= {"schema": str(tmp_path / f"{name}.arrow"), "types": {}}
    replayed(broker, places, tmp_path / "file")
    assert results(tmp_path / "file") == results(tmp_path / "declared")


@pytest.mark.parametrize(
    ("size", "count"),
    [
        (7, 4),
        (5_000, 1),
        pytest.param(7, 1, marks=pytest.mark.slow),
        pytest.param(5_000, 4, marks=pytest.mark.slow),
    ],
)
def test_a_replay_that_was_killed_inside_a_message_goes_on(broker, tmp_path, logs, size, count):
    """At the next row, to the bytes of one that was not."""
    places = as_arrow(broker, logs["dirty"], size)
    path = write_config(tmp_path, broker, places, batch_rows=20, checkpoint="0s")

    def drive(how, out, *options):
        options = [str(path), "--out", str(out), "--quiet", "--allow-invalid", *options]
        done = forked.run("tests.pipelines.driver", how, str(count), "replay", *options)
        return done.returncode

    whole, out = tmp_path / "whole", tmp_path / "out"
    assert drive("never", whole) == 0
    assert drive("kill", out) == -signal.SIGKILL
    assert drive("never", out, "--resume") == 0
    assert results(out) == results(whole)
    assert letters_of(headrace.load_result(out)) == letters_of(headrace.load_result(whole))


class After:
    """Is set after somebody has looked at it so many times."""

    def __init__(self, looks):
        self.looks = looks

    def is_set(self):
        self.looks -= 1
        return self.looks < 0


@pytest.mark.parametrize("size", [7, 5_000])
def test_a_run_that_stops_inside_a_message_gives_what_a_replay_gives(broker, tmp_path, logs, size):
    """It goes on at the next row, and its status has the offset of the message."""
    places = as_arrow(broker, logs["dirty"], size)
    tables = live_config(broker, places, {"checkpoint": "0s"})
    tables["replay"] = {"batch_rows": 250}
    result = headrace.replay(tables, tmp_path / "replay")
    stops, inside, out = 0, 0, tmp_path / "live"
    while not headrace.stream(
        tables, out, until_end=True, stopping=After(6 if stops < 3 else 10_000)
    ).ended:
        stops += 1
        status = json.loads((out / ".headrace" / "live" / "status.json").read_text())
        for source in status["sources"]:
            rows = len(logs["dirty"][source["stream"]])
            assert source["position"] == (source["records"] // size if source["records"] < rows
                                          else -(-rows // size))  # fmt: skip
            inside += source["records"] < rows and source["records"] % size > 0
    assert stops == 3
    assert inside > 0
    check_equal(out, result)
    live = headrace.load_live(out)
    order = ("source", "offset", "row")
    assert sorted(letters_of(live), key=lambda letter: [letter[name] for name in order]) == sorted(
        letters_of(result), key=lambda letter: [letter[name] for name in order]
    )


def test_status_counts_messages(broker, tmp_path, logs, capsys):
    """Positions are offsets, and lag is how many messages are not read to their end."""
    rows = {name: of[:210] for name, of in logs["clean"].items()}
    places = as_arrow(broker, rows, 7)
    path = write_config(tmp_path, broker, places)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "headrace", "stream", str(path), "--out", str(out), "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT)
    wait_for(lambda: status_of(out, capsys).get("lag") == 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    status = status_of(out, capsys)
    found = {source["stream"]: source for source in status["sources"]}
    for name, of in rows.items():
        messages = -(-len(of) // 7)
        assert (found[name]["position"], found[name]["end"], found[name]["lag"]) == (
            messages, messages, 0,
        )  # fmt: skip
        assert found[name]["records"] == len(of)
    assert main(["status", str(out)]) == 0
    assert f"{places['impressions']['topic']}[0]" in capsys.readouterr().out


def test_damaged_messages_are_dead_letters_and_lose_nothing_else(broker, tmp_path):
    """Each one letter with its offset and no row; rows that are invalid have both."""
    start = 1_767_225_600_000_000

    def rows(at, count=3):
        return [{"request_id": f"r{at}.{n}", "time": start + at * 1000 + n, "price": 1.0}
                for n in range(count)]  # fmt: skip

    schema = SCHEMAS["impressions"]
    values = [as_stream(rows(at), schema) for at in range(9)]
    bomb = as_stream(rows(3, 1000), schema)
    size = (8 * 1000).to_bytes(8, "little")
    damaged = {
        1: (None, "null value"),
        2: (b"", "empty value"),
        3: (bomb.replace(size, (1 << 50).to_bytes(8, "little")), "more than 256 MB uncompressed"),
        4: (values[4][:-20], "is no Arrow IPC stream ("),
        5: (b'{"request_id": "r"}', "is no Arrow IPC stream ("),
        7: (values[7][:-8], "it ends too early"),
    }
    assert bomb != damaged[3][0]
    for at, (value, _) in damaged.items():
        values[at] = value
    values[6] = as_stream([*rows(6, 2), {**rows(6)[2], "request_id": None}], schema)
    topic, clicks = broker.create(), broker.create()
    broker.produce(topic, values)
    places = {"impressions": {"topic": topic, "value": "arrow"}, "click": {"topic": clicks}}
    result = replayed(broker, places, tmp_path / "out")
    letters = {letter["offset"]: letter for letter in letters_of(result)}
    assert list(letters) == [1, 2, 3, 4, 5, 6, 7]
    null_key = letters.pop(6)
    assert (null_key["source"], null_key["row"], null_key["reason"]) == (
        f"{topic}[0]", 2, "null_key",
    )  # fmt: skip
    for at, (value, why) in damaged.items():
        assert letters[at]["detail"].startswith(why)
        assert (letters[at]["reason"], letters[at]["row"]) == ("undecodable", None)
        assert base64.b64decode(letters[at]["record"]) == (value or b"")
    samples = result.samples.to_table().column("request_id").to_pylist()
    assert sorted(samples) == [*(f"r0.{n}" for n in range(3)), "r6.0", "r6.1",
                               *(f"r8.{n}" for n in range(3))]  # fmt: skip
    assert result.summary.input == {"impressions": 3 + 3 + 3 + 6, "click": 0}


def test_a_topic_with_a_history_is_read_from_where_it_begins(broker, tmp_path, logs):
    """Its first offset is not 0; and what was deleted before it was read is named by offsets."""
    rows = {name: of[:200] for name, of in logs["clean"].items()}
    places = as_arrow(broker, rows, 50)
    tables = live_config(broker, places)
    stopping = threading.Event()
    stopping.set()
    headrace.stream(tables, tmp_path / "gap", stopping=stopping)
    broker.delete_records(places["impressions"]["topic"], 1)
    result = replayed(broker, places, tmp_path / "out")
    assert result.summary.input == {"impressions": 150, "click": len(rows["click"])}
    with pytest.raises(headrace.HeadraceError, match=r"records 0 to 0 were deleted before"):
        headrace.stream(tables, tmp_path / "gap", until_end=True)


def test_outputs_of_a_run_are_read_by_another(broker, tmp_path, logs):
    """Samples that one wrote as batches of Arrow are the impressions of the next."""
    samples = broker.create()
    tables = live_config(broker, as_topics(broker, logs["clean"], 1))
    tables["outputs"] = {"samples": {"topic": samples, "format": "arrow"}}
    assert headrace.stream(tables, tmp_path / "first", until_end=True).ended
    written = headrace.load_live(tmp_path / "first").samples.to_table()
    (tmp_path / "samples.arrow").write_bytes(written.schema.serialize())
    second = config({"impressions": {}, "click": {"topic": broker.create()}})
    second["impressions"] = {
        "topic": samples, "value": "arrow", "schema": str(tmp_path / "samples.arrow"),
        "key": "request_id", "time": {"column": "event_time"},
        "columns": ["request_id", "device", "site", "price"],
    }  # fmt: skip
    result = headrace.replay({**second, "kafka": {"servers": broker.servers}}, tmp_path / "second")
    names = ["request_id", "device", "site", "price", "event_time"]
    found = result.samples.to_table().select(names)
    assert found.num_rows > 1_000
    assert found.sort_by("request_id").equals(written.select(names).sort_by("request_id"))


def test_what_outputs_write_can_be_read(broker, tmp_path):
    """However small they are cut."""
    schema = SCHEMAS["click"].append(pa.field(EMIT, pa.int64()))
    rows = [{"request_id": f"r{n}", "time": 1_767_225_600_000_000 + n, "click_id": "c", EMIT: n}
            for n in range(100)]  # fmt: skip
    messages = encode_arrow(pa.Table.from_pylist(rows, schema), 0, most_bytes=2_000)
    assert len(messages.values) > 1
    topic, clicks = broker.create(), broker.create()
    broker.produce(topic, messages.values)
    types = {"request_id": "string", "time": "int64", "click_id": "string"}
    places = {"impressions": {"topic": topic, "value": "arrow", "types": types},
              "click": {"topic": clicks}}  # fmt: skip
    whole = {**config(places), "kafka": {"servers": broker.servers}}
    del whole["learner"], whole["monitor"]
    result = headrace.replay(whole, tmp_path / "out")
    assert result.samples.to_table().column("click_id").to_pylist() == ["c"] * 100


def test_validate_and_windows(broker, tmp_path, logs, capsys):
    """Say what they say of JSON; a message may have all rows of a topic."""
    path = write_config(tmp_path, broker, as_arrow(broker, logs["clean"], 5_000))
    assert main(["validate", str(path)]) == 0
    said = capsys.readouterr().out
    assert "arrow" in said
    assert "request_id (string)" in said
    assert main(["windows", str(path)]) == 0
    said = capsys.readouterr().out
    path = write_config(tmp_path, broker, as_topics(broker, logs["clean"], 1))
    assert main(["windows", str(path)]) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"schema": "none.arrow"}, "impressions.schema: cannot be read (No such file or directory) "
         "(got 'none.arrow'); paths are relative to {folder}"),
        ({"schema": "bad.arrow"}, "impressions.schema: has no Arrow schema (got 'bad.arrow'); "
         "write pyarrow's schema.serialize() to it, or name a file of the stream format"),
        ({"schema": "e.arrow", "key": "requestid"}, "impressions.key: no such column (got "
         "'requestid'); did you mean request_id?"),
        ({"schema": "twice.arrow"}, "impressions.schema: has two columns a (got 'twice.arrow')"),
        ({"schema": "view.arrow"}, "impressions.schema: has a column a, and list_view<item: int8> "
         "is not read (got 'view.arrow'); leave it out of the schema"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_schema_is_said_before_anything_is_read(
    broker, tmp_path, capsys, keys, said
):
    """In one line, with exit code 2."""
    (tmp_path / "e.arrow").write_bytes(SCHEMAS["impressions"].serialize())
    (tmp_path / "bad.arrow").write_bytes(b"ARROW1")
    (tmp_path / "twice.arrow").write_bytes(pa.schema([("a", pa.int8())] * 2).serialize())
    view = pa.schema([("a", pa.list_view(pa.int8()))])
    (tmp_path / "view.arrow").write_bytes(view.serialize())
    topic = broker.create()
    places = {"impressions": {"topic": topic, "value": "arrow", "types": {}, **keys},
              "click": {"topic": topic}}  # fmt: skip
    path = write_config(tmp_path, broker, places)
    assert main(["validate", str(path)]) == 2
    assert capsys.readouterr().err == f"headrace: {path}: {said.format(folder=tmp_path)}\n"
