"""A real Prometheus for tests, on a free port of this machine."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class Prometheus:
    """Asks a server."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def _get(self, path, **parameters):
        with urlopen(f"{self.url}{path}?{urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)

    def ready(self):
        try:
            with urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except (URLError, ConnectionError):
            return False

    def query(self, expression, at=None):
        """Return the labels and the value of each series, at a time in seconds."""
        time_ = {} if at is None else {"time": at}
        found = self._get("/api/v1/query", query=expression, **time_)
        return [(one["metric"], float(one["value"][1])) for one in found["data"]["result"]]

    def query_range(self, expression, begin, end, step):
        """Return the labels and the (time, value) of each series."""
        found = self._get("/api/v1/query_range", query=expression, start=begin, end=end, step=step)
        return [
            (one["metric"], [(at, float(value)) for at, value in one["values"]])
            for one in found["data"]["result"]
        ]

    def rules(self):
        return self._get("/api/v1/rules")["data"]["groups"]


def until(condition, seconds=30.0):
    """Wait until a condition holds: a server has its own pace."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def serving(command, port):
    """Run a command that starts a server on a port, and stop it after the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Prometheus(port)
    try:
        until(lambda: server.ready() or process.poll() is not None)
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        yield server
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def scraping(folder, target, rules=None):
    """Start a server that scrapes a port of this machine twice a second."""
    named = "" if rules is None else f"rule_files: [{json.dumps(str(rules))}]\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 500ms, evaluation_interval: 1s}\n"
        f"{named}scrape_configs:\n"
        "  - job_name: headrace\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
    )
    port = free_port()
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with serving(command, port) as server:
        yield server
