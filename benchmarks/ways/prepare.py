"""One way to turn conversations into token ids and masks, timed in this process; ``benchmarks/prepare.py`` compares.

    python benchmarks/ways/prepare.py WAY FILE TOKENIZER

Needs only what the way needs, so that another interpreter can run a way whose packages ours has not. Prints JSON.
"""

from __future__ import annotations

import json
import pickle
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIMIT = 2048
MASKED = -100

#: The Tülu template with TRL's and transformers' mark around what is learnt.
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '<|assistant|>\n' -}}{%- generation -%}{{- message['content'] | trim + eos_token -}}{%- endgeneration -%}"
    "{%- else -%}{{- '<|' + message['role'] + '|>\n' + message['content'] | trim -}}{%- endif -%}"
    "{%- if not loop.last -%}{{- '\n' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '\n<|assistant|>\n' -}}{%- endif -%}"
)


def read(path: Path) -> list[list[dict[str, str]]]:
    """The messages of each conversation."""
    with path.open("rb") as file:
        return [json.loads(line)["messages"] for line in file]


def text(messages: list[dict[str, str]], eos: str, *, last: bool = True) -> str:
    """The Tülu template; ``last``: whether nothing follows."""
    parts = [
        f"<|{one['role']}|>\n{one['content'].strip()}{eos if one['role'] == 'assistant' else ''}\n" for one in messages
    ]
    return "".join(parts).strip() if last else "".join(parts)


# The ways. Each loads what it needs, then gives what is to be timed.


def ours(file: Path, tokenizer: str, place: Path) -> Callable[[], object]:
    """`trainer data prepare` with one worker."""
    from trainer.preparation.prepare import Task, prepare
    from trainer.rendering import render

    task = Task(files=[file], renderer=render.load(tokenizer, max_length=LIMIT), folder=place / "prepared")
    return lambda: prepare(task, watch=Quiet(), workers=1)


def bare(file: Path, tokenizer: str, place: Path, *, fast: bool = False) -> Callable[[], object]:
    """`tokenizers` on texts that are there already, in batches as large as ours; nothing is done with the ids."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(f"{tokenizer}/tokenizer.json")
    texts = [text(one, "<|im_end|>") for one in read(file)]
    encode = loaded.encode_batch_fast if fast else loaded.encode_batch
    starts = range(0, len(texts), 256)
    return lambda: [len(encode(texts[start : start + 256])) for start in starts]


def bare_fast(file: Path, tokenizer: str, place: Path) -> Callable[[], object]:
    """The same without offsets."""
    return bare(file, tokenizer, place, fast=True)


def of_2023(file: Path, tokenizer: str, place: Path) -> Callable[[], object]:
    """The method of 2023, from its description: every prefix is tokenized anew, and its length is where a mask ends."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    eos = loaded.eos_token

    def length(prefix: str) -> int:
        return len(loaded(prefix, max_length=LIMIT, truncation=True)["input_ids"])

    def encode(messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
        ids = loaded(text(messages, eos), max_length=LIMIT, truncation=True)["input_ids"]
        labels = list(ids)
        for number, one in enumerate(messages):
            if one["role"] == "assistant":
                continue
            start = length(text(messages[:number], eos, last=False)) if number else 0
            until = text(messages[: number + 1], eos, last=False)
            if number + 1 < len(messages) and messages[number + 1]["role"] == "assistant":
                until += "<|assistant|>\n"
            end = length(until)
            labels[start:end] = [MASKED] * len(labels[start:end])
            if end >= LIMIT:
                break
        return ids, labels

    return lambda: [encode(messages) for messages in read(file)]


def hf_map(file: Path, tokenizer: str, place: Path) -> Callable[[], object]:
    """`datasets.map` in batches, `apply_chat_template` with the assistant mask, and labels from it."""
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    loaded = AutoTokenizer.from_pretrained(tokenizer)

    def encode(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        made = loaded.apply_chat_template(
            rows["messages"],
            chat_template=TEMPLATE,
            return_dict=True,
            return_assistant_tokens_mask=True,
            truncation=True,
            max_length=LIMIT,
        )
        pairs = zip(made["input_ids"], made["assistant_masks"], strict=True)
        labels = [[one if learnt else MASKED for one, learnt in zip(*pair, strict=True)] for pair in pairs]
        return {"input_ids": made["input_ids"], "labels": labels}

    def run() -> object:
        rows = datasets.load_dataset("json", data_files=str(file), cache_dir=str(place))["train"]
        return rows.map(encode, batched=True, remove_columns=rows.column_names)

    return run


def trl(file: Path, tokenizer: str, place: Path) -> Callable[[], object]:
    """TRL's SFTTrainer with assistant_only_loss; of making the trainer only the preparation of the data is timed."""
    import datasets
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    loaded.chat_template = TEMPLATE
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(loaded), **sizes))
    asked = SFTConfig(
        output_dir=str(place), assistant_only_loss=True, max_length=LIMIT, report_to=[], use_cpu=True, bf16=False
    )
    few = datasets.Dataset.from_list([{"messages": one} for one in read(file)[:2]])
    trainer = SFTTrainer(model=model, args=asked, train_dataset=few, processing_class=loaded)

    def run() -> object:
        rows = datasets.load_dataset("json", data_files=str(file), cache_dir=str(place))["train"]
        return trainer._prepare_dataset(rows, loaded, asked, False, None, "train")

    return run


