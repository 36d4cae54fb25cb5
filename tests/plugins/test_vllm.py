"""The asking side of the backend vllm, against a scripted fake engine; the real one is in test_vllm_real.py."""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import os
import queue
import random
import signal
import sys
import threading
import venv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import Interrupted, ModelError
from evalkit.options import known
from evalkit.types import GenerateRequest, LikelihoodRequest, Text
from evalkit_vllm import VLLM, causes, child, engine, flow, generate, likelihood, settings
from evalkit_vllm.child import Child
from evalkit_vllm.flow import Call, Flow, Tally

FAKE = Path(__file__).with_name("vllm_fake_engine.py")
PYTHON = [sys.executable, "-I"]


# What is asked


def test_letters_are_one_node() -> None:
    assert likelihood.nodes([(5,), (6,), (7,), (6,)]) == [likelihood.Node(begun=(), tokens=(5, 6, 7))]


def test_longer_continuations_are_the_inner_nodes_of_their_tree() -> None:
    assert likelihood.nodes([(1, 2, 3), (1, 2, 4), (1,), (), (9, 8)]) == [
        likelihood.Node(begun=(), tokens=(1, 9)),
        likelihood.Node(begun=(1,), tokens=(2,)),
        likelihood.Node(begun=(1, 2), tokens=(3, 4)),
        likelihood.Node(begun=(9,), tokens=(8,)),
    ]


def test_more_tokens_than_a_call_may_name_are_asked_in_parts() -> None:
    found = likelihood.nodes([(token,) for token in range(300)])
    assert [len(node.tokens) for node in found] == [128, 128, 44]
    assert [token for node in found for token in node.tokens] == list(range(300))


def sampling(ids: Sequence[int], **given: Any) -> dict[str, Any]:
    from evalkit_tokenize import Limits

    request = GenerateRequest(prompt="", **{"max_tokens": 9, **given})
    return generate.settings(request, ids, 9, Limits(eos=frozenset({2, 1}), context=None))


def test_a_greedy_text_is_asked_for_once_and_ends_where_hf_ends_it() -> None:
    assert sampling([5], n=3) == {
        "max_tokens": 9,
        "ignore_eos": True,
        "stop_token_ids": [1, 2],
        "temperature": 0.0,
        "detokenize": False,
    }


def test_sampled_texts_take_the_settings_of_their_request() -> None:
    found = sampling([5], n=3, temperature=0.7, top_p=0.9, stop=("x", "y"))
    assert (found["n"], found["temperature"], found["top_p"]) == (3, 0.7, 0.9)
    assert (found["stop"], found["detokenize"]) == (["x", "y"], True)
    assert 0 < sampling([5], temperature=1.0, top_p=0.0)["top_p"] < 1e-5


def test_seeds_repeat_and_those_of_two_requests_share_none_of_their_texts() -> None:
    seeds = [sampling([one], n=100, temperature=1.0, seed=seed)["seed"] for one in range(50) for seed in range(4)]
    assert seeds == [
        sampling([one], n=100, temperature=1.0, seed=seed)["seed"] for one in range(50) for seed in range(4)
    ]
    ordered = sorted(seeds)
    assert min(after - before for before, after in itertools.pairwise(ordered)) > 100
    assert ordered[0] >= 0 and ordered[-1] < 2**62


# What an engine is started with


