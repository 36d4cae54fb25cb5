"""The judge: which pairs it is shown, in which order and words, and that its verdicts are turned back right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import Benchmark, Context, DataError, Example, GenerateRequest, Generation, Row, Shots, Source, Text, codec
from evalkit.options import bind
from evalkit.scoring import record
from evalkit.testing import check_benchmark
from evalkit_judge.benchmark import DEFAULT_JUDGE, again, judge, settled, shown, win
from evalkit_judge.forms import FORMS, prompt
from evalkit_judge.pairs import Pair, Shown, arranged, of_record, read

TEXTS = st.text(alphabet="ab \n{}", max_size=12)


def row(said: str = "mine", reference: str = "theirs", **fields: Any) -> Row:
    response = {"texts": [{"text": said}] if said else [{}]}
    whole = {"id": "7", "question": "Say it.", "target": reference, "response": response, "answers": {"text": said}}
    return Row({**whole, **fields}, "records.jsonl:8", 7)


def pair(number: int, *, said: str = "", more: str = "") -> Pair:
    return Pair(
        id=str(number), instruction=f"Say {number}.", input=more, said=said or f"x{number}", reference=f"y{number}"
    )


def examples(benchmark: Benchmark[Generation], pairs: Sequence[Pair], folder: Path) -> list[Example]:
    """The judge's examples of pairs, read from a file."""
    file = folder / "pairs.jsonl"
    file.write_bytes(b"".join(codec.dumps(one.out()) + b"\n" for one in pairs))
    return [benchmark.example(found) for found in benchmark.data.rows(Source(file))]


def asked(benchmark: Benchmark[Generation], example: Example, *, chat: bool = False) -> GenerateRequest:
    shots = benchmark.shots(Source(), 1, 42)
    request = benchmark.request(example, Context(shots=shots, chat=chat, tokenizer=None, seed=42))
    assert isinstance(request, GenerateRequest)
    return request


def reply(text: str) -> Generation:
    return Generation(texts=(Text(text=text),))


# Pairs from records


def test_blanks_around_outputs_are_left_out() -> None:
    found = of_record(row(" mine\n", "\n\ntheirs", subset="koala"))
    assert found == Pair(id="7", instruction="Say it.", said="mine", reference="theirs", subset="koala")
    assert of_record(row("")).said == ""


def test_the_input_is_told_from_the_instruction_where_the_record_says_it() -> None:
    found = of_record(row(question="Add.\n\n1 and 1", meta={"input": "1 and 1"}))
    assert (found.instruction, found.input, found.question) == ("Add.", "1 and 1", "Add.\n\n1 and 1")
    assert of_record(row(question="Add.", meta={"input": "1 and 1"})).input == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"response": {"logprobs": [-1.0]}}, r"records.jsonl:8: a record of one generated text is expected"),
        ({"response": {"texts": [{"text": "a"}, {"text": "b"}]}}, r"a record of one generated text is expected"),
        ({"response": 7}, r"a record of one generated text is expected"),
        ({"question": None}, r"records.jsonl:8: field 'question' should be text, but is null"),
    ],
)
def test_records_that_cannot_be_judged_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        of_record(row(**fields))


def test_more_than_one_run_below_a_folder_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"holds 2 runs; pass the folder of one of them to --data"):
        list(read(Source(tmp_path)))


@given(
    st.builds(Pair, id=TEXTS, instruction=TEXTS, input=TEXTS, said=TEXTS, reference=TEXTS, labels=st.just((0.5, 1.0)))
)
def test_a_pair_survives_its_file(one: Pair) -> None:
    out = one.out()
    if one.instruction:
        assert Pair.of(Row(out, "pairs.jsonl:1", 0)) == one
    assert "input" in out or not one.input


# Which output stands first


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8), st.integers(0, 3), st.sampled_from([1, 5]))
def test_both_orders_mirror_each_other(outputs: list[tuple[str, str]], seed: int, size: int) -> None:
    pairs = [
        Pair(id=str(number), instruction="?", said=said, reference=reference)
        for number, (said, reference) in enumerate(outputs)
    ]
    prompts = list(arranged(pairs, size=size, both=True, seed=seed))
    for (one, group, first), (other, same, second) in zip(prompts[::2], prompts[1::2], strict=True):
        assert (one, other, same) == (f"{group}/1", f"{group}/2", group)
        assert [(shown.pair, shown.flipped) for shown in first] == [(two.pair, not two.flipped) for two in second]
    alone = list(arranged(pairs, size=size, both=False, seed=seed))
    assert [(name, found) for name, _, found in alone] == [(group, found) for _, group, found in prompts[::2]]
    assert Counter(one.pair.id for _, _, found in alone for one in found) == Counter(one.id for one in pairs)


