"""Any Jinja template is taken apart exactly, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainer import small_tokenizers

from trainer.conversation import Conversation, Message
from trainer.errors import DataError, TrainerError, UnknownName
from trainer.rendering import template, tokenizer
from trainer.rendering.jinja_template import JinjaTemplate
from trainer.rendering.render import Renderer
from trainer.rendering.rendered import Reason
from trainer.rendering.tokenizer import Tokenizer

LOOP = "{% for m in messages %}"
TEMPLATES = {
    # One form after another that published checkpoints have; the special token of the tokenizer here is </s>.
    "chatml": LOOP + "{{ '[' + m['role'] + ']\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]\n' }}{% endif %}",
    "default system": "{% if messages[0]['role'] != 'system' %}{{ 'Be kind.\n' }}{% endif %}"
    + LOOP
    + "{{ m['role'] + ': ' + m['content'] | trim + (eos_token if m['role'] == 'assistant' else '') + '\n' }}"
    "{% endfor %}",
    "llama 2": "{{ bos_token }}"
    + LOOP
    + "{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}"
    "{% else %}{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}{% endif %}{% endfor %}",
    "one newline off": LOOP
    + "{{ '<' + m['role'] + '>' + m['content'].lstrip('\n') + eos_token }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<assistant>' }}{% endif %}",
    "nothing between": LOOP + "{{ m['content'] + eos_token }}{% endfor %}",
}


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer.load(str(small_tokenizers.save("opt", tmp_path_factory.mktemp("tokenizer") / "opt")))


def talk(*turns: tuple[str, str]) -> Conversation:
    messages = tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]
    return Conversation(dataset="made", id="one", messages=messages)


def jinja(source: str, opt: Tokenizer) -> JinjaTemplate:
    return JinjaTemplate(name="template", source=source, tokenizer=opt)


TALK = talk(("user", " A\n"), ("assistant", "\nB "), ("user", "C"), ("assistant", "D"))


@pytest.mark.parametrize("name", TEMPLATES)
@given(
    contents=st.lists(
        st.lists(
            st.sampled_from(["</s>", "[assistant]\n", "\ue0000\ue001", "[/INST]", " ", "\n"]) | st.text(max_size=5),
            max_size=4,
        ).map("".join),
        min_size=1,
        max_size=4,
    ),
    first=st.sampled_from(["user", "system", "assistant"]),
)
@settings(max_examples=30, deadline=None)
def test_segments_joined_are_the_text_of_apply_chat_template(
    opt: Tokenizer, name: str, contents: list[str], first: str
) -> None:
    from transformers import GPT2Tokenizer

    roles = [first, *(("assistant", "user") * 2 if first != "assistant" else ("user", "assistant") * 2)]
    turns = list(zip(roles, contents, strict=False))
    plain = GPT2Tokenizer(vocab={}, merges=[], bos_token="</s>", eos_token="</s>", unk_token="<unk>")
    messages = [{"role": role, "content": content} for role, content in turns]
    text = plain.apply_chat_template(messages, chat_template=TEMPLATES[name], tokenize=False)
    segments = jinja(TEMPLATES[name], opt).segments(talk(*turns))
    assert "".join(one.text for one in segments) == text
    spoken = [content for role, content in turns if role == "assistant"]
    learnt = [one.text for one in segments if one.reason is Reason.ASSISTANT and not one.text.isspace()]
    assert [one.strip() for one in learnt if one.strip()] == [one.strip() for one in spoken if one.strip()]
    assert sum(one.reason is Reason.EOS and one.learnt for one in segments) == len(spoken)


def test_the_segments_of_a_chat_template(opt: Tokenizer) -> None:
    assert [(one.reason.name, one.text, one.learnt) for one in jinja(TEMPLATES["chatml"], opt).segments(TALK)] == [
        ("MARKER", "[user]\n", False),
        ("USER", " A\n", False),
        ("MARKER", "</s>\n[assistant]\n", False),
        ("ASSISTANT", "\nB ", True),
        ("EOS", "</s>", True),
        ("NEWLINE", "\n", False),
        ("MARKER", "[user]\n", False),
        ("USER", "C", False),
        ("MARKER", "</s>\n[assistant]\n", False),
        ("ASSISTANT", "D", True),
        ("EOS", "</s>", True),
        ("NEWLINE", "\n", False),
    ]


def test_a_system_prompt_of_the_template_is_a_marker(opt: Tokenizer) -> None:
    segments = jinja(TEMPLATES["default system"], opt).segments(talk(("user", "A"), ("assistant", "B")))
    assert segments[0] == ("Be kind.\nuser: ", Reason.MARKER, False)


def test_blanks_that_the_model_must_write_are_learnt(opt: Tokenizer) -> None:
    """LLaMA 2's prompt ends with ``[/INST]``; the blanks around the answer are for the model to write."""
    segments = jinja(TEMPLATES["llama 2"], opt).segments(talk(("user", "A"), ("assistant", "B")))
    assert [one.text for one in segments if one.learnt] == [" ", "B", " ", "</s>"]


