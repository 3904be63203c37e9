"""Watching a run: what is read, the terminal, and the page."""

from __future__ import annotations

import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from subprocess import PIPE
from urllib.request import urlopen

import pytest
from rich.console import Console

import headrace
from headrace.monitoring.figures import GuardScope
from headrace.monitoring.report.livepage import content_policy
from headrace.pipelines.app.cli import main
from headrace.pipelines.app.livepage import served
from headrace.pipelines.app.resolving import resolve
from headrace.pipelines.app.watching import watch
from headrace.pipelines.jobs import replay as replay_job
from headrace.pipelines.jobs import stream as job
from headrace.pipelines.jobs.watching import RunReader
from headrace.pipelines.run.liveplace import opened_live
from headrace.schemas.errors import ArgumentError, FolderError
from tests.monitoring.watched import HOSTILE, figures, sums
from tests.pipelines.browser import CHROMIUM, Browser
from tests.pipelines.growing import StandingFiles

ALL = ("", "")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Traffic of four hours, so that the guard has something to say."""
    folder = tmp_path_factory.mktemp("log")
    headrace.generate(folder, impressions=30_000, rate=3, window="10m", seed=5)
    path = folder / "headrace.toml"
    path.write_text(path.read_text() + '\n[guard]\nsettle = "30m"\n')
    return path


@contextmanager
def living(log, out, records):
    """A live run that has read some records of each file, and waits for more."""
    inputs, stopping = resolve(headrace.load_config(log)), threading.Event()

    def run():
        with opened_live(out) as place:
            job.stream(inputs, StandingFiles(inputs, records), place, stopping)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield stopping, thread
    finally:
        stopping.set()
        thread.join()


def waited(read, is_enough, seconds=60):
    """Return what is read as soon as it is enough."""
    until = time.monotonic() + seconds
    while not is_enough(found := read()):
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def figures_of(reader):
    """Return where a run stands if it has figures, else None."""
    with suppress(FolderError):  # before it holds the lock
        seen = reader.read()
        return seen if seen.figures is not None else None


def put(out, of, state="stopped", rate=64.0):
    """Write the status of a run that is not there any more."""
    folder = out / ".headrace" / "live"
    folder.mkdir(parents=True, exist_ok=True)
    status = {
        "state": state, "written": "2026-01-01T12:00:01+00:00", "events_per_s": rate, "figures": of,
    }  # fmt: skip
    (folder / "status.new").write_text(json.dumps(status))
    (folder / "status.new").replace(folder / "status.json")
    return out


def events_of(answer):
    """Yield the events of an open stream: the sections of the page."""
    lines = []
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if line.startswith("data: "):
            lines.append(line.removeprefix("data: "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []


def test_a_live_run_is_watched_by_events_and_ends_with_its_state(log, tmp_path):
    """Two events while it goes on, one more when it is stopped; figures are those of its status."""
    with living(log, tmp_path / "out", 15_000) as (stopping, thread):
        reader = RunReader(tmp_path / "out")
        seen = waited(lambda: figures_of(reader), lambda of: of and of.figures["samples"] > 3_000)
        assert (seen.state, seen.goes_on) == ("running", True)
        assert seen.figures["held_back_by"] is not None
        with served(reader, "out", 0, "127.0.0.1") as (contents, address):
            refreshing = threading.Event()
            looking = threading.Thread(target=look, args=(contents, refreshing))
            looking.start()
            try:
                with urlopen(address + "events", timeout=30) as answer:
                    events = events_of(answer)
                    first, second = next(events), next(events)
                    assert first != second
                    for event in (first, second):
                        assert "The run goes on." in event
                        assert "click: calibration on" in re.sub("<.*?>", "", event)
                    stopping.set()
                    assert any("The run was stopped" in event for event in events)
            finally:
                refreshing.set()
                looking.join()
        thread.join()
    last = RunReader(tmp_path / "out").read()
    assert (last.state, last.goes_on, last.events_per_s) == ("stopped", False, None)
    assert last.figures["guard"][0]["slice"] == ""
    assert last.figures["guard"][0]["positives"] > 0


def look(contents, stop):
    while not stop.wait(0.1):
        contents.refresh()


def test_decisions_of_the_guard_are_in_the_figures_of_the_live_run_that_goes_on(log, tmp_path):
    """Also those from before it was stopped. Those of a replay are in its result, and the same."""
    with living(log, tmp_path / "live", 27_000):
        reader = RunReader(tmp_path / "live")
        waited(lambda: figures_of(reader), lambda of: of and of.figures["decisions"])
    stopped = reader.read()
    assert stopped.state == "stopped"
    with living(log, tmp_path / "live", 1 << 40) as (_, thread):
        thread.join()
    live = RunReader(tmp_path / "live").read()
    assert live.state == "ended"
    headrace.replay(log, tmp_path / "out")
    result = RunReader(tmp_path / "out").read()
    assert result.state == "ended"
    assert [of["event"] for of in stopped.figures["decisions"]] == ["armed", "lead-armed"]
    assert stopped.figures["samples"] < live.figures["samples"]
    for name in ("decisions", "guard", "held", "outcomes", "samples", "window"):
        assert result.figures[name] == live.figures[name], name
    for one, other in zip(result.figures["predictions"], live.figures["predictions"], strict=True):
        assert one["totals"]["slice"] == other["totals"]["slice"]
        for name in ("samples", "positives", "p_sum", "loss"):
            assert one["totals"][name] == pytest.approx(other["totals"][name])
        assert one["window"]["samples"] == other["window"]["samples"]


def test_a_replay_is_watched_while_it_runs(log, tmp_path, monkeypatch):
    """It writes where it stands between two bundles, and nothing of that is in its result."""
    reader, seen = RunReader(tmp_path / "out"), []

    def looking(whole):
        def looked(*arguments):
            seen.append(reader.read())
            return whole(*arguments)

        return looked

    for name in ("run_graph", "sort_letters"):
        monkeypatch.setattr(replay_job, name, looking(getattr(replay_job, name)))
    headrace.replay(log, tmp_path / "out")
    assert [of.state for of in seen] == ["starting", "running"]
    result = reader.read()
    assert result.state == "ended"
    for name in ("events", "samples", "outcomes", "guard", "decisions"):
        assert result.figures[name] == seen[1].figures[name], name
    assert not (tmp_path / "out" / ".headrace").exists()


@pytest.mark.parametrize("leaves", [True, False])
def test_a_replay_that_fails_is_seen_to(log, tmp_path, monkeypatch, leaves):
    """Also if it leaves nothing, because it had no checkpoint."""
    reader = RunReader(tmp_path / "out")
    config = headrace.load_config(log)
    if leaves:
        replay = config.replay.model_copy(update={"checkpoint": 0})
        config = config.model_copy(update={"replay": replay})

    def failing(*_):
        assert reader.read().state == "running"
        raise headrace.HeadraceError("no")

    monkeypatch.setattr(replay_job, "sort_letters", failing)
    with pytest.raises(headrace.HeadraceError):
        headrace.replay(config, tmp_path / "out")
    assert reader.read().state == "failed"
    assert reader.read().figures["events"] > 0
    if not leaves:
        with pytest.raises(FolderError):
            RunReader(tmp_path / "out").read()


def test_a_run_that_says_it_goes_on_but_holds_no_lock_was_killed(tmp_path):
    """Its last figures are there."""
    seen = RunReader(put(tmp_path, figures(), "running")).read()
    assert (seen.state, seen.events_per_s, seen.figures["events"]) == ("killed", None, 2_000)


def test_a_status_is_read_again_only_when_it_has_changed(tmp_path):
    """However many ask."""
    reader = RunReader(put(tmp_path, figures()))
    first = reader.read()
    assert all(reader.read() is first for _ in range(5))
    put(tmp_path, figures(events=2_001))
    assert reader.read().figures["events"] == 2_001


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda out: out.mkdir(), "has no run to watch"),
        (lambda out: put(out, None) and (out / ".headrace/live/status.json").write_text("{"),
         "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_watched_is_one_line(tmp_path, capsys, prepare, said):
    """With a hint."""
    prepare(tmp_path / "out")
    assert main(["watch", str(tmp_path / "out"), "--once"]) == 2
    found = capsys.readouterr().err
    assert said in found
    assert found.count("\n") == 1


@pytest.mark.parametrize(
    ("state", "code"), [("stopped", 0), ("ended", 0), ("failed", 1), ("running", 1)]
)
def test_lines_for_scripts_say_how_the_run_ended(tmp_path, capsys, state, code):
    """The exit code too; one that claims to run without a lock was killed."""
    out = put(
        tmp_path, figures({ALL: sums(1000, 100, 80), ("app", "a b"): sums(500, 90, 40)}), state
    )
    assert main(["watch", str(out)]) == code
    said = "killed" if state == "running" else state
    assert capsys.readouterr().out == (
        f"time=2026-01-01T12:00:01+00:00 state={said} learner=ctr label=click samples=1000 "
        "since_k=100 since_p=80 since_ratio=1.25 since_loss=0.25 k=100 p=80 ratio=1.25 loss=0.25 "
        'guard=watching worst="app=a b 2.250" behind_s=60 lag=12\n'
    )


def test_a_run_without_figures_is_a_line_too(tmp_path, capsys):
    """It may have stopped before its first."""
    assert main(["watch", str(put(tmp_path, None)), "--once"]) == 0
    assert capsys.readouterr().out == "time=2026-01-01T12:00:01+00:00 state=stopped\n"


def test_once_and_a_port_do_not_go_together(tmp_path, capsys):
    """A page stays."""
    assert main(["watch", str(put(tmp_path, None)), "--once", "--port", "8080"]) == 2
    assert "--once" in capsys.readouterr().err


class Script:
    """A reader of a run whose status changes at every look."""

    def __init__(self, out, *statuses):
        self.reader, self.out, self.left = RunReader(out), out, list(statuses)

    def read(self):
        if self.left:
            put(self.out, *self.left.pop(0))
        return self.reader.read()


def test_a_line_is_about_the_samples_since_the_one_before(tmp_path, capsys, monkeypatch):
    """A line comes when samples have doubled, and at the end; not for every status."""
    monkeypatch.setattr("headrace.pipelines.jobs.watching.is_held", lambda place: True)
    runs = [
        (figures({ALL: sums(n, n // 10, n / 10 + extra)}), state)
        for n, extra, state in ((100, 0, "running"), (150, 0, "running"), (300, 20, "running"),
                                (400, 20, "stopped"))
    ]  # fmt: skip
    assert watch(Script(tmp_path, *runs), sleep=lambda s: None).state == "stopped"
    lines = capsys.readouterr().out.splitlines()
    figure = r"samples=(\d+) since_k=(\S+) since_p=(\S+) .* k=(\S+) p=(\S+)"
    found = [re.search(figure, line).groups() for line in lines]
    assert found == [
        ("100", "10", "10", "10", "10"), ("300", "20", "40", "30", "50"),
        ("400", "10", "10", "40", "60"),
    ]  # fmt: skip


def test_the_table_in_a_terminal_is_drawn_in_place_and_shows_nothing_of_a_log_as_it_is(
    tmp_path, monkeypatch
):
    """No escape sequence of a value reaches the terminal, and no markup."""
    monkeypatch.setattr("headrace.pipelines.jobs.watching.is_held", lambda place: True)
    of = figures(
        {ALL: sums(1000, 100, 80), ("app", "[red]" + HOSTILE): sums(500, 90, 40)},
        guard=(GuardScope("click", "", "", "watching", 30, 31.0),
               GuardScope("click", "app", "b", "warned", 30, 31.0)),
        held_back_by=HOSTILE,
    )  # fmt: skip
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system=None, width=200, height=40
    )
    watch(Script(tmp_path, (of, "running"), (of, "stopped")), sleep=lambda s: None, console=console)
    text = console.file.getvalue()
    assert "watching, 1 warned" in text
    assert "100/80" in text.replace(".0", "")
    assert "[red]<img src=x" in text
    assert r"\x1b[31m\u202e" in text
    assert "\x1b[31m" not in text
    assert "stopped (2026-01-01T12:00:01+00:00): 2,000 events" in text


def test_ctrl_c_leaves_the_run_alone_and_says_nothing(tmp_path):
    """It is no failure."""
    out = put(tmp_path, figures())
    command = [sys.executable, "-m", "headrace", "watch", str(out), "--port", str(free_port())]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
        assert "Ctrl-C stops" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=30)
    assert (process.returncode, complained) == (0, "")
    # The signal may come while it writes.
    assert "headrace: the run: stopped; the page stays until Ctrl-C\n".startswith(said)


def test_lines_that_nobody_reads_any_more_end_it_quietly(tmp_path):
    """As after ``head -1``."""
    with opened_live(tmp_path) as place:
        place.partial.mkdir(parents=True, exist_ok=True)
        put(tmp_path, figures(), "running")
        command = [sys.executable, "-m", "headrace", "watch", str(tmp_path)]
        with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
            assert " state=running " in process.stdout.readline()
            process.stdout.close()
            put(tmp_path, figures({ALL: sums(9_000, 900, 900)}), "running")
            assert process.wait(60) == 0
            assert process.stderr.read() == ""


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture
def page(tmp_path):
    """The page of a run that is not there any more, its contents and port."""
    reader = RunReader(
        put(tmp_path, figures({ALL: sums(9, 1, 1), ("app", HOSTILE): sums(9, 1, 1)}))
    )
    with served(reader, "out", 0, "127.0.0.1") as (contents, address):
        yield contents, int(address.rsplit(":", 1)[1].rstrip("/"))


def asked(port, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer


def test_the_page_is_whole_without_a_script_and_may_load_nothing(page):
    """Its policy is that of the page, and no other site may read it."""
    status, headers, answer = asked(page[1])
    text = answer.read().decode()
    assert status == 200
    assert headers["Content-Security-Policy"] == content_policy()
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not any(name.startswith("Access-Control") for name in headers)
    assert "The run was stopped" in text
    assert "<img" not in text


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:1", 200), ("localhost", 200), ("LOCALHOST:80", 200), ("[::1]:80", 200),
     ("evil.example", 421), ("evil.example:80", 421), ("127.0.0.1.evil.example", 421),
     ("localhost.evil.example", 421), ("", 421)],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/events"])
def test_a_name_that_another_site_may_point_at_this_machine_is_refused(page, host, status, path):
    """Also for the events."""
    assert asked(page[1], path, Host=host)[0] == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(page, method):
    """There is no such method, and nothing else to ask for."""
    assert asked(page[1], "/", method)[0] == 501
    assert asked(page[1], "/../status.json")[0] == 404


def test_clients_that_go_leave_no_thread(page, monkeypatch):
    """Neither those that close, nor those that never ask for anything."""
    _, port = page
    monkeypatch.setattr("headrace.pipelines.app.livepage._ALIVE_EVERY_S", 0.05)
    monkeypatch.setattr("headrace.pipelines.app.livepage._Handler.timeout", 2.0)
    before = threading.active_count()
    streams = [asked(port, "/events")[2] for _ in range(10)]
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
    waited(threading.active_count, lambda count: count >= before + 20)
    for answer in streams:
        answer.close()
    waited(threading.active_count, lambda count: count <= before, seconds=20)
    for connection in silent:
        connection.close()


def test_there_is_room_for_so_many_clients_and_one_more_is_told(page):
    """Who goes makes room."""
    open_ = [asked(page[1], "/events")[2] for _ in range(64)]
    assert asked(page[1])[0] == 503
    for answer in open_:
        answer.close()
    page[0].close()
    waited(lambda: asked(page[1])[0], lambda status: status == 200, seconds=20)


def test_a_client_that_takes_nothing_is_given_up(page, monkeypatch):
    """It holds up nobody meanwhile."""
    contents, port = page
    monkeypatch.setattr("headrace.pipelines.app.livepage._Handler.timeout", 0.3)
    before = threading.active_count()
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", port))
    slow.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    waited(threading.active_count, lambda count: count > before)
    for _ in range(60):
        with contents.changed:
            contents.text, contents.version = "x" * 1_000_000, contents.version + 1
            contents.changed.notify_all()
        time.sleep(0.02)
        if threading.active_count() <= before:
            break
    waited(threading.active_count, lambda count: count <= before, seconds=20)
    slow.close()


def test_a_port_in_use_is_one_line(tmp_path, page):
    """Before anything is served."""
    reader = RunReader(put(tmp_path, figures()))
    with (
        pytest.raises(ArgumentError, match=r"--port cannot be listened on at 127\.0\.0\.1"),
        served(reader, "out", page[1], "127.0.0.1"),
    ):
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to show the page with")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_fills_the_page_as_events_come_and_complains_of_nothing(tmp_path, width):
    """Nothing is wider than the window, and what a value pretends to be is not run."""
    values = {("app", f"{HOSTILE} {i}" + "w" * 200): sums(900, 90, 60 + i) for i in range(20)}
    of = figures({ALL: sums(1000, 100, 80), **values})
    out = put(tmp_path / "run", of)
    reader = RunReader(out)
    with (
        served(reader, "out", 0, "127.0.0.1") as (contents, address),
        Browser(tmp_path / "profile", width) as browser,
    ):
        browser.open(address)
        browser.until("document.querySelectorAll('.slices tr').length > 20")
        put(out, figures({ALL: sums(77_777, 100, 80), **values}, events=55_555))
        contents.refresh()
        browser.until("document.body.textContent.includes('77,777')")
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value("innerWidth") == width
        assert browser.value("document.querySelectorAll('img, main script').length") == 0
        assert browser.complaints == []
