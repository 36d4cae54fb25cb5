"""The transformers backend against a loop that cannot be wrong: one row, no cache, the whole text read at each step."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import ModelError
from evalkit.testing import check_backend
from evalkit.types import GenerateRequest, Generation, Likelihood, LikelihoodRequest, Text

evalkit_hf = pytest.importorskip("evalkit_hf")

pytestmark = pytest.mark.torch

BATCHES = (1, 3, 8)
KINDS = ("llama", "opt", "gpt_neox")
PROMPTS = (
    "The",
    "The capital of France is",
    "Question: What is the answer?\nAnswer: The answer is:",
    "one two three four five 1 2 3",
    "Hello there " * 6,
    "తెలుగు",
    "Answer:",
    "What is 2 + 3?\n",
    "A B C D A B C D A B",
)
#: One token each, one of several tokens, and one that occurs twice.
ENDS = ((" A", " B", " C", " D"), (" Paris", " the answer is A", "\n\nQuestion", " Paris"))


@dataclass(frozen=True)
class Plain:
    """The loop to compare with."""

    model: Any
    tokenizer: Any

    def text(self, prompt: str, tokens: int) -> tuple[str, float]:
        """The greedy text, and the smallest distance between the two best logits on its way."""
        made: list[int] = []
        ids, gap = self.tokenizer(prompt)["input_ids"], math.inf
        while len(made) < tokens:
            best = self.logits([*ids, *made])[-1].topk(2)
            gap = min(gap, float(best.values[0] - best.values[1]))
            if int(best.indices[0]) == self.tokenizer.eos_token_id:
                break
            made.append(int(best.indices[0]))
        return self.decode([*ids, *made]).removeprefix(self.decode(ids)), gap

    def logprob(self, prompt: str, end: str) -> float:
        """The summed log-probability of a continuation whose tokens do not merge with the prompt's."""
        before, ids = len(self.tokenizer(prompt)["input_ids"]), self.tokenizer(prompt + end)["input_ids"]
        logprobs = self.logits(ids).log_softmax(-1)
        return sum(float(logprobs[place - 1, ids[place]]) for place in range(before, len(ids)))

    def logits(self, ids: list[int]) -> Any:
        import torch

        with torch.no_grad():
            return self.model(torch.tensor([ids]), use_cache=False).logits[0]

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def plain(folder: Path) -> Plain:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return Plain(model.eval(), transformers.AutoTokenizer.from_pretrained(folder))


def opened(folder: Path, **options: Any) -> Any:
    backend = evalkit_hf.HF(str(folder), **options)
    backend.open()
    return backend


def ask(prompt: str, **settings: Any) -> GenerateRequest:
    return GenerateRequest(prompt=prompt, **{"max_tokens": 8, **settings})


def answers(backend: Any, *requests: GenerateRequest) -> list[Generation]:
    found = dict(backend.generate(enumerate(requests)))
    return [found[index] for index in range(len(requests))]


def texts(backend: Any, *requests: GenerateRequest) -> list[str]:
    generations = answers(backend, *requests)
    assert [generation.error for generation in generations] == [""] * len(requests)
    return [text.text for generation in generations for text in generation.texts]


def likelihoods(backend: Any, *requests: LikelihoodRequest) -> list[Likelihood]:
    found = dict(backend.likelihood(enumerate(requests)))
    return [found[index] for index in range(len(requests))]


def compare_texts(backend: Any, reference: list[tuple[str, float]], requests: list[GenerateRequest]) -> int:
    """Assert that texts are equal unless two tokens were as good as equal; the number of those exceptions."""
    differing = [gap for (text, gap), own in zip(reference, texts(backend, *requests), strict=True) if own != text]
    assert all(gap < 1e-3 for gap in differing)
    return len(differing)


def farthest(backend: Any, reference: list[list[float]], requests: list[LikelihoodRequest]) -> float:
    """The largest difference between a log-probability and that of the plain loop."""
    own = [list(likelihood.logprobs) for likelihood in likelihoods(backend, *requests)]
    pairs = [pair for one, other in zip(own, reference, strict=True) for pair in zip(one, other, strict=True)]
    return max(abs(one - other) for one, other in pairs)


# Against the plain loop


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> tuple[Path, Plain]:
    folder = tiny(request.param)
    return folder, plain(folder)


