"""An S3 server on loopback that can be slow, fail, or change an object between two requests."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET = "AKIALOOPBACK", "loopbackSECRET"

Fault = Callable[[int, str, str], int | float | None]
"""What is wrong with a request, from its number, method and path: the status of an error that
it gets instead, or after it was carried out if negative, seconds by which it is delayed, or
nothing."""


def _sound(number: int, method: str, path: str) -> None:
    return None


class _Silent(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        pass


class Store:
    """The server, with a bucket ``logs`` and a bucket ``results``."""

    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.fault: Fault = _sound
        self.counting = threading.Lock()
        self.requests = 0
        self.server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Silent)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.query = (
            f"?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:{self.server.server_port}"
        )
        self.filesystem = fs.S3FileSystem(
            access_key=KEY, secret_key=SECRET, scheme="http", region="us-east-1",
            endpoint_override=f"127.0.0.1:{self.server.server_port}", allow_bucket_creation=True,
        )  # fmt: skip
        self.clear()

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        """Answer a request, after `fault` has had its say."""
        with self.counting:
            number, self.requests = self.requests, self.requests + 1
        wrong = self.fault(number, environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if isinstance(wrong, float):
            time.sleep(wrong)
        elif wrong is not None:
            if wrong < 0:
                list(self.moto(environ, lambda *_: None))
            else:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            wrong = abs(wrong)
            code = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}[wrong]
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            length = str(len(body))
            start(f"{wrong} {code}", [("Content-Type", "text/xml"), ("Content-Length", length)])
            return io.BytesIO(body)
        return self.moto(environ, start)

    def clear(self) -> None:
        """Delete all objects, and be sound again."""
        self.fault = _sound
        for bucket in ("logs", "results"):
            self.filesystem.create_dir(bucket)
            self.filesystem.delete_dir_contents(bucket)
        self.requests = 0

    def uri(self, path: str, user: str = "") -> str:
        return f"s3://{user}{path}{self.query}"

    def put(self, path: str, data: bytes) -> None:
        with self.filesystem.open_output_stream(path, compression=None) as stream:
            stream.write(data)

    def put_tree(self, folder: Path, path: str) -> None:
        """Upload all files of a folder."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.put(f"{path}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def tree(self, path: str) -> dict[str, bytes]:
        """Return all objects below a path, by their names from there on."""
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        found = {}
        for info in self.filesystem.get_file_info(selector):
            if info.type == fs.FileType.File:
                with self.filesystem.open_input_file(info.path) as file:
                    found[info.path.removeprefix(f"{path}/")] = file.read()
        return found

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
