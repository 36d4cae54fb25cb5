"""The real vLLM against the backend hf, and what remains of it when it, or evalkit, is killed.

EVALKIT_VLLM names the Python of an environment that has vLLM; evalkit need not be there. `nox -s vllm` makes one.
Without it, and without vLLM beside evalkit, these tests are skipped.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.evalkit.killing import kept, positions, records

from evalkit.errors import ModelError
from evalkit.load import Choice, Model, Wishes, load
from evalkit.plugins import Plugins
from evalkit.testing import check_backend
from evalkit.types import GenerateRequest, Likelihood, LikelihoodRequest, Request
from evalkit_vllm import VLLM

pytestmark = pytest.mark.torch
evalkit_hf = pytest.importorskip("evalkit_hf")

#: Both compute in float32, but not in the same order.
NEAR = 1e-3
#: Small enough that several engines fit beside one another.
SMALL: dict[str, Any] = {"enforce_eager": True, "kv_cache_memory_bytes": 64 << 20, "max_num_seqs": 16}
PROMPTS = (
    "The",
    "The capital of France is",
    "Question: What is the answer?\nAnswer:",
    "one two three",
    "తెలుగు",
    "A B C D",
)
#: More than evalkit reads ahead of what it keeps, so that a run is not over while it keeps one of the first.
N = 1200
#: Minutes of asking, so that a signal from outside comes in time.
ENDLESS = 40_000
#: evalkit, whose engine is killed as the twentieth response is kept.
KILLING = """
import os, runpy, signal
from evalkit.journal import Journal
from evalkit_vllm.child import Child

engines, kept = [], []
start, append = Child.start, Journal.append

def started(self, *given):
    engines.append(self._process.pid)
    start(self, *given)

def appended(self, *given):
    append(self, *given)
    kept.append(given[0])
    if len(kept) == 20:
        os.kill(engines[0], signal.SIGKILL)

Child.start, Journal.append = started, appended
runpy.run_module("evalkit", run_name="__main__")
"""


@pytest.fixture(scope="session")
def python() -> str:
    """The Python of an environment that has vLLM."""
    named = os.environ.get("EVALKIT_VLLM") or (sys.executable if find_spec("vllm") else "")
    if not named:
        pytest.skip("no vLLM: set EVALKIT_VLLM to the Python of an environment that has it, or run `nox -s vllm`")
    if Path(named).name.startswith("vllm"):  # its program, which test_openai_vllm.py takes as well
        named = str(Path(named).with_name("python"))
    return named


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, save_tokenizer: Callable[..., None]) -> Path:
    """The folder of a random model like conftest's `tiny`, with heads as wide as vLLM's CPU attention needs them."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("model")
    sizes = {"vocab_size": 400, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 96}
    config = transformers.LlamaConfig(**sizes, bos_token_id=0, eos_token_id=1, pad_token_id=1, initializer_range=0.2)
    torch.manual_seed(7)
    transformers.utils.logging.disable_progress_bar()
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    save_tokenizer(folder, around="<s> $A")
    return folder


@pytest.fixture(scope="module")
def llama(model: Path, python: str) -> Iterator[VLLM]:
    with closing(VLLM(str(model), python=python, **SMALL)) as backend:
        backend.open()
        yield backend


@pytest.fixture(scope="module")
def hf(model: Path) -> Any:
    backend = evalkit_hf.HF(str(model))
    backend.open()
    return backend


def ask(prompt: str, **settings: Any) -> GenerateRequest:
    return GenerateRequest(prompt=prompt, **{"max_tokens": 8, **settings})


def answers(backend: Any, *requests: Any) -> list[Any]:
    answer = backend.likelihood if isinstance(requests[0], LikelihoodRequest) else backend.generate
    found = dict(answer(enumerate(requests)))
    return [found[index] for index in range(len(requests))]


# The same answers as hf gives


def test_it_keeps_the_contract(llama: VLLM) -> None:
    check_backend(llama)