def test_tiny_greedy_texts_are_those_of_the_plain_loop(pair: tuple[Path, Plain]) -> None:
    folder, loop = pair
    requests = [ask(prompt, max_tokens=3 + 4 * place) for place, prompt in enumerate(PROMPTS)]
    reference = [loop.text(request.prompt, request.max_tokens) for request in requests]
    assert len({text for text, _ in reference}) == len(PROMPTS)
    assert sum(compare_texts(opened(folder, batch_size=size), reference, requests) for size in BATCHES) <= 1


def test_tiny_likelihoods_are_those_of_the_plain_loop(pair: tuple[Path, Plain]) -> None:
    folder, loop = pair
    requests = [LikelihoodRequest(prompt=prompt, continuations=ends) for prompt in PROMPTS for ends in ENDS]
    requests = [request for request in requests if not request.prompt.endswith((" ", "\n"))]
    reference = [[loop.logprob(request.prompt, end) for end in request.continuations] for request in requests]
    for size in BATCHES:
        assert farthest(opened(folder, batch_size=size), reference, requests) < 1e-4


@pytest.fixture(scope="module")
def smol(smollm2: Path) -> Any:
    return opened(smollm2)


def test_smollm2_equals_the_plain_loop(smollm2: Path) -> None:
    loop = plain(smollm2)
    asked = [ask(prompt, max_tokens=2 + place // 2) for place, prompt in enumerate(PROMPTS)]
    wanted = [LikelihoodRequest(prompt=prompt, continuations=ends) for prompt in PROMPTS[1:4] for ends in ENDS]
    greedy = [loop.text(request.prompt, request.max_tokens) for request in asked]
    logprobs = [[loop.logprob(request.prompt, end) for end in request.continuations] for request in wanted]
    for size in BATCHES:
        backend = opened(smollm2, batch_size=size)
        assert compare_texts(backend, greedy, asked) <= 1
        assert farthest(backend, logprobs, wanted) < 1e-4


def recorded(test_data: Path, kind: str) -> list[dict[str, Any]]:
    with gzip.open(test_data / "oracles" / "open_instruct_v1" / "model_outputs.jsonl.gz", "rt") as lines:
        return [row for row in map(json.loads, lines) if row["kind"] == kind]


def test_smollm2_gives_the_recorded_mmlu_probabilities(smol: Any, test_data: Path) -> None:
    rows = sorted(recorded(test_data, "mmlu_next_token"), key=lambda row: len(row["prompt"]))[:16]
    settings: dict[str, Any] = {"continuations": ("A", "B", "C", "D"), "bos": False, "joint": False}
    requests = [LikelihoodRequest(prompt=row["prompt"], **settings) for row in rows]
    for row, likelihood in zip(rows, likelihoods(smol, *requests), strict=True):
        weights = [math.exp(logprob) for logprob in likelihood.logprobs]
        assert [weight / sum(weights) for weight in weights] == pytest.approx(row["probabilities"], abs=1e-3)
        assert likelihood.lengths == (1, 1, 1, 1)


def test_smollm2_begins_as_the_recorded_completions_do(smol: Any, test_data: Path) -> None:
    rows = recorded(test_data, "completion")[::3]
    stops = [tuple(smol.tokenizer().text_after([], ids) for ids in row["stop_token_ids"]) for row in rows]
    requests = [ask(row["prompt"], max_tokens=12, bos=False, stop=stop) for row, stop in zip(rows, stops, strict=True)]
    for row, stop, generation in zip(rows, stops, answers(smol, *requests), strict=True):
        [text] = generation.texts
        # The recorded texts were cut at ids, so that a stop string inside a longer token stands in them.
        cut = min([row["completion"].find(one) for one in stop if one in row["completion"]], default=None)
        whole = row["completion"][:cut]
        # The last of twelve tokens may be half a character.
        assert text.text == whole if text.finish == "stop" else whole.startswith(text.text.rstrip("\ufffd"))


def test_smollm2_ends_its_turn(smol: Any) -> None:
    [generation] = answers(smol, ask("What is the capital of France?", chat=True, max_tokens=20))
    assert generation.texts == (Text(text="The capital of France is Paris.", finish="stop"),)


# What each row has of its own


@pytest.fixture(scope="module")
def llama(tiny: Callable[[str], Path]) -> Any:
    return opened(tiny("llama"), batch_size=4)


def test_each_row_has_its_own_stops(llama: Any) -> None:
    whole = texts(llama, *(ask(prompt, max_tokens=16) for prompt in PROMPTS))
    stops = [text[place : place + 3] for place, text in enumerate(whole)]
    requests = [
        ask(prompt, max_tokens=16, stop=("never there", stop)) for prompt, stop in zip(PROMPTS, stops, strict=True)
    ]
    cut = [text[: text.find(stop)] for text, stop in zip(whole, stops, strict=True)]
    generations = answers(llama, *requests)
    assert [generation.texts[0] for generation in generations] == [Text(text=text, finish="stop") for text in cut]
    spent = [generation.usage.completion_tokens for generation in generations]
    assert all(tokens < 16 for tokens in spent[:6])


def test_the_first_of_several_stops_cuts(llama: Any) -> None:
    [whole] = texts(llama, ask("Hello", max_tokens=16))
    late, early = whole[5:8], whole[4:8]  # the same token completes both
    assert whole.find(early) < whole.find(late)
    assert texts(llama, ask("Hello", max_tokens=16, stop=(late, early))) == [whole[: whole.find(early)]]


def test_a_stop_is_seen_when_its_last_byte_arrives(llama: Any) -> None:
    import random

    from evalkit_hf.generate import Draft, Row, _meets_stop

    row = Row(index=0, request=ask("Hello", stop=("🙂🙂",)), sample=0, ids=[0], room=99)
    ids = llama.tokenizer()._encode("one 🙂🙂")
    assert ids[-8:] == [*ids[-4:], *ids[-4:]]  # a token for each byte
    seen = [
        _meets_stop(Draft(row=row, random=random.Random(0), ids=ids[:size]), llama.tokenizer())
        for size in range(1, len(ids) + 1)
    ]
    assert seen == [False] * (len(ids) - 1) + [True]


def test_a_text_without_its_stop_ends_by_length(llama: Any) -> None:
    [generation] = answers(llama, ask("Hello", max_tokens=5, stop=("never there",)))
    assert generation.texts[0].finish == "length"
    assert generation.usage.completion_tokens == 5


def test_all_named_ids_end_a_text(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("opt"), tmp_path / "model")
    loop = plain(folder)
    first = [int(loop.logits(loop.tokenizer(prompt)["input_ids"])[-1].argmax()) for prompt in PROMPTS[:2]]
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [1, *first]}))
    for generation in answers(opened(folder), *map(ask, PROMPTS[:2])):
        assert generation.texts == (Text(text="", finish="stop"),)


