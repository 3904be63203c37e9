"""A schema registry for tests: answers as Confluent's does, from a mapping."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class SchemaRegistry:
    """Answers by path; an answer may be a status and a text instead of an object.

    Attributes
    ----------
    schemas
        Those of numbers.
    subjects
        By name and version: answers.
    broken
        So many requests are answered by an error first.
    asked
        The paths that were asked for.
    """

    def __init__(self, login: str | None = None) -> None:
        self.schemas: dict[int, dict] = {}
        self.subjects: dict[tuple[str, str], dict] = {}
        self.broken = 0
        self.asked: list[str] = []
        self.login = login
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, answer = registry.answer(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(
                    answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                )

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def register(self, subject: str, number: int, schema: object, **more: object) -> None:
        """Add a schema, as the newest version of a subject."""
        answer = {"schema": json.dumps(schema), "id": number, **more}
        self.schemas[number] = answer
        for version in ("latest", str(number)):
            self.subjects[subject, version] = answer

    def answer(self, path: str, login: str | None) -> tuple[int, object]:
        self.asked.append(path)
        if self.broken:
            self.broken -= 1
            return 502, b"<html>try again</html>"
        if self.login is not None and login != (
            "Basic " + base64.b64encode(self.login.encode()).decode()
        ):
            return 401, {"error_code": 401, "message": "Unauthorized"}
        match path.strip("/").split("/"):
            case ["schemas", "ids", number]:
                found = self.schemas.get(int(number))
                return (200, found) if found else (404, {"error_code": 40403})
            case ["subjects", subject, "versions", version]:
                found = self.subjects.get((subject, version))
                return (200, found) if found else (404, {"error_code": 40401})
        return 404, b"no such page"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
