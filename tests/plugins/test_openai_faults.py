"""Two thousand requests through a proxy that spoils three in ten: none is lost, none that was kept is sent again."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.evalkit.killing import kept, kill_and_resume, positions
from tests.plugins.openai_faults import FAULTS, LOST, Faults, upstream
from tests.plugins.openai_server import Call, Server, numbers, prompt_of
from tests.plugins.test_openai import command, ran

N = 2000
#: So that hanging calls are soon given up; but not so soon that a busy machine lets others, which counts them as lost.
OPTIONS = ("-M", "timeout=20")
#: With this one no request fails more than four times, nor more than twice among the first two hundred; so those that
#: never work may be given up soon, too.
SEED = 2


#: The twenty requests that no try can help.
FAILING = {number for number in range(N) if number % 100 == 77}


def never(call: Call) -> bool:
    """Whether a request is one of those."""
    return int(prompt_of(call).split()[-1]) in FAILING


def test_killed_ten_times_all_are_answered_once_but_those_that_never_work(tmp_path: Path) -> None:
    """The model behind the proxy is a fake: a real one would take an hour for so many."""
    seen = {"bytes": 0}
    known: set[str] = set()
    sent_again: list[str] = []

    def fails(call: Call) -> bool:
        """Note each request that is sent although its answer stands in the journal."""
        if kept(tmp_path) != seen["bytes"]:
            text = b"".join(path.read_bytes() for path in tmp_path.glob("*/*/responses.jsonl"))
            seen["bytes"] = len(text)
            known.update(match.decode() for match in re.findall(rb'"prompt":"(Say \d+)".*\n', text))
        if prompt_of(call) in known:
            sent_again.append(prompt_of(call))
        return never(call)

    with Server(numbers) as fake:
        faults = Faults(upstream(fake.url), share=0.3, forever=fails, seed=SEED)
        with Server(faults) as proxy, pytest.raises(subprocess.CalledProcessError) as ended:
            start = command(proxy, tmp_path, *OPTIONS, "-M", "attempts=5", n=N)
            kill_and_resume(start, tmp_path, kills=10, seed=5, within=0.3)
    assert ended.value.returncode == 3
    assert set(faults.met) == {"", "forever", *FAULTS}
    assert sent_again == []
    assert set(Counter(faults.answered)) == {f"Say {number}" for number in range(N) if number not in FAILING}
    check(tmp_path, N)


def test_the_counts_are_those_of_the_server(tmp_path: Path) -> None:
    n = 200
    with Server(numbers) as fake:
        faults = Faults(upstream(fake.url), share=0.3, forever=never, seed=SEED)
        with Server(faults) as proxy:
            told = ran(command(proxy, tmp_path, *OPTIONS, "-M", "attempts=4", n=n))
    assert told.returncode == 3
    check(tmp_path, n)
    spoiled = sum(faults.met[fault] for fault in FAULTS)
    assert 0.2 <= spoiled / (spoiled + faults.met[""]) <= 0.4
    sent, limited = len(proxy.calls), faults.met["429"] + faults.met["429 with Retry-After"]
    lost = sum(faults.met[fault] for fault in LOST)
    assert (
        f"openai:fake: 200 requests in {sent:,} calls: 198 answered, 2 failed, {sent - n:,} retried"
        f" ({limited:,} for the rate limit), {lost:,} possibly paid twice (answer lost on its way)"
    ) in told.stderr


def check(out: Path, n: int) -> None:
    """Each request has one line, with its own answer; the failed ones are those that never work."""
    lines = journal(out)
    assert sorted(positions(out)) == list(range(n))
    texts = {line["position"]: line["response"]["texts"][0] for line in lines}
    assert {position for position, text in texts.items() if "error" in text} == {one for one in FAILING if one < n}
    assert all(text["text"] == str(position) for position, text in texts.items() if position not in FAILING)


def journal(out: Path) -> list[dict[str, Any]]:
    """The lines of the one run that is there."""
    (path,) = out.glob("*/*/responses.jsonl")
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_kind_of_fault_alone_is_overcome(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of five requests fails so at its first try."""
    with Server(numbers) as fake:
        faults = Faults(upstream(fake.url), share=0.3)
        monkeypatch.setattr(faults, "_drawn", lambda prompt: fault if faults._tries[prompt] == 1 else "")
        with Server(faults) as proxy:
            from evalkit import GenerateRequest
            from evalkit_openai import OpenAI

            # Only what hangs may be given up.
            backend = OpenAI("fake", base_url=proxy.url, timeout=10.0 if fault == "hanging" else 120.0)
            asked = [(position, GenerateRequest(prompt=f"Say {position}", max_tokens=8)) for position in range(5)]
            found = dict(backend.generate(asked))
            line = backend.account()
            backend.close()
    assert [found[position].texts[0].text for position in range(5)] == ["0", "1", "2", "3", "4"]
    assert faults.met[fault] == 5
    paid = 5 if fault in LOST else 0
    assert f"{paid} possibly paid twice" in line