def test_sampled_texts_do_not_depend_on_their_batch(tiny: Callable[[str], Path]) -> None:
    requests = [ask(prompt, temperature=1.0, top_p=0.9, n=3, seed=5) for prompt in PROMPTS]
    [alone, among_others] = [opened(tiny("llama"), batch_size=size) for size in (1, 8)]
    assert texts(alone, *requests) == texts(among_others, *requests) == texts(among_others, *requests)
    assert texts(alone, requests[4]) == texts(among_others, *requests)[12:15]
    assert texts(alone, *(replace(request, seed=6) for request in requests)) != texts(alone, *requests)


def test_several_texts_of_one_request_differ(llama: Any) -> None:
    [generation] = answers(llama, ask("Hello", temperature=1.0, n=6))
    assert len({text.text for text in generation.texts}) == 6
    assert generation.usage.completion_tokens == 48


def test_greedy_and_sampled_rows_share_a_batch(llama: Any) -> None:
    greedy = [ask(prompt) for prompt in PROMPTS[:3]]
    mixed = texts(llama, greedy[0], replace(greedy[1], temperature=2.0), greedy[2])
    assert [mixed[0], mixed[2]] == [texts(llama, greedy[0])[0], texts(llama, greedy[2])[0]]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.7), (2.0, 0.5), (1.0, 0.0)])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature: float, top_p: float) -> None:
    import random

    import torch

    from evalkit_hf.generate import Draft, Row, choose

    logits = torch.tensor([0.5, 2.0, -1.0, 1.5, 0.0])
    likely = (logits / temperature).softmax(-1)
    kept: set[int] = set()
    mass = 0.0
    for token in likely.argsort(descending=True).tolist():
        if not kept or mass < top_p:
            kept.add(token)
            mass += float(likely[token])
    row = Row(index=0, request=ask("", temperature=temperature, top_p=top_p), sample=0, ids=[], room=1)
    draws = 20_000
    drafts = [Draft(row=row, random=random.Random(number)) for number in range(draws)]
    counts = Counter(choose(logits.expand(draws, -1), drafts))
    assert set(counts) == kept
    for token in kept:
        assert counts[token] / draws == pytest.approx(float(likely[token]) / mass, abs=0.015)


