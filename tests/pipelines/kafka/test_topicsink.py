"""Topics as outputs: each row once, wherever the run or a broker is killed."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka.admin import NewPartitions

from headrace.pipelines.kafka.delivery import Delivery
from headrace.pipelines.kafka.topicsink import RowTopic, encode_arrow, encode_json
from headrace.schemas.errors import KafkaError
from headrace.schemas.records.events import FOREVER
from tests.pipelines.kafka import topicjobs
from tests.pipelines.kafka.reading import oracle
from tests.pipelines.kafka.topicjobs import (
    NEVER_S,
    NUMBERS,
    Job,
    letters_of,
    numbers_in,
    read_topic,
    rows_of,
    sink_of,
)

ROOT = Path(__file__).parents[3]
KINDS = ("rows", "batches", "letters")
PARTITIONS = 2


class Killed(BaseException):
    """Stands for the end of the process."""


class Stops:
    """Ends the run at one of its steps."""

    def __init__(self, at=None):
        self.reset(at)

    def reset(self, at=None):
        self.at, self.count = at, 0

    def __call__(self, name):
        if self.count == self.at:
            raise Killed(name)
        self.count += 1


class Stopping(Delivery):
    """A delivery that may end before and after each thing it asks of brokers."""

    def __init__(self, stop, *args, **keys):
        super().__init__(*args, every_s=NEVER_S, **keys)
        self.stop = stop

    def _connect(self):
        self.stop("connect")
        super()._connect()
        self.stop("connected")

    def _produce(self, messages):
        self.stop("produce")
        half = len(messages.values) // 2
        if half:
            super()._produce(messages.cut(0, half))
            self.producer.flush()
            self.stop("half produced")
        super()._produce(messages.cut(half, None))
        self.stop("produced")

    def _end(self):
        self.stop("end")
        self.producer.flush()
        self.stop("flushed")
        super()._end()
        self.stop("ended")

    def mark(self):
        position = super().mark()
        self.stop("marked")
        return position


def delivery(broker, topic, run="run", **keys):
    return Delivery(broker.brokers(), topic, run, **{"every_s": NEVER_S, **keys})


def shown(broker, topic, kind="rows"):
    """Return the numbers of the rows that a reader finds, after a look at headers and orders."""
    found = read_topic(broker.servers, topic, PARTITIONS)
    by_partition = numbers_in(kind, found)
    for partition, messages in found.items():
        noted = [int(header.rpartition(b"/")[2]) for *_, header in messages if header]
        assert noted == sorted(set(noted))
        assert not messages or messages[-1][-1]
        if kind == "rows":
            assert by_partition[partition] == sorted(by_partition[partition])
            assert all(
                key == b"k%d" % (json.loads(value)["x"] % 7) for _, key, value, _ in messages
            )
    numbers = sorted(itertools.chain(*by_partition.values()))
    assert len(set(numbers)) == len(numbers)
    return numbers


def kill_everywhere(broker, kind, every):
    """Kill a run at its steps, look at what a reader finds, and resume; return how many."""
    stop = Stops()

    def new_job(topic):
        return Job(kind, lambda: Stopping(stop, broker.brokers(), topic, "run"))

    def written(topic):
        found = read_topic(broker.servers, topic, PARTITIONS)
        return {number: [parts for _, *parts in messages] for number, messages in found.items()}

    topic = broker.create(PARTITIONS)
    new_job(topic).play(stop)
    assert shown(broker, topic, kind) == NUMBERS
    whole, steps = written(topic), stop.count
    for at in range(0, steps, every):
        topic = broker.create(PARTITIONS)
        job = new_job(topic)
        seen = []
        # Killed, killed again soon after it has resumed, and left alone.
        for then in (at, at % 5, None):
            stop.reset(then)
            try:
                job.play(stop)
            except Killed:
                now = shown(broker, topic, kind)
                assert set(seen) <= set(now)
                assert kind == "letters" or now == NUMBERS[: len(now)]
                seen = now
        assert shown(broker, topic, kind) == NUMBERS
        assert kind == "letters" or written(topic) == whole
    return steps


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_there_once_wherever_a_run_is_killed(broker, kind):
    """Twice in a row. Messages are those of an undisturbed run."""
    assert kill_everywhere(broker, kind, every=27) > 25


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_there_once_wherever_a_run_is_killed_at_every_step(broker, kind):
    assert kill_everywhere(broker, kind, every=1) > 25


def child(folder, broker, topic, kind):
    command = [sys.executable, "-m", "tests.pipelines.kafka.topicjobs", str(folder)]
    return subprocess.Popen(
        [*command, broker.servers, topic, kind], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def kill_children(broker, folder, kind, kills):
    """Kill a process again and again while it writes; the last one may finish."""
    topic = broker.create(PARTITIONS)
    chance = random.Random(kind)
    seen = []
    for _ in range(kills):
        run = child(folder, broker, topic, kind)
        assert run.stdout.readline() == "playing\n"
        # Connecting alone takes half a second.
        time.sleep(0.4 + chance.random())
        run.kill()
        run.wait()
        now = shown(broker, topic, kind)
        assert set(seen) <= set(now)
        seen = now
    run = child(folder, broker, topic, kind)
    assert run.wait(120) == 0
    assert shown(broker, topic, kind) == list(range(20_000))


def test_each_row_is_there_once_after_kill_9(broker, tmp_path):
    kill_children(broker, tmp_path, "rows", kills=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_there_once_after_many_kill_9(broker, tmp_path, kind):
    kill_children(broker, tmp_path, kind, kills=40)


def test_a_killed_broker_is_waited_for(broker):
    """Rows wait, and what it had not confirmed is written once."""
    topic = broker.create(PARTITIONS)
    sink = sink_of("rows", delivery(broker, topic))
    sink.append(rows_of(0, 10))
    mark = sink.commit()
    sink.append(rows_of(10, 20))
    sink.delivery.producer.flush()
    sink.append(rows_of(20, 30))
    broker.kill()
    again = threading.Timer(1.0, broker.start)
    again.start()
    sink.append(rows_of(30, 40))
    assert sink.commit().committed["rows"] == 40
    again.join()
    assert shown(broker, topic) == list(range(40))
    sink.delivery.abandon()
    resumed = sink_of("rows", delivery(broker, topic))
    resumed.resume(mark)
    resumed.append(rows_of(10, 50))
    resumed.close()
    assert shown(broker, topic) == list(range(50))


@pytest.mark.slow
def test_a_broker_that_is_away_for_longer_than_a_transaction_may_last_is_waited_for(broker):
    """It has ended the transaction by then, which is no fencing by another run."""
    topic = broker.create(PARTITIONS)
    short = {"transaction.timeout.ms": 3000}
    sink = sink_of("rows", Delivery(broker.brokers(**short), topic, "run", every_s=NEVER_S))
    sink.append(rows_of(0, 10))
    sink.delivery.producer.flush()
    time.sleep(20)  # brokers look every ten seconds
    sink.append(rows_of(10, 20))
    sink.delivery.flush()
    assert shown(broker, topic) == list(range(20))
    sink.append(rows_of(20, 30))
    sink.delivery.producer.flush()
    broker.kill()
    threading.Timer(15.0, broker.start).start()
    sink.close()
    assert shown(broker, topic) == list(range(30))


def test_a_transaction_that_brokers_have_ended_is_written_again(broker):
    """As if its time were over."""
    topic = broker.create(PARTITIONS)
    now = [0.0]
    sink = sink_of("rows", delivery(broker, topic, clock=lambda: now[0]))
    sink.append(rows_of(0, 10))
    sink.delivery.producer.flush()
    other = delivery(broker, topic)
    other.open()
    now[0] = 60.0
    sink.append(rows_of(10, 20))
    sink.close()
    assert shown(broker, topic) == list(range(20))


@pytest.mark.parametrize("between", ["transactions", "rows"])
def test_a_run_that_goes_on_beside_the_one_that_replaced_it_is_told(broker, between):
    """It writes nothing more, also if its rows come before those of the other."""
    topic = broker.create(PARTITIONS)
    old = sink_of("rows", delivery(broker, topic))
    old.append(rows_of(0, 10))
    mark = old.commit()
    if between == "rows":
        old.append(rows_of(10, 12))
        old.delivery.producer.flush()
    new = sink_of("rows", delivery(broker, topic))
    new.resume(mark)
    said = rf"^{topic}: another process has begun to write this output; stop one of them"

    def write_on():
        old.append(rows_of(12, 15))
        old.delivery.flush()

    for _ in range(2):
        with pytest.raises(KafkaError, match=said):
            write_on()
    new.append(rows_of(10, 20))
    new.close()
    assert shown(broker, topic) == list(range(20))


def test_rows_are_out_without_another_call(broker):
    """Within the time of a transaction, and what is appended later in another one."""
    topic = broker.create(PARTITIONS)
    sink = sink_of("rows", delivery(broker, topic, every_s=0.05))
    for begin in (0, 5):
        sink.append(rows_of(begin, begin + 5))
        until_s = time.monotonic() + 20
        while shown(broker, topic) != list(range(begin + 5)):
            assert time.monotonic() < until_s


def test_many_rows_end_a_transaction(broker):
    topic = broker.create(PARTITIONS)
    sink = sink_of("rows", delivery(broker, topic, most=10))
    sink.append(rows_of(0, 9))
    sink.append(rows_of(9, 12))
    sink.append(rows_of(12, 14))
    sink.delivery.producer.flush()
    assert shown(broker, topic) == list(range(12))


def test_a_call_that_failed_half_way_leaves_nothing(broker):
    """Whatever the reason; later calls fail too, and another run continues."""
    topic = broker.create(PARTITIONS)
    sink = sink_of("rows", delivery(broker, topic))
    sink.append(rows_of(0, 5))
    mark = sink.commit()
    producer, sent = sink.delivery.producer, itertools.count()

    class Failing:
        def produce(self, *args, **keys):
            if next(sent) == 3:
                raise MemoryError
            producer.produce(*args, **keys)

        def __getattr__(self, name):
            return getattr(producer, name)

    sink.delivery.producer = Failing()
    with pytest.raises(MemoryError):
        sink.append(rows_of(5, 15))
    for call in (sink.close, sink.commit):
        with pytest.raises(KafkaError, match=rf"^{topic}: cannot be written \(MemoryError\(\)\); "):
            call()
    assert shown(broker, topic) == list(range(5))
    resumed = sink_of("rows", delivery(broker, topic))
    resumed.resume(mark)
    resumed.append(rows_of(5, 20))
    resumed.close()
    assert shown(broker, topic) == list(range(20))


@pytest.mark.parametrize("there", ["another run", "no run"])
def test_a_topic_that_has_other_messages_is_refused(broker, there):
    """At the first start and later, and the run that writes it is left in peace."""
    topic = broker.create(PARTITIONS)
    writing = sink_of("rows", delivery(broker, topic, run="other"))
    if there == "another run":
        writing.append(rows_of(0, 3))
        writing.delivery.flush()
    else:
        broker.produce(topic, [b"x"])
    said = rf"^{topic}\[\d\]: the message at \d was not written by this run; a run needs a topic"
    for resumed in (False, True):
        sink = sink_of("rows", delivery(broker, topic))
        with pytest.raises(KafkaError, match=said):
            sink.resume(mark_of(broker, topic)) if resumed else sink.append(rows_of(0, 3))
    if there == "another run":
        writing.append(rows_of(3, 5))
        writing.close()
        assert shown(broker, topic) == list(range(5))


def mark_of(broker, topic):
    """Return the mark of a run that has written nothing."""
    cluster = broker.brokers().describe([topic])
    noted = {"rows": 0, "topic_id": cluster.ids[topic], "ends": {"0": 0, "1": 0}, "handed": 0}
    return topicjobs.Mark(noted, topicjobs.SCHEMA.empty_table())


def settled_mark(broker, sink):
    """Return a mark behind the marks of all transactions, which brokers write a little later."""
    topic, until_s = sink.delivery.topic, time.monotonic() + 20
    sink.delivery.flush()
    while broker.brokers().describe([topic]) != broker.brokers().describe([topic], committed=False):
        assert time.monotonic() < until_s
    return sink.commit()


def test_a_topic_that_lost_its_last_rows_is_refused(broker):
    """If they may have been written after the mark; before it they do not matter."""
    topic = broker.create(PARTITIONS)
    sink = sink_of("rows", delivery(broker, topic))
    sink.append(rows_of(0, 10))
    first = settled_mark(broker, sink)
    broker.delete_records(topic, first.committed["ends"]["0"])
    sink.append(rows_of(10, 20))
    second = settled_mark(broker, sink)
    sink.delivery.abandon()
    broker.delete_records(topic, second.committed["ends"]["0"])
    with pytest.raises(KafkaError, match=rf"^{topic}\[0\]: what was written after the checkpoint"):
        sink_of("rows", delivery(broker, topic)).resume(first)
    sink = sink_of("rows", delivery(broker, topic))
    sink.resume(second)
    sink.append(rows_of(20, 30))
    sink.close()
    assert set(range(20, 30)) <= set(shown(broker, topic))


def test_a_topic_of_which_all_was_deleted_is_empty(broker):
    """It may have been of others: a run that writes it for the first time begins at its end."""
    topic = broker.create(PARTITIONS)
    broker.produce(topic, [b"x"] * 5)
    broker.delete_records(topic, 5)
    sink = sink_of("rows", delivery(broker, topic))
    sink.append(rows_of(0, 5))
    sink.close()
    assert shown(broker, topic) == list(range(5))


@pytest.mark.slow
def test_a_deleted_topic_ends_the_run(broker):
    """Brokers that answer are not asked for ever."""
    topic = broker.create(PARTITIONS)
    sink = sink_of("rows", delivery(broker, topic))
    sink.append(rows_of(0, 5))
    sink.commit()
    broker.delete(topic)
    with pytest.raises(KafkaError, match=f"^{topic}: no such topic at {broker.servers}; create"):
        sink.commit()


def test_a_topic_that_was_created_again_is_refused(broker):
    """While the run goes on at its next mark, and when it resumes."""
    topic = broker.create(PARTITIONS)
    sink = sink_of("rows", delivery(broker, topic))
    sink.append(rows_of(0, 10))
    mark = sink.commit()
    broker.delete(topic)
    broker.create(PARTITIONS, topic)
    said = f"^{topic}: the topic was deleted and created again; begin anew$"
    with pytest.raises(KafkaError, match=said):
        sink.commit()
    with pytest.raises(KafkaError, match=said):
        sink_of("rows", delivery(broker, topic)).resume(mark)


def test_rows_that_differ_from_those_in_the_topic_are_refused(broker):
    """The last one is compared when it comes again."""
    topic = broker.create(PARTITIONS)
    sink = sink_of("rows", delivery(broker, topic))
    mark = sink.commit()
    sink.append(rows_of(0, 10))
    sink.delivery.flush()
    resumed = sink_of("rows", delivery(broker, topic))
    resumed.resume(mark)
    resumed.append(rows_of(0, 5))
    with pytest.raises(KafkaError, match=rf"^{topic}: row 10 differs from the one that this run"):
        resumed.append(rows_of(6, 16))


@pytest.mark.parametrize("kind", ["rows", "batches"])
def test_a_mark_may_be_taken_before_all_that_is_there_has_come_again(broker, kind):
    """What the topic has, and what the run has come to, are two figures then."""
    topic = broker.create(PARTITIONS)
    killed = sink_of(kind, delivery(broker, topic))
    mark = killed.commit()
    killed.append(rows_of(0, 20))
    killed.complete_until(20)
    killed.delivery.flush()
    for begin, end in ((0, 11), (11, 33)):  # killed again in between
        resumed = sink_of(kind, delivery(broker, topic))
        resumed.resume(mark)
        resumed.append(rows_of(begin, end))
        resumed.complete_until(end - 1)
        mark = resumed.commit()
    resumed.complete_until(FOREVER)
    resumed.close()
    assert shown(broker, topic, kind) == NUMBERS


def test_letters_of_an_older_checkpoint_are_refused(broker):
    topic = broker.create(PARTITIONS)
    sink = sink_of("letters", delivery(broker, topic))
    sink.append(letters_of(3, 1))
    old = sink.commit()
    sink.confirm()
    sink.append(letters_of(2))
    sink.commit()
    sink.confirm()
    with pytest.raises(KafkaError, match=rf"^{topic}: has rows of a later checkpoint than this"):
        sink_of("letters", delivery(broker, topic)).resume(old)
    assert shown(broker, topic, "letters") == [1, 2, 3]


def test_what_brokers_refuse_ends_the_run_with_a_hint(broker):
    """A row that is too large, here and there, and a topic that takes no such messages."""
    large = pa.table({"key": ["k"], "x": [1], "text": ["x" * 2_000_000]})
    hint = "set message.max.bytes in "

    def write(topic, rows, key=("key",), **keys):
        brokers = broker.brokers(**keys)
        sink = RowTopic(
            Delivery(brokers, topic, "run", every_s=NEVER_S), rows.schema, partial(encode_json, key)
        )
        sink.append(rows)
        sink.commit()

    topic = broker.create()
    with pytest.raises(KafkaError, match=rf"^{topic}: cannot be written \(.*; {hint}"):
        write(topic, large)
    with pytest.raises(KafkaError, match=rf"^{topic}: cannot be written \(.*; {hint}"):
        write(topic, large, **{"message.max.bytes": 5_000_000, "compression.type": "none"})
    topic = broker.create(cleanup_policy="compact")
    with pytest.raises(KafkaError, match=r"; a compacted topic takes no messages without a key$"):
        write(topic, large.drop(["text"]), ())
    topic = broker.create(max_message_bytes=5_000_000)
    write(topic, large, **{"message.max.bytes": 5_000_000})
    with pytest.raises(KafkaError, match=r"; set transaction.timeout.ms in \[kafka\] to at most"):
        write(broker.create(), large, **{"transaction.timeout.ms": 10_000_000})


def test_batches_are_halved_until_they_are_small():
    """Each is a stream of its own, and says how many rows are written with it."""
    rows = rows_of(0, 1000)
    whole = encode_arrow(rows, 7)
    assert whole.rows == [1007]
    assert pa.ipc.open_stream(whole.values[0]).read_all().equals(rows.drop(["__emit"]))
    halves = encode_arrow(rows, 7, len(whole.values[0]) - 1)
    assert halves.rows == [507, 1007]
    parts = [pa.ipc.open_stream(value).read_all() for value in halves.values]
    assert pa.concat_tables(parts).equals(rows.drop(["__emit"]))
    assert len(encode_arrow(rows, 0, 1).values) == 1000
    assert encode_arrow(rows.slice(0, 0), 0).values == []


def test_a_batch_is_a_function_of_its_rows_however_they_lie_in_memory():
    """Slices have others beside them, nulls may have any value below, and chunks any length."""
    count = 3_000
    draw = np.random.default_rng(3)
    null = draw.random(count) < 0.3
    text = [f"{n:x}" * (n % 4) for n in range(count)]
    lists = [[word] * (n % 3) for n, word in enumerate(text)]
    kinds = pa.DictionaryArray.from_arrays(
        pa.array(draw.integers(0, 2, count), pa.int8()), ["a", "b"]
    )
    below = {
        "text": pa.array(text, mask=null), "flag": pa.array(draw.random(count) < 0.5, mask=null),
        "small": pa.array(draw.integers(0, 99, count).astype(np.int8), mask=null),
        "number": pa.array(draw.random(count), mask=null), "kind": kinds,
        "lists": pa.array([None if at else of for at, of in zip(null, lists, strict=True)]),
        "sure": pa.array(draw.integers(0, 99, count)),
    }  # fmt: skip
    rows = pa.table(below)
    for begin, size in draw.integers((0, 1), (1_000, 700), (50, 2)).tolist():
        part = rows.slice(begin, size)
        alone = pa.concat_tables(
            pa.Table.from_pylist(some.to_pylist(), rows.schema.remove(4)).add_column(
                4, "kind", some.column("kind")
            )
            for some in (part.slice(0, size // 3), part.slice(size // 3))
        )  # fmt: skip
        assert alone.equals(part)
        assert encode_arrow(part, 0).values == encode_arrow(alone, 0).values


def test_messages_have_the_time_of_the_wall(broker):
    """Brokers forget producers by the times of their records."""
    topic = broker.create()
    before_ms = time.time() * 1000
    sink = sink_of("rows", delivery(broker, topic))
    sink.append(rows_of(0, 3))
    sink.close()
    times = [at for _, at, _ in oracle(broker, topic)]
    assert len(times) == 3
    assert all(before_ms - 1000 < at < time.time() * 1000 + 1000 for at in times)


def test_keys_stay_in_their_partition_when_partitions_are_added(broker):
    """Those of the first start are used for ever."""
    topic = broker.create(PARTITIONS)
    sink = sink_of("rows", delivery(broker, topic))
    sink.append(rows_of(0, 10))
    sink.commit()
    for added in broker.admin.create_partitions([NewPartitions(topic, 5)]).values():
        added.result(30)
    sink.append(rows_of(10, 20))
    mark = sink.commit()
    sink.delivery.abandon()
    resumed = sink_of("rows", delivery(broker, topic))
    resumed.resume(mark)
    resumed.append(rows_of(20, 60))
    resumed.close()
    assert shown(broker, topic) == list(range(60))
    assert not any(read_topic(broker.servers, topic, 5)[number] for number in (2, 3, 4))
