"""The one renderer: templates, BOS, cutting, and the tokens of continuations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import ModelError
from evalkit.types import GenerateRequest, LikelihoodRequest

evalkit_tokenize = pytest.importorskip("evalkit_tokenize")
transformers = pytest.importorskip("transformers")

BOS_CHAT = "{{ bos_token }}{% for m in messages %}[{{ m['content'] }}]{% endfor %}"


def ask(prompt: str, **settings: Any) -> GenerateRequest:
    return GenerateRequest(prompt=prompt, max_tokens=1, **settings)


def compare(prompt: str, *continuations: str, **settings: Any) -> LikelihoodRequest:
    return LikelihoodRequest(prompt=prompt, continuations=continuations, **settings)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, save_tokenizer: Callable[..., None]) -> dict[str, Path]:
    """Tokenizers by what they add and whether they have a template."""
    kinds: dict[str, dict[str, str]] = {
        "plain": {},
        "bos": {"around": "<s> $A"},
        "bos_eos": {"around": "<s> $A </s>"},
        "bos_chat": {"around": "<s> $A", "chat_template": BOS_CHAT},
        "broken_chat": {"chat_template": "{{ raise_exception('no user turn wanted') }}"},
    }
    made = {kind: tmp_path_factory.mktemp(kind) for kind in kinds}
    for kind, arguments in kinds.items():
        save_tokenizer(made[kind], **arguments)
    return made


@pytest.fixture(scope="session")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with LLaMA's kind of tokenizer.model and nothing else."""
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    folder = tmp_path_factory.mktemp("sentencepiece")
    with (folder / "tokenizer.model").open("wb") as file:
        trainer.train(
            sentence_iterator=iter(["the capital of France is Paris", "the answer is A", "Hello world"] * 50),
            model_writer=file, model_type="bpe", vocab_size=330, byte_fallback=True, hard_vocab_limit=False,
            unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
        )  # fmt: skip
    return folder


@pytest.fixture
def load(folders: dict[str, Path]) -> Callable[..., Any]:
    return lambda kind, template=None: evalkit_tokenize.load(str(folders[kind]), chat_template=template)


def test_importing_it_imports_no_transformers() -> None:
    code = "import sys, evalkit_tokenize; print({'transformers', 'torch', 'jinja2'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_a_plain_prompt_is_followed_by_its_answer_prefix(load: Callable[..., Any]) -> None:
    tokenizer = load("plain")
    request = ask("Question: one\nAnswer:", answer_prefix=" The answer is:")
    assert tokenizer.render(request) == "Question: one\nAnswer: The answer is:"
    assert tokenizer.text_after([], tokenizer.prompt_ids(request)) == "Question: one\nAnswer: The answer is:"


def test_the_tulu_template_renders_one_user_turn(load: Callable[..., Any]) -> None:
    request = ask("\nHello there\n\n", chat=True, answer_prefix="The answer is:")
    rendered = "<|user|>\nHello there\n<|assistant|>\nThe answer is:"
    assert load("plain", "tulu").render(request) == rendered
    assert load("bos", "tulu").render(request) == "<s>" + rendered


def test_the_tulu_template_renders_whole_conversations(folders: dict[str, Path]) -> None:
    roles = ("system", "user", "assistant", "user", "assistant")
    turns = [{"role": role, "content": f" {role} {place}\n"} for place, role in enumerate(roles)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["bos"])
    tokenizer.chat_template = evalkit_tokenize.loading.read_template("tulu")
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<|system|>\nsystem 0\n<|user|>\nuser 1\n<|assistant|>\nassistant 2</s>\n"
        "<|user|>\nuser 3\n<|assistant|>\nassistant 4</s>\n"
    )