def test_the_order_depends_on_texts_and_seed_only() -> None:
    def first(said: str, seed: int = 42, *, id: str = "7", subset: str = "") -> str:
        one = Pair(id=id, instruction="Say it.", said=said, reference="theirs", subset=subset)
        ((_, _, (found,)),) = arranged([one], size=1, both=False, seed=seed)
        return found.target

    assert {said: first(said) for said in ("five", "six", "seven", "eight")} == {
        "five": "b",
        "six": "a",
        "seven": "b",
        "eight": "a",
    }
    assert first("five", id="8", subset="x") == "b"
    assert 70 < [first("five", seed) for seed in range(200)].count("a") < 130


@given(st.lists(st.integers(0, 40), unique=True, min_size=1, max_size=23), st.integers(0, 5))
def test_prompts_of_five_hold_each_pair_once_and_inputs_apart(numbers: list[int], seed: int) -> None:
    pairs = [pair(number, more="in" if number % 3 == 0 else "") for number in numbers]
    prompts = [found for _, _, found in arranged(pairs, size=5, both=False, seed=seed)]
    assert sorted(int(one.pair.id) for found in prompts for one in found) == sorted(numbers)
    assert all(len({one.pair.input for one in found}) == 1 and len(found) <= 5 for found in prompts)
    assert sum(len(found) < 5 for found in prompts) <= 2


def test_prompts_of_five_are_shuffled_the_same_way_wherever_the_pairs_stood() -> None:
    pairs = [pair(number) for number in range(30)]
    names = [name for name, _, _ in arranged(pairs, size=5, both=False, seed=42)]
    assert names == [name for name, _, _ in arranged(pairs[::-1], size=5, both=False, seed=42)]
    assert names[0] != "0+1+2+3+4"


# Verdicts are turned back


@given(st.data())
def test_a_verdict_says_the_same_in_both_orders(data: st.DataObject) -> None:
    """Whoever is preferred wins, wherever it stands; the other order with the same winner scores the same."""
    preset = data.draw(st.sampled_from(list(FORMS)))
    count = data.draw(st.integers(1, 5)) if preset == "paper" else 1
    pairs = [pair(number) for number in range(count)]
    winners = [data.draw(st.booleans()) for _ in pairs]  # True: the run's answer
    by_id = {one.id: winner for one, winner in zip(pairs, winners, strict=True)}
    benchmark = judge(preset=preset, orders="both", order_seed=data.draw(st.integers(0, 9)))
    rows = arranged(pairs, size=5 if preset == "paper" else 1, both=True, seed=benchmark.rules["order_seed"])
    for name, group, found in rows:
        fields = {"id": name, "group": group, "subset": "", "pairs": [one.pair.out() for one in found]}
        example = benchmark.example(Row({**fields, "flipped": [one.flipped for one in found]}, "here", 0))
        letters = [one.target if by_id[one.pair.id] else "ab".replace(one.target, "") for one in shown(example)]
        answered = record(benchmark, example, asked(benchmark, example), reply(written(preset, letters)))
        assert answered.scores == {"win_rate": pytest.approx(sum(winners) / count)}


def written(preset: str, letters: Sequence[str]) -> str:
    """What a judge writes who prefers these."""
    if preset == "alpaca-eval":
        ranks = (1, 2) if letters == ["a"] else (2, 1)
        return str([{"model": f"model_{number}", "rank": rank} for number, rank in enumerate(ranks, 1)])
    if preset == "scores":
        return "9 4\nIt is." if letters == ["a"] else "3.5 8\nIt is."
    filled = [*letters, *"aaaaa"][:5] if preset == "paper" else letters
    return "\n".join(f"Output ({letter})" for letter in filled)


