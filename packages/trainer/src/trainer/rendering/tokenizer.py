"""Loads a checkpoint's tokenizer as its own code meant it, and keeps what rendering needs of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.errors import TokenizerError

#: Patterns of which at least one matches where a folder holds a vocabulary.
VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*", "merges.txt", "*.tiktoken", "tekken.json")

#: Files besides the vocabulary that change how a text is encoded or a chat rendered.
SETTINGS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)

#: What the code of the 2023 paper adds to a family's tokenizer before training. LLaMA and GPT-NeoX have no token to pad
#: with, and OPT none for the unknown; a name that the vocabulary holds already keeps its id.
ADDED = {"llama": {"pad_token": "<pad>"}, "gpt_neox": {"pad_token": "<pad>"}, "opt": {"unk_token": "<unk>"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """What rendering needs of a tokenizer; pickles without transformers, so worker processes start fast."""

    source: str
    #: A ``tokenizers.Tokenizer`` that adds nothing around a text and gives offsets with their blanks.
    fast: Any = field(repr=False)
    #: The same without the blank that LLaMA's kind puts before a text: for what stands behind other text.
    inner: Any = field(repr=False)
    #: The ids that the tokenizer itself puts before any text: its BOS, or nothing.
    leading: tuple[int, ...]
    #: ``bos_token``, ``eos_token``, ``pad_token`` and the like, as a template may ask for them.
    special: dict[str, str]
    #: Every string that becomes one id wherever it stands in a text.
    added: frozenset[str] = field(repr=False)
    #: The ids of those of them that are no words: BOS, EOS, markers.
    special_ids: tuple[int, ...] = field(repr=False)
    #: Tokens that the checkpoint's vocabulary lacks, so that its embeddings must grow.
    new: tuple[str, ...]
    eos_id: int
    pad_id: int
    #: One more than the largest id.
    size: int
    #: Whether a blank is written ``▁`` inside, so that the two cannot be told apart once decoded.
    marks_blanks: bool
    chat_template: str | None = field(repr=False)
    #: SHA-256 of the tokenizer's files.
    fingerprint: str

    @property
    def eos(self) -> str:
        """The string that ends what an assistant says."""
        return self.special["eos_token"]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        return str(self.fast.decode(list(ids), skip_special_tokens=False))

    def seen(self, text: str) -> str:
        """A text as the tokenizer's normalizer leaves it, for comparison with what it decodes."""
        normalizer = self.inner.normalizer
        text = text if normalizer is None else str(normalizer.normalize_str(text))
        return text.replace("▁", " ") if self.marks_blanks else text


def load(source: str, *, revision: str | None = None) -> Tokenizer:
    """The tokenizer of a checkpoint folder or hub id; raises TokenizerError where there is none fit to train with."""
    whole, new = load_transformers(source, revision=revision)
    from tokenizers import Tokenizer as Fast

    leading = _leading(whole)
    state = json.loads(whole.backend_tokenizer.to_str())
    # The post-processor only adds BOS, which we keep in ``leading``, and may take blanks out of the offsets.
    state |= {"truncation": None, "padding": None, "post_processor": None}
    fast = Fast.from_str(json.dumps(state))
    inner = Fast.from_str(json.dumps(state)) if _drop_prefix(state) else fast
    pad = whole.eos_token_id if whole.pad_token_id is None else whole.pad_token_id
    return Tokenizer(
        source=source,
        fast=fast,
        inner=inner,
        leading=leading,
        special={name: str(token) for name, token in whole.special_tokens_map.items() if not isinstance(token, list)},
        added=frozenset(token.content for token in whole.added_tokens_decoder.values()),
        special_ids=tuple(number for number, token in whole.added_tokens_decoder.items() if token.special),
        new=new,
        eos_id=int(whole.eos_token_id),
        pad_id=int(pad),
        size=max(fast.get_vocab(with_added_tokens=True).values()) + 1,
        marks_blanks="▁" in json.dumps(state["decoder"], ensure_ascii=False),
        chat_template=whole.chat_template if isinstance(whole.chat_template, str) else None,
        fingerprint=_fingerprint(whole, source, revision),
    )


