"""A proxy that makes every kind of fault out of a share of the requests, and passes the others on."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.plugins.openai_server import Call, Handler, Reply, prompt_of, refused

#: Kind of fault -> the reply instead of the upstream's; None where the upstream answers all the same.
FAULTS: Mapping[str, Reply | None] = {
    "429 with Retry-After": Reply(
        status=429, content={"error": {"message": "slow down"}}, headers={"retry-after": "0.3"}
    ),
    "429": refused(429, "slow down"),
    "500": refused(500, "the server had an error"),
    "503": refused(503, "overloaded"),
    "slow start": None,
    "dropped": Reply(broken="dropped"),
    "truncated": None,
    "malformed JSON": Reply(content=b'{"choices": [{"message": {"content": "4'),
    "wrong content type": Reply(content=b"<html>Bad gateway</html>", headers={"content-type": "text/html"}),
    "hanging": Reply(broken="hanging"),
}
#: Faults behind which an answer may have been paid.
LOST = ("dropped", "truncated", "malformed JSON", "wrong content type", "hanging")


def upstream(url: str) -> Callable[[Call], Awaitable[Reply]]:
    """Pass requests on to another server."""
    parts = urlsplit(url)

    async def forward(call: Call) -> Reply:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        content = json.dumps(call.body).encode()
        names = {"content-type": "application/json", "host": parts.netloc, "connection": "close"}
        names |= {"content-length": str(len(content)), "authorization": call.headers.get("authorization", "")}
        told = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        try:
            writer.write(f"POST {call.path} HTTP/1.1\r\n{told}\r\n".encode() + content)
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").lower().split("\r\n")
            sizes = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
            body = await (reader.readexactly(sizes[0]) if sizes else reader.read())
        finally:  # also when the test ends under way
            writer.close()
        return Reply(status=int(lines[0].split()[1]), content=body)

    return forward


class Faults:
    """A handler that lets ``share`` of the calls fail, each in a way that its prompt and its number of tries decide."""

    def __init__(
        self, answer: Handler, *, share: float, forever: Callable[[Call], bool] = lambda call: False, seed: int = 1
    ) -> None:
        self._answer = answer
        self._share = share
        self._forever = forever
        self._seed = seed
        self._tries: Counter[str] = Counter()
        #: Fault -> how often; "" where there was none.
        self.met: Counter[str] = Counter()
        #: The prompts that were answered, in order.
        self.answered: list[str] = []

    async def __call__(self, call: Call) -> Reply:
        """Answer a call or let it fail."""
        prompt = prompt_of(call)
        self._tries[prompt] += 1
        fault = self._drawn(prompt)
        self.met["forever" if self._forever(call) else fault] += 1
        if self._forever(call):
            return refused(500, "this one never works")
        if fault and (made := FAULTS[fault]) is not None:
            return made
        reply = await _awaited(self._answer(call))
        self.answered.append(prompt)
        if fault == "truncated":
            return Reply(content=reply.content, broken="truncated")
        return Reply(status=reply.status, content=reply.content, delay=0.5 if fault == "slow start" else 0.0)

    def _drawn(self, prompt: str) -> str:
        drawn = hashlib.sha256(f"{self._seed} {prompt} {self._tries[prompt]}".encode()).digest()
        if int.from_bytes(drawn[:4], "big") / 2**32 >= self._share:
            return ""
        return list(FAULTS)[drawn[4] % len(FAULTS)]


async def _awaited(found: Any) -> Reply:
    return await found if not isinstance(found, Reply) else found