@given(st.lists(st.tuples(TEXTS, TEXTS, st.booleans()), min_size=1, max_size=5))
def test_an_example_still_holds_the_pairs_that_it_was_made_of(outputs: list[tuple[str, str, bool]]) -> None:
    pairs = [
        Shown(
            pair=Pair(id=str(number), instruction="?", said=said, reference=reference, labels=(1.0,)), flipped=flipped
        )
        for number, (said, reference, flipped) in enumerate(outputs)
    ]
    fields = {"pairs": [one.pair.out() for one in pairs], "flipped": [one.flipped for one in pairs]}
    example = judge().example(Row({"id": "x", "group": "", "subset": "", **fields}, "here", 0))
    assert shown(codec.example_in(codec.flat(example))) == pairs
    assert judge().items(example) == len(pairs)


@pytest.mark.parametrize(
    ("answer", "target", "score"),
    [("a", "a", 1), ("b", "a", 0), ("tie", "a", 0.5), (("a", "b", "tie", "a"), "abab", 0.625), (("b",), "b", 1)],
)
def test_the_score_is_the_share_of_wins(answer: str | tuple[str, ...], target: str, score: float) -> None:
    assert win(answer, Example(id="0", question="?", target=target)) == score


def test_the_answer_is_a_letter_or_one_for_each_of_five_pairs(tmp_path: Path) -> None:
    alone, several = judge(orders="one"), judge(preset="paper")
    (one,), (five,) = (examples(which, [pair(3)], tmp_path) for which in (alone, several))
    assert (one.question, five.question) == ("Say 3.", "Say 3.")
    assert record(alone, one, asked(alone, one), reply("Output (b)")).answers == {"preference": "b"}
    lines = reply("\n".join(["Output (b)"] * 5))
    assert record(several, five, asked(several, five), lines).answers == {"preference": ("b",)}
    (two,) = examples(several, [pair(3), pair(4)], tmp_path)
    assert two.question == f"2 pairs: {two.id.replace('+', ', ')}"


# Ties are not asked


def test_equal_outputs_are_a_tie_that_nobody_is_asked_about(tmp_path: Path) -> None:
    for preset in ("pair", "paper"):
        benchmark = judge(preset=preset, orders="one")
        tie, other = pair(0, said="y0"), pair(1)
        found = {example.id: example for example in examples(benchmark, [tie, other], tmp_path)}
        assert found.keys() == {"0", "1"}
        answered = settled(found["0"])
        assert answered is not None
        assert settled(found["1"]) is None
        assert record(benchmark, found["0"], asked(benchmark, found["0"]), answered).scores == {"win_rate": 0.5}
        assert record(benchmark, found["0"], asked(benchmark, found["0"]), reply("Output (a)")).scores == {
            "win_rate": 0.5
        }


def test_a_judge_is_asked_again_with_some_warmth_and_another_seed() -> None:
    cold = GenerateRequest(prompt="?", max_tokens=5)
    assert again(cold, 3) == GenerateRequest(prompt="?", max_tokens=5, temperature=0.5, seed=3)
    assert judge().again is again
    assert judge().rules["again"] == "temperature 0.5, the attempt as seed"


# The prompts


def test_the_prompt_of_a_pair() -> None:
    example = Example(
        id="0",
        question="Say it.",
        target="a",
        choices=("It {input}.", "That\n\nis it."),
        meta={"pairs": [{"id": "0", "instruction": "Say it.\n"}]},
    )
    assert asked(judge(), example, chat=True) == GenerateRequest(
        prompt=(
            "Two assistants were given the same instruction. Compare their outputs and decide which of them a careful "
            "reader would rather have received: the one that does what was asked, is correct, and is clearly written. "
            "Neither the order of the outputs nor their length is a merit in itself.\n\n"
            "### Instruction\nSay it.\n\n### Output (a)\nIt {input}.\n\n### Output (b)\nThat\n\nis it.\n\n### Verdict\n"
            "Which output is better? Reply with Output (a) or Output (b) and nothing else."
        ),
        chat=True,
        max_tokens=250,
    )


