"""Generated traffic produced to topics of Kafka, as `headrace generate --to-kafka` does."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from headrace.pipelines.app.api import check_log_folder, check_seed, window_of
from headrace.pipelines.jobs.faults import TIMED, in_order, parse_fault
from headrace.pipelines.jobs.generate import WINDOW, configuration
from headrace.pipelines.jobs.livetraffic import FAULTS, STREAMS, LiveTraffic, Sent, live_messages
from headrace.pipelines.jobs.pacing import send_paced
from headrace.pipelines.run.disk import write_text, writing
from headrace.pipelines.run.interrupts import Stop, Stopping
from headrace.pipelines.run.remote import Address, place_of
from headrace.schemas.config.durations import DAY
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.errors import ArgumentError, HeadraceError

_OF_ONE_PARTITION = ("skew", "idle")
_LAST_START = 129 * 365 * DAY
_TYPES = (
    {
        "request_id": "string", "time": "int64", "device": "string", "os": "string",
        "site": "string", "ad": "int64", "campaign": "int64", "position": "int64",
        "hour": "int64", "price": "float64",
    },
    {"request_id": "string", "click_id": "string", "time": "int64", "value": "float64"},
)  # fmt: skip
_TYPES_OF_REGIONS = {"region": "string", "app_version": "string"}


@dataclass(frozen=True)
class Produced:
    """What was produced; brokers have acknowledged all of it.

    Parameters
    ----------
    impressions, clicks
        How many messages each topic got.
    complete
        Whether this is all that was asked for; False if it was stopped before.
    """

    impressions: int
    clicks: int
    complete: bool


def generate_to_kafka(
    servers: str,
    *,
    rate: int = 100,
    impressions: int | None = None,
    seed: int = 1,
    window: str | int = WINDOW,
    faults: Iterable[str] = (),
    partitions: int = 4,
    prefix: str = "",
    speed: float = 1.0,
    start: int | None = None,
    out: str | Path | None = None,
    stop: Stopping | None = None,
) -> Produced:
    """Generate traffic and produce it to the topics ``impressions`` and ``clicks``, live.

    Topics are created if they are missing. Messages are JSON objects with the request id as
    key, which is in the same partition of both topics. With equal arguments, `start` among
    them, each partition gets the same messages in the same order, whatever the pace.

    Parameters
    ----------
    servers
        Brokers with ports, such as ``localhost:9092``.
    rate
        Impressions per second of event time.
    impressions
        How many impressions before faults; None for no end.
    seed
        Equal seeds give equal messages.
    window
        Clicks come within so much after their impression: a duration such as ``"2m"``, or
        microseconds. Delays are in proportion to it.
    faults
        Names in `headrace.pipelines.jobs.livetraffic.FAULTS`, or ``KIND:BEGIN:LENGTH`` or
        ``KIND:BEGIN`` with a kind in `headrace.pipelines.jobs.faults.TIMED` and times since the
        first event time. With one of these impressions have a region and an app version.
    partitions
        Of each topic.
    prefix
        What the names of topics begin with.
    speed
        How much faster event time goes than the clock; infinity does not wait at all.
        Unless it is 1, event times do not stay those of the clock.
    start
        The event time to begin with, microseconds UTC; by default it is now.
    out
        A folder for ``headrace.toml``, which reads these topics, and ``truth.json``.
    stop
        Set, from a signal or another thread, to end before.

    Raises
    ------
    ArgumentError
        If an argument is not possible.
    FolderError
        If `out` holds anything but an earlier log.
    KafkaError
        If no broker can be reached, a topic has another number of partitions, or a message
        is refused.
    """
    check_seed(seed)
    given = list(faults)
    timed = [name for name in given if name.partition(":")[0] in TIMED]
    live = LiveTraffic(
        rate=_positive("rate", rate),
        impressions=None if impressions is None else _positive("impressions", impressions),
        seed=seed,
        start=_checked_start(time.time_ns() // 1000 if start is None else start),
        window=window_of(window),
        partitions=_positive("partitions", partitions),
        faults=_checked_faults((name for name in given if name not in timed), partitions),
        timed=in_order(map(parse_fault, timed)),
    )
    if not speed > 0:
        raise ArgumentError("speed", speed, "must be greater than 0", "infinity does not wait")
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,200}", prefix):
        hint = "use letters, digits, points, _ and -"
        raise ArgumentError("prefix", prefix, "must be the beginning of a topic's name", hint)
    try:
        kafka = KafkaConfig.model_validate({"servers": servers})
    except ValidationError:
        fact = "must be hosts with ports"
        raise ArgumentError("servers", servers, fact, "write such as localhost:9092") from None
    topics = [f"{prefix}{stream}" for stream in STREAMS]
    folder = None if out is None else _checked_folder(out)
    return _produce(live, kafka, topics, speed, folder, Stop() if stop is None else stop)


def _checked_folder(out: str | Path) -> Path:
    folder = place_of(out)
    if isinstance(folder, Address):
        raise ArgumentError("out", str(folder), "must be a folder of this machine", "use another")
    check_log_folder(folder)
    return folder


def _positive(name: str, number: int) -> int:
    if number < 1:
        raise ArgumentError(name, number, "must be 1 or more", "100 is usual")
    return number


def _checked_start(start: int) -> int:
    if not 0 <= start < _LAST_START:
        raise ArgumentError("start", start, "must lie in 1970 to 2098", "leave it out for now")
    return start


def _checked_faults(faults: Iterable[str], partitions: int) -> frozenset[str]:
    chosen = frozenset(faults)
    for name in sorted(chosen):
        if name not in FAULTS:
            names = f"{', '.join(FAULTS)}, and with a time, as KIND:BEGIN, {', '.join(TIMED)}"
            raise ArgumentError("faults", name, "has no such fault", f"there are {names}")
        if name in _OF_ONE_PARTITION and partitions < 2:
            fact = f"must be 2 or more for the fault {name}"
            raise ArgumentError("partitions", partitions, fact, "it is of one partition alone")
    return chosen


def _produce(
    live: LiveTraffic,
    kafka: KafkaConfig,
    topics: Sequence[str],
    speed: float,
    folder: Path | None,
    stop: Stopping,
) -> Produced:
    try:
        from headrace.pipelines.kafka.producing import TopicOutlet, create_topics
        from headrace.pipelines.kafka.topics import Brokers
    except ImportError as error:
        why = f"needs {error.name}, which is not installed; pip install 'headrace[kafka]'"
        raise HeadraceError(f"producing to Kafka {why}") from error
    brokers = Brokers(kafka, "generate")
    create_topics(brokers, topics, live.partitions)
    finite = live.impressions is not None
    if folder is not None:
        _write(folder, _truth(live, None), _config(live, kafka, topics, finite))
    outlet = TopicOutlet(brokers, topics)
    sent = send_paced(live_messages(live), outlet, live.start, speed, stop, time.monotonic)
    outlet.close()
    if folder is not None:
        _write(folder, _truth(live, sent), _config(live, kafka, topics, finite and sent.complete))
    impressions, clicks = sent.streams.tolist()
    return Produced(impressions, clicks, sent.complete)


def _write(folder: Path, truth: dict[str, object], config: str) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(truth, indent=2) + "\n"
        write_text(folder / "truth.json", text)
        write_text(folder / "headrace.toml", config)


def _truth(live: LiveTraffic, sent: Sent | None) -> dict[str, object]:
    """Return what is known of the messages, once all are sent."""
    figures = {} if sent is None else sent.as_json()
    timed = [fault.between(live.start) for fault in live.timed]
    truth = {"final": sent is not None, "seed": live.seed, "start": live.start, **figures}
    return truth | ({"timed_faults": timed} if timed else {})


def _config(live: LiveTraffic, kafka: KafkaConfig, topics: Sequence[str], closed: bool) -> str:
    streams = []
    shown, clicked = _TYPES
    regions = bool(live.timed)
    for topic, types in zip(
        topics, (shown | _TYPES_OF_REGIONS if regions else shown, clicked), strict=True
    ):
        columns = ", ".join(f'{name} = "{kind}"' for name, kind in types.items())
        streams.append(f'topic = "{topic}"\ntypes = {{ {columns} }}')
    end_of_log = 'end_of_log = "close"  # every click of these impressions comes'
    if not closed:
        end_of_log = 'end_of_log = "open"'
    servers = ", ".join(f'"{server}"' for server in kafka.servers)
    text = configuration(streams[0], streams[1], live.window, end_of_log, regions=regions)
    return f"{text}\n[kafka]\nservers = [{servers}]\n"
