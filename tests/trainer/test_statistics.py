"""Statistics: Table 1 by the paper's definitions, and what training would read, against naive recounts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest
from click.testing import CliRunner, Result

from trainer.cli.data.stats import command
from trainer.conversation import Conversation
from trainer.errors import DataError
from trainer.raw.rows import Files
from trainer.sources import alpaca, oasst1, sharegpt
from trainer.statistics import EDGES, Counted, Statistics, count, tokens, words

Row = dict[str, Any]

USER, ASSISTANT = "user", "assistant"


def write(path: Path, *conversations: Sequence[tuple[str, str]], dataset: str = "d") -> Path:
    """A file of conversations, each a list of (role, content)."""
    rows = [
        {"dataset": dataset, "id": str(number), "messages": [{"role": role, "content": said} for role, said in one]}
        for number, one in enumerate(conversations)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a byte-level tokenizer of a few hundred entries, which puts ``<s>`` before a text."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    learner = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["<|user|>\nWhat is the answer?\n<|assistant|>\nThe answer is one two"] * 8, learner)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    whole = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    folder = tmp_path_factory.mktemp("tokenizer")
    whole.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def converted(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real rows of three datasets as conversations, the first hundred of each."""
    folder = tmp_path_factory.mktemp("converted")
    made = {
        "alpaca": alpaca.SOURCE.convert(Files(test_data / "nc/alpaca/alpaca_5000.json.gz"), Random(42)),
        "oasst1": oasst1.SOURCE.convert(Files(test_data / "instruct/oasst/en_100_tree.jsonl.gz"), Random(42)),
        "sharegpt": sharegpt.convert(
            Files(test_data / "instruct/sharegpt/dummy_conversation.json"), Random(42), count=len
        ),
    }
    for name, rows in made.items():
        lines = [one.line() for one in rows if isinstance(one, Conversation)][:100]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [folder / f"{name}.jsonl" for name in made]


def load(folder: str, max_length: int = 2048) -> Any:
    from trainer.rendering import render

    return render.load(folder, template="tulu", max_length=max_length)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(one) for one in arguments], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


# --- definitions


def test_lengths_are_means_over_messages_and_not_over_instances(tmp_path: Path) -> None:
    file = write(
        tmp_path / "d.jsonl",
        [(USER, "one two three"), (ASSISTANT, "one")],
        [(USER, "one"), (ASSISTANT, "one two"), (USER, "one two"), (ASSISTANT, "one two three")],
    )
    found = count([file], words).total
    assert found.instances == 2
    assert found.rounds == 1.5
    assert found.prompt == (3 + 1 + 2) / 3  # over instances it would be 2.25
    assert found.completion == (1 + 2 + 3) / 3
    assert found.messages == 6


def test_a_system_message_is_half_a_round_and_no_prompt(tmp_path: Path) -> None:
    file = write(tmp_path / "d.jsonl", [("system", "be kind"), (USER, "one"), (ASSISTANT, "one two")])
    found = count([file], words).total
    assert (found.rounds, found.prompt, found.completion) == (1.5, 1.0, 2.0)


def test_texts_are_measured_as_they_stand_without_special_tokens(tmp_path: Path, tiny_tokenizer: str) -> None:
    renderer = load(tiny_tokenizer)
    assert renderer.tokenizer.leading == (0,)
    newline, empty, user = tokens(renderer)(["\n", "", "a\n"])
    assert (newline, empty, user) == (1, 0, 2)


def test_datasets_are_counted_apart_and_together(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [(USER, "one"), (ASSISTANT, "one")], dataset="a")
    b = write(tmp_path / "b.jsonl", *[[(USER, "one two three"), (ASSISTANT, "one")]] * 3, dataset="b")
    found = count([b, a], words)
    assert list(found.datasets) == ["b", "a"]
    assert found.total.instances == 4
    assert found.total.prompt == 2.5
    assert found.total == found.datasets["a"] + found.datasets["b"]


def test_nothing_has_means_of_zero() -> None:
    nothing = Counted(datasets={}, first_rejected=()).total
    assert nothing == Statistics()
    assert (nothing.rounds, nothing.prompt, nothing.completion, nothing.supervised_share) == (0, 0, 0, 0)


def test_a_broken_line_is_told_with_its_number(tmp_path: Path) -> None:
    file = write(tmp_path / "d.jsonl", [(USER, "one")])
    file.write_text(file.read_text() + "\n{}\n")
    told = r"^d\.jsonl:3: a conversation is an object with a list 'messages'\. `trainer data convert --mapping` reads"
    with pytest.raises(DataError, match=told):
        count([file], words)
    file.write_text('{"messages": []}\n{"messages\n')
    with pytest.raises(DataError, match=r"^d\.jsonl:2: this line is not JSON \(Unterminated .*, column 2\)\.$"):
        count([file], words)
    with pytest.raises(DataError, match=r"no\.jsonl cannot be read: No such file"):
        count([tmp_path / "no.jsonl"], words)


