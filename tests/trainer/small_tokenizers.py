"""Small tokenizers of the kinds that matter, trained on the spot, as folders like those that publishers offer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = (
    "<|user|>\nThe capital of France is Paris.\n<|assistant|>\nThe capital of Italy is Rome.\n",
    "def f(x):\n    if x:\n        return x\n",
    "Question: What is the answer?\nAnswer: The answer is: A B C D\n\n",
    "Hello there, one two three 1 2 3 4 5; naïve café, తెలుగు భాష",
)

#: ``llama``: sentencepiece, a tokenizer.model alone. ``llama_json``: the published tokenizer.json, which puts a blank
#: behind special tokens too. ``opt``: vocab.json and merges.txt with OPT's config. ``gpt_neox``: normalizes, has tokens
#: for runs of blanks. ``merging``: byte-level without word boundaries, so that tokens reach across any edge.
KINDS = ("llama", "llama_json", "opt", "gpt_neox", "merging")


def save(kind: str, folder: Path) -> Path:
    """Write the files of a tokenizer of this kind into a new folder."""
    folder.mkdir(parents=True)
    {
        "llama": _llama,
        "llama_json": _llama_json,
        "opt": _opt,
        "gpt_neox": _gpt_neox,
        "merging": _merging,
    }[kind](folder)
    return folder


def _llama(folder: Path) -> None:
    with (folder / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 50),
            model_writer=file, model_type="bpe", vocab_size=500, byte_fallback=True, hard_vocab_limit=False,
            unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2, allow_whitespace_only_pieces=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
        )  # fmt: skip


def _llama_json(folder: Path) -> None:
    _llama(folder)
    pieces = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    vocabulary = {pieces.id_to_piece(number): number for number in range(pieces.get_piece_size())}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in vocabulary
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    made = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(one, normalized=False, special=True) for one in ("<unk>", "<s>", "</s>")])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    (folder / "tokenizer.model").unlink()
    made.save(str(folder / "tokenizer.json"))
    told = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    _tell(folder, "tokenizer_config.json", told | {"tokenizer_class": "PreTrainedTokenizerFast"})
    _tell(folder, "config.json", {"model_type": "llama"})


def _opt(folder: Path) -> None:
    made = bytewise(["<s>", "<pad>", "</s>", "<unk>"])
    made.model.save(str(folder))
    told = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"}
    _tell(folder, "tokenizer_config.json", told | {"unk_token": "</s>", "add_bos_token": True})
    _tell(folder, "config.json", {"model_type": "opt"})


def _gpt_neox(folder: Path) -> None:
    made = bytewise(["<|endoftext|>", "<|padding|>"])
    made.normalizer = normalizers.NFC()
    made.add_tokens([AddedToken(" " * count, normalized=True) for count in (6, 5, 4, 3, 2)])
    made.save(str(folder / "tokenizer.json"))
    told = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    _tell(folder, "tokenizer_config.json", told | {"tokenizer_class": "GPTNeoXTokenizer"})


def _merging(folder: Path) -> None:
    made = bytewise(["<|endoftext|>"], words=False)
    made.save(str(folder / "tokenizer.json"))
    told = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    _tell(folder, "tokenizer_config.json", told | {"tokenizer_class": "PreTrainedTokenizerFast"})


def bytewise(special: list[str], *, words: bool = True) -> Tokenizer:
    """A byte-level BPE whose special tokens have the first ids; without ``words`` it merges across their boundaries."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS * 8, trainer)
    return made


def _tell(folder: Path, name: str, told: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(told))
