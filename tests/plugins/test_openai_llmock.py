"""A second opinion on rate limits and Retry-After: llmock's server, which judges its clients by what they sent."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from tests.plugins.openai_server import missing

from evalkit import GenerateRequest
from evalkit_openai import OpenAI


@contextmanager
def llmock(*options: str) -> Iterator[str]:
    """The address of llmock's server, in a process of its own."""
    if find_spec("llmock") is None:
        missing("llmock is not installed: pip install llmock")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Seeded: what it refuses at random is the same each time, and neither too little nor too much for one request.
    start = [sys.executable, "-P", "-c", "import random; from llmock.cli import app; random.seed(1); app()", "serve"]
    process = subprocess.Popen(
        [*start, "--host", "127.0.0.1", "--port", str(port), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(1200):
            try:
                told(f"http://127.0.0.1:{port}", "requests")
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def told(address: str, what: str) -> Any:
    with urllib.request.urlopen(f"{address}/_llmock/{what}", timeout=60) as reply:
        return json.load(reply)


def asked(address: str, n: int) -> str:
    """Ask so many different things, and give the backend's account."""
    backend = OpenAI("gpt-4o-mini", base_url=f"{address}/v1")
    requests = [(position, GenerateRequest(prompt=f"Say {position}", max_tokens=8)) for position in range(n)]
    assert sorted(position for position, _ in backend.generate(requests)) == list(range(n))
    account = backend.account()
    backend.close()
    return account


def test_faults_at_random_are_handled_as_it_wants_them_handled() -> None:
    """Of the calls 25 % are answered 429 and 15 % 503, both with Retry-After, which it sees kept."""
    with llmock("--error-rate", "429=0.25", "--error-rate", "503=0.15") as address:
        account = asked(address, 24)
        verdict = told(address, "verdict")
    assert (verdict["passed"], verdict["findings"]) == (True, [])
    assert verdict["calls"] == 24
    assert verdict["faults_injected"] == verdict["attempts"] - 24 >= 4
    assert f"24 requests in {verdict['attempts']} calls: 24 answered, 0 failed" in account


def test_a_quota_is_kept_almost_without_a_refusal() -> None:
    """120 a minute, all of them at once; 128 need four seconds more."""
    with llmock("--rpm", "120") as address:
        account = asked(address, 128)
        verdict = told(address, "verdict")
    assert (verdict["passed"], verdict["findings"]) == (True, [])
    assert verdict["calls"] == 128
    assert verdict["attempts"] - 128 <= 2
    assert f"128 requests in {verdict['attempts']} calls: 128 answered, 0 failed" in account