def test_files_without_a_conversation_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"/d\.jsonl: no conversation to count\.$"):
        run(tmp_path / "d.jsonl", "--json")


# --- against recounts


def recounted(files: Sequence[Path], folder: str) -> dict[str, Row]:
    """Table 1 again, by the tokenizer itself, one text at a time.

    ``whole`` are the lengths of each example and of what stands before the assistant's first word.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    found: dict[str, Row] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
            row = json.loads(line)
            one = found.setdefault(row["dataset"], {USER: [], ASSISTANT: [], "turns": [], "whole": []})
            text = ""
            for message in row["messages"]:
                one[message["role"]].append(len(tokenizer(message["content"], add_special_tokens=False)["input_ids"]))
                end = tokenizer.eos_token if message["role"] == ASSISTANT else ""
                text += f"<|{message['role']}|>\n{message['content'].strip()}{end}\n"
            one["turns"].append(len(row["messages"]))
            before, marker, _ = text.partition("<|assistant|>\n")
            one["whole"].append(
                (len(tokenizer(text.strip())["input_ids"]), len(tokenizer(before + marker)["input_ids"]))
            )
    return found


@pytest.fixture(params=["tiny", "SmolLM2"])
def folder(request: pytest.FixtureRequest, tiny_tokenizer: str) -> str:
    """The folder of a tokenizer, small or real."""
    if request.param == "tiny":
        return tiny_tokenizer
    return os.environ.get("EVALKIT_SMOLLM2") or pytest.skip("set EVALKIT_SMOLLM2 to a folder with SmolLM2's tokenizer")


def test_real_datasets_are_counted_as_a_naive_recount_counts_them(converted: list[Path], folder: str) -> None:
    limit = 600
    renderer = load(folder, limit)
    counted = count(converted, tokens(renderer), renderer)
    naive = recounted(converted, folder)
    assert list(counted.datasets) == list(naive) == ["alpaca", "oasst1", "sharegpt"]
    for name, one in counted.datasets.items():
        other = naive[name]
        assert one.instances == len(other["turns"]) == 100
        assert one.rounds == fmean(other["turns"]) / 2
        assert math.isclose(one.prompt, fmean(other[USER]), rel_tol=1e-12)
        assert math.isclose(one.completion, fmean(other[ASSISTANT]), rel_tol=1e-12)
        for edge in EDGES:
            assert one.longer_than(edge) == sum(length > edge for length, _ in other["whole"])
        kept = [length for length, before in other["whole"] if before < limit]
        assert one.count == replace(
            one.count,
            examples=len(kept),
            dropped=100 - len(kept),
            tokens=sum(min(length, limit) for length in kept),
            truncated=sum(length > limit for length in kept),
            cut=sum(max(0, length - limit) for length in kept),
            split=0,
        )
    assert counted.total.count.truncated > 0
    assert counted.total.count.dropped > 0


def test_what_is_learnt_is_the_assistants_text_and_its_end(tmp_path: Path, tiny_tokenizer: str) -> None:
    renderer = load(tiny_tokenizer)
    text = "The answer is one"
    file = write(tmp_path / "d.jsonl", [(USER, "What is the answer?"), (ASSISTANT, text)])
    one = count([file], tokens(renderer), renderer).total
    assert one.count.supervised == one.completion_length + 1
    assert one.supervised_share == (one.completion_length + 1) / one.count.tokens
    # BOS, two markers, two texts, a newline behind the user's text, EOS.
    markers = sum(tokens(renderer)(["<|user|>\n", "\n<|assistant|>\n"]))
    assert one.count.tokens == 1 + markers + one.prompt_length + one.completion_length + 1


def test_cut_and_dropped_examples_are_counted(tmp_path: Path, tiny_tokenizer: str) -> None:
    short = [(USER, "a"), (ASSISTANT, "b")]
    file = write(
        tmp_path / "d.jsonl",
        short,
        [(USER, "a"), (ASSISTANT, "xyz " * 40)],
        [(USER, "xyz " * 40), (ASSISTANT, "b")],
        [(USER, "a")],
    )
    whole = load(tiny_tokenizer, 10_000)
    lengths = [len(whole.render(one).ids) for one in _read(file)]
    limit = 50
    assert lengths[0] < limit < min(lengths[1:3])
    renderer = load(tiny_tokenizer, limit)
    one = count([file], tokens(renderer), renderer).total
    assert (one.instances, one.count.examples, one.count.dropped) == (4, 2, 2)
    assert one.count.tokens == lengths[0] + limit
    assert (one.count.truncated, one.count.cut) == (1, lengths[1] - limit)
    assert sum(one.lengths) == 4  # by their whole length, the dropped ones too
    assert one.longer_than(1024) == 0


def _read(file: Path) -> list[Conversation]:
    from trainer.conversation import read

    return list(read(file))


def test_an_epoch_has_a_step_for_each_begun_batch(tmp_path: Path, tiny_tokenizer: str) -> None:
    file = write(tmp_path / "d.jsonl", *[[(USER, "a"), (ASSISTANT, "b")]] * 7)
    renderer = load(tiny_tokenizer)
    one = count([file], tokens(renderer), renderer).total
    assert [one.steps(batch) for batch in (1, 3, 7, 128)] == [7, 3, 1, 1]


def test_a_conversation_that_cannot_be_rendered_is_counted_and_told(tmp_path: Path, tiny_tokenizer: str) -> None:
    file = write(tmp_path / "d.jsonl", [(USER, "a"), (ASSISTANT, "b")], [], [(USER, "a"), (ASSISTANT, "b")])
    renderer = load(tiny_tokenizer)
    counted = count([file], tokens(renderer), renderer)
    assert (counted.total.instances, counted.total.count.examples, counted.total.rejected) == (3, 2, 1)
    [told] = counted.first_rejected
    assert told.startswith("d.jsonl:2: ")


# --- the command


def test_the_paper_stands_beside_what_was_counted(converted: list[Path], tiny_tokenizer: str) -> None:
    lines = run(converted[1], "--tokenizer", tiny_tokenizer).output.splitlines()
    name, paper, difference = (line.split() for line in lines[1:4])
    assert name[:3] == ["oasst1", "100", "1.8"]
    assert paper == ["paper", "34,795", "1.6", "34.8", "212.5"]
    assert difference[:3] == ["difference", "-34,695", "+0.2"]
    assert difference[3:] == [
        f"{float(here) - float(told):+.1f}" for here, told in zip(name[3:], paper[3:], strict=True)
    ]


def test_without_a_tokenizer_words_are_counted_and_not_compared(converted: list[Path]) -> None:
    output = run(converted[0]).output
    lines = output.splitlines()
    assert lines[3].split() == ["difference", "-51,902", "+0.0"]
    assert "Lengths in words: without --tokenizer there are no tokens to count and to compare." in output
    assert "Training" not in output
    told = json.loads(run(converted[0], "--json").output)
    assert (told["tokenizer"], told["lengths_in"]) == (None, "words")
    assert "training" not in told["total"]


def test_json_gives_all_numbers(converted: list[Path], tiny_tokenizer: str) -> None:
    told = json.loads(run(*converted, "--tokenizer", tiny_tokenizer, "--max-length", 256, "--json").output)
    renderer = load(tiny_tokenizer, 256)
    counted = count(converted, tokens(renderer), renderer)
    assert (told["tokenizer"], told["max_length"], told["batch"]) == (tiny_tokenizer, 256, 128)
    assert list(told["datasets"]) == ["alpaca", "oasst1", "sharegpt"]
    for name, one in [*counted.datasets.items(), ("", counted.total)]:
        numbers = told["datasets"][name] if name else told["total"]
        assert numbers["prompt"] == one.prompt
        assert numbers["training"]["supervised"] == one.count.supervised
        assert numbers["training"]["steps"] == one.steps(128)
        assert numbers["training"]["lengths"]["examples"] == list(one.lengths)
        assert numbers["training"]["longer_than"]["512"] == one.longer_than(512)
    assert told["datasets"]["oasst1"]["paper"] == {
        "instances": 34_795,
        "rounds": 1.6,
        "prompt": 34.8,
        "completion": 212.5,
    }
    assert told["total"]["paper"] is None


def test_bars_are_as_long_as_their_bins_are_full(converted: list[Path], tiny_tokenizer: str) -> None:
    output = run(*converted, "--tokenizer", tiny_tokenizer).output
    renderer = load(tiny_tokenizer)
    lengths = count(converted, tokens(renderer), renderer).total.lengths
    bars = output.partition("examples by tokens, before they are cut\n")[2].splitlines()
    assert len(bars) == 8
    for bar, number in zip(bars, lengths, strict=True):
        assert f"  {number:,}  " in bar
        assert bar.count("█") == round(50 * number / max(lengths))


def test_rejected_conversations_are_shown(tmp_path: Path, tiny_tokenizer: str) -> None:
    file = write(tmp_path / "d.jsonl", [(USER, "a"), (ASSISTANT, "b")], [])
    output = run(file, "--tokenizer", tiny_tokenizer).output
    assert "1 conversations cannot be rendered exactly, the first:\n  d.jsonl:2: " in output