def test_no_secret_goes_to_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = ("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "db_password", "HF_TOKEN")
    for name in (*secrets, "TOKENIZERS_PARALLELISM", "MONKEY"):
        monkeypatch.setenv(name, "x")
    (env,) = settings.environments(str(tmp_path), replicas=1, devices=1, eager=False)
    assert set(secrets) & set(env) == set()
    assert {"TOKENIZERS_PARALLELISM", "MONKEY", "PATH"} <= set(env)
    (env,) = settings.environments("someone/model", replicas=1, devices=1, eager=False)
    assert set(secrets) & set(env) == {"HF_TOKEN"}


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    (env,) = settings.environments("m", replicas=1, devices=1, eager=True)
    assert (env["VLLM_LOGGING_LEVEL"], env["VLLM_NO_USAGE_STATS"], env["TORCHDYNAMO_DISABLE"]) == ("DEBUG", "1", "1")


@pytest.mark.parametrize(
    ("visible", "parts"),
    [(None, ["0,1", "2,3"]), ("4,5,6,7", ["4,5", "6,7"]), ("GPU-a,GPU-b,GPU-c,GPU-d", ["GPU-a,GPU-b", "GPU-c,GPU-d"])],
)
def test_each_engine_sees_its_own_devices(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, parts: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = settings.environments("m", replicas=2, devices=2, eager=False)
    assert [env["CUDA_VISIBLE_DEVICES"] for env in found] == parts


def test_too_few_devices_are_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with pytest.raises(ModelError, match="data_parallel_size=2 needs 4 devices, and CUDA_VISIBLE_DEVICES names 3"):
        settings.environments("m", replicas=2, devices=2, eager=False)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"engine_args": "{"}, "engine_args is not JSON"),
        ({"engine_args": "[1]"}, "engine_args must be a JSON object"),
        ({"batch_size": 4, "max_num_seqs": 5}, "are the same thing"),
        ({"data_parallel_size": 0}, "data_parallel_size=0 cannot work"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        VLLM("m", **options)


def test_what_is_an_option_is_no_further_argument() -> None:
    with pytest.raises(ModelError, match="engine_args may not hold dtype: it is an option of its own"):
        settings.arguments("m", {"dtype": "float32"}, {"dtype": "float16"})
    assert settings.arguments("m", {"dtype": "float32", "block_size": None}, {"cpu_offload_gb": 8}) == {
        "model": "m",
        "dtype": "float32",
        "cpu_offload_gb": 8,
    }


def test_a_python_that_is_not_there_is_said() -> None:
    with pytest.raises(ModelError, match=r"There is no program /no/such/python: python= names the Python"):
        settings.interpreter("/no/such/python")


def test_speed_options_are_options_and_the_others_bind() -> None:
    options = set(known(VLLM.__init__))
    assert options > VLLM.speed_options
    assert options - VLLM.speed_options == {
        "chat_template",
        "dtype",
        "engine_args",
        "kv_cache_dtype",
        "max_model_len",
        "quantization",
        "revision",
        "trust_remote_code",
    }


def test_the_engines_program_imports_vllm_and_the_standard_library_only() -> None:
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(engine))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    assert found - sys.stdlib_module_names == {"vllm"}


# Why an engine could not start or died


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("ModuleNotFoundError", "No module named 'vllm'", "; pip install 'evalkit-vllm"),
        (
            "ValueError",
            "Available memory on node 0 (1.2/15.5 GiB) on startup is less than desired CPU memory utilization.",
            "-M kv_cache_memory_bytes=",
        ),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB.", "CUDA out of memory; give it"),
        (
            "ValueError",
            "To serve at least one request with the model's max seq len (8192), 3.0 GiB KV cache is needed, which is"
            " larger than the available KV cache memory (1.0 GiB).",
            "-M max_model_len=",
        ),
        ("ValueError", "Model architectures ['Foo'] are not supported for now.", "for now; try the backend hf"),
        (
            "ValueError",
            "Bfloat16 is only supported on GPUs of 8.0 and newer.",
            "another -M dtype=",
        ),
        ("TypeError", "EngineArgs.__init__() got an unexpected keyword argument 'swap'", "see -M engine_args="),
        ("OSError", "[Errno 98] Address already in use", "set VLLM_PORT"),
        ("RuntimeError", "operator torchvision::nms does not exist", "pip uninstall torchvision"),
        ("ValueError", "Something else went wrong. See the docs.", "Something else went wrong"),
    ],
)
def test_a_cause_is_one_sentence_with_its_remedy(kind: str, text: str, sentence: str) -> None:
    told = causes.cause({"kind": kind, "text": text}, [], 1)
    assert sentence in told
    assert "\n" not in told and not told.endswith(".")


def test_the_cause_of_a_failed_worker_is_in_the_log() -> None:
    failed = {"kind": "RuntimeError", "text": "Engine core initialization failed. See root cause above."}
    log = [
        "(Worker_TP1 pid=7) ERROR 11-22 10:00:00 [core.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB",
        "RuntimeError: Engine core initialization failed. See root cause above.",
    ]
    assert causes.cause(failed, log, 1).startswith("torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB; give it")


@pytest.mark.parametrize(
    ("code", "text"), [(-9, "killed (signal 9)"), (-11, "ended by signal 11"), (3, "ended with exit code 3")]
)
def test_a_death_without_a_word_is_told_by_the_process(code: int, text: str) -> None:
    assert text in causes.cause(None, ["INFO nothing special"], code)


# The stream through engines


@dataclass
class Echo:
    """A job of one call for each prompt; its response is what was written."""

    calls: Sequence[Call]

    def response(self, replies: Sequence[flow.Reply]) -> list[Any]:
        return [reply.get("texts", reply.get("error")) for reply in replies]


