"""Renders, encodes, counts and cuts texts as one checkpoint's tokenizer and chat template do."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.errors import ModelError

if TYPE_CHECKING:
    from evalkit.types import LikelihoodRequest, Request

#: Tokens of the prompt that are decoded together with an answer, so that its first blank survives.
TAIL = 8


class CheckpointTokenizer:
    """A transformers tokenizer with the template to use; made by ``evalkit_tokenize.load``.

    BOS stands in the ids exactly once where the tokenizer itself would add it, whoever wrote it (a chat template may),
    and not at all where the request has ``bos=False``. EOS is never added.
    """

    def __init__(self, tokenizer: Any, *, source: str, template: str | None, digest: str) -> None:
        self._tokenizer = tokenizer
        self._source = source
        self._template = template
        self._digest = digest
        #: The text that was encoded last, with its ids.
        self._last: tuple[str, list[int]] = ("", [])
        self._leading = self._added_before_text()

    @property
    def has_chat_template(self) -> bool:
        """Whether prompts can be rendered as a chat."""
        return bool(self._template or self._tokenizer.chat_template)

    @property
    def eos_id(self) -> int | None:
        """The id that ends a text, or None where the tokenizer has none."""
        eos = self._tokenizer.eos_token_id
        return None if eos is None else int(eos)

    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's files and of the template given in place of its own."""
        return self._digest

    def prompt_ids(self, request: Request) -> list[int]:
        """The ids that the model sees before its answer: template, BOS and answer prefix included."""
        return self._with_bos(self._encode(self._text(request)), wanted=request.bos)

    def render(self, request: Request) -> str:
        """The text behind ``prompt_ids``, for people."""
        bos = self._tokenizer.decode(self._leading)
        text = self._text(request).removeprefix(bos)
        return bos + text if request.bos else text

    def count(self, text: str) -> int:
        """Tokens of a bare text, without special tokens."""
        return len(self._encode(text))

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of a text that has at most this many tokens, never ending inside a character."""
        if tokens < 1:
            return ""
        end = self._end_of(text, tokens)
        # A last character spread over several tokens may have kept only some of them, and a word that lost its end
        # may fall into more tokens than the whole word did.
        while end and self.count(text[:end]) > tokens:
            end -= 1
        return text[:end]

    def continuation_ids(self, request: LikelihoodRequest) -> tuple[list[int], list[list[int]]]:
        """The ids of the context, and those of each continuation behind it, in the request's order.

        With ``joint`` each continuation is encoded as one text with the prompt. The context is then what all of these
        texts and the prompt alone begin with: where a continuation swallows a trailing blank of the prompt or merges
        with its last letters, the tokens that change count as part of *every* continuation. So all are conditioned on
        the same context, and their probabilities can be compared. Without ``joint`` a continuation is the first token
        it has when encoded by itself.
        """
        text = self._text(request)
        prompt = self._with_bos(self._encode(text), wanted=request.bos)
        if not request.joint:
            return prompt, [self._encode(one)[:1] for one in request.continuations]
        wholes = [self._with_bos(self._encode(text + one), wanted=request.bos) for one in request.continuations]
        shared = _shared_length([prompt, *wholes])
        return prompt[:shared], [whole[shared:] for whole in wholes]

    def text_after(self, context: Sequence[int], ids: Sequence[int]) -> str:
        """The text of ids that follow a context, special tokens left out, a leading blank kept."""
        tail = list(context[-TAIL:])
        before = self._decode(tail)
        both = self._decode([*tail, *ids])
        return both.removeprefix(before) if both.startswith(before) else self._decode(ids)

    def _text(self, request: Request) -> str:
        prompt = self._as_chat(request.prompt) if request.chat else request.prompt
        return prompt + request.answer_prefix

    def as_chat(self, turns: Sequence[Mapping[str, str]], *, opened: bool = True) -> str:
        """Turns of ``role`` and ``content`` as the template renders them; ``opened``: with the model's turn begun."""
        try:
            rendered = self._tokenizer.apply_chat_template(
                list(turns), chat_template=self._template, tokenize=False, add_generation_prompt=opened
            )
        except Exception as error:  # a template is a program of the checkpoint's author
            raise ModelError(f"The chat template of {self._source} failed: {str(error).rstrip('.')}.") from error
        return str(rendered)

    def _as_chat(self, prompt: str) -> str:
        if not self.has_chat_template:
            raise ModelError(
                f"{self._source} has no chat template: use --chat off for plain prompts,"
                " or --chat-template with tulu or the path of a Jinja file."
            )
        return self.as_chat([{"role": "user", "content": prompt}])

    def _encode(self, text: str) -> list[int]:
        # A benchmark that fits its prompts into a limit counts the very text that is then asked.
        known, ids = self._last
        if text != known:
            ids = list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            self._last = text, ids
        return list(ids)

    def _decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _with_bos(self, ids: list[int], *, wanted: bool) -> list[int]:
        size = len(self._leading)
        bare = ids[size:] if ids[:size] == self._leading else ids
        return self._leading + bare if wanted else bare

    def _added_before_text(self) -> list[int]:
        """The ids that the tokenizer puts before any text: its BOS, or nothing."""
        bare = self._encode("a")
        marked = list(self._tokenizer("a")["input_ids"])
        starts = range(len(marked) - len(bare) + 1)
        return marked[: next((start for start in starts if marked[start : start + len(bare)] == bare), 0)]

    def _end_of(self, text: str, tokens: int) -> int:
        """The position behind the last character of the first tokens."""
        if not self._tokenizer.is_fast:
            return bisect.bisect_right(range(len(text) + 1), tokens, key=lambda end: self.count(text[:end])) - 1
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoded["offset_mapping"]
        return len(text) if len(offsets) <= tokens else int(offsets[tokens - 1][1])


def _shared_length(sequences: Sequence[Sequence[int]]) -> int:
    """How many ids all sequences begin with."""
    for position, ids in enumerate(zip(*sequences, strict=False)):
        if len(set(ids)) > 1:
            return position
    return min(map(len, sequences))
