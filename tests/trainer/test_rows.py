"""Rows are read from whatever form a publisher chose, and what is broken in them is told with its place."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.conversation import Conversation, Message, Rejected
from trainer.errors import DataError
from trainer.raw import json_list
from trainer.raw.rows import Fault, Files, Row, conversations


def put(folder: Path, files: dict[str, str | bytes]) -> Files:
    """A folder with these files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Files(folder)


def told(rows: Iterator[Row | Rejected]) -> list[Any]:
    """Fields of good rows, ``file:line: reason`` of the others."""
    return [str(row) if isinstance(row, Rejected) else dict(row) for row in rows]


# JSON lines


def test_rows_know_where_they_stand(tmp_path: Path) -> None:
    files = put(tmp_path, {"a.jsonl": '{"x": 1}\n\n{"x": 2}\n'})
    rows = [row for row in files.jsonl("a.jsonl") if isinstance(row, Row)]
    assert [(row.where, row.number, dict(row)) for row in rows] == [
        ("a.jsonl:1", 0, {"x": 1}),
        ("a.jsonl:3", 1, {"x": 2}),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{oops", "not JSON (Expecting property name enclosed in double quotes, column 2)."),
        (b'{"x": "\xff"}', "not UTF-8 (byte 8 of the line)."),
        (b"[1]", "not a JSON object but list."),
        (b"[" * 200_000, "not JSON (maximum recursion depth exceeded"),
        (b'{"x": 1' + b"0" * 5000 + b"}", "not JSON (Exceeds the limit (4300 digits)"),
        (b'{"x":\x00 1}', "not JSON (Expecting value, column 6)."),
    ],
)
def test_a_broken_line_is_rejected_and_the_next_one_read(tmp_path: Path, line: bytes, reason: str) -> None:
    files = put(tmp_path, {"a.jsonl": b'{"x": 1}\n' + line + b'\n{"x": 3}\n'})
    first, broken, last = told(files.jsonl("a.jsonl"))
    assert (first, last) == ({"x": 1}, {"x": 3})
    assert broken.startswith(f"a.jsonl:2: {reason}")
    assert files.records_read == 3


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    files = put(tmp_path, {"a.jsonl": b'\xef\xbb\xbf{"x": 1}\n', "a.json": b'\xef\xbb\xbf[{"x": 1}]'})
    assert told(files.records("a.jsonl", "a.json")) == [{"x": 1}, {"x": 1}]


def test_a_broken_row_counts_for_the_number_of_the_next(tmp_path: Path) -> None:
    files = put(tmp_path, {"a.jsonl": 'no\n{"x": 1}\n', "a.json": '[0, {"x": 1}]'})
    for rows in (files.jsonl("a.jsonl"), files.json_list("a.json")):
        _, row = rows
        assert isinstance(row, Row)
        assert row.number == 1


# JSON lists


def test_rows_of_a_list_are_counted_from_one(tmp_path: Path) -> None:
    rows = list(put(tmp_path, {"a.json": '[{"x": 1},\n 5]'}).json_list("a.json"))
    assert [row.where for row in rows] == ["a.json[1]", "a.json[2]"]
    assert str(rows[1]) == "a.json[2]: not a JSON object but int."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"x": 1},\n {"x" 2}]', "a.json:2: not JSON from column 7 on (Expecting ':' delimiter); row 2 on is lost."),
        ('[{"x": 1}\n {"x": 2}]', "a.json:2: not JSON from column 2 on (Expecting ',' or ']'); row 2 on is lost."),
        ('[{"x": 1},\n]', "a.json:2: not JSON from column 1 on (Expecting value); row 2 on is lost."),
        ('[{"x": 1},\n{"x": "', "Unterminated string starting at); row 2 on is lost."),
        (
            '[{"x": 1}]\n more',
            "a.json:2: not JSON from column 2 on (text behind the end of the list); row 2 on is lost.",
        ),
        ('[{"x": 1}', "a.json:1: not JSON from column 10 on (Expecting ',' or ']'); row 2 on is lost."),
        ('[{"x": 1},\n' + "[" * 200_000, "recursion depth exceeded"),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_a_broken_list_ends_there_and_keeps_what_came_before(
    tmp_path: Path, text: str, reason: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_list, "_CHUNK", piece)
    first, broken = told(put(tmp_path, {"a.json": text}).json_list("a.json"))
    assert first == {"x": 1}
    assert reason in broken


def test_bytes_that_are_not_utf8_cost_their_own_row_only(tmp_path: Path) -> None:
    files = put(tmp_path, {"a.json": b'[{"x": "\xff"}, {"x": "\xc3\xa9"}]'})
    assert told(files.json_list("a.json")) == ["a.json[1]: not UTF-8.", {"x": "é"}]