# What goes wrong with one request is that response's error


def test_a_prompt_that_is_too_long_fails_alone(llama: Any) -> None:
    tokens = llama.tokenizer().count("A B C D " * 60) + 1
    long, short = answers(llama, ask("A B C D " * 60, n=2), ask("Hello"))
    assert [text.error for text in long.texts] == [f"The prompt has {tokens} tokens; the model takes 96."] * 2
    assert short.error == ""
    far, near = likelihoods(
        llama,
        LikelihoodRequest(prompt="A B C D " * 60, continuations=(" A",)),
        LikelihoodRequest(prompt="Hello", continuations=(" A",)),
    )
    assert far.error.endswith("the model takes 96.")
    assert near.error == ""


def test_an_answer_ends_where_the_context_does(llama: Any) -> None:
    prompt = "Hello" * 20
    [generation] = answers(llama, ask(prompt, max_tokens=500))
    assert generation.usage.prompt_tokens + generation.usage.completion_tokens == 96
    assert generation.texts[0].finish == "length"


def test_an_empty_prompt_without_bos_fails_alone(tiny: Callable[[str], Path]) -> None:
    empty, filled = answers(opened(tiny("opt")), ask(""), ask("Hello"))
    assert empty.error == "The prompt is empty, without even a BOS token, so nothing can follow it."
    assert filled.error == ""
    [likelihood] = likelihoods(opened(tiny("opt")), LikelihoodRequest(prompt="", continuations=("A",)))
    assert likelihood.error.startswith("Nothing stands before the continuations")


def test_empty_continuations_are_certain(llama: Any) -> None:
    [nothing, mixed] = likelihoods(
        llama,
        LikelihoodRequest(prompt="Hello", continuations=("", "")),
        LikelihoodRequest(prompt="Hello", continuations=("", " A")),
    )
    assert (nothing.logprobs, nothing.lengths) == ((0.0, 0.0), (0, 0))
    assert mixed.logprobs[0] == 0.0 > mixed.logprobs[1]


def test_logits_that_are_no_numbers_are_an_error(tiny: Callable[[str], Path]) -> None:
    backend = opened(tiny("llama"))
    backend._model._module.lm_head.weight.data.fill_(math.nan)
    [generation] = answers(backend, ask("Hello", n=2))
    [likelihood] = likelihoods(backend, LikelihoodRequest(prompt="Hello", continuations=(" A", " B")))
    assert [text.error for text in generation.texts] == [likelihood.error] * 2
    assert "(NaN)" in likelihood.error


@pytest.fixture
def cramped(tiny: Callable[[str], Path]) -> Iterator[Any]:
    """A backend whose memory holds two rows of less than forty tokens."""
    import torch

    def allocate(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        rows, columns = keywords["input_ids"].shape
        torch.empty(2**60 if rows > 2 or columns > 40 else 1)

    backend = opened(tiny("llama"), batch_size=8)
    handle = backend._model._module.register_forward_pre_hook(allocate, with_kwargs=True)
    yield backend
    handle.remove()


def test_a_batch_that_does_not_fit_is_halved(cramped: Any, llama: Any) -> None:
    requests = [ask(prompt) for prompt in PROMPTS if len(prompt) < 40]
    assert texts(cramped, *requests) == texts(llama, *requests)
    assert cramped._batches.size <= 2


def test_a_row_that_never_fits_fails_alone(cramped: Any) -> None:
    long, short = answers(cramped, ask("A B C D " * 12), ask("Hello"))
    assert long.error.startswith("Memory ran out on a prompt of 5")
    assert short.error == ""
    far, near = likelihoods(
        cramped,
        LikelihoodRequest(prompt="A B C D " * 12, continuations=(" A", " the answer")),
        LikelihoodRequest(prompt="Hello", continuations=(" A", " the answer")),
    )
    assert far.error.startswith("Memory ran out")
    assert near.error == ""


def test_another_error_of_the_model_is_raised(llama: Any, tiny: Callable[[str], Path]) -> None:
    backend = opened(tiny("llama"))

    def fail(*arguments: Any) -> None:
        raise RuntimeError("a defect")

    backend._model._module.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="a defect"):
        answers(backend, ask("Hello"))


