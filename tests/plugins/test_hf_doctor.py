"""What a dry run finds out about a checkpoint without its weights, on real tokenizers and real files of weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from evalkit import Finding
from evalkit.cli import evalkit

evalkit_hf = pytest.importorskip("evalkit_hf")

pytestmark = pytest.mark.torch

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
#: A question, in a chat or not, and one whose answers are letters.
BENCHMARKS = """
from evalkit import Benchmark, Data, Example, GenerateRequest, LikelihoodRequest, Reading, hookimpl
from evalkit.extract import first_line, likeliest
from evalkit.metrics import equal


def plain(*, prompt: str = "The capital of France is", times: int = 1):
    return _benchmark(
        lambda example, context: GenerateRequest(prompt=prompt * times, max_tokens=8, chat=context.chat),
        Reading(name="plain", extract=first_line, metrics={"accuracy": equal}),
    )


def letters(*, first: str = " A", joint: bool = True):
    return _benchmark(
        lambda example, context: LikelihoodRequest(prompt="Answer:", continuations=(first, " B"), joint=joint),
        Reading(name="plain", extract=likeliest("AB"), metrics={"accuracy": equal}),
        variant="letters", asks="likelihood",
    )


def _benchmark(request, reading, **fields):
    return Benchmark(
        name="one", version=1, doc="One question.", facet="knowledge",
        data=Data(home="here", licence="CC0-1.0", file="", rows=lambda source: iter([{}])),
        example=lambda row: Example(id="0", question="?", target="A"), request=request, readings=(reading,), **fields
    )


@hookimpl
def benchmarks():
    return [plain, letters]
"""
Examine = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """The findings of a dry run on a checkpoint folder."""
    (tmp_path / "one.py").write_text(BENCHMARKS)

    def findings(folder: Path, *more: object, bench: str = "") -> list[tuple[str, str]]:
        which = f"{tmp_path}/one.py{bench}"
        command = ["run", "-m", f"hf:{folder}", "-b", which, "--out", tmp_path, "--dry-run", "--json", *more]
        ran = CliRunner().invoke(evalkit, [str(one) for one in command], standalone_mode=False)
        assert ran.exception is None, ran.output
        (document,) = json.loads(ran.stdout)
        levels = [finding["level"] for finding in document["findings"]]
        assert ran.return_value == int("error" in levels)
        return [(finding["level"], finding["text"]) for finding in document["findings"]]

    return findings


@pytest.fixture
def llama(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """A checkpoint folder of the test's own, which takes 96 tokens and adds BOS."""
    return Path(shutil.copytree(tiny("llama"), tmp_path / "llama"))


def test_a_whole_checkpoint_has_no_findings(llama: Path, examine: Examine) -> None:
    assert examine(llama) == []
    assert examine(llama, bench=":one:letters") == []


@pytest.mark.parametrize("bench", ["gsm", "mmlu"])
def test_smollm2_on_published_questions_has_none(smollm2: Path, test_data: Path, tmp_path: Path, bench: str) -> None:
    pytest.importorskip(f"evalkit_{bench}")
    command = ["run", "-m", f"hf:{smollm2}", "-b", bench, "--data", str(test_data), "--limit", "60", "--dry-run"]
    ran = CliRunner().invoke(evalkit, [*command, "--out", str(tmp_path)], standalone_mode=False)
    assert (ran.return_value, ran.stdout.splitlines()[-1]) == (0, "── 60 prompts examined: nothing found")


# Context, template, BOS and letters


def test_the_context_is_read_from_the_config(llama: Path, examine: Examine) -> None:
    ((level, text),) = examine(llama, "-B", "times=40")
    assert level == "error"
    assert text.startswith("In the one prompt there is no room for an answer within the model's 96 tokens")
    ((level, text),) = examine(llama, "-B", "prompt=a", "-B", "times=92")
    assert level == "warning"


