"""A prepared folder holds what the renderer makes, whatever happened while it was prepared."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.trainer import preparing, small_tokenizers

from trainer.conversation import read
from trainer.errors import DataError
from trainer.preparation import chunks, prepare
from trainer.preparation.prepared import Count, Prepared
from trainer.rendering import render
from trainer.rendering.render import Renderer

#: Cuts examples of the longer conversations.
LIMIT = 150


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    root = tmp_path_factory.mktemp("tokenizers")
    folders = {kind: small_tokenizers.save(kind, root / kind) for kind in ("opt", "llama", "merging")}
    return {kind: render.load(str(folder), max_length=LIMIT) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def renderer(renderers: dict[str, Renderer]) -> Renderer:
    return renderers["opt"]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hundred conversations in a dozen chunks."""
    monkeypatch.setattr(chunks, "CHUNK", 4000)
    return preparing.write(tmp_path / "mix.jsonl", preparing.rows(100))


@pytest.mark.parametrize("kind", ["opt", "llama", "merging"])
def test_every_example_is_what_the_renderer_makes_of_it_alone(
    renderers: dict[str, Renderer], file: Path, tmp_path: Path, kind: str
) -> None:
    made, _ = preparing.made(file, renderers[kind], tmp_path / "out")
    alone = [(one, renderers[kind].render(one)) for one in read(file)]
    kept = [(one, rendered) for one, rendered in alone if rendered.supervised.any()]
    assert 80 < len(made) == len(kept) < 100
    assert made.ids() == [one.id for one, _ in kept]
    assert [made.names[place] for place in made.datasets] == [one.dataset for one, _ in kept]
    for index, (_, expected) in enumerate(kept):
        for field in dataclasses.fields(expected):
            found, right = getattr(made[index], field.name), getattr(expected, field.name)
            if isinstance(right, np.ndarray):
                assert (found.dtype, found.tolist()) == (right.dtype, right.tolist())
            else:
                assert found == right
    assert made.lengths.tolist() == [len(rendered.ids) for _, rendered in kept]
    assert made.supervised.tolist() == [int(rendered.supervised.sum()) for _, rendered in kept]


def test_counts_are_those_of_a_recount(renderers: dict[str, Renderer], file: Path, tmp_path: Path) -> None:
    renderer = renderers["merging"]
    made, _ = preparing.made(file, renderer, tmp_path / "out")
    sums: dict[str, Counter[str]] = {"dolly": Counter(), "cot": Counter()}
    for one in read(file):
        rendered = renderer.render(one)
        learnt = int(rendered.supervised.sum())
        whole = {"examples": 1, "tokens": len(rendered.ids), "supervised": learnt, "cut": rendered.truncated}
        told = {**whole, "truncated": rendered.truncated > 0, "split": rendered.split} if learnt else {"dropped": 1}
        sums[one.dataset].update(told)
    assert made.counts == {name: Count(**sums[name]) for name in made.names}
    assert all(count.dropped and count.truncated and count.split for count in made.counts.values())


@pytest.mark.parametrize("workers", [2, 3])
def test_the_bytes_are_the_same_for_any_number_of_workers(
    renderer: Renderer, file: Path, tmp_path: Path, workers: int
) -> None:
    preparing.made(file, renderer, tmp_path / "one")
    preparing.made(file, renderer, tmp_path / "more", workers=workers)
    assert preparing.content(tmp_path / "more") == preparing.content(tmp_path / "one")