def test_greedy_texts_stops_and_lengths_are_those_of_hf(llama: VLLM, hf: Any) -> None:
    whole = [ask(prompt, max_tokens=16) for prompt in PROMPTS]
    stops = [("never", one.texts[0].text[2:5]) for one in answers(hf, *whole)]
    asked = [ask(prompt, max_tokens=3 + 4 * place) for place, prompt in enumerate(PROMPTS)]
    asked += [ask("A B C D " * 60), ask("Hello" * 20, max_tokens=500)]
    stopped = [replace(one, stop=stop) for one, stop in zip(whole, stops, strict=True)]
    assert answers(llama, *asked) == answers(hf, *asked)
    # vLLM may look at a text a token later, when a character is whole; and what is greedy is written once.
    found, wanted = (answers(backend, *stopped, ask("Hello", n=2)) for backend in (llama, hf))
    assert [one.texts for one in found] == [one.texts for one in wanted]


def test_all_ids_that_end_a_text_in_hf_end_it_here(llama: VLLM, hf: Any) -> None:
    assert llama._limits is not None
    assert llama._limits.eos == hf._model.limits.eos == {1}


def test_likelihoods_are_those_of_hf(llama: VLLM, hf: Any) -> None:
    ends = ((" A", " B", " C", " D"), (" Paris", " the answer is A", "\n\nQuestion", " Paris", "", " తెలుగు"))
    asked = [LikelihoodRequest(prompt=prompt, continuations=some) for prompt in PROMPTS for some in ends]
    for found, wanted in zip(answers(llama, *asked), answers(hf, *asked), strict=True):
        assert found.lengths == wanted.lengths
        assert found.logprobs == pytest.approx(wanted.logprobs, abs=NEAR)


def test_more_tokens_than_a_call_names_are_as_likely_as_in_hf(llama: VLLM, hf: Any) -> None:
    tokenizer = llama.tokenizer()
    words = {tokenizer.text_after([], [one]) for one in range(2, 400)}
    ends = tuple(sorted(word for word in words if "\ufffd" not in word and tokenizer.count(word) == 1))
    assert len(ends) > 128
    request = LikelihoodRequest(prompt="A", continuations=ends, joint=False)
    ((found,), (wanted,)) = answers(llama, request), answers(hf, request)
    assert found.logprobs == pytest.approx(wanted.logprobs, abs=NEAR)


def test_sampled_texts_differ_repeat_and_follow_their_seed(llama: VLLM) -> None:
    request = ask("Hello", temperature=1.0, top_p=0.95, n=6, seed=5)
    (first,), (again,) = answers(llama, request), answers(llama, request)
    (other,) = answers(llama, ask("Hello", temperature=1.0, top_p=0.95, n=6, seed=6))
    texts = [text.text for text in first.texts]
    assert len(set(texts)) == 6
    assert texts == [text.text for text in again.texts]
    assert not set(texts) & {text.text for text in other.texts}
    assert first.usage.completion_tokens == 48


def test_two_engines_give_the_answers_of_one(model: Path, python: str, llama: VLLM) -> None:
    asked = [ask(f"{prompt} {number}") for number in range(8) for prompt in PROMPTS]
    with closing(VLLM(str(model), python=python, data_parallel_size=2, **SMALL)) as two:
        two.open()
        assert answers(two, *asked) == answers(llama, *asked)
        assert two._engines is not None
        assert len(two._engines.children) == 2


def published(backend: VLLM, name: str, wishes: Wishes) -> list[Request]:
    plugins = Plugins()
    choice = Choice(asked=name, benchmark=plugins.benchmark(name)(), options={})
    asked = Model(backend_name="vllm", name="", options={}, backend=backend)
    return [request for _, _, request in load(choice, asked, wishes, open_dataset=plugins.open_dataset).requests()]


def test_smollm2_answers_published_questions_as_hf_does(smollm2: Path, python: str, test_data: Path) -> None:
    """A smaller form of benchmarks/vllm_agreement.py."""
    hf = evalkit_hf.HF(str(smollm2), dtype="float32")
    with closing(VLLM(str(smollm2), python=python, **{**SMALL, "kv_cache_memory_bytes": 512 << 20})) as backend:
        backend.open()
        hf.open()
        wishes = Wishes(data=str(test_data), limit=6)
        for found, wanted in zip(
            *(answers(one, *published(backend, "mmlu", wishes)) for one in (backend, hf)), strict=True
        ):
            assert isinstance(found, Likelihood)
            assert found.logprobs == pytest.approx(wanted.logprobs, abs=NEAR)
        wishes = Wishes(data=str(test_data), limit=3, shots=1)
        problems = [ask(one.prompt, max_tokens=16, chat=one.chat) for one in published(backend, "gsm", wishes)]
        assert [one.texts for one in answers(backend, *problems)] == [one.texts for one in answers(hf, *problems)]
        assert "% of them found in the prefix cache" in backend.account()