def test_a_template_without_a_generation_prompt_is_a_warning(
    llama: Path, save_tokenizer: Callable[..., None], examine: Examine
) -> None:
    save_tokenizer(llama, around="<s> $A", chat_template=TEMPLATE)
    assert examine(llama) == []
    save_tokenizer(llama, around="<s> $A", chat_template=TEMPLATE.partition("{% if")[0])
    assert examine(llama) == [
        (
            "warning",
            "The chat template has no generation prompt: the model's turn is not opened with '<|assistant|>\\n'.",
        )
    ]


def test_a_template_that_ends_the_users_turn_with_a_mark_needs_none(
    llama: Path, save_tokenizer: Callable[..., None], examine: Examine
) -> None:
    turns = "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}"
    save_tokenizer(llama, around="<s> $A", chat_template=turns + " {{ m['content'] }}</s>{% endif %}{% endfor %}")
    assert examine(llama) == []


@pytest.mark.parametrize(("marks", "findings"), [(0, 0), (1, 0), (2, 1)])
def test_bos_of_template_and_tokenizer_is_written_once_but_not_a_third(
    llama: Path, save_tokenizer: Callable[..., None], examine: Examine, marks: int, findings: int
) -> None:
    save_tokenizer(llama, around="<s> $A", chat_template="{{ bos_token }}" * marks + TEMPLATE)
    found = [("warning", "In the one prompt the BOS token '<s>' stands twice at the beginning.")]
    assert examine(llama) == found[:findings]


def test_a_prompt_with_its_own_bos_is_a_warning(llama: Path, examine: Examine) -> None:
    ((level, text),) = examine(llama, "-B", "prompt=<s>The")
    assert (level, "the text itself begins with '<s>'" in text) == ("warning", True)


def test_letters_of_a_real_tokenizer(llama: Path, examine: Examine) -> None:
    assert examine(llama, "-B", "first= Z", bench=":one:letters") == [
        (
            "warning",
            "Answer letters are several tokens behind the prompt (' Z' 2): a letter of more tokens is less likely for "
            "that alone.",
        )
    ]


# The files


def test_weights_that_are_cut_off_are_an_error(llama: Path, examine: Examine) -> None:
    file = llama / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    assert examine(llama) == [("error", f"{file} is cut off: it has {len(whole) - 100:,} of {len(whole):,} bytes.")]


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]", b"\x10\0\0\0\0\0\0\0" + b'{"a": {}}       ']
)
def test_weights_that_are_none_are_an_error(llama: Path, examine: Examine, content: bytes) -> None:
    file = llama / "model.safetensors"
    file.write_bytes(content)
    assert examine(llama) == [("error", f"{file} is no safetensors file, or a damaged one.")]


def test_a_pointer_of_git_lfs_is_no_file_of_weights(llama: Path, examine: Examine) -> None:
    file = llama / "model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert examine(llama) == [("error", f"{file} is a pointer of Git LFS, not the weights.")]


def test_a_part_of_the_weights_that_is_not_there_is_an_error(llama: Path, examine: Examine) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(llama)
    (llama / "model.safetensors").unlink()
    model.save_pretrained(llama, max_shard_size="200kB")
    files = sorted(llama.glob("*.safetensors"))
    assert examine(llama) == []
    files[1].unlink()
    assert examine(llama) == [
        ("error", f"{llama} lacks 1 of the {len(files)} files of its weights, {files[1].name} among them.")
    ]


def test_weights_in_torchs_own_form_are_looked_at_too(llama: Path, examine: Examine) -> None:
    torch = pytest.importorskip("torch")
    (llama / "model.safetensors").unlink()
    file = llama / "pytorch_model.bin"
    torch.save({"a": torch.zeros(1000)}, file)
    assert examine(llama) == []
    file.write_bytes(file.read_bytes()[:2000])
    assert examine(llama) == [("error", f"{file} is cut off or damaged.")]


# Memory