def test_a_bos_that_the_template_writes_stands_once(opt: Tokenizer) -> None:
    made = Renderer(opt, jinja(TEMPLATES["llama 2"], opt)).render(talk(("user", "A"), ("assistant", "B")))
    assert opt.decode(made.ids.tolist()) == "</s>[INST] A [/INST] B </s>"
    assert made.reasons.tolist()[:2] == [Reason.BOS, Reason.MARKER]
    other = Renderer(opt, jinja(TEMPLATES["nothing between"], opt)).render(talk(("user", "</s>"), ("assistant", "B")))
    assert opt.decode(other.ids.tolist()) == "</s></s></s>B</s>"
    assert other.supervised.tolist() == [False] * 3 + [True] * 2


def test_a_message_that_looks_like_the_marks_of_the_skeleton_is_a_message(opt: Tokenizer) -> None:
    marks = talk(("user", "\ue0001\ue001"), ("assistant", "\ue0000\ue001"))
    segments = jinja(TEMPLATES["chatml"], opt).segments(marks)
    assert [one.text for one in segments if one.learnt] == ["\ue0000\ue001", "</s>"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (LOOP + "{{ m['content'] | lower + eos_token }}{% endfor %}", r"does not write the messages .* as they are"),
        (LOOP + "{{ m['content'] }}\nUser:{% endfor %}", r"writes no special token behind what the assistant says"),
        (LOOP + "{{ messages[-1]['content'] + eos_token }}{% endfor %}", r"not once each and in their order"),
        ("{% for m in messages[::-1] %}{{ m['content'] + eos_token }}{% endfor %}", r"not once each and in their"),
        (LOOP + "{{ m['content'] + eos_token }}{% endfor %}{{ messages[2]['content'] | length }}", r"does not write"),
        ("{{ raise_exception('no such role here') }}", r"The template refuses conversation one of made: no such role"),
        ("{% if %}", r"The template refuses conversation one of made: "),
    ],
)
def test_what_cannot_be_masked_exactly_is_refused(opt: Tokenizer, source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        jinja(source, opt).segments(TALK)


def test_a_template_that_drops_thoughts_is_refused_where_it_does(opt: Tokenizer) -> None:
    source = LOOP + "{{ m['content'].split('</think>')[-1] + eos_token }}{% endfor %}"
    thinking = talk(("user", "A"), ("assistant", "<think>hm</think>B"))
    assert len(jinja(source, opt).segments(TALK)) == 8
    with pytest.raises(DataError, match=r"at character 5 stands 'B</s>', not '<think>hm</think>B</s>'"):
        jinja(source, opt).segments(thinking)


def test_a_template_with_todays_date_is_refused(opt: Tokenizer) -> None:
    with pytest.raises(TrainerError, match="writes today's date, so the same data would be another text tomorrow"):
        jinja("{{ strftime_now('%d') }}", opt)


def test_templates_are_found_by_name_and_by_file(opt: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(TEMPLATES["chatml"])
    assert template.load("tulu", opt).name == "tulu"
    assert template.load("tulu1", opt).name == "tulu1"
    assert template.load(str(file), opt).segments(TALK) == jinja(TEMPLATES["chatml"], opt).segments(TALK)
    with pytest.raises(UnknownName, match=r"No template is named 'tulip'\. Did you mean 'tulu'\? Known: own, tulu,"):
        template.load("tulip", opt)
    with pytest.raises(TrainerError, match=r"has no chat template of its own: use --template tulu"):
        template.load("own", opt)
    with pytest.raises(
        TrainerError, match=r"No chat template can be read from 'gone\.jinja' \(No such file or directory\):"
    ):
        template.load("gone.jinja", opt)


def test_the_tulu_template_as_jinja_is_the_tulu_template(opt: Tokenizer) -> None:
    """But for the last newline, which a training example lacks and a Jinja template cannot know to leave out."""
    as_jinja = jinja(template.tulu_jinja(), opt).segments(TALK)
    as_code = template.load("tulu", opt).segments(TALK)
    assert as_jinja[-1] == ("\n", Reason.NEWLINE, False)
    joined: list[Any] = [(one.text, one.learnt) for one in as_jinja[:-1]]
    assert joined == [(one.text, one.learnt) for one in as_code]
