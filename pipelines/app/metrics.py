"""Metrics of a run over HTTP, for Prometheus to scrape while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

from headrace.pipelines.run.board import Board
from headrace.schemas.errors import ArgumentError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Metrics:
    """Where the metrics of a run are served.

    Parameters
    ----------
    port
        The port; None to serve none.
    host
        The address to listen on; by default only this machine can connect.
    """

    port: int | None = None
    host: str = LOOPBACK

    @contextlib.contextmanager
    def served(self) -> Iterator[Callable[[Board], None]]:
        """Serve metrics while the block runs, of the board that it shows.

        Raises
        ------
        ArgumentError
            If nobody can listen there.
        """
        boards: list[Board] = []
        if self.port is None:
            yield boards.append
            return
        from prometheus_client import CollectorRegistry, start_http_server

        from headrace.monitoring.prometheus.collector import FiguresCollector

        registry = CollectorRegistry()
        registry.register(
            FiguresCollector(lambda: boards[-1].figures if boards else None, version("headrace"))
        )
        try:
            server, thread = start_http_server(self.port, self.host, registry)
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            fact = f"cannot be listened on at {self.host} ({why})"
            hint = "choose a free port, and an address of this machine"
            raise ArgumentError("metrics port", self.port, fact, hint) from error
        try:
            yield boards.append
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