def echo(*prompts: Sequence[int], **given: Any) -> Echo:
    return Echo([Call(ids=ids, settings=given) for ids in prompts])


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[Child, int]]]:
    """Start fake engines, each with its script."""
    monkeypatch.setattr(child, "PROGRAM", FAKE)
    started: list[Any] = []

    def start(*scripts: dict[str, Any]) -> dict[Child, int]:
        from evalkit_vllm.engines import Engines

        found = Engines("m", [Child(PYTHON, dict(os.environ), script) for script in scripts])
        started.append(found)
        found.wait()
        return found.children

    yield start
    for found in started:
        found.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Sequence[int]]]:
    """The process and the ids of each prompt that an engine is given, in this order."""
    found: list[tuple[int, Sequence[int]]] = []
    original = Child.send

    def send(one: Child, message: Any) -> None:
        if "ids" in message:
            found.append((one._process.pid, message["ids"]))
        original(one, message)

    monkeypatch.setattr(Child, "send", send)
    return found


def stream(children: dict[Child, int], jobs: Iterable[Any], tally: Tally | None = None) -> Iterator[tuple[int, Any]]:
    return Flow[Any, Any](children, lambda job: job, tally or Tally()).answers(jobs)


def ran(children: dict[Child, int], jobs: Sequence[Any]) -> dict[int, Any]:
    return dict(stream(children, enumerate(jobs)))


def test_every_request_is_answered_once_whatever_the_order(engines: Callable[..., dict[Child, int]]) -> None:
    chance = random.Random(1)
    prompts = [[chance.randrange(9) for _ in range(chance.randrange(2, 9))] for _ in range(300)]
    found = ran(engines({}, {"max_num_seqs": 1}), [echo(ids, ids[::-1], n=2) for ids in prompts])
    assert found == {
        place: [[[one[:-3:-1], "length"]] * 2 for one in (ids, ids[::-1])] for place, ids in enumerate(prompts)
    }


def test_what_needs_no_engine_is_given_at_once(engines: Callable[..., dict[Child, int]]) -> None:
    assert ran(engines({}), ["a", echo([1, 2]), "b"]) == {0: "a", 1: [[[[2, 1], "length"]]], 2: "b"}


def test_two_engines_share_the_work(
    engines: Callable[..., dict[Child, int]], sent: list[tuple[int, Sequence[int]]]
) -> None:
    children = engines({"hold": 2}, {"hold": 2})
    # Each answers only when it holds two; one job, whose calls are shared out before any answer is taken.
    assert ran(children, [echo(*([one, one] for one in range(4)))]) == {
        0: [[[[one, one], "length"]] for one in range(4)]
    }
    assert sorted(Counter(place for place, _ in sent).values()) == [2, 2]


def test_an_iterator_that_blocks_holds_no_answer_back(engines: Callable[..., dict[Child, int]]) -> None:
    given = threading.Event()

    def requests() -> Iterator[tuple[int, Any]]:
        yield 0, echo([1, 2])
        yield 1, echo([3, 4])
        assert given.wait(120), "the answers did not come while the iterator waited"
        yield 2, echo([5, 6])

    answers = stream(engines({}), requests())
    assert {next(answers)[0], next(answers)[0]} == {0, 1}
    given.set()
    assert [position for position, _ in answers] == [2]