def test_requests_are_read_in_windows_and_none_is_lost(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit_hf.hf.WINDOW", 4)
    requests = [ask(f"{number} {'one ' * (number % 5)}", max_tokens=2) for number in range(11)]
    assert sorted(index for index, _ in llama.generate(enumerate(requests))) == list(range(11))


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_the_contract(tiny: Callable[[str], Path], kind: str) -> None:
    check_backend(opened(tiny(kind)))


# Loading


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, evalkit_hf; evalkit_hf.HF('x'); print({'torch', 'transformers', 'jinja2'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_the_hook_gives_the_backend() -> None:
    assert evalkit_hf.backend() is evalkit_hf.HF
    assert evalkit_hf.HF.can == {"generate", "likelihood"}


def test_a_fingerprint_needs_no_weights_in_memory(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("llama"), tmp_path / "model")
    before = evalkit_hf.HF(str(folder)).fingerprint()
    assert set(before) == {"config", "generation", "tokenizer", "weights", "dtype"}
    assert before["dtype"] == "float32"
    assert evalkit_hf.HF(str(folder), batch_size=3).fingerprint() == before
    assert evalkit_hf.HF(str(folder), dtype="bfloat16").fingerprint() == {**before, "dtype": "bfloat16"}
    changed = {"weights": "model.safetensors", "config": "config.json", "generation": "generation_config.json"}
    for mark, name in changed.items():
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b"\n")
        after = evalkit_hf.HF(str(folder)).fingerprint()
        assert [key for key in before if after[key] != before[key]] == [mark]
        (folder / name).write_bytes(content)


def test_two_checkpoints_of_one_training_run_are_two_models(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny("llama"))
    prints = []
    for step in (1, 2):
        folder = shutil.copytree(tiny("llama"), tmp_path / f"step-{step}")
        for weight in model.parameters():
            weight.data.mul_(1.001)
        model.save_pretrained(folder)
        prints.append(evalkit_hf.HF(str(folder)).fingerprint())
    assert [key for key in prints[0] if prints[0][key] != prints[1][key]] == ["weights"]


def test_the_weights_have_the_dtype_that_was_asked(tiny: Callable[[str], Path]) -> None:
    import torch

    assert opened(tiny("llama"), dtype="bfloat16")._model._module.dtype == torch.bfloat16
    assert opened(tiny("llama"))._model._module.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"has no config\.json: give a folder that save_pretrained wrote, or a hub id"),
        ("config.json", "{", r"The tokenizer in .* cannot be loaded: .* not a valid JSON file"),
        ("model.safetensors", None, r"has no weights \(\*\.safetensors or \*\.bin\): copy them there"),
        ("model.safetensors", "damaged", r"The model in .* cannot be loaded: "),
        ("tokenizer.json", None, r"holds no tokenizer: copy there the tokenizer files"),
    ],
)
def test_a_damaged_folder_is_named(
    tiny: Callable[[str], Path], tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    folder = shutil.copytree(tiny("llama"), tmp_path / "model")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    backend = evalkit_hf.HF(str(folder))
    with pytest.raises(ModelError, match=message):
        backend.open()
    if content != "damaged":
        with pytest.raises(ModelError, match=message):
            backend.fingerprint()


def test_weights_that_are_missing_are_not_made_up(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny("llama"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of the model's weights, lm_head\.weight among them"):
        opened(folder)


def test_an_unknown_model_is_named() -> None:
    for call in ("open", "fingerprint", "tokenizer"):
        with pytest.raises(ModelError, match=r"'no/such-model' is not a folder, and no .* could be had"):
            getattr(evalkit_hf.HF("no/such-model"), call)()


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError, match=r"needs torch and transformers: pip install evalkit-hf"):
        evalkit_hf.HF("anything").open()


def test_a_batch_has_at_least_one_row() -> None:
    with pytest.raises(ModelError, match=r"batch_size=0 cannot work: give 1 or more, or auto\."):
        evalkit_hf.HF("anything", batch_size=0)


def test_a_model_answers_only_while_it_is_open(tiny: Callable[[str], Path]) -> None:
    backend = opened(tiny("llama"))
    backend.close()
    backend.close()
    with pytest.raises(ModelError, match=r"is not loaded: call open\(\) first"):
        answers(backend, ask("Hello"))