def load_transformers(source: str, *, revision: str | None = None) -> tuple[Any, tuple[str, ...]]:
    """The transformers tokenizer to train with and to save beside the checkpoint, and the tokens new to its vocabulary.

    Raises TokenizerError where a folder holds none, where it gives no offsets, or where nothing ends a text.
    """
    whole = _read(source, revision)
    if not getattr(whole, "is_fast", False):
        raise TokenizerError(
            f"The tokenizer of {source} is a {type(whole).__name__} written in Python, which cannot tell where in"
            " a text a token stands: save it as tokenizer.json first."
        )
    if whole.eos_token_id is None:
        raise TokenizerError(f"The tokenizer of {source} has no EOS token, so a model could not learn to stop.")
    if not whole("a b", add_special_tokens=False)["input_ids"]:
        raise TokenizerError(f"The tokenizer of {source} turns text into no tokens; its vocabulary is empty.")
    known = set(whole.get_vocab())
    for name, token in ADDED.get(_family(source, whole, revision), {}).items():
        if name == "unk_token" or getattr(whole, name) is None:
            whole.add_special_tokens({name: token})
    return whole, tuple(sorted(set(whole.get_vocab()) - known))


def _read(source: str, revision: str | None) -> Any:
    from transformers import AutoTokenizer, GPT2Tokenizer, LlamaTokenizer

    folder = Path(source)
    # Without a vocabulary some tokenizer classes load all the same, with a handful of words.
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in VOCABULARIES):
        raise TokenizerError(
            f"{source} holds no tokenizer: copy there the tokenizer files of the model that is to be trained."
        )
    try:
        if _is_plain(folder, "tokenizer.model", "llama"):
            adds_bos = _settings(folder, "tokenizer_config.json").get("add_bos_token", True)
            whole = LlamaTokenizer.from_pretrained(source, add_bos_token=adds_bos)
            _merge_by_score(whole, folder / "tokenizer.model")
            return whole
        if _is_plain(folder, "vocab.json", "gpt2") and _model_type(folder) == "opt":
            adds_bos = _settings(folder, "tokenizer_config.json").get("add_bos_token", True)
            return GPT2Tokenizer.from_pretrained(source, add_bos_token=adds_bos, **_opt_names(folder))
        return AutoTokenizer.from_pretrained(source, revision=revision)
    except Exception as error:  # transformers raises whatever its parsers raise
        raise _cannot_load(source, error) from error


def _is_plain(folder: Path, vocabulary: str, family: str) -> bool:
    """Whether a folder holds a family's old vocabulary alone.

    AutoTokenizer reads LLaMA's ``tokenizer.model`` without its rules for blanks and newlines, and forgets its BOS and
    OPT's where the settings do not name it.
    """
    if not (folder / vocabulary).exists() or (folder / "tokenizer.json").exists():
        return False
    return str(_settings(folder, "tokenizer_config.json").get("tokenizer_class", family)).lower().startswith(family)