def test_how_a_file_is_cut_into_chunks_changes_nothing(
    renderer: Renderer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparing.made(file, renderer, tmp_path / "few")
    for size in (1, 10**9):
        monkeypatch.setattr(chunks, "CHUNK", size)
        preparing.made(file, renderer, tmp_path / str(size))
        assert preparing.content(tmp_path / str(size)) == preparing.content(tmp_path / "few")


def test_what_is_there_is_not_prepared_again(
    renderer: Renderer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparing.made(file, renderer, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    monkeypatch.setattr(prepare, "tokenize", None)
    made, told = preparing.made(file, renderer, tmp_path / "out")
    assert told.said == [f"{tmp_path / 'out'} holds this already: nothing to do."]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    made.verify()


def test_a_damaged_folder_is_prepared_anew(renderer: Renderer, file: Path, tmp_path: Path) -> None:
    made, _ = preparing.made(file, renderer, tmp_path / "out")
    whole = preparing.content(tmp_path / "out")
    (tmp_path / "out" / made.manifest["key"][:16] / "runs.bin").write_bytes(b"")
    _, told = preparing.made(file, renderer, tmp_path / "out")
    assert told.said == [f"{tmp_path / 'out'} is damaged: it is prepared anew."]
    assert preparing.content(tmp_path / "out") == whole


def test_what_was_there_can_be_read_until_what_replaces_it_is_whole(
    renderer: Renderer, file: Path, tmp_path: Path
) -> None:
    before, _ = preparing.made(file, renderer, tmp_path / "out")
    with file.open("ab") as more:
        more.write(b"{}\n")
    with pytest.raises(DataError, match="cannot be used"):
        preparing.made(file, renderer, tmp_path / "out")
    assert Prepared.open(tmp_path / "out").manifest == before.manifest


INGREDIENTS = ["file", "name", "template", "tokenizer", "max_length", "code", "library"]


@pytest.mark.parametrize("ingredient", INGREDIENTS)
def test_whatever_changes_the_result_prepares_anew(
    renderers: dict[str, Renderer], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ingredient: str
) -> None:
    opt = renderers["opt"]
    before, _ = preparing.made(file, opt, tmp_path / "out")
    other = opt
    if ingredient == "file":
        text = file.read_bytes()
        file.write_bytes(text.replace(b"Paris", b"parIs", 1))
    elif ingredient == "name":
        file = file.rename(tmp_path / "other.jsonl")
    elif ingredient == "template":
        other = render.load(opt.tokenizer.source, template="tulu1", max_length=LIMIT)
    elif ingredient == "tokenizer":
        other = Renderer(renderers["merging"].tokenizer, opt.template, max_length=LIMIT)
    elif ingredient == "max_length":
        other = Renderer(opt.tokenizer, opt.template, max_length=LIMIT - 1)
    elif ingredient == "code":
        monkeypatch.setattr(prepare, "code", lambda: "edited")
    else:
        monkeypatch.setattr(prepare, "version", lambda name: "99")
    after, told = preparing.made(file, other, tmp_path / "out")
    named = {"name": "files", "file": "files", "library": "libraries"}.get(ingredient, ingredient)
    assert told.said == [f"{tmp_path / 'out'} was made with other {named}: it is prepared anew."]
    assert after.manifest["key"] != before.manifest["key"]
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == [after.manifest["key"][:16]]


def test_an_edit_of_any_module_that_decides_changes_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = Path(prepare.__file__).parent.parent
    shutil.copytree(package, tmp_path / "trainer", ignore=lambda *_: ["cli", "sources", "__pycache__"])
    monkeypatch.setattr(prepare, "__file__", str(tmp_path / "trainer" / "preparation" / "prepare.py"))
    codes = {prepare.code()}
    for name in prepare.DECIDING:
        with (tmp_path / "trainer" / name).open("a") as module:
            module.write("#")
        codes.add(prepare.code())
    assert len(codes) == len(prepare.DECIDING) + 1


def test_all_modules_that_decide_are_known() -> None:
    code = (
        "import sys, trainer.preparation.chunks, trainer.rendering.jinja_template;"
        "print(*(m.__file__ for n, m in sys.modules.items() if n[:8] == 'trainer.'))"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    package = Path(prepare.__file__).parent.parent
    names = {str(Path(file).relative_to(package)) for file in loaded}
    empty = {"errors.py", "preparation/__init__.py", "rendering/__init__.py"}
    assert names - empty == set(prepare.DECIDING)


def test_preparing_imports_no_torch() -> None:
    code = "import sys, trainer.preparation.prepare; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


# Rows that cannot be used.

BAD = {
    2: b'{"messages": [{"role": "user", "content": "x"}',
    4: b'{"text": "no messages"}',
    6: b'{"messages": [{"role": "wizard", "content": "x"}]}',
    8: b'{"messages": []}',
    10: b'{"messages": [{"role": "user", "content": "\xff"}]}',
    12: b'{"messages": [{"role": "assistant", "content": "\\ud83d"}]}',
}


@pytest.fixture
def bad(file: Path) -> Path:
    lines = file.read_bytes().splitlines()
    for number, line in BAD.items():
        lines.insert(number - 1, line)
    file.write_bytes(b"\n".join(lines))
    return file


def test_rows_that_cannot_be_used_are_all_told_with_file_and_line_and_nothing_is_lost(
    renderer: Renderer, bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = preparing.Told()
    task = prepare.Task(files=[bad], renderer=renderer, folder=tmp_path / "out")
    with pytest.raises(DataError, match=r"^6 rows of mix\.jsonl cannot be used, the first: mix\.jsonl:2: "):
        prepare.prepare(task, watch=told, workers=1)
    assert sorted(int(line.split(":")[1]) for line in told.said) == list(BAD)
    with pytest.raises(DataError, match="holds no prepared data"):
        Prepared.open(tmp_path / "out")
    monkeypatch.setattr(prepare, "tokenize", None)  # all of it was done before
    made, _ = preparing.made(bad, renderer, tmp_path / "out", skip_bad=True)
    assert (made.manifest["rejected"], len(made.manifest["rejected_first"])) == (6, 6)
    with pytest.raises(DataError, match=r"^6 rows of mix\.jsonl cannot be used"):
        preparing.made(bad, renderer, tmp_path / "out")


def test_a_skipped_row_changes_nothing_else(renderer: Renderer, bad: Path, tmp_path: Path) -> None:
    made, _ = preparing.made(bad, renderer, tmp_path / "bad", skip_bad=True)
    good, _ = preparing.made(preparing.write(tmp_path / "mix.jsonl", preparing.rows(100)), renderer, tmp_path / "good")
    assert made.tokens.tolist() == good.tokens.tolist()
    assert made.ids() == good.ids()


def test_a_file_of_something_else_is_given_up_soon(renderer: Renderer, file: Path, tmp_path: Path) -> None:
    file.write_bytes(b'{"prompt": "x", "completion": "y"}\n' * 10_000)
    with pytest.raises(DataError, match=r"^1\d\d rows of mix\.jsonl cannot be used"):
        preparing.made(file, renderer, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no conversations"),
        ("\n\n", "no conversations"),
        (
            '{"messages": [{"role": "user", "content": "Hello?"}]}',
            "of 1 conversations none leaves anything that is learnt",
        ),
    ],
)
def test_a_file_with_nothing_to_learn_is_refused(
    renderer: Renderer, file: Path, tmp_path: Path, text: str, why: str
) -> None:
    file.write_text(text)
    with pytest.raises(DataError, match=rf"^There is nothing to learn in mix\.jsonl: {why}\.$"):
        preparing.made(file, renderer, tmp_path / "out")


def test_a_file_that_changes_meanwhile_is_refused(
    renderer: Renderer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tokenize(chunk: chunks.Chunk, renderer: Renderer) -> chunks.Part:
        with file.open("ab") as more:
            more.write(b"\n")
        return chunks.tokenize(chunk, renderer)

    monkeypatch.setattr(prepare, "tokenize", tokenize)
    with pytest.raises(DataError, match="was changed while it was read"):
        preparing.made(file, renderer, tmp_path / "out")


def test_a_row_without_dataset_and_id_gets_those_of_its_place(renderer: Renderer, file: Path, tmp_path: Path) -> None:
    row = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})
    file.write_text("\n" + f"{row}\n" * 100)
    made, _ = preparing.made(file, renderer, tmp_path / "out")
    assert made.names == ("mix",)
    assert made.ids() == [f"mix_{number}" for number in range(2, 102)]


def test_ids_beyond_two_bytes_are_kept(renderer: Renderer, file: Path, tmp_path: Path) -> None:
    tokenizer = dataclasses.replace(renderer.tokenizer, leading=(70_000,), size=70_001)
    made, _ = preparing.made(file, Renderer(tokenizer, renderer.template, max_length=LIMIT), tmp_path / "out")
    assert made.tokens.dtype == np.dtype("<u4")
    assert {int(made[index].ids[0]) for index in range(len(made))} == {70_000}


def test_real_conversations_take_less_than_three_bytes_a_token(
    renderer: Renderer, tmp_path: Path, test_data: Path
) -> None:
    raw = json.loads((test_data / "instruct" / "sharegpt" / "dummy_conversation.json").read_bytes())
    roles = {"human": "user", "gpt": "assistant"}
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": roles[one["from"]], "content": one["value"]} for one in row["conversations"]]}
        for row in raw
    ]
    source = os.environ.get("EVALKIT_SMOLLM2") or renderer.tokenizer.source
    preparing.made(preparing.write(tmp_path / "s.jsonl", rows), render.load(source, max_length=2048), tmp_path / "out")
    made = Prepared.open(tmp_path / "out")
    size = sum(len(content) for content in preparing.content(tmp_path / "out").values())
    assert (len(made), size <= 3 * len(made.tokens)) == (500, True)


# The command.


def test_the_command_shows_what_it_made_and_finds_it_again(renderer: Renderer, file: Path, cli: Any) -> None:
    asked = ["data", "prepare", file, "--tokenizer", renderer.tokenizer.source, "--to", "out", "--max-length", LIMIT]
    code, out, err = cli(*asked, "--workers", 1)
    made = Prepared.open(Path("out"))
    lines = [line.split() for line in out.splitlines()]
    total = sum(made.counts.values(), start=Count())
    assert (code, err) == (0, "")
    assert lines[0] == ["dataset", "examples", "tokens", "learnt", "dropped", "truncated", "split"]
    assert lines[3][:4] == ["all", *(f"{value:,}" for value in (total.examples, total.tokens, total.supervised))]
    assert cli(*asked) == (0, out, "out holds this already: nothing to do.\n")


def test_the_command_names_what_cannot_be_written(renderer: Renderer, file: Path, cli: Any) -> None:
    Path("taken").write_text("a file")
    asked = ["data", "prepare", file, "--tokenizer", renderer.tokenizer.source, "--to", "taken/out"]
    code, _, err = cli(*asked)
    assert (code, err) == (
        1,
        "Error: taken/out cannot be written (Not a directory). "
        "Make room or choose another folder with --to, then repeat the command.\n",
    )