def test_only_so_many_requests_are_read_ahead(
    engines: Callable[..., dict[Child, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "WINDOW", 10)
    read = itertools.count()
    most = 0

    def requests() -> Iterator[tuple[int, Any]]:
        for position in range(500):
            next(read)
            yield position, echo([position, 1])

    given = 0
    for given, _ in enumerate(stream(engines({}), requests()), 1):
        most = max(most, int(repr(read)[6:-1]) - given)
    assert given == 500
    # The window, twice what the engine works on at once, and the one in the reader's hand.
    assert most <= 10 + 8 + 1


def test_prompts_that_begin_alike_are_sent_one_after_the_other(
    engines: Callable[..., dict[Child, int]], sent: list[tuple[int, Sequence[int]]]
) -> None:
    # One job, so that all of it waits before the first is sent.
    prompts = [[place % 4, place] for place in range(40)]
    ran(engines({}), [echo(*prompts)])
    assert [ids for _, ids in sent] == sorted(prompts)


def test_a_request_that_vllm_refuses_fails_alone(engines: Callable[..., dict[Child, int]]) -> None:
    found = ran(engines({}), [echo([1, 2], temperature=3), echo([1, 2])])
    assert found == {0: ["temperature must be in [0, 2]."], 1: [[[[2, 1], "length"]]]}


def test_an_engine_that_is_killed_ends_the_run_resumable(engines: Callable[..., dict[Child, int]]) -> None:
    children = engines({"die_after": 5})
    answers = stream(children, ((one, echo([one, 1])) for one in range(100)))
    given: list[int] = []
    with pytest.raises(Interrupted) as stopped:
        given.extend(position for position, _ in answers)
    assert len(given) == 5
    assert str(stopped.value) == (
        "vLLM's engine died: its process was killed (signal 9), as systems do when memory runs out."
        " Repeat the command to go on."
    )
    with pytest.raises(Interrupted, match="signal 9"):  # it is not waited for when it is asked again
        ran(children, [echo([1, 2])])


def test_an_error_of_the_requests_is_raised_when_all_before_it_is_answered(
    engines: Callable[..., dict[Child, int]],
) -> None:
    def requests() -> Iterator[tuple[int, Any]]:
        yield from ((one, echo([one, 1])) for one in range(6))
        raise ModelError("no more")

    given: list[int] = []
    with pytest.raises(ModelError, match="no more"):
        given.extend(position for position, _ in stream(engines({}), requests()))
    assert sorted(given) == list(range(6))


def test_what_is_given_up_is_dropped_and_the_engines_go_on(engines: Callable[..., dict[Child, int]]) -> None:
    children = engines({"hold": 2})
    answers = stream(children, ((one, echo([one, 1])) for one in range(7)))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert len(ran(children, [echo([9, 8]), echo([9, 7])])) == 2


def test_the_tally_counts_what_was_found_in_the_prefix_cache(engines: Callable[..., dict[Child, int]]) -> None:
    tally = Tally()
    list(stream(engines({}), [(0, echo([1, 2, 3, 4])), (1, echo([1, 2], n=3))], tally))
    assert tally.line() == "vLLM: 2 prompts of 6 tokens, 50% of them found in the prefix cache; 8 tokens written."
    assert Tally().line() == ""


# What an engine is given at once


class Arriving(queue.SimpleQueue[dict[str, Any]]):
    """Messages that are all there; notes whether each was waited for: for ever, a while or not."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.waits: list[str] = []
        for one in messages:
            self.put(one)

    def get(self, block: bool = True, timeout: float | None = None) -> dict[str, Any]:
        self.waits.append("ever" if timeout is None else "while" if timeout else "not")
        return super().get(block, timeout)


@pytest.mark.parametrize(
    ("idle", "waits"), [(True, ["ever", "while", "while", "not", "not"]), (False, ["not"] * 5)], ids=["idle", "busy"]
)
def test_only_an_idle_engine_waits_and_only_until_a_step_is_full(
    idle: bool, waits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "AT_MOST", 3600.0)  # otherwise a pause of this process ends the waiting, too
    lines = Arriving(*({"id": place, "ids": [1] * 100} for place in range(4)))
    assert [one["id"] for one in engine.news(lines, idle=idle, full=300)] == [0, 1, 2, 3]
    assert lines.waits == waits


# Loading


@pytest.fixture
def bare(tmp_path: Path) -> Callable[[Path | None], str]:
    """The Python of an environment that has nothing but what lies in the given folder."""

    def make(packages: Path | None = None) -> str:
        venv.create(tmp_path / "bare", symlinks=True)
        (site,) = (tmp_path / "bare").glob("lib/*/site-packages")
        if packages:
            (site / "more.pth").write_text(f"{packages}\n")
        return str(tmp_path / "bare" / "bin" / "python")

    return make


def cannot_load(python: str) -> str:
    from evalkit_vllm.engines import Engines

    found = Engines("folder", [Child(settings.interpreter(python), dict(os.environ), {})])
    with pytest.raises(ModelError) as error:
        found.wait()
    found.close()
    return str(error.value)


def test_a_python_without_vllm_is_said_with_the_remedy(bare: Callable[..., str]) -> None:
    assert cannot_load(bare()) == (
        "vLLM cannot load folder: No module named 'vllm'; pip install 'evalkit-vllm[engine]'"
        " there, or name the Python of an environment that has it with -M python=PATH."
    )


def test_a_vllm_that_is_too_old_is_refused(bare: Callable[..., str], tmp_path: Path) -> None:
    """A fake vllm: an old one does not install beside the others."""
    package = tmp_path / "old" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '0.10.2'\nclass SamplingParams:\n    n: int\nLLM = None\n")
    (package / "sampling_params.py").write_text("RequestOutputKind = None\n")
    assert cannot_load(bare(tmp_path / "old")) == (
        "vLLM 0.10.2 cannot tell how likely given tokens are (logprob_token_ids): install vLLM 0.32 or newer."
    )


def test_one_engine_that_cannot_load_ends_all(engines: Callable[..., dict[Child, int]]) -> None:
    with pytest.raises(ModelError, match=r"^vLLM cannot load m: CUDA out of memory; give it more or less"):
        engines({}, {"fail": {"kind": "OutOfMemoryError", "text": "CUDA out of memory.", "version": "1"}})


def test_an_engine_that_dies_while_loading_tells_what_its_log_says(engines: Callable[..., dict[Child, int]]) -> None:
    log = ["INFO all is well", "ValueError: rope_parameters is not what it should be"]
    with pytest.raises(
        ModelError, match=r"^vLLM cannot load m: ValueError: rope_parameters is not what it should be\.$"
    ):
        engines({"log": log, "fail": {"kind": "RuntimeError", "text": "Worker failed", "version": "1"}})


# The backend


@pytest.fixture
def backend(
    tiny: Callable[[str], Path], engines: Callable[..., dict[Child, int]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[VLLM]:
    pytest.importorskip("torch")
    with closing(VLLM(str(tiny("llama")))) as made:
        made.open()
        yield made


@pytest.mark.torch
def test_texts_are_made_of_the_ids_that_come_back(backend: VLLM) -> None:
    greedy = GenerateRequest(prompt="one two three four five", max_tokens=4, n=2)
    long = GenerateRequest(prompt="A B C D " * 60, max_tokens=4)
    hot = GenerateRequest(prompt="one", max_tokens=4, temperature=5.0, n=2)
    found = dict(backend.generate(enumerate([greedy, long, hot])))
    ids = backend.tokenizer().prompt_ids(greedy)
    written = backend.tokenizer().text_after(ids, ids[:-3:-1])
    assert found[0].texts == (Text(text=written, finish="length"),) * 2
    assert (found[0].usage.prompt_tokens, found[0].usage.completion_tokens) == (len(ids), 2)
    tokens = len(backend.tokenizer().prompt_ids(long))
    assert found[1].error == f"The prompt has {tokens} tokens; the model takes 64."
    assert [text.error for text in found[2].texts] == ["vLLM: temperature must be in [0, 2]."] * 2


@pytest.mark.torch
def test_a_likelihood_is_summed_along_its_continuation(backend: VLLM) -> None:
    request = LikelihoodRequest(prompt="one", continuations=(" A", " A B C", "", " the answer"))
    ((_, found),) = backend.likelihood([(0, request)])
    _, continuations = backend.tokenizer().continuation_ids(request)
    assert found.logprobs == tuple(-math.fsum(ids) for ids in continuations)
    assert found.lengths == tuple(map(len, continuations))


@pytest.mark.torch
def test_its_marks_are_those_of_the_backend_hf(tiny: Callable[[str], Path]) -> None:
    hf = pytest.importorskip("evalkit_hf").HF
    for dtype in ("auto", "bfloat16"):
        assert VLLM(str(tiny("llama")), dtype=dtype).fingerprint() == hf(str(tiny("llama")), dtype=dtype).fingerprint()


@pytest.mark.torch
def test_the_context_is_the_checkpoints_or_what_vllm_is_told(tiny: Callable[[str], Path]) -> None:
    assert VLLM(str(tiny("llama"))).context() == 96
    assert VLLM(str(tiny("llama")), max_model_len=40).context() == 40


@pytest.mark.torch
def test_a_dry_run_says_what_is_missing(tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (missing,) = VLLM(str(tiny("llama"))).findings(tokens=9)
    assert (missing.level, missing.text) == ("error", "There is no vLLM beside evalkit.")
    assert VLLM(str(tiny("llama")), python=sys.executable).findings(tokens=9) == []
    (wrong,) = VLLM(str(tiny("llama")), python="/no/such/python").findings(tokens=9)
    assert wrong.text.startswith("There is no program /no/such/python")


def test_a_model_that_is_not_open_says_so() -> None:
    with pytest.raises(ModelError, match=r"The model m is not loaded: call open\(\) first"):
        list(VLLM("m").generate([]))


def test_closing_ends_the_process(engines: Callable[..., dict[Child, int]]) -> None:
    (one,) = engines({})
    pid = one._process.pid
    one.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