@pytest.mark.parametrize(("text", "says"), [("<html>", "begins '<html>'"), ("", "is empty"), ('{"x": 1}', "begins")])
def test_a_file_that_is_no_list_is_an_error(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        list(put(tmp_path, {"a.json": text}).json_list("a.json"))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(values=st.lists(_VALUES, max_size=6), indent=st.sampled_from([None, 1]), piece=st.integers(1, 9))
def test_a_list_read_in_pieces_is_the_list(values: list[Any], indent: int | None, piece: int) -> None:
    file = io.BytesIO(json.dumps(values, indent=indent, ensure_ascii=False).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_list, "_CHUNK", piece)
        assert list(json_list.elements(file, "a.json")) == values


def test_a_long_list_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    row = json.dumps({"x": "ä" * 50_000}, ensure_ascii=False)
    with (tmp_path / "a.json").open("w") as file:
        file.write("[" + ",\n".join([row] * 20))
        for _ in range(20):
            file.write(",\n" + ",\n".join([row] * 20))
        file.write("]")
    counted = """
import sys, tracemalloc
from pathlib import Path
from trainer.raw.rows import Files
tracemalloc.start()
rows = sum(1 for _ in Files(Path(sys.argv[1])).json_list("a.json"))
print(rows, tracemalloc.get_traced_memory()[1] < 20_000_000)
"""
    ran = subprocess.run([sys.executable, "-c", counted, tmp_path], capture_output=True, text=True, check=True)
    assert (tmp_path / "a.json").stat().st_size > 40_000_000
    assert ran.stdout == "420 True\n"


# Other forms


def test_tab_separated_lines_need_all_columns(tmp_path: Path) -> None:
    files = put(tmp_path, {"a.tsv": b'why\t"so"\nonly one\nbad \xff\tx\r\n'})
    assert told(files.tsv("a.tsv", ("question", "answer"))) == [
        {"question": "why", "answer": '"so"'},
        "a.tsv:2: 1 columns where 2 (question, answer) are expected.",
        "a.tsv:3: not UTF-8 (byte 5 of the line).",
    ]
    assert files.records_read == 3


def test_one_object_is_one_row(tmp_path: Path) -> None:
    files = put(tmp_path, {"a.json": '{"x": 1}', "b.json": "[1]", "c.json": '{\n"x" 1}', "d.json": b'{\n"\xff": 1}'})
    read = [files.json(f"{name}.json") for name in "abcd"]
    assert told(iter(read)) == [
        {"x": 1},
        "b.json: not a JSON object but list.",
        "c.json:2: not JSON (Expecting ':' delimiter, column 5).",
        "d.json:2: not UTF-8.",
    ]


def test_records_are_a_list_or_lines(tmp_path: Path) -> None:
    files = put(tmp_path, {"a.json": ' [{"x": 1}]', "b.json": '{"x": 2}\n{"x": 3}\n'})
    assert told(files.records("*.json")) == [{"x": 1}, {"x": 2}, {"x": 3}]


def test_records_of_several_files_are_numbered_through(tmp_path: Path) -> None:
    files = put(tmp_path, {"a.json": '[{"x": 1}, 5]', "b.jsonl": '{"x": 2}\n', "c[1].json": '[{"x": 3}]'})
    rows = [row for row in files.records("*.json*") if isinstance(row, Row)]
    assert [(row.where, row.number, row["x"]) for row in rows] == [
        ("a.json[1]", 0, 1),
        ("b.jsonl:1", 2, 2),
        ("c[1].json[1]", 3, 3),
    ]


def test_a_file_read_twice_counts_once(tmp_path: Path) -> None:
    files = put(tmp_path, {"a.jsonl": '{"x": 1}\n{"x": 2}\n'})
    assert [len(list(files.jsonl("a.jsonl"))), len(list(files.jsonl("a.jsonl"))), files.records_read] == [2, 2, 2]


# Where files lie


@pytest.mark.parametrize("kind", ["folder", "deep", "gzipped", "zip in folder", "zip", "file", "gzipped file"])
def test_a_file_is_found_wherever_it_lies(tmp_path: Path, kind: str) -> None:
    content = b'{"x": 1}\n'
    with zipfile.ZipFile(tmp_path / "made", "w") as archive:
        archive.writestr("core/a.jsonl", content)
        archive.writestr("__MACOSX/core/a.jsonl", b"junk")
    zipped = (tmp_path / "made").read_bytes()
    (tmp_path / "made").unlink()
    name, data = {
        "folder": ("a.jsonl", content),
        "deep": ("b/c/a.jsonl", content),
        "gzipped": ("a.jsonl.gz", gzip.compress(content)),
        "zip in folder": ("data.zip", zipped),
        "zip": ("data.zip", zipped),
        "file": ("other.txt", content),
        "gzipped file": ("other.gz", gzip.compress(content)),
    }[kind]
    put(tmp_path, {name: data})
    files = Files(tmp_path / name if kind in ("zip", "file", "gzipped file") else tmp_path)
    assert told(files.jsonl("a.jsonl")) == [{"x": 1}]
    assert files.digests == {name: hashlib.sha256(data).hexdigest()}


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        Files(tmp_path, remedy="Fetch it.").find("a.jsonl")
    assert str(error.value) == f"{tmp_path} holds no a.jsonl. Fetch it."
    with pytest.raises(DataError) as error:
        Files(tmp_path / "nowhere", remedy="Fetch it.")
    assert str(error.value) == f"There is no {tmp_path / 'nowhere'}. Fetch it."


def test_half_a_download_and_hidden_files_are_no_files(tmp_path: Path) -> None:
    files = put(tmp_path, {"a.jsonl.part": "", ".a.jsonl": "", "b/.cache/a.jsonl": ""})
    with pytest.raises(DataError, match=r"holds no \*"):
        files.find("*")


def test_two_files_of_one_name_are_not_read_as_one_dataset(tmp_path: Path) -> None:
    files = put(tmp_path, {"b/a.jsonl": "", "c/a.jsonl": ""})
    with pytest.raises(DataError, match=r"holds b/a.jsonl and c/a.jsonl; move all but one a.jsonl away"):
        files.find("a.jsonl")
    assert files.find("*.jsonl") == ("b/a.jsonl", "c/a.jsonl")
    assert files.find("b/a.jsonl") == ("b/a.jsonl",)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.zip"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    whole = gzip.compress(b'{"x": 1}\n' * 1000)
    files = put(tmp_path, {name: whole[: len(whole) // 2]})
    with pytest.raises(DataError, match=rf"{name}: cut off or damaged .*; fetch it again"):
        list(files.jsonl("a.jsonl"))


# Fields


ROW = Row({"text": "t", "null": None, "number": 5, "list": ["a", 2], "half": "ab\ud800"}, where="a.jsonl:7", number=6)


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda: ROW.text("nothing"), "field 'nothing' is missing (there are: text, null, number, list, half)"),
        (lambda: ROW.text("number"), "field 'number' should be text, but is 5"),
        (lambda: ROW.text("null"), "field 'null' should be text, but is null"),
        (lambda: ROW.text_or_null("nothing"), "field 'nothing' is missing (there are: text, null, number, list, half)"),
        (lambda: ROW.text("half"), "field 'half' holds half of a surrogate pair (U+D800 at character 3)"),
        (lambda: ROW.list("text"), "field 'text' should be a list, but is \"t\""),
        (lambda: ROW.texts("list"), "field 'list[1]' should be text, but is 2"),
        (lambda: ROW.rows("list"), "field 'list[0]' should be an object, but is \"a\""),
        (lambda: ROW.row("text"), "field 'text' should be an object, but is \"t\""),
    ],
)
def test_a_wrong_field_is_named_with_file_and_line(read: Any, says: str) -> None:
    with pytest.raises(Fault) as fault:
        read()
    assert str(fault.value) == f"a.jsonl:7: {says}."
    assert fault.value.rejected == Rejected(where="a.jsonl:7", reason=says)


def test_right_fields_are_read() -> None:
    assert (ROW.text("text"), ROW.text_or_null("null"), ROW.list("list"), "null" in ROW) == ("t", "", ["a", 2], True)


def test_an_inner_field_is_named_by_its_whole_path() -> None:
    row = Row({"turns": [{"said": {"text": 5}}, 3]}, where="a.jsonl:1", number=0)
    good, bad = row.each("turns")
    assert isinstance(good, Row)
    assert bad == Rejected(where="a.jsonl:1", reason="field 'turns[1]' should be an object, but is 3")
    with pytest.raises(Fault, match=r"field 'turns\[0\].said.text' should be text, but is 5"):
        good.row("said").text("text")


def test_a_fault_rejects_its_row_and_what_came_before_stays() -> None:
    def make(row: Row) -> Iterator[Conversation]:
        yield Conversation(dataset="d", id=row.where, messages=(Message(role="user", content="u"),))
        row.text("x")

    broken = Rejected(where="a:2", reason="not JSON")
    rows: list[Row | Rejected] = [Row({"x": "fine"}, where="a:1", number=0), broken, Row({}, where="a:3", number=2)]
    made = list(conversations(rows, make))
    assert [one.where if isinstance(one, Rejected) else one.id for one in made] == ["a:1", "a:2", "a:3", "a:3"]
    assert made[1] is broken
