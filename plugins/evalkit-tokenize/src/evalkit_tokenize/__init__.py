"""Turns evalkit's requests into token ids and back, with a checkpoint's own tokenizer, chat template and configs."""

from evalkit_tokenize.answers import NOT_NUMBERS, Prompt, Question, prompt, question, seed, text
from evalkit_tokenize.checkpoint import Limits, fingerprint, limits, need_files, read_limits
from evalkit_tokenize.loading import cannot_load, load
from evalkit_tokenize.tokenizer import CheckpointTokenizer

__all__ = [
    "NOT_NUMBERS",
    "CheckpointTokenizer",
    "Limits",
    "Prompt",
    "Question",
    "cannot_load",
    "fingerprint",
    "limits",
    "load",
    "need_files",
    "prompt",
    "question",
    "read_limits",
    "seed",
    "text",
]
