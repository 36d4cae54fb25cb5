"""The backend `openai` against a real server with a real model: llama.cpp's, with SmolLM2, on loopback."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.plugins.openai_faults import FAULTS, Faults, upstream
from tests.plugins.openai_server import Server, gguf, real_server
from tests.plugins.test_openai import ran

from evalkit import GenerateRequest
from evalkit.errors import ModelError
from evalkit_openai import OpenAI

KEY = "the-servers-key"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_server(gguf(tmp_path_factory.mktemp("model"))) as url:
        yield url


@pytest.fixture
def model(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAI]:
    monkeypatch.setenv("REAL_KEY", KEY)
    backend = OpenAI("smollm2", base_url=url, key_env="REAL_KEY")
    yield backend
    backend.close()


def run(url: str, out: Path, *more: str) -> dict[str, Any]:
    """Run the command line and give the only summary."""
    command = ["run", "-m", "openai:smollm2", "-M", f"base_url={url}", "--out", str(out), "--json", *more]
    told = ran([sys.executable, "-P", "-m", "evalkit", *command], OPENAI_API_KEY=KEY)
    assert told.returncode == 0, told.stderr
    (summary,) = json.loads(told.stdout)
    return dict(summary)


def records(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(summary["run"], "records.jsonl").read_text().splitlines()]


def test_gsm(url: str, tmp_path: Path, test_data: Path) -> None:
    more = ("-b", "gsm", "--data", str(test_data), "--shots", "1", "--limit", "2", "-B", "max_tokens=24")
    summary = run(url, tmp_path, *more)
    assert (summary["n"], summary["failed"]) == (2, 0)
    texts = [record["response"]["texts"][0]["text"] for record in records(summary)]
    assert all(len(text.split()) > 5 for text in texts), texts


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_mmlu_by_log_probabilities(url: str, tmp_path: Path, test_data: Path, api: str) -> None:
    more = ("-b", "mmlu", "--data", str(test_data), "--limit", "4", "-M", f"api={api}")
    summary = run(url, tmp_path, *more)
    assert (summary["setting"], summary["n"], summary["failed"]) == ("mmlu", 4, 0)
    answered = [record for record in records(summary) if record["answers"]["paper"]]
    assert answered
    assert all(len(record["response"]["logprobs"]) == 4 for record in answered)


def test_mmlu_by_letter(url: str, tmp_path: Path, test_data: Path) -> None:
    more = ("-b", "mmlu", "--data", str(test_data), "--limit", "2", "-M", "logprobs=no")
    summary = run(url, tmp_path, *more)
    assert (summary["setting"], summary["n"], summary["failed"]) == ("mmlu:generate", 2, 0)


def test_alpacafarm(url: str, tmp_path: Path) -> None:
    summary = run(url, tmp_path, "-b", "alpacafarm", "--data", "sample", "-B", "max_tokens=16")
    assert (summary["n"], summary["failed"]) == (3, 0)


def test_samples_stops_and_limits(model: OpenAI) -> None:
    asked = GenerateRequest(
        prompt="Count: one, two,", max_tokens=12, n=6, temperature=1.0, seed=5, stop=("five", "six"), chat=True
    )
    long = GenerateRequest(prompt="word " * 3000, max_tokens=4, chat=True)
    found = dict(model.generate([(0, asked), (1, long)]))
    assert len(found[0].texts) == 6, "the server gives four at a time"
    assert not any("five" in text.text or "six" in text.text for text in found[0].texts)
    assert found[0].usage.completion_tokens > 0
    assert "too long for the model (400: request (" in found[1].error


def test_the_beginning_of_an_answer_is_continued_and_not_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAL_KEY", KEY)
    backend = OpenAI("smollm2", base_url=url, key_env="REAL_KEY", prefix="assistant")
    request = GenerateRequest(
        prompt="What is the capital of France?", answer_prefix="The capital of France is", max_tokens=4, chat=True
    )
    ((_, response),) = backend.generate([(0, request)])
    backend.close()
    assert response.texts[0].text.startswith(" Paris")


def test_a_wrong_key_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAL_KEY", "another-key")
    backend = OpenAI("smollm2", base_url=url, key_env="REAL_KEY")
    with pytest.raises(ModelError, match=r"refuses the key .401: Invalid API Key"):
        list(backend.generate([(0, GenerateRequest(prompt="Hi", max_tokens=1))]))
    backend.close()


def test_through_faults_a_real_model_answers_all_the_same(url: str, tmp_path: Path) -> None:
    assert "REAL_KEY" not in os.environ
    faults = Faults(upstream(url), share=0.3)
    bench = Path(__file__).parent / "openai_numbers.py"
    with Server(faults) as proxy:
        summary = run(proxy.url, tmp_path, "-b", str(bench), "-B", "n=40", "-M", "timeout=30")
    assert (summary["n"], summary["failed"]) == (40, 0)
    assert faults.met[""] + faults.met["slow start"] >= 40
    assert sum(faults.met[fault] for fault in FAULTS) > 0