def test_what_is_reckoned_is_what_the_tensors_take(llama: Path) -> None:
    from evalkit_tokenize import memory

    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    shape = memory.read_shape(str(llama), revision=None, trust_remote_code=False)
    assert shape is not None
    for dtype in ("float32", "bfloat16"):
        model = transformers.AutoModelForCausalLM.from_pretrained(llama, dtype=dtype)
        with torch.inference_mode():
            out = model(torch.zeros((3, 20), dtype=torch.long), use_cache=True)
        kept = sum(one.nbytes for layer in out.past_key_values.layers for one in (layer.keys, layer.values))
        assert 3 * shape.cache(20, dtype=dtype) == kept
        assert memory.weights(llama, dtype=dtype) == sum(one.nbytes for one in model.parameters())
        assert shape.logits(3) == out.logits[:, -1].float().nbytes


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt_neox"])
def test_the_shape_stands_in_the_config_of_each_family(tiny: Callable[[str], Path], kind: str) -> None:
    from evalkit_tokenize import memory

    shape = memory.Shape(layers=2, kv_heads=2 if kind == "llama" else 4, head_size=16, vocabulary=400)
    assert memory.read_shape(str(tiny(kind)), revision=None, trust_remote_code=False) == shape


def test_a_config_of_an_older_kind_has_other_names() -> None:
    from evalkit_tokenize import memory

    old = {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50257}
    assert memory.shape(old) == memory.Shape(layers=12, kv_heads=12, head_size=64, vocabulary=50257)
    assert memory.shape({"text_config": old}) == memory.shape(old)
    assert memory.shape({"d_state": 16}) is None


# How much is free is what the test says; the machine's own memory cannot be filled for it.
@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (700_000, []),
        (
            510_000,
            [
                (
                    "note",
                    "A batch of 8 of the longest prompts takes 70.1 kB beside the weights' 501 kB, and 510 kB of the "
                    "machine's memory are free: batches are halved when memory runs out.",
                )
            ],
        ),
        (
            501_500,
            [
                (
                    "warning",
                    "The longest prompt with its answer (14 tokens) takes 8.8 kB beside the weights' 501 kB, and "
                    "502 kB of the machine's memory are free: it may fail.",
                )
            ],
        ),
        (
            300_000,
            [("error", "The weights take 501 kB as float32, and 300 kB of the machine's memory are free.")],
        ),
    ],
)
def test_memory_that_is_not_enough(
    llama: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch, free: int, expected: Any
) -> None:
    monkeypatch.setattr("evalkit_tokenize.memory.free_memory", lambda: free)
    assert examine(llama, "-M", "device=cpu") == expected


def test_this_machines_free_memory_is_known() -> None:
    from evalkit_tokenize import memory

    free = memory.free_memory()
    assert free is None or 0 < free < 1 << 60


def test_a_gpu_that_is_not_there_is_an_error(llama: Path, examine: Examine) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    sentence = f"device=cuda: torch {torch.__version__} sees no GPU."
    assert examine(llama, "-M", "device=cuda") == [("error", sentence)]


# No machine that runs these tests has a GPU: what torch says of one is made up here.
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("device=auto",), [("error", "The weights take 501 kB as float32, and 400 kB of the GPU's memory are free.")]),
        (("device=cuda:1",), []),
        (("device_map=auto",), []),
        (("device=cuda", "dtype=bfloat16", "batch_size=8"), []),
        (("device=cuda:2",), [("error", "device=cuda:2: torch {} sees 2 GPUs.")]),
        (("device=cuda:x",), [("error", "device=cuda:x: torch {} sees 2 GPUs.")]),
    ],
)
def test_memory_of_gpus(
    llama: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch, options: Any, expected: Any
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: ((400_000, 900_000)[number], 10**6))
    wanted = [(level, text.format(torch.__version__)) for level, text in expected]
    assert examine(llama, *(part for option in options for part in ("-M", option))) == wanted


def test_weights_that_have_to_be_fetched_are_a_note(llama: Path) -> None:
    from evalkit_hf.examine import Wanted, findings

    wanted = Wanted(
        source="nobody/nothing", device="cpu", device_map=None, batch_size=1, revision=None, trust_remote_code=False
    )
    tokenizer = evalkit_hf.HF(str(llama)).tokenizer()
    (found,) = findings(wanted, dtype="float32", tokenizer=tokenizer, tokens=9)
    assert found == Finding(
        level="note", text="The weights of nobody/nothing are not on this machine: the run begins with their download."
    )
