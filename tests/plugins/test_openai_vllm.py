"""The backend `openai` against vLLM's own server with SmolLM2, held beside what the backend `hf` computes.

Of the servers that run here, vLLM's is the one that echoes a prompt with its log-probabilities.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.plugins.test_openai import ran

from evalkit import Backend, GenerateRequest, LikelihoodRequest
from evalkit.errors import ModelError
from evalkit_openai import OpenAI

pytestmark = pytest.mark.torch

KEY = "the-servers-key"
#: Both compute in float32, but not in the same order; a token's log-probability differs by at most so much.
NEAR = 2e-4
#: Seconds that the server may take to start; on a machine with nothing else to do it is half a minute.
STARTS = 450


def program() -> list[str]:
    """The command that starts vLLM's server, up to its options; where there is no vLLM, the test is skipped."""
    named = os.environ.get("EVALKIT_VLLM") or (sys.executable if find_spec("vllm") else "")
    if not named:
        pytest.skip(
            "no vLLM: set EVALKIT_VLLM to its `vllm` program, or to the Python of an environment that has it,"
            " or run `nox -s vllm`"
        )
    if Path(named).name.startswith("vllm"):
        return [named, "serve", "--model"]
    return [named, "-m", "vllm.entrypoints.openai.api_server", "--model"]


@contextmanager
def serving(model: Path, log: Path) -> Iterator[str]:
    """The base_url of vLLM's server with a checkpoint, in processes of its own that end with the test."""
    with socket.socket() as held:
        # Kept as long as the server lives: it may bind the port, which no connection out is given meanwhile.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        with _serving(model, log, held.getsockname()[1]) as url:
            yield url


