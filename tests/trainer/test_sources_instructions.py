"""Seven sources of single instructions give what the 2023 code gave on the same files, but for named repairs.

Real raw rows: Dolly (12), Super-NaturalInstructions (5 tasks), Alpaca (5,000), Code-Alpaca (2,017), rows of another run
of Self-Instruct (14), and 40 rows of Unnatural Instructions that the recording has put back into the raw layout.
GPT4-Alpaca has no rows here: its file has the layout of Alpaca's, and it is tested on rows written for the test.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.conversation import Conversation, Rejected
from trainer.raw.rows import Files
from trainer.sources import Source, registry, stream, super_ni

ALPACAS = ("alpaca", "code_alpaca", "gpt4_alpaca")
#: Source -> the name of its one raw file.
NAMED = {
    "dolly": "databricks-dolly-15k.jsonl",
    "self_instruct": "all_instances_82K.jsonl",
    "alpaca": "alpaca_data.json",
    "code_alpaca": "code_alpaca_20k.json",
    "gpt4_alpaca": "alpaca_gpt4_data.json",
}
TASKS = (
    "task002_quoref_answer_generation",
    "task062_bigbench_repeat_copy_logic",
    "task685_mmmlu_answer_generation_clinical_knowledge",
    "task1290_xsum_summarization",
    "task1590_diplomacy_text_generation",
    "task639_multi_woz_user_utterance_generation",
)

Made = list[Conversation | Rejected]


@pytest.fixture(scope="module")
def recorded(test_data: Path) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """(file, run) -> what the 2023 code made of a file, in order; at most the first 100 conversations."""
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for name in ("converters", "converters_nc"):
        with gzip.open(test_data / "oracles" / "open_instruct_v1" / f"{name}.jsonl.gz", "rt") as lines:
            for row in map(json.loads, lines):
                if row["kind"] == "converter":
                    runs.setdefault((name, row["run"]), []).append(row)
    return {key: sorted(rows, key=lambda row: int(row["output_index"])) for key, rows in runs.items()}


@pytest.fixture
def tasks(test_data: Path, tmp_path: Path) -> Path:
    """Task files laid out as the repository has them; of the task with questions of MMLU there is none."""
    (tmp_path / "splits" / "xlingual").mkdir(parents=True)
    (tmp_path / "splits" / "xlingual" / "train_tasks.txt").write_text("\n".join(TASKS) + "\n")
    (tmp_path / "tasks").mkdir()
    for file in (test_data / "instruct" / "superni").iterdir():
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        (tmp_path / "tasks" / f"{file.name.partition('.')[0]}.json").write_bytes(content)
    return tmp_path


def source(name: str) -> Source:
    found: Source = import_module(f"trainer.sources.{name}").SOURCE
    return found


def converted(name: str, path: Path, seed: int = 42) -> Made:
    """What a source makes, with the one stream of the 2023 code."""
    return list(source(name).convert(Files(path), Random(seed)))


def said(conversation: Conversation | Rejected) -> list[dict[str, str]]:
    assert isinstance(conversation, Conversation), conversation
    return [{"role": message.role, "content": message.content} for message in conversation.messages]


def raw(folder: Path, name: str, rows: Sequence[Any]) -> Path:
    """A folder with these rows as the file of a source, objects or text."""
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    text = "[" + ",\n".join(texts) + "]" if name in ALPACAS else "".join(f"{text}\n" for text in texts)
    (folder / NAMED[name]).write_text(text)
    return folder


def same(made: Made, rows: Iterable[dict[str, Any]], renamed: tuple[str, str] = ("", "")) -> int:
    """How many conversations equal the recorded ones, all of which must."""
    rows = list(rows)
    ids = [row["id"].replace(*renamed) if renamed[0] else row["id"] for row in rows]
    kept = made[: len(rows)]
    assert [one.id for one in kept if isinstance(one, Conversation)] == ids
    assert [said(one) for one in kept] == [row["messages"] for row in rows]
    return len(rows)


# As in 2023


def test_dolly_is_converted_as_in_2023(test_data: Path, tmp_path: Path, recorded: dict[Any, Any]) -> None:
    rows = json.loads((test_data / "instruct" / "dolly" / "dolly.json").read_text())
    assert same(converted("dolly", raw(tmp_path, "dolly", rows)), recorded["converters", 0]) == 12


def test_self_instruct_is_converted_as_in_2023(test_data: Path, recorded: dict[Any, Any]) -> None:
    file = test_data / "instruct" / "self_instruct_like" / "all_generated.jsonl"
    assert same(converted("self_instruct", file), recorded["converters", 121]) == 14


def test_unnatural_instructions_are_converted_as_in_2023(tmp_path: Path, recorded: dict[Any, Any]) -> None:
    rows = recorded["converters", 241]
    with zipfile.ZipFile(tmp_path / "core_data.zip", "w") as archive:
        archive.writestr("core_data.jsonl", "".join(f"{json.dumps(row['input'])}\n" for row in rows))
    assert same(converted("unnatural_instructions", tmp_path), rows) == 40
    assert {row["input"]["instances"][0]["constraints"] for row in rows} >= {"", "None", "none.", " none", None}


def test_alpaca_is_converted_as_in_2023_under_its_own_name(test_data: Path, recorded: dict[Any, Any]) -> None:
    made = converted("alpaca", test_data / "nc" / "alpaca" / "alpaca_5000.json.gz")
    assert same(made, recorded["converters_nc", 0], ("stanford_alpaca", "alpaca")) == 100
    rejected = [str(one) for one in made if isinstance(one, Rejected)]
    assert (len(made), rejected) == (
        5000,
        [f"alpaca_5000.json.gz[{row}]: the output is empty." for row in (2336, 4659)],
    )


def test_code_alpaca_is_converted_as_in_2023(test_data: Path, recorded: dict[Any, Any]) -> None:
    made = converted("code_alpaca", test_data / "nc" / "code_alpaca" / "code_alpaca_2k.json.gz")
    assert same(made, recorded["converters_nc", 101]) == 100
    assert (len(made), sum(isinstance(one, Rejected) for one in made)) == (2017, 2)


def test_super_ni_is_converted_as_in_2023(tasks: Path, recorded: dict[Any, Any]) -> None:
    made = converted("super_ni", tasks)
    assert same(made, recorded["converters", 447]) == 100
    assert len(made) == 80 + 29 + 80 + 16 + 18


def test_super_ni_draws_its_examples_as_in_2023(tasks: Path, recorded: dict[Any, Any]) -> None:
    assert same(list(super_ni.sample(Files(tasks), Random(42), 6, 4)), recorded["converters", 548]) == 50


def test_super_ni_is_the_same_from_the_repositorys_archive(
    tasks: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("zipped")
    shutil.make_archive(str(folder / "natural-instructions"), "zip", tasks)
    assert converted("super_ni", folder) == converted("super_ni", tasks)


def test_gpt4_alpaca_reads_the_layout_of_alpaca(tmp_path: Path) -> None:
    rows = [{"instruction": f"i{place}", "input": "", "output": f"o{place}"} for place in range(5)]
    gpt4, alpaca = (converted(name, raw(tmp_path, name, rows)) for name in ("gpt4_alpaca", "alpaca"))
    assert [said(one) for one in gpt4] == [said(one) for one in alpaca]
    assert [one.id for one in gpt4 if isinstance(one, Conversation)] == [f"gpt4_alpaca_{place}" for place in range(5)]


# The streams of random numbers


def test_what_a_source_draws_hangs_on_its_name_and_the_seed() -> None:
    first = {name: stream(name, 42).random() for name in registry.TWELVE}
    assert {name: stream(name, 42).random() for name in reversed(registry.TWELVE)} == first
    assert len({*first.values(), *(stream(name, 43).random() for name in registry.TWELVE)}) == 24


def test_another_seed_draws_other_templates(test_data: Path) -> None:
    file = test_data / "nc" / "code_alpaca" / "code_alpaca_2k.json.gz"
    one, other = (converted("code_alpaca", file, seed) for seed in (1, 2))
    assert [getattr(a, "id", a) for a in one] == [getattr(b, "id", b) for b in other]
    assert 1000 < sum(a != b for a, b in zip(one, other, strict=True)) < 2017


# Rows that make no conversation


@pytest.mark.parametrize("name", NAMED)
def test_a_bad_row_is_rejected_with_its_place_and_the_next_one_read(name: str, tmp_path: Path) -> None:
    input, output = ("context", "response") if name == "dolly" else ("input", "output")
    good = {"instruction": "i", input: "", output: "o"}
    bad = [
        {"instruction": "i", input: ""},
        {**good, input: 5},
        {**good, "instruction": None},
        {**good, output: " "},
        {**good, output: "\ud800"},
        [good],
    ]
    made = converted(name, raw(tmp_path, name, [*bad, {**good, input: None}]))
    form = "[{}]" if name in ALPACAS else ":{}"
    assert [str(one) for one in made[:-1]] == [
        f"{NAMED[name]}{form.format(line)}: {reason}."
        for line, reason in enumerate(
            [
                f"field '{output}' is missing (there are: instruction, {input})",
                f"field '{input}' should be text, but is 5",
                "field 'instruction' should be text, but is null",
                "the output is empty",
                f"field '{output}' holds half of a surrogate pair (U+D800 at character 1)",
                "not a JSON object but list",
            ],
            1,
        )
    ]
    assert isinstance(made[-1], Conversation)
    assert made[-1].id == f"{name}_6"


@pytest.mark.parametrize("name", ["dolly", "self_instruct"])
def test_a_broken_line_costs_that_line(name: str, tmp_path: Path) -> None:
    input, output = ("context", "response") if name == "dolly" else ("input", "output")
    good = json.dumps({"instruction": "i", input: "", output: "o"}).encode()
    (tmp_path / NAMED[name]).write_bytes(b"\n".join([good, b"{", good.replace(b"i", b"\xff", 1), good]))
    made = converted(name, tmp_path)
    assert [one.where for one in made if isinstance(one, Rejected)] == [f"{NAMED[name]}:2", f"{NAMED[name]}:3"]
    assert [one.id for one in made if isinstance(one, Conversation)] == [f"{name}_0", f"{name}_3"]


@pytest.mark.parametrize("name", ALPACAS)
def test_a_broken_list_keeps_what_came_before(name: str, tmp_path: Path) -> None:
    good = json.dumps({"instruction": "i", "input": "", "output": "o"})
    first, broken = converted(name, raw(tmp_path, name, [good, '{"instruction" 5}', good]))
    assert isinstance(first, Conversation)
    assert str(broken) == (f"{NAMED[name]}:2: not JSON from column 16 on (Expecting ':' delimiter); row 2 on is lost.")


def test_unnatural_rows_and_instances_are_rejected_alone(tmp_path: Path) -> None:
    good = {"input": "x", "constraints": "None", "output": "o"}
    rows = [
        {"instruction": "i", "instances": [good, 5, {**good, "output": ""}, {**good, "constraints": "Be brief."}]},
        {"instruction": "i", "instances": []},
        {"instruction": "i"},
        {"instances": [good]},
        {"instruction": "i", "instances": [{"input": "x", "output": "o"}]},
    ]
    (tmp_path / "core_data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    made = converted("unnatural_instructions", tmp_path)
    assert [one.id if isinstance(one, Conversation) else str(one) for one in made] == [
        "unnatural_instructions_0",
        "core_data.jsonl:1: field 'instances[1]' should be an object, but is 5.",
        "core_data.jsonl:1: in 'instances[2]' the output is empty.",
        # The 2023 code would call this one, too, unnatural_instructions_0.
        "unnatural_instructions_0.3",
        "core_data.jsonl:2: field 'instances' is an empty list.",
        "core_data.jsonl:3: field 'instances' is missing (there are: instruction).",
        "core_data.jsonl:4: field 'instruction' is missing (there are: instances).",
        "core_data.jsonl:5: field 'instances[0].constraints' is missing (there are: input, output).",
    ]
    assert "i\nBe brief." in said(made[3])[0]["content"]


def changed(tasks: Path, **fields: Any) -> Iterator[Conversation | Rejected]:
    """What is made of the small task alone, with these fields."""
    file = tasks / "tasks" / f"{TASKS[1]}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    (tasks / "splits" / "xlingual" / "train_tasks.txt").write_text(f"{TASKS[1]}\n")
    return super_ni.sample(Files(tasks), Random(42), 1, 1)


INSTANCE = {"id": "task062-x", "input": "in", "output": ["first", "second"]}


def test_super_ni_takes_texts_of_older_releases_whole(tasks: Path) -> None:
    # Where the 2023 code takes their first letters.
    older = {**INSTANCE, "output": "answer"}
    made = list(changed(tasks, Definition="Say it.", Instances=[older, older]))
    assert [said(one)[1]["content"] for one in made] == ["answer", "answer"]
    assert all("Say it." in said(one)[0]["content"] for one in made)


def test_super_ni_takes_the_first_answer(tasks: Path) -> None:
    assert [said(one)[1]["content"] for one in changed(tasks, Instances=[INSTANCE, INSTANCE])] == ["first", "first"]


@pytest.mark.parametrize(
    ("instance", "reason"),
    [
        ({"input": "in", "output": ["o"]}, "field 'Instances[0].id' is missing (there are: input, output)"),
        ({**INSTANCE, "output": []}, "in 'Instances[0]' field 'output' is an empty list"),
        ({**INSTANCE, "output": [""]}, "in 'Instances[0]' the output is empty"),
        ({**INSTANCE, "output": 5}, "field 'Instances[0].output' should be a list, but is 5"),
        ({**INSTANCE, "input": ["in"]}, "field 'Instances[0].input' should be text, but is [\"in\"]"),
        (7, "field 'Instances[0]' should be an object, but is 7"),
    ],
)
@pytest.mark.parametrize("place", [0, 1], ids=["zero-shot", "few-shot"])
def test_a_bad_instance_of_a_task_is_rejected_alone(tasks: Path, instance: Any, reason: str, place: int) -> None:
    instances = [INSTANCE, instance] if place else [instance, INSTANCE]
    reason = reason.replace("Instances[0]", f"Instances[{place}]")
    made = list(changed(tasks, Instances=instances))
    assert str(made[place]) == f"{TASKS[1]}.json: {reason}."
    assert isinstance(made[1 - place], Conversation)


def test_a_broken_task_file_is_rejected_and_the_next_one_read(tasks: Path) -> None:
    (tasks / "tasks" / f"{TASKS[0]}.json").write_text('{"Definition":\n oops}')
    made = converted("super_ni", tasks)
    assert str(made[0]) == f"{TASKS[0]}.json:2: not JSON (Expecting value, column 2)."
    assert len(made) == 1 + 29 + 80 + 16 + 18


def test_a_task_without_examples_shows_none(tasks: Path) -> None:
    _, made = changed(tasks, Definition=["Say it."], Instances=[INSTANCE, INSTANCE], **{"Positive Examples": []})
    assert said(made)[0]["content"] == "Say it.\n\nInput:\nin\nOutput:\n"


# What is published


@pytest.mark.parametrize("name", registry.TWELVE)
def test_each_of_the_twelve_says_whence_and_under_which_licence(name: str) -> None:
    found = registry.find(name, lambda *, group: ())
    assert found.name == name
    assert found.licence
    assert found.home.startswith("https://")
    for file in found.published:
        assert file.path.startswith(f"{name}/")
        assert file.url.startswith("https://")
        assert "/main/" not in file.url
        assert "/master/" not in file.url
        assert not file.sha256 or len(file.sha256) == 64


@pytest.mark.parametrize("name", registry.TWELVE)
def test_each_of_the_twelve_names_the_command_that_fetches_its_files(name: str, tmp_path: Path) -> None:
    files = Files(tmp_path, remedy="Fetch them.")
    with pytest.raises(Exception, match=r"holds no .*\. Fetch them\.$"):
        list(registry.find(name, lambda *, group: ()).convert(files, Random(1)))


# Rows of any shape

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["input", "output", "id", "constraints", "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)
_ROWS = st.dictionaries(
    st.sampled_from(
        [
            "instruction",
            "input",
            "context",
            "output",
            "response",
            "instances",
            "Definition",
            "Positive Examples",
            "Instances",
        ]
    ),
    _JSON,
    max_size=9,
)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(_ROWS | _JSON, min_size=1, max_size=4))
def test_no_row_of_any_shape_stops_a_conversion(rows: list[Any]) -> None:
    """Every record becomes a conversation or a rejection, if not several."""
    lines = [json.dumps(row) for row in rows]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in NAMED:
            assert len(converted(name, raw(folder, name, lines))) == len(rows)
        (folder / "core_data.jsonl").write_text("".join(f"{line}\n" for line in lines))
        assert len(converted("unnatural_instructions", folder)) >= len(rows)
        (folder / "tasks").mkdir()
        for number, line in enumerate(lines):
            (folder / "tasks" / f"task{number}.json").write_text(line)
        (folder / "splits" / "xlingual").mkdir(parents=True)
        names = "".join(f"task{number}\n" for number in range(len(rows)))
        (folder / "splits" / "xlingual" / "train_tasks.txt").write_text(names)
        list(super_ni.sample(Files(folder), Random(1), 1, 1))