def test_the_tulu_template_refuses_other_roles(folders: dict[str, Path]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["bos"])
    tokenizer.chat_template = evalkit_tokenize.loading.read_template("tulu")
    with pytest.raises(Exception, match="not tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


@pytest.mark.parametrize(
    ("kind", "template", "chat"),
    [("bos", None, False), ("bos_eos", None, False), ("bos", "tulu", True), ("bos_chat", None, True)],
)
def test_bos_stands_once_or_not_at_all(load: Callable[..., Any], kind: str, template: str | None, chat: bool) -> None:
    tokenizer = load(kind, template)
    marked = tokenizer.prompt_ids(ask("Hello there", chat=chat))
    bare = tokenizer.prompt_ids(ask("Hello there", chat=chat, bos=False))
    assert marked == [0, *bare]
    assert not {0, 1} & set(bare)
    assert tokenizer.render(ask("Hello there", chat=chat)).count("<s>") == 1
    assert "<s>" not in tokenizer.render(ask("Hello there", chat=chat, bos=False))


def test_bos_is_not_added_where_the_tokenizer_adds_none(load: Callable[..., Any]) -> None:
    assert 0 not in load("plain").prompt_ids(ask("Hello there"))
    assert load("plain").render(ask("Hello there")) == "Hello there"


def test_ids_are_those_of_transformers(load: Callable[..., Any], folders: dict[str, Path]) -> None:
    plain = transformers.AutoTokenizer.from_pretrained(folders["bos"])
    for text in ("Hello there", " two  blanks ", "తెలుగు\n\n🙂", ""):
        assert load("bos").prompt_ids(ask(text)) == plain(text)["input_ids"]


def test_count_leaves_special_tokens_out(load: Callable[..., Any]) -> None:
    assert load("bos_eos").count("The capital") == load("plain").count("The capital") > 0
    assert load("bos_eos").count("") == 0


SCRIPTS = st.text(alphabet=st.sampled_from("తెలుగు భాషবাংলা 🙂👩‍👩‍👧🇮🇳é\nThe capital"), max_size=40)


@given(text=SCRIPTS, tokens=st.integers(0, 60))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("kind", ["plain", "bos_eos"])
def test_a_cut_text_is_a_beginning_within_its_limit(
    folders: dict[str, Path], kind: str, text: str, tokens: int
) -> None:
    tokenizer = loaded(folders[kind])
    cut = tokenizer.cut(text, tokens)
    assert text.startswith(cut)
    assert tokenizer.count(cut) <= tokens
    if tokenizer.count(text) <= tokens:
        assert cut == text


LOADED: dict[Path, Any] = {}


def loaded(folder: Path) -> Any:
    if folder not in LOADED:
        LOADED[folder] = evalkit_tokenize.load(str(folder))
    return LOADED[folder]


@given(text=SCRIPTS, tokens=st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_sentencepiece_texts_are_cut_as_well(sentencepiece: Path, text: str, tokens: int) -> None:
    tokenizer = loaded(sentencepiece)
    cut = tokenizer.cut(text, tokens)
    assert text.startswith(cut)
    assert tokenizer.count(cut) <= tokens


def test_a_cut_keeps_as_many_whole_characters_as_fit(load: Callable[..., Any]) -> None:
    tokenizer = load("plain")
    text = "🙂" * 5  # four tokens each
    assert [len(tokenizer.cut(text, tokens)) for tokens in (0, 3, 4, 7, 8, 20, 99)] == [0, 0, 1, 1, 2, 5, 5]


def test_a_continuation_has_the_tokens_it_has_behind_the_prompt(load: Callable[..., Any]) -> None:
    tokenizer = load("bos")
    context, [rome, paris] = tokenizer.continuation_ids(compare("The capital of", " France is Paris", " Italy"))
    assert context == tokenizer.prompt_ids(ask("The capital of"))
    assert context + rome == tokenizer.prompt_ids(ask("The capital of France is Paris"))
    assert context + paris == tokenizer.prompt_ids(ask("The capital of Italy"))


def test_a_trailing_blank_belongs_to_the_continuations(load: Callable[..., Any]) -> None:
    tokenizer = load("bos")
    request = compare("Answer: ", "A", "B")
    context, [a, b] = tokenizer.continuation_ids(request)
    assert tokenizer.text_after([], context) == "Answer:"
    assert (tokenizer.text_after(context, a), tokenizer.text_after(context, b)) == (" A", " B")


@given(prompt=st.text(alphabet="The capital:\n", min_size=1), ends=st.lists(st.text(alphabet="he is A:\n"), min_size=1))
@settings(max_examples=150, deadline=None)
def test_context_and_continuation_are_the_whole_text_wherever_they_merge(
    folders: dict[str, Path], prompt: str, ends: list[str]
) -> None:
    tokenizer = loaded(folders["bos"])
    context, continuations = tokenizer.continuation_ids(compare(prompt, *ends))
    wholes = [tokenizer.prompt_ids(ask(prompt + end)) for end in ends]
    assert [context + ids for ids in continuations] == wholes
    assert context == tokenizer.prompt_ids(ask(prompt))[: len(context)]


def test_apart_from_the_prompt_a_continuation_is_its_first_token(load: Callable[..., Any]) -> None:
    tokenizer = load("bos")
    context, continuations = tokenizer.continuation_ids(compare("Answer:", "A", "B", "🙂", joint=False))
    assert context == tokenizer.prompt_ids(ask("Answer:"))
    assert [tokenizer.text_after([], ids) for ids in continuations[:2]] == ["A", "B"]
    assert [len(ids) for ids in continuations] == [1, 1, 1]


def test_llama_tokens_from_a_lone_tokenizer_model(sentencepiece: Path) -> None:
    original = pytest.importorskip("sentencepiece").SentencePieceProcessor(str(sentencepiece / "tokenizer.model"))
    tokenizer = loaded(sentencepiece)
    for text in ("Hello world", "the capital of France", "Hello  world", "ß 🙂"):
        assert tokenizer.prompt_ids(ask(text, bos=False)) == original.encode(text)
        assert tokenizer.prompt_ids(ask(text)) == [1, *tokenizer.prompt_ids(ask(text, bos=False))]


def test_a_lone_tokenizer_models_merges_follow_its_scores(sentencepiece: Path, tmp_path: Path) -> None:
    """LLaMA's runs of blanks stand first in its file and come last in its merges; transformers 5 goes by the place."""
    from transformers.convert_slow_tokenizer import import_protobuf

    model = import_protobuf().ModelProto.FromString((sentencepiece / "tokenizer.model").read_bytes())
    # Its low number stays, so that "ris" is "r", "is" by numbers and "ri", "s" by scores.
    next(piece for piece in model.pieces if piece.piece == "is").score = -1000
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    original = pytest.importorskip("sentencepiece").SentencePieceProcessor(str(tmp_path / "tokenizer.model"))
    text = "the ris"
    assert original.encode(text) != loaded(sentencepiece).prompt_ids(ask(text, bos=False))
    assert original.encode(text) == loaded(tmp_path).prompt_ids(ask(text, bos=False))


def test_the_blank_before_a_sentencepiece_answer_survives(sentencepiece: Path) -> None:
    tokenizer = loaded(sentencepiece)
    context, [answer] = tokenizer.continuation_ids(compare("the answer is", " A"))
    assert tokenizer.text_after(context, answer) == " A"


def test_a_folder_may_say_that_no_bos_is_added(sentencepiece: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes((sentencepiece / "tokenizer.model").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "add_bos_token": false}')
    tokenizer = evalkit_tokenize.load(str(tmp_path))
    assert tokenizer.prompt_ids(ask("Hello world")) == loaded(sentencepiece).prompt_ids(ask("Hello world", bos=False))


def test_chat_without_a_template_says_what_to_do(load: Callable[..., Any]) -> None:
    assert not load("plain").has_chat_template
    assert load("plain", "tulu").has_chat_template
    with pytest.raises(ModelError, match=r"has no chat template: use --chat off .* or --chat-template with tulu"):
        load("plain").prompt_ids(ask("Hello", chat=True))


def test_a_template_that_fails_is_named_with_its_reason(load: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match=r"The chat template of .*broken_chat.* failed: no user turn wanted\."):
        load("broken_chat").prompt_ids(ask("Hello", chat=True))


def test_a_template_may_be_a_file(load: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}User: {{ m['content'] }}\n{% endfor %}Bot:")
    assert load("plain", str(file)).render(ask("Hello", chat=True)) == "User: Hello\nBot:"


def test_a_missing_template_file_is_named(load: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match=r"No chat template can be read from 'gone\.jinja': give tulu or the path"):
        load("plain", "gone.jinja")


@pytest.mark.parametrize("files", [{}, {"config.json": {"model_type": "opt"}}, {"tokenizer_config.json": {}}])
def test_a_folder_without_vocabulary_holds_no_tokenizer(tmp_path: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ModelError, match=f"{tmp_path} holds no tokenizer: copy there the tokenizer files"):
        evalkit_tokenize.load(str(tmp_path))


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=f"The tokenizer in {tmp_path} cannot be loaded: "):
        evalkit_tokenize.load(str(tmp_path))


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match=r"There is no folder \./nothing/here; give a checkpoint folder"):
        evalkit_tokenize.load("./nothing/here")


def test_the_fingerprint_tells_tokenizers_and_templates_apart(folders: dict[str, Path], tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages[0]['content'] }}")
    prints = [evalkit_tokenize.load(str(folders[kind])).fingerprint() for kind in ("plain", "bos", "bos_chat")]
    prints += [
        evalkit_tokenize.load(str(folders["bos"]), chat_template=name).fingerprint() for name in ("tulu", str(template))
    ]
    assert len(set(prints)) == 5
    assert evalkit_tokenize.load(str(folders["bos"])).fingerprint() == prints[1]


def test_the_same_text_twice_in_a_row_is_encoded_once(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = evalkit_tokenize.load(str(folders["bos"]))
    ids = tokenizer.prompt_ids(ask("one two"))
    ids.append(7)  # what is given out is the caller's own
    whole = tokenizer._tokenizer
    monkeypatch.setattr(tokenizer, "_tokenizer", None)
    assert tokenizer.prompt_ids(ask("one two")) == ids[:-1]
    monkeypatch.setattr(tokenizer, "_tokenizer", whole)
    assert tokenizer.prompt_ids(ask("one three")) != ids[:-1]
    assert tokenizer.count("") == 0