# Loading


def test_the_engine_needs_no_evalkit_and_evalkit_no_vllm(model: Path, python: str, tmp_path: Path) -> None:
    """An environment that sees the libraries of vLLM's, but no distribution that was installed from the tree."""
    where = "import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec('vllm').origin).parent.parent)"
    site = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
    venv.create(tmp_path / "apart", symlinks=True)
    (own,) = (tmp_path / "apart").glob("lib/*/site-packages")
    # What .pth files name there, as those of editable installs, is not looked into.
    (own / "vllm.pth").write_text(f"{site}\n")
    apart = str(tmp_path / "apart" / "bin" / "python")
    assert subprocess.run([apart, "-I", "-c", "import evalkit"], check=False, capture_output=True).returncode == 1
    with closing(VLLM(str(model), python=apart, **SMALL)) as backend:
        backend.open()
        assert answers(backend, ask("Hello"))[0].error == ""
    assert "vllm" not in sys.modules


def test_what_vllm_says_of_a_wrong_setting_is_one_sentence(model: Path, python: str) -> None:
    wrong = VLLM(str(model), python=python, engine_args='{"swapspace": 1}', **SMALL)
    with pytest.raises(ModelError) as error:
        wrong.open()
    assert "unexpected keyword argument 'swapspace'; see -M engine_args=" in str(error.value)
    assert "\n" not in str(error.value)


# Killed


def command(
    model: Path, python: str, out: Path, *, n: int = N, program: Sequence[str] = ("-m", "evalkit")
) -> list[str]:
    options = {"python": python, **SMALL}
    given = [part for name, value in options.items() for part in ("-M", f"{name}={value}")]
    run = ["run", "-m", f"vllm:{model}", "-b", "arithmetic", "-B", f"n={n}", *given, "--out", str(out)]
    return [sys.executable, "-P", *program, *run]


def engine_of(pid: int) -> int:
    """The engine that a process has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and "engine.py" in (folder / "cmdline").read_text():
                return int(folder.name)
    raise AssertionError(f"process {pid} has no engine")


def is_there(pid: int) -> bool:
    """Whether a process lives; one that only waits to be noticed is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def started(model: Path, python: str, out: Path) -> tuple[subprocess.Popen[str], int]:
    """A run that has kept some responses and goes on for minutes, and its engine."""
    # A shell that starts a suite in the background has it, and what it starts, ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command(model, python, out, n=ENDLESS), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, before)
    while process.poll() is None and not kept(out):
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be killed: let it ask more"
    return process, engine_of(process.pid)


@pytest.fixture(scope="module")
def undisturbed(model: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The records of a run that nobody kills."""
    out = tmp_path_factory.mktemp("whole")
    subprocess.run(command(model, python, out), check=True, capture_output=True)
    return records(out)


def test_a_killed_engine_stops_the_run_and_the_same_command_completes_it(
    model: Path, python: str, tmp_path: Path, undisturbed: bytes
) -> None:
    run = command(model, python, tmp_path, program=("-c", KILLING))
    killed = subprocess.run(run, check=False, capture_output=True, text=True)
    assert killed.returncode == 75
    assert killed.stderr.splitlines()[-1] == (
        "vLLM's engine died: its process was killed (signal 9), as systems do when memory runs out."
        " Repeat the command to go on."
    )
    assert 20 <= len(positions(tmp_path)) < N
    subprocess.run(command(model, python, tmp_path), check=True, capture_output=True)
    assert sorted(positions(tmp_path)) == list(range(N))
    assert records(tmp_path) == undisturbed


def test_a_killed_evalkit_leaves_no_engine_behind(model: Path, python: str, tmp_path: Path) -> None:
    process, engine = started(model, python, tmp_path)
    process.kill()
    process.communicate()
    end = time.monotonic() + 120
    while is_there(engine) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_there(engine)


def test_ctrl_c_says_how_far_it_is_and_leaves_no_engine_behind(model: Path, python: str, tmp_path: Path) -> None:
    process, engine = started(model, python, tmp_path)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 75
    assert re.search(
        rf"^Stopped: [1-9]\d* of {ENDLESS} responses are kept in .*; repeat the command to go on\.$", told, re.M
    )
    assert not is_there(engine)
