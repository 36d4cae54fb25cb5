"""What evalkit asks an exported checkpoint begins exactly as what the model was trained on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("torch")

from tests.trainer import small_models, small_tokenizers

from trainer.conversation import Conversation, Message
from trainer.exporting import frame
from trainer.rendering import render
from trainer.rendering.rendered import Reason

pytestmark = pytest.mark.torch

evalkit_tokenize = pytest.importorskip("evalkit_tokenize")

SMOLLM2 = os.environ.get("EVALKIT_SMOLLM2", "")
#: A folder of published vocabularies, see vocabularies.py.
VOCABULARIES = Path(os.environ.get("TRAINER_VOCABULARIES", "does-not-exist"))
QUESTIONS = ("What is the capital of France?", "  naïve café\n\n", "</s><|assistant|>\n<|im_end|>", "1 + 1 =", "తెలుగు")
TALK = (("system", "Be brief. "), ("user", " Hello"), ("assistant", " Hello there\n"), ("user", QUESTIONS[1]))


CASES = [
    *((kind, "tulu") for kind in small_tokenizers.KINDS),
    *((name, "tulu") for name in ("llama1", "neox") if (VOCABULARIES / name).is_dir()),
    *(("smollm2", template) for template in ("tulu", "own") if SMOLLM2),
]


class Handed(NamedTuple):
    """Two ends of a hand-off: what made the training data, and what asks the exported checkpoint."""

    renderer: render.Renderer
    tokenizer: Any
    folder: Path


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def handed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Handed:
    source, template = request.param
    root = tmp_path_factory.mktemp(source)
    folder = Path(SMOLLM2) if source == "smollm2" else _with_config(source, root / "base")
    renderer = render.load(str(folder), template=template)
    made_of = {"template": {"name": renderer.template.name, "fingerprint": renderer.template.fingerprint}}
    size = renderer.tokenizer.size
    made = frame.write(root / "frame", model=str(folder), made_of=made_of, vocabulary=size, dtype="float32")
    return Handed(renderer, evalkit_tokenize.load(str(made.folder)), made.folder)


def _with_config(source: str, place: Path) -> Path:
    """A tokenizer of one's own or a published one, beside the config of a small model of its family."""
    if source in small_tokenizers.KINDS:
        small_tokenizers.save(source, place)
    else:
        shutil.copytree(VOCABULARIES / source, place)
    family = {"opt": "opt", "gpt_neox": "gpt_neox", "neox": "gpt_neox"}.get(source, "llama")
    small_models.config(family).save_pretrained(place)
    return place


def asked(tokenizer: Any, turns: tuple[tuple[str, str], ...]) -> list[int]:
    """The ids of a prompt: evalkit's own where it asks one question, its template for a conversation."""
    from evalkit.types import GenerateRequest

    if len(turns) == 1:
        return list(tokenizer.prompt_ids(GenerateRequest(prompt=turns[0][1], chat=True, max_tokens=1)))
    text = tokenizer.as_chat([{"role": role, "content": content} for role, content in turns])
    return list(tokenizer.prompt_ids(GenerateRequest(prompt=text, chat=False, max_tokens=1)))


@pytest.mark.parametrize("turns", [(("user", one),) for one in QUESTIONS] + [TALK], ids=range(len(QUESTIONS) + 1))
def test_a_prompt_s_ids_are_a_prefix_of_a_training_example_s(
    handed: Handed, turns: tuple[tuple[str, str], ...]
) -> None:
    messages = tuple(Message(role=role, content=text) for role, text in (*turns, ("assistant", "Paris.")))  # type: ignore[arg-type]
    made = handed.renderer.render(Conversation(dataset="made", id="one", messages=messages))
    prompt = asked(handed.tokenizer, turns)
    assert made.ids[: len(prompt)].tolist() == prompt
    # What is learnt of the last answer begins where the model begins to write.
    assert made.supervised[len(prompt)]
    assert not made.supervised[len(prompt) - 1]


def test_generation_stops_where_the_last_answer_ended(handed: Handed) -> None:
    own = handed.tokenizer.eos_id
    ends = evalkit_tokenize.read_limits(str(handed.folder), revision=None, trust_remote_code=False, own=own).eos
    messages = (Message(role="user", content="A"), Message(role="assistant", content="B"))
    made = handed.renderer.render(Conversation(dataset="made", id="one", messages=messages))
    (end,) = made.ids[(made.reasons == Reason.EOS) & made.supervised]
    assert {int(end), handed.renderer.tokenizer.eos_id} == ends
    assert not {int(one) for one in made.ids[made.supervised][:-1]} & ends
