"""A web server on the loopback that serves what it is given, whole or badly."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def _set() -> threading.Event:
    made = threading.Event()
    made.set()
    return made


@dataclass
class Mirror:
    """What the server has, how it behaves and what it was asked."""

    content: Mapping[str, bytes]
    url: str = ""
    #: (path, Range header or "") of each request.
    asked: list[tuple[str, str]] = field(default_factory=list)
    #: Whether it answers ranges, as most servers do.
    ranges: bool = True
    #: A connection breaks off after this many bytes of content; its first so many times.
    cut_after: int | None = None
    cuts: int = 10**9
    #: Answers 206 with these bytes' place in place of the asked one.
    wrong_range: str = ""
    #: Bytes that are sent at once.
    piece: int = 1 << 20
    #: Cleared, they hold back every answer, or all but the first piece of one, until they are set.
    begins: threading.Event = field(default_factory=_set)
    goes_on: threading.Event = field(default_factory=_set)
    #: Without it the client cannot know how much is to come.
    says_length: bool = True


@contextmanager
def serving(content: Mapping[str, bytes]) -> Iterator[Mirror]:
    """Serve paths like ``/a/b`` on a free port."""
    mirror = Mirror(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"mirror": mirror}))
    server.daemon_threads = True
    mirror.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield mirror
    finally:
        mirror.begins.set()
        mirror.goes_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def do_GET(self) -> None:
        mirror, wanted = self.mirror, self.headers.get("Range", "")
        mirror.asked.append((self.path, wanted))
        mirror.begins.wait()
        content = mirror.content.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and mirror.ranges else 0  # type: ignore[index]
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            place = mirror.wrong_range or f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", place)
        if mirror.says_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self._send(content[start:])

    def _send(self, content: bytes) -> None:
        mirror = self.mirror
        if mirror.cut_after is not None and mirror.cuts > 0:
            mirror.cuts -= 1
            content = content[: mirror.cut_after]
        try:
            for begin in range(0, len(content), mirror.piece):
                self.wfile.write(content[begin : begin + mirror.piece])
                self.wfile.flush()
                mirror.goes_on.wait()
        except OSError:
            pass  # the client has gone

    def log_message(self, *_: Any) -> None:
        pass
