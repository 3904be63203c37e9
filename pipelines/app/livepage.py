"""The page of a run over HTTP: read only, for this machine, updated by server-sent events.

No request changes anything, so there is no token. What a page of another site could still do is
read, by a name of its own that it points at this machine: so only requests to an address, to
``localhost`` or to the host that was asked for are answered.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from headrace.monitoring.report.livepage import content_policy, render_content, render_watch
from headrace.pipelines.app.shown import say
from headrace.pipelines.jobs.watching import RunReader, Seen
from headrace.schemas.errors import ArgumentError, FolderError

_EVERY_S = 0.5
_ALIVE_EVERY_S = 10.0
_PATIENCE_S = 10.0
"""A client that takes nothing for so long, or asks for nothing, is given up."""
_MOST_CONNECTIONS = 64
_POINTS = 300


class Contents:
    """The parts of the page, drawn once for all who look.

    Parameters
    ----------
    reader
        Reads where the run stands.
    """

    def __init__(self, reader: RunReader) -> None:
        self.changed = threading.Condition()
        self.reader, self.version, self.closed = reader, 0, False
        self.rates: deque[tuple[float, float]] = deque(maxlen=_POINTS)
        self.seen = reader.read()
        self.text = self._draw()

    def _draw(self) -> str:
        seen = self.seen
        if seen.figures is not None and seen.events_per_s is not None:
            self.rates.append((seen.figures["published_s"], seen.events_per_s))
        rates = tuple(self.rates)
        return render_content(seen.state, seen.written, seen.events_per_s, seen.figures, rates)

    def refresh(self) -> Seen:
        """Look for what is new, and wake those who wait for it."""
        # A folder that cannot be read for a while leaves what was read before.
        with contextlib.suppress(FolderError):
            seen = self.reader.read()
            if seen is not self.seen:
                self.seen = seen
                text = self._draw()
                with self.changed:
                    self.text, self.version = text, self.version + 1
                    self.changed.notify_all()
        return self.seen

    def newer(self, version: int) -> tuple[int, str] | None:
        """Wait for a newer text than that of `version`; None if there is none for a while."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self.version != version, _ALIVE_EVERY_S)
            return (self.version, self.text) if self.version != version else None

    def close(self) -> None:
        """Let nobody wait any more."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    """Answers ``/``, the page, and ``/events``, its parts as they change; nothing else."""

    timeout = _PATIENCE_S
    server_version, sys_version = "headrace", ""

    def __init__(self, *arguments: Any, contents: Contents, title: str, host: str) -> None:
        self.contents, self.title, self.host = contents, title, host
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer, and give up a client that has gone."""
        with contextlib.suppress(OSError):
            if not self._is_meant():
                self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "Ask for an address or localhost")
            elif self.path == "/":
                page = render_watch(self.title, self.contents.text)
                self._begin("text/html; charset=utf-8")
                self.wfile.write(page.encode())
            elif self.path == "/events":
                self._begin("text/event-stream; charset=utf-8")
                self._stream()
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

    def _is_meant(self) -> bool:
        """Return whether the request names this machine by what no other site can point at it."""
        name: str = self.headers.get("Host", "")
        name = name[1 : name.find("]")] if name.startswith("[") else name.rsplit(":", 1)[0]
        if name.lower() in ("localhost", self.host.lower()):
            return True
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return False

    def _begin(self, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in (
            ("Content-Type", kind), ("Cache-Control", "no-store"),
            ("Content-Security-Policy", content_policy()), ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"), ("Cross-Origin-Resource-Policy", "same-origin"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()

    def _stream(self) -> None:
        version = -1
        while not self.contents.closed:
            found = self.contents.newer(version)
            if found is None:
                self.wfile.write(b": still here\n\n")  # else nobody notices who has gone
                continue
            version, text = found
            lines = "".join(f"data: {line}\n" for line in text.split("\n"))
            self.wfile.write(f"{lines}\n".encode())

    def log_message(self, *_: Any) -> None:
        """Print nothing: the terminal is for who started this."""


class _Server(ThreadingHTTPServer):
    """A thread for each connection, of which there are not too many."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self.room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking for the name of this machine, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()[:2]
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; turn away whom there is no room for."""
        if self.room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            with contextlib.suppress(OSError):
                request.setblocking(False)
                request.send(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n")
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Make room at the end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone."""


@contextlib.contextmanager
def served(reader: RunReader, title: str, port: int, host: str) -> Iterator[tuple[Contents, str]]:
    """Serve the page of a run while the block runs; yield its contents and its address.

    Parameters
    ----------
    reader, title
        The run, and what it is called.
    port, host
        Where to listen; port 0 is any that is free.

    Raises
    ------
    ArgumentError
        If nobody can listen there.
    FolderError
        If there is no run.
    """
    contents = Contents(reader)
    handler = partial(_Handler, contents=contents, title=title, host=host)
    try:
        server = _Server((host, port), handler)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        fact = f"cannot be listened on at {host} ({why})"
        hint = "choose a free port, and an address of this machine"
        raise ArgumentError("--port", port, fact, hint) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    shown = f"[{host}]" if ":" in host else host
    try:
        yield contents, f"http://{shown}:{server.server_port}/"
    finally:
        contents.close()
        server.shutdown()
        thread.join()
        server.server_close()


def serve(reader: RunReader, title: str, port: int, host: str) -> None:
    """Serve the page of a run until interrupted, and say where it is and how the run ends."""
    with served(reader, title, port, host) as (contents, address):
        say(f"headrace: watching {title} at {address}; Ctrl-C stops")
        went_on = True
        while True:
            seen = contents.refresh()
            if went_on and not seen.goes_on:
                say(f"headrace: the run: {seen.state}; the page stays until Ctrl-C")
            went_on = seen.goes_on
            time.sleep(_EVERY_S)