WAYS: dict[str, Callable[[Path, str, Path], Callable[[], object]]] = {
    "ours": ours,
    "bare encode_batch": bare,
    "bare encode_batch_fast": bare_fast,
    "HF map": hf_map,
    "TRL": trl,
    "2023 method": of_2023,
}


class Quiet:
    """A watch that says nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def start(self, *, total: int, done: int) -> None:
        """Say nothing."""

    def prepared(self, *, size: int, examples: int, tokens: int) -> None:
        """Say nothing."""

    def stop(self) -> None:
        """Say nothing."""


def measure(way: str, file: Path, tokenizer: str) -> None:
    """Time one way and print what it took."""
    with tempfile.TemporaryDirectory() as place:
        run = WAYS[way](file, tokenizer, Path(place))
        began = time.process_time()
        run()
        took = time.process_time() - began
    print(json.dumps({"seconds": took, "versions": versions()}))


def versions() -> dict[str, str]:
    """Of the packages that matter, as far as this interpreter has them."""
    found = {}
    for name in ("tokenizers", "transformers", "datasets", "trl"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def grow(file: Path, renderer: str) -> None:
    """Prepare a file with all cores and print what that took; ``renderer`` is a pickled one.

    transformers, which would load a tokenizer, takes more memory than preparing does.
    """
    from trainer.preparation.prepare import Task, prepare
    from trainer.preparation.prepared import Prepared

    task = Task(files=[file], renderer=pickle.loads(Path(renderer).read_bytes()), folder=file.parent / "grown")
    began, cpu = time.perf_counter(), time.process_time()
    made = prepare(task, watch=Quiet())
    wall, own = time.perf_counter() - began, time.process_time() - cpu
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    prepare(task, watch=Quiet())
    warm = time.perf_counter() - began
    began = time.perf_counter()
    Prepared.open(task.folder)
    took = {
        "examples": len(made),
        "wall": wall,
        "cpu": own + workers.ru_utime + workers.ru_stime,
        "memory": peak(),
        "memory of a worker": workers.ru_maxrss / 1024,
        "bytes": sum(one["bytes"] for one in made.manifest["files"].values()) / len(made.tokens),
        "warm": warm,
        "open": time.perf_counter() - began,
    }
    print(json.dumps(took))


def peak() -> float:
    """The most megabytes that this process had; what getrusage tells is that of its parent, if that had more."""
    told = Path("/proc/self/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) / 1024


def save_renderer(file: Path, tokenizer: str) -> None:
    """Leave beside a file what ``grow`` needs."""
    from trainer.rendering import render

    (file.parent / "renderer").write_bytes(pickle.dumps(render.load(tokenizer, max_length=LIMIT)))
    print("{}")


if __name__ == "__main__":
    asked, about = sys.argv[1], (Path(sys.argv[2]), sys.argv[3])
    if asked in WAYS:
        measure(asked, *about)
    else:
        {"renderer": save_renderer, "grow": grow}[asked](*about)
