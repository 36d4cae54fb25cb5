"""Bytes tell to which segment a token belongs as offsets do, or say that they cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainer import small_tokenizers
from tokenizers import AddedToken

from trainer.conversation import Conversation, Message, Role
from trainer.rendering import bytewise, render
from trainer.rendering.render import Renderer
from trainer.rendering.rendered import Reason
from trainer.rendering.template import Segment

BYTEWISE = ("opt", "gpt_neox", "merging")
#: Pieces of which some are normalized, some special tokens, some reach across edges.
PIECES = ("a", " ", "\n", "é", "e\u0301", "\u212b", "\u1112\u1161", "😀", "<|endoftext|>", "      ", "</s>", "the", "1")
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    root = tmp_path_factory.mktemp("tokenizers")
    return {kind: render.load(str(small_tokenizers.save(kind, root / kind))) for kind in small_tokenizers.KINDS}


@pytest.mark.parametrize("kind", small_tokenizers.KINDS)
def test_vocabularies_of_bytes_are_told_from_others(renderers: dict[str, Renderer], kind: str) -> None:
    assert (bytewise.lengths(renderers[kind].tokenizer.fast) is not None) == (kind in BYTEWISE)


@pytest.mark.parametrize("kind", BYTEWISE)
def test_bytes_and_offsets_agree(renderers: dict[str, Renderer], kind: str) -> None:
    by_bytes = renderers[kind]
    by_offsets = Renderer(by_bytes.tokenizer, by_bytes.template)
    by_offsets._sizes = None
    roles: tuple[Role, ...] = ("user", "assistant")

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.lists(TEXTS, min_size=1, max_size=6), min_size=1, max_size=4))
    def agree(batch: list[list[str]]) -> None:
        conversations = [
            Conversation(
                dataset="d",
                id=str(number),
                messages=tuple(Message(role=roles[place % 2], content=text) for place, text in enumerate(texts)),
            )
            for number, texts in enumerate(batch)
        ]
        found, right = by_bytes.render_batch(conversations), by_offsets.render_batch(conversations)
        for one, other in zip(found, right, strict=True):
            assert one.ids.tolist() == other.ids.tolist()
            assert one.reasons.tolist() == other.reasons.tolist()
            assert one.supervised.tolist() == other.supervised.tolist()
            assert one.split == other.split

    agree()


def counted(fast: Any, *texts: str) -> list[int] | None:
    segments = [Segment(text, Reason.USER, place % 2 == 1) for place, text in enumerate(texts)]
    whole = "".join(texts)
    sizes = bytewise.lengths(fast)
    assert sizes is not None
    ids = [fast.encode(whole, add_special_tokens=False).ids]
    (found,) = bytewise.counts([segments], [whole], ids, sizes, normalizes=fast.normalizer is not None)
    return found


def test_a_token_that_takes_blanks_in_leaves_the_example_to_offsets() -> None:
    fast = small_tokenizers.bytewise(["</s>"])
    fast.add_special_tokens([AddedToken("<turn>", lstrip=True)])
    assert counted(fast, "a", "<turn>", "b") == [1, 1, 1]
    assert counted(fast, "a  ", "<turn>", "b") is None


def test_bytes_that_the_vocabulary_lacks_leave_the_example_to_offsets() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    fast = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    assert counted(fast, "a", "b") == [1, 1]
    assert counted(fast, "a", "c") is None


def test_a_token_across_the_edge_of_the_learnt_leaves_the_example_to_offsets(renderers: dict[str, Renderer]) -> None:
    fast = renderers["merging"].tokenizer.fast
    assert counted(fast, "The capital", " of France") is None


def test_text_that_is_not_normal_is_left_to_offsets(renderers: dict[str, Renderer]) -> None:
    fast = renderers["gpt_neox"].tokenizer.fast
    assert counted(fast, "é", "a") is not None
    assert counted(fast, "e\u0301", "a") is None
    assert counted(renderers["opt"].tokenizer.fast, "e\u0301", "a") is not None  # it normalizes nothing


def test_a_prefix_blank_is_not_measured_in_bytes() -> None:
    from tokenizers import pre_tokenizers

    fast = small_tokenizers.bytewise(["</s>"])
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert bytewise.lengths(fast) is None


def test_lengths_are_those_of_the_tokens_bytes(renderers: dict[str, Renderer]) -> None:
    fast = renderers["opt"].tokenizer.fast
    sizes = bytewise.lengths(fast)
    assert sizes is not None
    text = "naïve 😀 తెలుగు</s>"
    assert int(np.sum(sizes[fast.encode(text).ids])) == len(text.encode())
