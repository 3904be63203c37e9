"""Generated traffic in topics of a real broker."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, TopicPartition

import headrace
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs.faults import TIMED, parse_fault
from headrace.pipelines.jobs.livetraffic import FAULTS, STREAMS, LiveTraffic, live_messages
from headrace.pipelines.kafka import producing
from tests.pipelines.outputs import contents

ROOT = Path(__file__).parents[3]
START = 1_700_000_000_000_000
LIVE = LiveTraffic(
    rate=60, impressions=20_000, seed=6, start=START, window=60_000_000, partitions=3,
    faults=frozenset({"disorder", "duplicates", "late", "orphans", "broken", "doubled-clicks"}),
)  # fmt: skip


def generate(broker, live=LIVE, **options):
    return headrace.generate_to_kafka(
        broker.servers, rate=live.rate, impressions=live.impressions, seed=live.seed,
        window=live.window, partitions=live.partitions,
        faults=[*live.faults, *map(str, live.timed)],
        **{"speed": math.inf, "start": live.start, **options},
    )  # fmt: skip


def read(broker, topic, partition):
    """Return the messages of a partition as (key, value, timestamp in seconds)."""
    end = broker.brokers().describe([topic]).topics[topic][partition][1]
    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": "oracle"})
    consumer.assign([TopicPartition(topic, partition, 0)])
    found = []
    while len(found) < end:
        for message in consumer.consume(end - len(found), 10):
            assert message.error() is None, message.error()
            assert message.partition() == partition
            stamp = message.timestamp()[1] / 1000
            found.append((message.key().decode(), message.value().decode(), stamp))
    consumer.close()
    return found


def generated(live, stream, partition):
    table = pa.concat_tables([messages.table for messages in live_messages(live)])
    return [
        (row["key"], row["value"])
        for row in table.to_pylist()
        if (row["stream"], row["partition"]) == (stream, partition)
    ]


@pytest.fixture(scope="module")
def produced(broker, tmp_path_factory):
    """Traffic with what goes wrong, produced as fast as possible, and its folder."""
    folder = tmp_path_factory.mktemp("produced")
    begun = time.time()
    done = generate(broker, prefix="produced-", out=folder)
    return folder, done, begun


def test_topics_have_the_messages_that_were_generated_in_their_order(broker, produced):
    """With the time of producing as their timestamp, which no retention deletes at once."""
    folder, done, begun = produced
    counts = []
    for number, stream in enumerate(STREAMS):
        found = [read(broker, f"produced-{stream}", p) for p in range(LIVE.partitions)]
        for partition, messages in enumerate(found):
            assert [m[:2] for m in messages] == generated(LIVE, number, partition)
            assert all(begun - 1 <= stamp <= time.time() + 1 for _, _, stamp in messages)
        counts.append(sum(map(len, found)))
    assert (done.impressions, done.clicks) == tuple(counts)
    assert done.complete
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["final"]
    assert [truth[stream] for stream in STREAMS] == counts
    assert truth["faults"].keys() == LIVE.faults


def test_topics_have_faults_with_a_time(broker, tmp_path):
    """Beside those without; the configuration knows the columns, and the truth the times."""
    timed = (parse_fault("os-null:3m:1m"), parse_fault("stop:1m:2m"))
    live = replace(LIVE, faults=frozenset({"broken"}), timed=timed)
    generate(broker, live, prefix="timed-", out=tmp_path / "log")
    for number, stream in enumerate(STREAMS):
        for partition in range(LIVE.partitions):
            found = read(broker, f"timed-{stream}", partition)
            assert [message[:2] for message in found] == generated(live, number, partition)
    truth = json.loads((tmp_path / "log" / "truth.json").read_text())
    assert truth["faults"].keys() == {"broken"}
    assert [fault["kind"] for fault in truth["timed_faults"]] == ["os-null", "stop"]
    config = str(tmp_path / "log" / "headrace.toml")
    assert main(["replay", config, "--out", str(tmp_path / "result"), "--quiet"]) == 0
    null = pq.read_table(tmp_path / "result" / "samples", columns=["os", "region"])
    assert null["os"].null_count > 1_000
    assert null["region"].null_count == 0


def test_a_replay_of_the_topics_equals_one_of_the_generated_records(produced, tmp_path):
    """By the configuration that was written; only the places of records have other names."""
    folder, done, _ = produced
    config = (folder / "headrace.toml").read_text()
    assert 'window = "1m"' in config
    assert main(["replay", str(folder / "headrace.toml"), "--out", str(tmp_path / "topics"),
                 "--quiet"]) == 0  # fmt: skip
    for number, stream in enumerate(STREAMS):
        for partition in range(LIVE.partitions):
            lines = [value + "\n" for _, value in generated(LIVE, number, partition)]
            (tmp_path / f"{stream}-{partition}.jsonl").write_text("".join(lines))
        config = config.replace(f'topic = "produced-{stream}"', f'path = "{stream}-*.jsonl"')
    (tmp_path / "files.toml").write_text(config[: config.index("[kafka]")])
    headrace.replay(tmp_path / "files.toml", tmp_path / "files")
    topics, files = contents(tmp_path / "topics"), contents(tmp_path / "files")
    assert samples(topics) == samples(files)
    assert len(samples(topics)) == 1
    outcomes = topics["summary.json"]["outcomes"]
    assert outcomes == files["summary.json"]["outcomes"]
    assert sum(outcomes["click"].values()) == done.clicks
    for stream, reasons in (("impressions", ("duplicate", "late", "invalid")),
                            ("click", ("duplicate", "late", "orphan"))):  # fmt: skip
        assert all(outcomes[stream][reason] > 0 for reason in reasons), outcomes[stream]


def samples(found):
    return {name: data for name, data in found.items() if name.startswith("samples/")}


def test_a_live_pace_gives_the_messages_of_any_other(broker, tmp_path):
    """Two seconds of event time, of which the clock takes one at double speed."""
    live = LiveTraffic(rate=200, impressions=400, seed=9, start=START, window=1_000_000)
    begun = time.monotonic()
    generate(broker, live, prefix="paced-", speed=2.0)
    assert time.monotonic() - begun > 0.9
    for number, stream in enumerate(STREAMS):
        for partition in range(live.partitions):
            messages = [m[:2] for m in read(broker, f"paced-{stream}", partition)]
            assert messages == generated(live, number, partition)


def test_a_full_queue_is_waited_for(broker, monkeypatch):
    """No message is lost and none comes twice."""
    monkeypatch.setitem(producing.PROPERTIES, "queue.buffering.max.messages", 100)
    live = LiveTraffic(rate=200, impressions=2_000, start=START, partitions=1)
    generate(broker, live, prefix="full-")
    assert [m[:2] for m in read(broker, "full-impressions", 0)] == generated(live, 0, 0)


def test_a_broker_that_is_killed_loses_and_doubles_nothing(broker):
    """Traffic goes on when it is back."""
    live = LiveTraffic(rate=2_000, impressions=40_000, start=START, partitions=1, window=10**6)
    running = threading.Thread(
        target=generate, args=(broker, live), kwargs={"prefix": "killed-", "speed": 4.0}
    )
    running.start()
    time.sleep(2)
    broker.kill()
    broker.start()
    running.join(60)
    assert not running.is_alive()
    assert [m[:2] for m in read(broker, "killed-impressions", 0)] == generated(live, 0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_endless_traffic_with_all_messages_acknowledged(broker, tmp_path, number):
    """The command ends well, and says how many were sent; the configuration closes no window."""
    prefix = f"endless-{number}-"
    command = [sys.executable, "-m", "headrace", "generate", "--to-kafka", broker.servers]
    options = ["--rate", "2000", "--prefix", prefix, "--out", str(tmp_path), "--window", "5s"]
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    while not (tmp_path / "truth.json").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    assert json.loads((tmp_path / "truth.json").read_text())["final"] is False
    time.sleep(1)
    process.send_signal(number)
    said, wrong = process.communicate(timeout=60)
    assert (process.returncode, wrong) == (0, "")
    counts = []
    for stream in STREAMS:
        bounds = broker.brokers().describe([prefix + stream]).topics[prefix + stream]
        counts.append(sum(end for _, end in bounds.values()))
    assert counts[0] > 100
    assert said.startswith(f"{counts[0]:,} impressions and {counts[1]:,} clicks sent, then")
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert [truth["final"], *(truth[stream] for stream in STREAMS)] == [True, *counts]
    assert 'end_of_log = "open"' in (tmp_path / "headrace.toml").read_text()


def one_line(capsys):
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said.strip()


def test_a_topic_with_other_partitions_is_refused_and_gets_nothing(broker, capsys):
    broker.create(2, "other-clicks")
    command = ["generate", "--to-kafka", broker.servers, "--prefix", "other-"]
    assert main([*command, "--impressions", "5"]) == 1
    assert one_line(capsys) == (
        "headrace: other-clicks: the topic has 2 partitions (asked for 4); use --partitions 2, or "
        "another --prefix"
    )
    assert broker.brokers().describe(["other-clicks"]).topics["other-clicks"][0] == (0, 0)


def test_a_refused_message_ends_the_run_in_one_line(broker, capsys):
    """Without waiting for messages that will never be acknowledged."""
    broker.create(1, "small-impressions", max_message_bytes=100)
    command = ["generate", "--to-kafka", broker.servers, "--prefix", "small-", "--speed", "max"]
    assert main([*command, "--partitions", "1", "--impressions", "500"]) == 1
    assert re.fullmatch(
        r"headrace: small-impressions: a message was refused \(.+\); check the brokers, the "
        r"topic's limits, and that the user may write", one_line(capsys),
    )  # fmt: skip


def test_a_broker_that_is_not_there_is_named_in_one_line(capsys):
    assert main(["generate", "--to-kafka", "127.0.0.1:1"]) == 1
    assert one_line(capsys).startswith("headrace: kafka: 127.0.0.1:1 cannot be reached; check")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"servers": "nowhere"}, "servers must be hosts with ports (got 'nowhere'); write such as "
         "localhost:9092"),
        ({"seed": -1}, "seed must be 0 or more (got -1); 1 is usual"),
        ({"out": "s3://bucket/log?region=eu-west-1"}, "out must be a folder of this machine (got "
         "'s3://bucket/log'); use another"),
        ({"rate": 0}, "rate must be 1 or more (got 0); 100 is usual"),
        ({"impressions": 0}, "impressions must be 1 or more (got 0); 100 is usual"),
        ({"speed": 0}, "speed must be greater than 0 (got 0); infinity does not wait"),
        ({"speed": math.nan}, "speed must be greater than 0 (got nan); infinity does not wait"),
        ({"window": "soon"}, "window must be a second or more (got 'soon'); write such as \"2m\""),
        ({"start": -1}, "start must lie in 1970 to 2098 (got -1); leave it out for now"),
        ({"prefix": "a/"}, "prefix must be the beginning of a topic's name (got 'a/'); use "
         "letters, digits, points, _ and -"),
        ({"faults": ["skewed"]}, f"faults has no such fault (got 'skewed'); there are "
         f"{', '.join(FAULTS)}, and with a time, as KIND:BEGIN, {', '.join(TIMED)}"),
        ({"faults": ["idle:2m"]}, f"faults has no such fault (got 'idle:2m'); there are "
         f"{', '.join(FAULTS)}, and with a time, as KIND:BEGIN, {', '.join(TIMED)}"),
        ({"faults": ["late", "stop"]}, "faults must have a beginning and may have a length (got "
         "'stop'); write KIND:BEGIN or KIND:BEGIN:LENGTH, such as \"stop:2d:2h\""),
        ({"faults": ["idle"], "partitions": 1}, "partitions must be 2 or more for the fault idle "
         "(got 1); it is of one partition alone"),
    ],
)  # fmt: skip
def test_an_argument_that_is_not_possible_is_named(options, said):
    """Before a broker is asked."""
    with pytest.raises(headrace.ArgumentError) as raised:
        headrace.generate_to_kafka(**{"servers": "127.0.0.1:1", **options})
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rate", "5"], "--out DIR is missing; or produce messages with --to-kafka SERVERS"),
        (["--out", "x", "--speed", "2"], "--speed has no effect without --to-kafka; leave it "
         "out"),
        (["--to-kafka", "127.0.0.1:1", "--clean"], "--clean has no effect with --to-kafka; leave "
         "it out"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_together_are_refused(capsys, options, said):
    assert main(["generate", *options]) == 2
    assert one_line(capsys) == f"headrace generate: {said}"


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["generate", "--to-kafka", "127.0.0.1:1", "--out", str(tmp_path)]) == 2
    assert "holds files, but no log of `headrace generate` (mine.txt)" in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_help_names_every_fault(capsys):
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    said = re.sub(r"-?\s+", "", capsys.readouterr().out)
    assert ",".join(FAULTS).replace("-", "") in said.replace("-", "")