@contextmanager
def _serving(model: Path, log: Path, port: int) -> Iterator[str]:
    options = {"served-model-name": "smollm2", "host": "127.0.0.1", "port": port, "dtype": "float32"}
    options |= {"max-model-len": 2048, "max-num-seqs": 16, "gpu-memory-utilization": 0.2}
    told = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    env = {**os.environ, "VLLM_API_KEY": KEY, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    # Some of its functions are compiled even with --enforce-eager: a minute with a C++ compiler at the first request.
    env |= {"TORCHDYNAMO_DISABLE": "1"}
    env |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    # It leaves sockets behind, whose paths must be short.
    with TemporaryDirectory(prefix="vllm") as place, log.open("wb") as out:
        process = subprocess.Popen(
            [*program(), str(model), *told, "--enforce-eager"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env | {"TMPDIR": place},
            start_new_session=True,
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            # The workers too; they outlive a server that was killed.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], health: str, log: Path) -> None:
    end = time.monotonic() + STARTS
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(health, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"vLLM's server did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def url(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(smollm2, tmp_path_factory.mktemp("vllm") / "log.txt") as url:
        yield url


def asking(
    url: str, monkeypatch: pytest.MonkeyPatch, *, name: str = "smollm2", key: str = KEY, **options: Any
) -> closing[OpenAI]:
    """The backend, for ``with``."""
    monkeypatch.setenv("REAL_KEY", key)
    return closing(OpenAI(name, base_url=url, key_env="REAL_KEY", **options))


def run(model: str, out: Path, *more: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run the command line and give the only summary and its records."""
    command = ["run", "-m", model, "--out", str(out), "--json", *more]
    told = ran([sys.executable, "-P", "-m", "evalkit", *command], OPENAI_API_KEY=KEY)
    assert told.returncode == 0, told.stderr
    (summary,) = json.loads(told.stdout)
    records = Path(summary["run"], "records.jsonl").read_text().splitlines()
    return summary, [json.loads(line) for line in records]


@pytest.fixture(scope="module")
def computed(smollm2: Path, tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> dict[str, Any]:
    """What the backend `hf` makes of four questions of MMLU and of two of GSM8K, as plain prompts."""
    out = tmp_path_factory.mktemp("hf")
    model = (f"hf:{smollm2}", out, "-M", "dtype=float32", "--chat", "off")
    return {"mmlu": run(*model, *mmlu(test_data)), "gsm": run(*model, *gsm(test_data))}


def mmlu(data: Path) -> list[str]:
    return ["-b", "mmlu", "--data", str(data), "--limit", "4"]


def gsm(data: Path) -> list[str]:
    return ["-b", "gsm", "--data", str(data), "--shots", "2", "--limit", "2", "-B", "max_tokens=32"]


def completions(url: str, *more: str) -> list[str]:
    return ["-M", f"base_url={url}", "-M", "api=completions", "--chat", "off", *more]


@pytest.mark.parametrize("ids", [True, False], ids=["token ids", "text"])
def test_mmlu_by_echo_has_the_likelihoods_that_hf_computes(
    *, url: str, tmp_path: Path, test_data: Path, smollm2: Path, computed: dict[str, Any], ids: bool
) -> None:
    more = ("-M", "logprobs=echo", *(("-M", f"tokenizer={smollm2}") if ids else ()))
    summary, records = run("openai:smollm2", tmp_path, *mmlu(test_data), *completions(url, *more))
    expected_summary, expected = computed["mmlu"]
    assert (summary["setting"], summary["n"], summary["failed"]) == ("mmlu", 4, 0)
    assert summary["requests"] == expected_summary["requests"], "the same was asked"
    assert summary["metrics"] == expected_summary["metrics"]
    for record, other in zip(records, expected, strict=True):
        found, wanted = record["response"]["logprobs"], other["response"]["logprobs"]
        assert found == pytest.approx(wanted, abs=NEAR)
        assert record["response"]["lengths"] == other["response"]["lengths"] == [1, 1, 1, 1]
        assert record["answers"] == other["answers"]


def test_mmlu_by_the_likeliest_first_tokens_of_a_completion(
    url: str, tmp_path: Path, test_data: Path, computed: dict[str, Any]
) -> None:
    """Five tokens are told; the letters among them are as likely as `hf` computes."""
    summary, records = run("openai:smollm2", tmp_path, *mmlu(test_data), *completions(url))
    assert (summary["setting"], summary["n"], summary["failed"]) == ("mmlu", 4, 0)
    found = [one for record in records for one in record["response"]["logprobs"]]
    wanted = [one for record in computed["mmlu"][1] for one in record["response"]["logprobs"]]
    pairs = [pair for pair in zip(found, wanted, strict=True) if pair[0] != -1e6]
    assert len(pairs) >= 4
    assert [one for one, _ in pairs] == pytest.approx([other for _, other in pairs], abs=NEAR)


def test_mmlu_by_the_likeliest_first_tokens_of_a_chat(url: str, tmp_path: Path, test_data: Path) -> None:
    summary, records = run("openai:smollm2", tmp_path, *mmlu(test_data), "-M", f"base_url={url}")
    assert (summary["setting"], summary["n"], summary["failed"]) == ("mmlu", 4, 0)
    told = [record["response"]["logprobs"] for record in records]
    assert all(len(letters) == 4 for letters in told)
    assert all(max(letters) > -10 for letters in told)


@pytest.fixture(scope="module")
def hf(smollm2: Path) -> Iterator[Backend]:
    from evalkit_hf import HF

    backend = HF(str(smollm2), dtype="float32")
    backend.open()
    yield backend
    backend.close()


def test_the_letters_of_a_chat_are_as_likely_as_hf_computes(
    url: str, hf: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A letter's probability is the sum of those of "A" and " A", as far as they are among the twenty likeliest."""
    ask = "Which is the capital of France?\nA. Rome\nB. Paris\nC. Berlin\nD. Madrid\nAnswer with the letter alone."
    request = LikelihoodRequest(prompt=ask, continuations=("A", "B", "C", "D"), chat=True)
    with asking(url, monkeypatch) as model:
        ((_, letters),) = model.likelihood([(0, request)])
    both = LikelihoodRequest(prompt=ask, continuations=("A", "B", "C", "D", " A", " B", " C", " D"), chat=True)
    ((_, wanted),) = hf.likelihood([(0, both)])
    for letter, bare, spaced in zip(letters.logprobs, wanted.logprobs[:4], wanted.logprobs[4:], strict=True):
        possible = (-1e6, bare, spaced, math.log(math.exp(bare) + math.exp(spaced)))
        assert min(abs(letter - one) for one in possible) < NEAR
    assert sum(letter > -1e6 for letter in letters.logprobs) >= 2


@pytest.mark.parametrize("ids", [True, False], ids=["token ids", "text"])
def test_any_continuation_by_echo_is_as_likely_as_hf_computes(
    *, url: str, smollm2: Path, hf: Backend, monkeypatch: pytest.MonkeyPatch, ids: bool
) -> None:
    request = LikelihoodRequest(
        prompt="Question: What is the capital of France?\nAnswer:",
        continuations=(" Paris", " Paris, of course: it is on the Seine.", " naïve 東京 🙂", "\n\nRome 1234"),
    )
    ((_, wanted),) = hf.likelihood([(0, request)])
    options = {"tokenizer": str(smollm2)} if ids else {}
    with asking(url, monkeypatch, api="completions", logprobs="echo", **options) as model:
        ((_, found),) = model.likelihood([(0, request)])
    assert found.error == ""
    assert found.lengths == wanted.lengths
    assert max(found.lengths) > 8
    assert found.logprobs == pytest.approx(wanted.logprobs, abs=NEAR * max(found.lengths))


def test_gsm_on_completions_writes_what_hf_writes(
    url: str, tmp_path: Path, test_data: Path, smollm2: Path, computed: dict[str, Any]
) -> None:
    more = completions(url, "-M", f"tokenizer={smollm2}")
    summary, records = run("openai:smollm2", tmp_path, *gsm(test_data), *more)
    assert (summary["n"], summary["failed"]) == (2, 0)
    assert summary["requests"] == computed["gsm"][0]["requests"]
    for record, other in zip(records, computed["gsm"][1], strict=True):
        assert record["response"]["texts"] == other["response"]["texts"]


def test_gsm_as_a_chat(url: str, tmp_path: Path, test_data: Path) -> None:
    summary, records = run("openai:smollm2", tmp_path, *gsm(test_data), "-M", f"base_url={url}")
    assert (summary["n"], summary["failed"]) == (2, 0)
    assert all(len(record["response"]["texts"][0]["text"].split()) > 5 for record in records)


def test_samples_stops_and_what_is_too_long(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = GenerateRequest(
        prompt="Count: one, two,", max_tokens=12, n=6, temperature=1.0, seed=5, stop=("five", "six"), chat=True
    )
    long = GenerateRequest(prompt="word " * 3000, max_tokens=4, chat=True)
    much = GenerateRequest(prompt="Hi", max_tokens=5000, chat=True)
    with asking(url, monkeypatch) as model:
        found = dict(model.generate([(0, count), (1, long), (2, much)]))
    assert len(found[0].texts) == 6
    assert len({text.text for text in found[0].texts}) > 1, "a seed counts on from sample to sample"
    assert not any("five" in text.text or "six" in text.text for text in found[0].texts)
    assert found[0].usage.completion_tokens > 0
    assert "too long for the model (400: " in found[1].error
    assert "too long for the model (400: " in found[2].error


def test_the_beginning_of_an_answer_is_continued_with_the_fields_that_vllm_wants(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = '{"add_generation_prompt": false, "continue_final_message": true}'
    request = GenerateRequest(
        prompt="What is the capital of France?", answer_prefix="The capital of France is", max_tokens=4, chat=True
    )
    with asking(url, monkeypatch, prefix="assistant", extra=extra) as model:
        ((_, response),) = model.generate([(0, request)])
    assert response.texts[0].text.startswith(" Paris")


@pytest.mark.parametrize(
    ("name", "key", "text"),
    [("smollm2", "another-key", r"refuses the key .401"), ("no-such", KEY, r"has no model 'no-such'.* .404: ")],
)
def test_a_wrong_key_and_a_wrong_model_are_said(
    url: str, monkeypatch: pytest.MonkeyPatch, name: str, key: str, text: str
) -> None:
    request = GenerateRequest(prompt="Hi", max_tokens=1)
    with asking(url, monkeypatch, name=name, key=key) as model, pytest.raises(ModelError, match=text):
        list(model.generate([(0, request)]))
