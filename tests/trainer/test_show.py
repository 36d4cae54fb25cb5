"""``trainer data show``: an example as people read it, in the terminal and on a page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.trainer import small_tokenizers
from tests.trainer.plugin import Cli

from trainer.errors import DataError
from trainer.rendering import render
from trainer.rendering.page import page
from trainer.rendering.render import Renderer
from trainer.rendering.rendered import IGNORED, Reason
from trainer.rendering.show import Shown, show

HOSTILE = "</div><script>alert('x')</script>\" onmouseover=\"x & [red]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tokenizers.save("opt", tmp_path_factory.mktemp("tokenizer") / "opt")


@pytest.fixture(scope="module")
def renderer(folder: Path) -> Renderer:
    return render.load(str(folder))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "talk.jsonl"
    rows = [
        {"id": "two", "messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B 🙂\n\tC"}]},
        {"messages": [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": "The answer"}]},
        {"id": "2", "dataset": "d", "messages": [{"role": "user", "content": "x"}]},
        {"id": "naïve", "messages": [{"role": "user", "content": "x"}]},
    ]
    path.write_text("\n" + "".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize(("which", "line"), [("two", 2), ("3", 3), ("talk_3", 3), ("2", 4), ("naïve", 5), ("4", 4)])
def test_an_example_is_found_by_its_id_or_else_by_its_line(
    file: Path, renderer: Renderer, which: str, line: int
) -> None:
    assert show(file, which, renderer).where == f"talk.jsonl:{line}"


@pytest.mark.parametrize("which", ["three", "1", "9"])
def test_an_example_that_is_not_there_is_named(file: Path, renderer: Renderer, which: str) -> None:
    told = f"^talk.jsonl has no conversation with the id '{which}', nor on such a line; it has 5 lines.$"
    with pytest.raises(DataError, match=told):
        show(file, which, renderer)


@pytest.mark.parametrize("kind", small_tokenizers.KINDS)
def test_pieces_joined_are_text_and_tokens(file: Path, tmp_path: Path, kind: str) -> None:
    renderer = render.load(str(small_tokenizers.save(kind, tmp_path / kind)))
    for which in ("two", "3"):
        shown = show(file, which, renderer, max_length=12)
        ids = shown.rendered.ids.tolist()
        assert [one for piece in shown.pieces for one in piece.ids] == ids
        assert [one for piece in shown.pieces for one in piece.labels] == shown.rendered.labels.tolist()
        whole = show(file, which, renderer)
        assert "".join(piece.text for piece in whole.pieces) == renderer.tokenizer.decode(ids)
        assert sum(len(piece.ids) for piece in shown.pieces if not piece.cut) == 12


def test_tokens_of_one_character_stay_together(file: Path, renderer: Renderer) -> None:
    [emoji] = [piece for piece in show(file, "two", renderer).pieces if "🙂" in piece.text]
    assert emoji.text in {"🙂", " 🙂"}
    assert len(emoji.ids) > 1
    assert emoji.learnt
    assert emoji.labels == emoji.ids


def test_the_report_of_a_conversion_names_the_raw_files(file: Path, renderer: Renderer) -> None:
    assert show(file, "two", renderer).raw == ()
    file.with_name("talk.report.json").write_text('{"files": [{"name": "raw/a.json", "sha256": "", "state": "ok"}]}')
    assert show(file, "two", renderer).raw == ("raw/a.json",)
    file.with_name("talk.report.json").write_text("{")
    assert show(file, "two", renderer).raw == ()


class Page(HTMLParser):
    """The tags of a page, its attributes and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.tips: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.tips += [str(value) for name, value in attrs if name == "data-tip"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_obeys_nothing_and_fetches_nothing(file: Path, renderer: Renderer) -> None:
    made = Page(page(show(file, "3", renderer)))
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(made.tags)
    names = {name for name, _ in made.attributes}
    assert names == {"lang", "charset", "name", "content", "class", "tabindex", "data-tip"}
    assert HOSTILE in made.text
    assert "url(" not in page(show(file, "3", renderer))
    assert "http" not in page(show(file, "3", renderer)).replace(str(file), "")


def test_the_page_tells_id_token_reason_and_label_of_every_token(file: Path, renderer: Renderer) -> None:
    shown = show(file, "two", renderer)
    made = Page(page(shown))
    assert len(made.tips) == len(shown.pieces)
    for tip, piece in zip(made.tips, shown.pieces, strict=True):
        ids = " ".join(map(str, piece.ids))
        label = ids if piece.learnt else " ".join(["−100"] * len(piece.ids))
        assert tip == f"id {ids}   token {' '.join(piece.tokens)}   {piece.reason.name.lower()}   label {label}"
    assert made.text.count("learnt") >= 3
    assert "assistant learnt" in made.text  # said in words, and not by colour alone
    assert "marker learnt" not in made.text


def test_counts_are_those_of_what_is_kept(file: Path, renderer: Renderer) -> None:
    whole, cut = show(file, "two", renderer), show(file, "two", renderer, max_length=12)
    assert sum(one[1] for one in whole.counts()) == len(whole.rendered.ids)
    assert sum(one[1] for one in cut.counts()) == 12
    by_reason = dict(zip(*np_counts(whole), strict=True))
    assert {int(reason): count for reason, count, _ in whole.counts()} == by_reason
    assert {reason for reason, _, learnt in whole.counts() if learnt} == {Reason.ASSISTANT, Reason.EOS}


def np_counts(shown: Shown) -> tuple[list[int], list[int]]:
    import numpy as np

    values, counts = np.unique(shown.rendered.reasons, return_counts=True)
    return values.tolist(), counts.tolist()


def test_the_terminal_shows_text_and_counts(cli: Cli, file: Path, folder: Path) -> None:
    code, out, _ = cli("data", "show", file, "two", "--tokenizer", folder)
    head, text, table = out.split("\n\n", 2)
    assert head.splitlines()[:4] == [
        "two · talk",
        "Row:            talk.jsonl:2",
        f"Tokenizer:      {folder}",
        "Template:       tulu",
    ]
    assert text == "</s><|user|>↵\nA↵\n<|assistant|>↵\n⟦B 🙂↵\n        C⟧⟦</s>⟧"
    assert [line.split()[0] for line in table.splitlines()] == [
        "reason", "bos", "marker", "user", "assistant", "eos", "newline"
    ]  # fmt: skip
    assert code == 0


def test_the_terminal_lists_tokens_on_demand(cli: Cli, file: Path, folder: Path, renderer: Renderer) -> None:
    made = show(file, "two", renderer).rendered
    _, out, _ = cli("data", "show", file, "two", "--tokenizer", folder, "--tokens", "--max-length", 14)
    lines = [line.split() for line in out.splitlines()[-len(made.ids) :]]
    assert [int(line[1]) for line in lines] == made.ids.tolist()
    assert [int(line[2]) for line in lines[:14]] == made.labels[:14].tolist()
    assert all(line[2:4] == ["cut", "off"] for line in lines[14:])
    assert made.labels[0] == IGNORED


def test_markup_in_a_message_is_text_in_the_terminal(cli: Cli, file: Path, folder: Path) -> None:
    _, out, _ = cli("data", "show", file, "3", "--tokenizer", folder)
    assert HOSTILE in out


def test_a_page_is_written_or_the_reason_told(cli: Cli, file: Path, folder: Path, tmp_path: Path) -> None:
    code, out, _ = cli("data", "show", file, "two", "--tokenizer", folder, "--html", "two.html")
    assert (code, out) == (0, "Wrote two.html.\n")
    assert (tmp_path / "two.html").read_text().startswith("<!doctype html>")
    code, _, err = cli("data", "show", file, "two", "--tokenizer", folder, "--html", "gone/two.html")
    assert (code, err) == (1, "Error: gone/two.html cannot be written: No such file or directory.\n")