@pytest.mark.parametrize("more", ["", "the input"])
def test_the_papers_text_holds_five_pairs_and_is_otherwise_untouched(
    test_data: Path, tmp_path: Path, more: str
) -> None:
    benchmark = judge(preset="paper")
    pairs = [pair(number, more=more) for number in range(5)]
    (example,) = examples(benchmark, pairs, tmp_path)
    shots = benchmark.shots(Source(test_data / "prompts"), 1, 42)
    assert shots.origin == "published"
    text = prompt(FORMS["paper"], shots, shown(example))
    name = f"alpacafarm_chatml_b5_{'with' if more else 'without'}_inputs.txt"
    published = re.sub(r"<\|im_[^\n]*\n?", "", (test_data / "prompts" / name).read_text())
    given = iter(
        value
        for one in shown(example)
        for value in (one.pair.instruction, *([one.pair.input] if more else []), *one.outputs)
    )
    assert text == re.sub(r"\{\w+\}", lambda _: next(given), published).strip()
    assert next(given, None) is None
    assert text.endswith("Now give all the preferred outputs for the batch of 5 examples.")
    assert "<|im_" not in text
    assert asked(benchmark, example).max_tokens == 250


def test_a_short_prompt_is_filled_up_and_only_what_was_meant_counts(tmp_path: Path) -> None:
    benchmark = judge(preset="paper")
    (example,) = examples(benchmark, [pair(0), pair(1)], tmp_path)
    text = asked(benchmark, example).prompt
    assert text.count("What is 1 + 1?") == 3
    answered = record(benchmark, example, asked(benchmark, example), reply("\n".join(["Output (a)"] * 5)))
    assert answered.answers == {"preference": ("a", "a")}
    too_few = record(benchmark, example, asked(benchmark, example), reply("Output (a)\nOutput (b)"))
    assert (too_few.answers, too_few.scores) == ({"preference": None}, {})


def test_a_text_without_a_place_for_the_input_gets_it_with_the_instruction(tmp_path: Path) -> None:
    (example,) = examples(judge(orders="one"), [pair(0, more="Here.")], tmp_path)
    assert "### Instruction\nSay 0.\n\nHere.\n\n### Output (a)" in asked(judge(), example).prompt


def test_words_of_our_own_stand_in_for_a_published_text_and_that_is_said() -> None:
    for preset in ("paper", "alpaca-eval"):
        found = judge(preset=preset).shots(Source(), 1, 42)
        assert found.origin.startswith("the judge's prompt: words of our own")
    assert judge(preset="pair").shots(Source(), 1, 42) == Shots()


def test_a_published_ranking_text_is_taken(tmp_path: Path) -> None:
    (tmp_path / "alpaca_eval.txt").write_text(
        "<|im_start|>user\nRank {output_1} and {output_2}: {instruction}\n<|im_end|>\n"
    )
    benchmark = judge(preset="alpaca-eval")
    shots = benchmark.shots(Source(tmp_path), 1, 42)
    text = prompt(FORMS["alpaca-eval"], shots, [Shown(pair=pair(3), flipped=True)])
    assert (shots.origin, text) == ("published", "Rank y3 and x3: Say 3.")


@given(st.text(), st.text())
def test_braces_in_outputs_are_no_places(said: str, reference: str) -> None:
    one = Shown(pair=Pair(id="0", instruction="{output_1}", said=said, reference=reference), flipped=False)
    text = prompt(FORMS["pair"], Shots(), [one])
    assert (
        f"### Instruction\n{{output_1}}\n\n### Output (a)\n{said}\n\n### Output (b)\n{reference}\n\n### Verdict" in text
    )


# Options and contract


def test_new_work_is_shown_in_both_orders_and_the_papers_in_one() -> None:
    orders = {preset: judge(preset=preset).rules["orders"] for preset in FORMS}
    assert orders == {"pair": "both", "paper": "one", "alpaca-eval": "both", "scores": "both"}
    assert judge(preset="paper", orders="both").rules["orders"] == "both"
    assert judge(max_tokens=9).rules["max_tokens"] == 9


def test_options_are_checked() -> None:
    assert bind(judge, {"preset": "paper", "orders": "one", "order-seed": "7"}, owner="judge") == {
        "preset": "paper",
        "orders": "one",
        "order_seed": 7,
    }


def test_the_default_judge_is_a_dated_model() -> None:
    assert re.fullmatch(r"openai:[\w.-]+-20\d\d-\d\d-\d\d", DEFAULT_JUDGE)


@pytest.mark.parametrize("preset", FORMS)
def test_the_contract_is_kept(preset: Any) -> None:
    def right(example: Example, request: Any) -> Generation:
        return reply(written(preset, list(example.target)))

    check_benchmark(lambda: judge(preset=preset), right=right)
