"""A pool of Beam's workers beside a TaskManager, reachable from its own pod alone.

Beam's own pool (``boot --worker_pool``) listens on every interface, and starts a process for
whoever asks.
"""

from __future__ import annotations

import argparse
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

BOOT = "/opt/apache/beam/boot"


def serve(port: int, boot: str) -> tuple[grpc.Server, int]:
    """Start the pool on the loopback interface; return its server and its port."""
    server = grpc.server(ThreadPoolExecutor())
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    pool = BeamFnExternalWorkerPoolServicer(use_process=True, container_executable=boot)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.start()
    return server, bound


def main() -> None:
    """Serve until the container is stopped, which ends the workers too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50000)
    parser.add_argument("--boot", default=BOOT, help="what a worker is started with")
    options = parser.parse_args()
    stop = Event()
    # The first process of a container gets no signal that it has no handler for.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    server, port = serve(options.port, options.boot)
    print(f"worker pool on 127.0.0.1:{port}", flush=True)
    stop.wait()
    server.stop(0)


if __name__ == "__main__":
    main()
