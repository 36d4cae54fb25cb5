"""Finds a checkpoint's tokenizer and the chat template to use with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError
from evalkit_tokenize.tokenizer import CheckpointTokenizer

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


def load(
    source: str, *, chat_template: str | None = None, revision: str | None = None, trust_remote_code: bool = False
) -> CheckpointTokenizer:
    """Load the tokenizer of a checkpoint folder or hub id.

    ``chat_template`` is ``tulu``, the path of a Jinja file, or None for the checkpoint's own. Raises ModelError where
    there is no tokenizer or template to read.
    """
    template = None if chat_template is None else read_template(chat_template)
    tokenizer = _load(source, revision, trust_remote_code)
    digest = hashlib.sha256()
    for content in _contents(tokenizer, source, revision):
        digest.update(hashlib.sha256(content).digest())
    digest.update((template or "").encode())
    return CheckpointTokenizer(tokenizer, source=source, template=template, digest=digest.hexdigest())


def read_template(name: str) -> str:
    """The text of a template: ``tulu`` or the path of a file; raises ModelError."""
    if name == "tulu":
        return resources.files("evalkit_tokenize").joinpath("tulu.jinja").read_text(encoding="utf-8")
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ModelError(
            f"No chat template can be read from {name!r}: give tulu or the path of a Jinja file."
        ) from error


def cannot_load(what: str, source: str, error: Exception) -> ModelError:
    """The error to raise when transformers could not load ``what`` (``tokenizer``, ``model``) of a source."""
    if Path(source).is_dir():
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        return ModelError(f"The {what} in {source} cannot be loaded: {reason}.")
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        return ModelError(f"There is no folder {source}; give a checkpoint folder or the id of a model on the hub.")
    return ModelError(
        f"{source!r} is not a folder, and no {what} of that name could be had from the Hugging Face hub or its local"
        " cache: check the name, and that you are online and logged in if the model is gated."
    )


def _load(source: str, revision: str | None, trust_remote_code: bool) -> Any:
    try:
        from transformers import AutoTokenizer, LlamaTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise ModelError(
            "Tokenizers are read with transformers, which is missing: pip install evalkit-tokenize."
        ) from error
    # It would talk over the report.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = Path(source)
    # Without a vocabulary some tokenizer classes load all the same, with a handful of words.
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in VOCABULARIES):
        raise ModelError(
            f"{source} holds no tokenizer: copy there the tokenizer files of the model it was trained from,"
            " or save them with tokenizer.save_pretrained."
        )
    try:
        if _is_plain_llama(folder):
            adds_bos = _settings(folder).get("add_bos_token", True)
            return _merging_by_score(LlamaTokenizer.from_pretrained(source, add_bos_token=adds_bos), folder)
        return AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises whatever its parsers raise
        raise cannot_load("tokenizer", source, error) from error


def _is_plain_llama(folder: Path) -> bool:
    """Whether a folder holds LLaMA's sentencepiece file alone.

    AutoTokenizer reads that file without its rules for blanks and newlines, and either class forgets the BOS.
    """
    if not (folder / "tokenizer.model").exists() or (folder / "tokenizer.json").exists():
        return False
    return str(_settings(folder).get("tokenizer_class", "llama")).lower().startswith("llama")


def _merging_by_score(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer with its merges in the order that sentencepiece goes by: the scores of what they make.

    transformers 5 orders them by the numbers of the pieces. LLaMA's runs of blanks have low numbers and the worst
    scores, so indented code would fall into other tokens than those that the model was trained on.
    """
    from sentencepiece import SentencePieceProcessor
    from tokenizers import models

    read = SentencePieceProcessor(str(folder / "tokenizer.model"))
    ids = {read.id_to_piece(number): number for number in range(read.get_piece_size())}
    merges = sorted(
        (-read.get_score(ids[piece]), ids[left], ids[right], left, right)
        for piece in ids
        for left, right in ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        if left in ids and right in ids
    )
    pairs = [(left, right) for *_, left, right in merges]
    tokenizer.backend_tokenizer.model = models.BPE(ids, pairs, byte_fallback=True, fuse_unk=True)
    return tokenizer


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _contents(tokenizer: Any, source: str, revision: str | None) -> Iterator[bytes]:
    """Names and contents of the files that a loaded tokenizer was read from."""
    from transformers.utils.hub import cached_file

    for name in sorted({*tokenizer.vocab_files_names.values(), *SETTINGS}):
        path = cached_file(
            source, name, revision=revision, local_files_only=True, _raise_exceptions_for_missing_entries=False
        )
        if path is not None:
            yield name.encode()
            yield Path(path).read_bytes()
