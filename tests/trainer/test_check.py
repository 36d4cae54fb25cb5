"""``trainer data check`` finds whatever is wrong with a mask, and says where."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.trainer import small_tokenizers
from tests.trainer.plugin import Cli

from trainer.conversation import Conversation
from trainer.errors import DataError
from trainer.rendering import render, template, tokenizer
from trainer.rendering.check import check
from trainer.rendering.render import Renderer
from trainer.rendering.rendered import Rendered

TURNS = [("user", "The capital of France?"), ("assistant", "Paris. 🙂"), ("user", "And?"), ("assistant", "No more.")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    return {kind: small_tokenizers.save(kind, root / kind) for kind in small_tokenizers.KINDS}


def write(path: Path, *examples: Sequence[tuple[str, str]]) -> Path:
    rows = [{"messages": [{"role": role, "content": content} for role, content in turns]} for turns in examples]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


class Careless(Renderer):
    """A fake: a renderer that makes one known mistake in every mask."""

    def __init__(self, renderer: Renderer, mistake: str) -> None:
        super().__init__(renderer.tokenizer, renderer.template)
        self.mistake = mistake

    def render_batch(self, conversations: Sequence[Conversation]) -> list[Rendered]:
        """As it should be, and then the mistake."""
        return [self._spoilt(one) for one in super().render_batch(conversations)]

    def _spoilt(self, made: Rendered) -> Rendered:
        learnt = made.supervised
        starts = np.flatnonzero(np.diff(learnt.astype(np.int8), prepend=0) > 0)
        ends = np.flatnonzero(np.diff(learnt.astype(np.int8), append=0) < 0)
        changed = learnt.copy()
        match self.mistake:
            case "a token too early":
                changed[starts - 1] = True
            case "a token too late":
                changed[starts] = False
            case "no EOS":
                changed[ends] = False
            case "a newline too much":
                changed[ends[:-1] + 1] = True
            case "everything":
                changed[:] = True
            case "last answer alone":
                changed[: starts[-1]] = False
        return replace(made, supervised=changed)


@pytest.mark.parametrize("kind", small_tokenizers.KINDS)
@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("a token too early", "at character 0 of what the assistant says expected 'Paris."),
        ("a token too late", "at character 0 of what the assistant says expected 'Paris."),
        ("no EOS", "what is learnt ends with "),
        ("a newline too much", "2 pieces of text are to be learnt, but the mask has 3."),
        ("everything", "at character 0 of what the assistant says expected 'Paris."),
        ("last answer alone", "2 pieces of text are to be learnt, but the mask has 1."),
    ],
)
def test_a_wrong_mask_is_found_and_told_with_its_line(
    folders: dict[str, Path], tmp_path: Path, kind: str, mistake: str, message: str
) -> None:
    file = write(tmp_path / "talk.jsonl", TURNS)
    right = render.load(str(folders[kind]))
    assert check(file, right).failures == []
    found = check(file, Careless(right, mistake))
    assert str(found.failures[0]).startswith("talk.jsonl:1: ")
    assert message in str(found.failures[0])


@pytest.mark.parametrize("kind", small_tokenizers.KINDS)
def test_what_is_counted(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    renderer = render.load(str(folders[kind]))
    eos = renderer.tokenizer.eos
    file = write(
        tmp_path / "talk.jsonl",
        TURNS,
        [("user", f"What is {eos}?"), ("assistant", f"{eos} is the end")],
        [("user", "nobody answers")],
        [("user", "long " * 30), ("assistant", "yes")],
        [("user", "no"), ("assistant", "")],
    )
    found = check(file, renderer, max_length=60)
    assert found.failures == []
    assert (found.conversations, found.spans) == (5, 5)
    assert (found.special, found.silent) == (["talk_2"], ["talk_3"])
    assert "talk_4" in found.cut
    assert "talk_4" in found.emptied
    made = renderer.render_batch(list(_all(file)))
    assert found.tokens == sum(len(one.ids) for one in made)
    assert found.learnt == sum(int(one.supervised.sum()) for one in made)
    assert found.split == [f"talk_{number}" for number, one in enumerate(made, 1) if one.split]


def _all(file: Path) -> list[Conversation]:
    from trainer.conversation import read

    return list(read(file))


@pytest.mark.parametrize("kind", ["opt", "gpt_neox"])
def test_the_mask_of_2023_is_what_it_says_it_is(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    odd = [("assistant", "first"), ("assistant", "again"), ("user", "x"), ("assistant", "last"), ("user", "y")]
    file = write(tmp_path / "talk.jsonl", TURNS, odd)
    found = check(file, render.load(str(folders[kind]), template="tulu1"))
    assert found.failures == []
    assert found.spans == 4


def test_the_mask_of_2023_is_off_where_beginnings_encode_otherwise(folders: dict[str, Path], tmp_path: Path) -> None:
    """The small sentencepiece vocabulary joins the newline to the marker behind it, which its mask learns in part."""
    found = check(write(tmp_path / "talk.jsonl", TURNS), render.load(str(folders["llama"]), template="tulu1"))
    assert [one.where for one in found.failures] == ["talk.jsonl:1", "talk.jsonl:1"]


def test_jinja_templates_are_checked_too(folders: dict[str, Path], tmp_path: Path) -> None:
    file = write(tmp_path / "talk.jsonl", TURNS)
    chat = tmp_path / "chat.jinja"
    chat.write_text("{% for m in messages %}[{{ m['role'] }}]\n{{ m['content'] + eos_token }}\n{% endfor %}")
    for kind in small_tokenizers.KINDS:
        renderer = render.load(str(folders[kind]), template=str(chat))
        assert check(file, renderer).failures == []
        assert check(file, renderer).spans == 2
        assert check(file, Careless(renderer, "no EOS")).failures != []
        assert check(file, Careless(renderer, "a token too late")).failures != []


def test_bad_rows_are_failures_and_stop_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    file = write(tmp_path / "talk.jsonl", TURNS)
    odd, half = (
        '{"messages": [{"role": "tool", "content": "x"}]}',
        '{"messages": [{"role": "user", "content": "\\ud83d"}]}',
    )
    rows = ["{", '{"messages": []}', odd, "", half]
    file.write_text("\n".join(rows) + "\n" + file.read_text())
    found = check(file, render.load(str(folders["llama"])))
    assert [one.where for one in found.failures] == [f"talk.jsonl:{number}" for number in (1, 3, 2, 5)]
    assert found.failures[1].reason == "message 1 has the role 'tool'; there are system, user, assistant."
    assert found.conversations == 1


def test_text_that_a_tokenizer_cannot_spell_is_a_failure(tmp_path: Path) -> None:
    folder = os.environ.get("EVALKIT_SMOLLM2")
    if not folder:
        pytest.skip("set EVALKIT_SMOLLM2: its vocabulary lacks the byte F1 and seven others")
    file = write(tmp_path / "talk.jsonl", [("user", "x"), ("assistant", "a\U00040000b")])
    found = check(file, render.load(folder))
    assert [one.reason for one in found.failures] == [
        "at character 1 of what the assistant says expected 'a\\U00040000b<|im_end|>', but what is learnt reads"
        " 'a\ufffd\ufffd\ufffdb<|im_end|>'."
    ]


def test_a_file_that_is_gone_is_named(folders: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl cannot be read: No such file"):
        check(Path("gone.jsonl"), render.load(str(folders["llama"])))


def test_the_command_says_what_it_found_and_exits_with_it(cli: Cli, folders: dict[str, Path], tmp_path: Path) -> None:
    file = write(tmp_path / "talk.jsonl", TURNS, [("user", "hm")])
    code, out, _ = cli("data", "check", file, "--tokenizer", folders["gpt_neox"])
    made = render.load(str(folders["gpt_neox"])).render_batch(_all(file))
    tokens, learnt = sum(len(one.ids) for one in made), sum(int(one.supervised.sum()) for one in made)
    assert out == (
        f"talk.jsonl: 2 conversations, {tokens} tokens, {learnt} of them learnt ({learnt / tokens:.1%}).\n"
        "  1 (talk_2) in which the assistant says nothing, to be dropped\n"
        "Read back 2 learnt pieces of text: every one is exactly what the assistant says.\n"
    )
    assert code == 0
    file.write_text("{\n" + file.read_text())
    code, out, _ = cli("data", "check", file, "--tokenizer", folders["gpt_neox"])
    assert out.startswith("talk.jsonl:1: this line is not JSON")
    assert out.endswith("Read back 2 learnt pieces of text: 1 failure.\n")
    assert code == 1


def test_nothing_is_proved_of_an_empty_file(cli: Cli, folders: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text("\n")
    code, out, err = cli("data", "check", file, "--tokenizer", folders["llama"])
    assert (code, out) == (1, "")
    assert err == f"Error: {file} holds no conversation, so there is nothing to prove.\n"


def test_an_unknown_template_is_told_in_one_line(cli: Cli, folders: dict[str, Path], tmp_path: Path) -> None:
    file = write(tmp_path / "talk.jsonl", TURNS)
    code, _, err = cli("data", "check", file, "--tokenizer", folders["llama"], "--template", "tulu2")
    assert err == "Error: No template is named 'tulu2'. Did you mean 'tulu'? Known: own, tulu, tulu1.\n"
    assert code == 1
    assert template.NAMES == ("tulu", "tulu1", "own")
    assert tokenizer.ADDED["llama"] == {"pad_token": "<pad>"}
