"""How much of a rate limit is used: evalkit, inspect_ai and lm-eval ask the same fixed-latency server, in turn.

    python -P benchmarks/openai.py [--peers PYTHON] [--seconds 60] [--rate 20] [--latency 0.5] [--headers] [--rounds 1]

The server answers after a fixed latency and takes a fixed number of requests a second, with one second's worth at
once; the others get 429 with Retry-After. ``--peers`` names a Python that has inspect_ai and lm-eval; without it they
are left out, visibly. Each tool has more requests than the limit lets through in the time, and is stopped then. The
server's own log gives the figures: the share of the allowed answers that were given within the time from the first
request on, and the share of requests answered 429 after a warm-up of a third of it.

This file bears the name of a library: started as ``python benchmarks/openai.py`` it would stand in that library's way,
so its own folder leaves the import path first.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import argparse  # noqa: E402
import asyncio  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

#: Asks for as many sums as it is told; written for each tool in its own way.
EVALKIT = "-m evalkit run -m openai:fake -b arithmetic -B n={n} -M base_url={url} --out {out}"
INSPECT = """
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.solver import generate
from inspect_ai.scorer import includes
data = MemoryDataset([Sample(input=f"{{i}} + 1 =", target=str(i + 1)) for i in range({n})])
eval(Task(dataset=data, solver=generate(), scorer=includes()), model="openai-api/fake/fake", display="none",
     log_dir="{out}", max_samples={n}, max_tokens=8)
"""
LM_EVAL = """
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalChatCompletion
url = "{url}/chat/completions"
model = LocalChatCompletion(model="fake", base_url=url, num_concurrent={concurrent}, max_retries=50)
arguments = [(message, {{"max_gen_toks": 8, "until": []}}) for message in MESSAGES]
model.generate_until([Instance("generate_until", {{}}, one, i) for i, one in enumerate(arguments)])
"""
LM_EVAL_MESSAGES = """
import json
from lm_eval.models.api_models import JsonChatStr
MESSAGES = [JsonChatStr(json.dumps([{{"role": "user", "content": f"{{i}} + 1 ="}}])) for i in range({n})]
"""


class Limited:
    """A fake API with a latency and a limit, in a thread; it notes when it answered and when it refused."""

    def __init__(self, rate: float, latency: float, *, headers: bool) -> None:
        self._rate, self._latency, self._headers = rate, latency, headers
        self._level, self._at = rate, time.monotonic()
        #: When, and whether it was taken.
        self.seen: list[tuple[float, bool]] = []
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True).start()
        ready.wait()

    async def _serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1000)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready.set()
        await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                sizes = [line.partition(":")[2] for line in head.split("\r\n") if line.startswith("content-length:")]
                await reader.readexactly(int(sizes[0]))
                await self._answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        now = time.monotonic()
        self._level, self._at = min(self._rate, self._level + (now - self._at) * self._rate), now
        taken = self._level >= 1
        self._level -= taken
        self.seen.append((now, taken))
        names = {"content-type": "application/json"}
        if self._headers:
            names["x-ratelimit-limit-requests"] = str(int(self._rate))
            names["x-ratelimit-remaining-requests"] = str(int(self._level))
            names["x-ratelimit-reset-requests"] = f"{(self._rate - self._level) / self._rate:.3f}s"
        if taken:
            await asyncio.sleep(self._latency)
            turn = {"role": "assistant", "content": "1"}
            choice = {"index": 0, "message": turn, "finish_reason": "stop"}
            body = {"id": "1", "object": "chat.completion", "created": 1, "model": "fake", "choices": [choice]}
            body["usage"] = {"prompt_tokens": 6, "completion_tokens": 1, "total_tokens": 7}
            status = "200 OK"
        else:
            names["retry-after"] = str(math.ceil((1 - self._level) / self._rate))
            body, status = {"error": {"message": "Rate limit reached", "type": "requests"}}, "429 Too Many Requests"
        content = json.dumps(body).encode()
        names["content-length"] = str(len(content))
        told = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        writer.write(f"HTTP/1.1 {status}\r\n{told}\r\n".encode() + content)
        await writer.drain()


def measure(name: str, command: list[str], server: Limited, wanted: argparse.Namespace) -> None:
    """Run a tool for so many seconds behind its first request, and print what the server saw."""
    server.seen.clear()
    env = {**os.environ, "OPENAI_API_KEY": "none", "FAKE_API_KEY": "none", "FAKE_BASE_URL": server.url}
    log = tempfile.TemporaryFile()  # noqa: SIM115  (a pipe that nobody reads would hold up a tool that logs much)
    process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
    while not server.seen and process.poll() is None:
        time.sleep(0.05)
    began = time.monotonic()
    while time.monotonic() - began < wanted.seconds and process.poll() is None:
        time.sleep(0.1)
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    log.seek(0)
    told = log.read().decode(errors="replace").strip().splitlines()[-1:]
    log.close()
    if not server.seen:
        print(f"{name:<9} asked nothing: {told}")
        return
    first, warm = server.seen[0][0], wanted.seconds / 3
    seen = [(when - first, taken) for when, taken in server.seen if when - first < wanted.seconds]
    given = sum(taken and when <= wanted.seconds - wanted.latency for when, taken in seen)
    later = [taken for when, taken in seen if when >= warm]
    refused = later.count(False) / len(later) if later else float("nan")
    print(
        f"{name:<9} {given / (wanted.rate * (wanted.seconds - wanted.latency)):7.1%} of the allowed answers"
        f"   429 after warm-up {refused:6.2%}   ({len(seen)} requests, {sum(not taken for _, taken in seen)} refused)",
        flush=True,
    )
    if ended:
        print(f"{'':<9} ended by itself after {seen[-1][0]:.0f} s with exit code {process.returncode}: {told}")


def main() -> None:
    """Measure each tool, in turn, ``--rounds`` times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peers", metavar="PYTHON", help="a Python with inspect_ai and lm-eval")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second that the server takes")
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--headers", action="store_true", help="the server tells x-ratelimit-*")
    parser.add_argument("--rounds", type=int, default=1)
    wanted = parser.parse_args()
    server = Limited(wanted.rate, wanted.latency, headers=wanted.headers)
    # More than can be had, so that no tool comes to its end, where it would wait for its slowest requests.
    n = int(1.5 * wanted.rate * (wanted.seconds + 10))
    told = "with" if wanted.headers else "without"
    print(f"{wanted.rate:g} requests/s, latency {wanted.latency:g} s, {told} rate-limit headers, {wanted.seconds:g} s")
    for _ in range(wanted.rounds):
        with tempfile.TemporaryDirectory() as out:
            values = {"n": n, "url": server.url, "out": out, "concurrent": int(2 * wanted.rate * wanted.latency)}
            ours = [sys.executable, "-P", *(part.format(**values) for part in EVALKIT.split())]
            measure("evalkit", ours, server, wanted)
            for name, program in (("inspect", INSPECT), ("lm-eval", LM_EVAL_MESSAGES + LM_EVAL)):
                if wanted.peers is None:
                    print(f"{name:<9} skipped: name a Python that has it with --peers")
                    continue
                time.sleep(2)  # the bucket fills again
                measure(name, [wanted.peers, "-c", program.format(**values)], server, wanted)


if __name__ == "__main__":
    main()