def _merge_by_score(whole: Any, file: Path) -> None:
    """Give a tokenizer read from a sentencepiece file the order of merges that its scores ask for.

    transformers 5 goes by the numbers of the pieces. LLaMA's runs of blanks have small numbers and the worst scores, so
    that indented code would be cut otherwise than when the model was trained.
    """
    from sentencepiece import SentencePieceProcessor
    from tokenizers import models

    pieces = SentencePieceProcessor(str(file))
    vocabulary = {pieces.id_to_piece(number): number for number in range(pieces.get_piece_size())}
    merges = []
    for piece, number in vocabulary.items():
        halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        whole_halves = [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
        whole_halves.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        merges += [(pieces.get_score(number), pair) for pair in whole_halves]
    merges.sort(key=lambda one: -one[0])
    whole.backend_tokenizer.model = models.BPE(
        vocabulary, [pair for _, pair in merges], byte_fallback=True, fuse_unk=True
    )


def _opt_names(folder: Path) -> dict[str, str]:
    """OPT's special tokens, where its settings do not name them: they are not GPT-2's."""
    names = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    told = _settings(folder, "tokenizer_config.json") | _settings(folder, "special_tokens_map.json")
    return {name: token for name, token in names.items() if name not in told}


def _family(source: str, whole: Any, revision: str | None) -> str:
    """``llama``, ``gpt_neox``, ``opt`` or nothing; LLaMA 3, which only shares the name, has tokens to spare."""
    kind = _model_type(Path(source)) if Path(source).is_dir() else _model_type_on_hub(source, revision)
    if kind == "opt":
        return kind
    names = {one.__name__.removesuffix("Fast") for one in type(whole).__mro__}
    if "LlamaTokenizer" in names or (kind == "llama" and whole.eos_token == "</s>"):  # noqa: S105
        return "llama"
    return "gpt_neox" if "GPTNeoXTokenizer" in names or kind == "gpt_neox" else ""


def _model_type(folder: Path) -> str:
    return str(_settings(folder, "config.json").get("model_type", ""))


def _model_type_on_hub(source: str, revision: str | None) -> str:
    from transformers.utils.hub import cached_file

    silent = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
    path = cached_file(source, "config.json", revision=revision, **silent)
    return "" if path is None else _model_type(Path(path).parent)


def _settings(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise TokenizerError(f"{file} is not JSON ({error}); fetch it anew.") from None


def _cannot_load(source: str, error: Exception) -> TokenizerError:
    if Path(source).is_dir():
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        return TokenizerError(f"The tokenizer in {source} cannot be loaded: {reason}.")
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        return TokenizerError(f"There is no folder {source}; give a folder with a tokenizer or the id of a model.")
    return TokenizerError(
        f"{source!r} is not a folder, and no tokenizer of that name could be had from the Hugging Face hub or its local"
        " cache: check the name, and that you are online and logged in if the model is gated."
    )


def _leading(whole: Any) -> tuple[int, ...]:
    """The ids that a tokenizer puts before any text."""
    bare = whole("a", add_special_tokens=False)["input_ids"]
    marked = whole("a")["input_ids"]
    starts = range(len(marked) - len(bare) + 1)
    return tuple(marked[: next((start for start in starts if marked[start : start + len(bare)] == bare), 0)])


def _drop_prefix(state: dict[str, Any]) -> bool:
    """Take out of a tokenizer's state what puts a blank before a text; whether there was anything."""
    before = json.dumps(state)
    for part in ("normalizer", "pre_tokenizer"):
        state[part] = _without_prefix(state[part])
    return json.dumps(state) != before


def _without_prefix(part: Any) -> Any:
    if part is None or part["type"] == "Prepend":
        return None
    changed = dict(part)
    for steps in ("normalizers", "pretokenizers"):
        if steps in part:
            changed[steps] = [one for one in map(_without_prefix, part[steps]) if one is not None]
    if part["type"] == "Metaspace":
        changed["prepend_scheme"] = "never"
    if part["type"] == "ByteLevel":
        changed["add_prefix_space"] = False
    return changed


def _fingerprint(whole: Any, source: str, revision: str | None) -> str:
    digest = hashlib.sha256()
    for content in _contents(whole, source, revision):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _contents(whole: Any, source: str, revision: str | None) -> Iterator[bytes]:
    """Names and contents of the files that a loaded tokenizer was read from."""
    from transformers.utils.hub import cached_file

    for name in sorted({"tokenizer.json", *whole.vocab_files_names.values(), *SETTINGS}):
        path = cached_file(
            source, name, revision=revision, local_files_only=True, _raise_exceptions_for_missing_entries=False
        )
        if path is not None:
            yield name.encode()
            yield Path(path).read_bytes()
