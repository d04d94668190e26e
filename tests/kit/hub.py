"""A hub on 127.0.0.1: a real HTTP server, in a process of its own, that answers what it is given.

    with serving({"/api/models/org/m/revision/main": {"body": {"sha": "abc"}}}) as hub: ...

An answer has `status` (200), `headers`, `code` (the hub's X-Error-Code), `body` (an object, or the text
itself), `location`, and `how`: "hangs" says nothing at all, "drips" never comes to an end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    path: str
    token: str | None
    host: str


class Hub(NamedTuple):
    url: str
    requests: list[Request]  #: what it was asked, in order; complete once it has ended


@contextmanager
def serving(answers: Mapping[str, Mapping[str, Any]]) -> Iterator[Hub]:
    """The hub, while it runs; `*` is every other path, 404 without it."""
    words = [sys.executable, __file__, json.dumps(answers)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        hub = Hub(server.stdout.readline().strip(), [])
        try:
            yield hub
        finally:
            server.kill()
            hub.requests.extend(Request(*json.loads(line)) for line in server.stdout)


class Handler(BaseHTTPRequestHandler):
    answers: Mapping[str, Mapping[str, Any]]

    def do_GET(self) -> None:
        row = Request(self.path, self.headers.get("Authorization"), self.headers.get("Host", ""))
        print(json.dumps(row), flush=True)
        path = self.path.partition("?")[0]
        answer = self.answers.get(path, self.answers.get("*", {"status": 404}))
        if answer.get("how") == "hangs":
            os.read(self.rfile.fileno(), 1)  # until the other side gives up
            return
        self.answer(answer)

    do_HEAD = do_GET

    def answer(self, answer: Mapping[str, Any]) -> None:
        body = answer.get("body", "")
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(answer.get("status", 200))
        named = {"X-Error-Code": answer.get("code"), "Location": answer.get("location")}
        for name, value in {**named, **answer.get("headers", {})}.items():
            if value:
                self.send_header(name, value)
        drips = answer.get("how") == "drips"
        self.send_header("Content-Length", str(1 << 20 if drips else len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        if drips:
            os.read(self.rfile.fileno(), 1)

    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    Handler.answers = json.loads(sys.argv[1])
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
