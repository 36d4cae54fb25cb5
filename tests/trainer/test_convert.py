"""Conversion writes whole files or none, and tells every row that it rejects."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.trainer import killing
from tests.trainer.plugin import Cli, put

from trainer.conversation import Conversation, Message, Rejected, read
from trainer.errors import DataError, PluginError
from trainer.raw import convert
from trainer.raw.rows import Files
from trainer.sources import Published, Source, registry

GOOD = {"instruction": "i", "context": "", "response": "o", "category": "c"}
RAW = "databricks-dolly-15k.jsonl"


def one(id: str, text: str = "a") -> Conversation:
    return Conversation(
        dataset="made", id=id, messages=(Message(role="user", content="u"), Message(role="assistant", content=text))
    )


def source(*made: Any, name: str = "made", **fields: Any) -> Source:
    """A source that yields these values, and raises those that are exceptions."""

    def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
        for value in made:
            if isinstance(value, BaseException):
                raise value
            yield value

    fields = {"title": name, "home": "", "licence": "", "published": (), **fields}
    return Source(name=name, convert=convert, **fields)


def converted(made: Source, folder: Path, **fields: Any) -> convert.Report:
    (folder / "raw").mkdir(exist_ok=True)
    fields = {"seed": 42, "limit": None, "tell": lambda count: None, **fields}
    return convert.convert(made, Files(folder / "raw"), folder / "to", **fields)


def dolly(folder: Path, *lines: Any) -> Path:
    """A folder of raw files with these rows as Dolly's."""
    (folder / "raw" / "dolly").mkdir(parents=True)
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "raw" / "dolly" / RAW).write_text(text)
    return folder / "raw"


# One source


def test_conversations_are_written_and_the_report_binds_them(tmp_path: Path) -> None:
    report = converted(source(one("a"), Rejected(where="f:2", reason="no"), one("b")), tmp_path)
    written = (tmp_path / "to" / "made.jsonl").read_bytes()
    assert [found.id for found in read(tmp_path / "to" / "made.jsonl")] == ["a", "b"]
    assert (report.conversations, report.rejected, report.first_rejected) == (2, 1, ("f:2: no.",))
    assert report.sha256 == hashlib.sha256(written).hexdigest()
    stored = json.loads((tmp_path / "to" / "made.report.json").read_text())
    assert (stored["format"], stored["sha256"], stored["seed"], stored["limit"]) == (1, report.sha256, 42, None)
    assert (stored["version"], len(stored["code"])) == ("1.0.0", 64)


def test_ids_are_made_unique_and_counted(tmp_path: Path) -> None:
    report = converted(source(one("a"), one("a"), one("a#2"), one("a")), tmp_path)
    assert [found.id for found in read(tmp_path / "to" / "made.jsonl")] == ["a", "a#2", "a#2#2", "a#3"]
    assert report.renamed == 3


def test_only_the_first_reasons_are_told_and_all_are_counted(tmp_path: Path) -> None:
    report = converted(source(one("a"), *(Rejected(where=f"f:{line}", reason="no") for line in range(50))), tmp_path)
    assert (report.rejected, len(report.first_rejected)) == (50, convert.TOLD)


def test_a_text_that_no_file_can_hold_is_rejected(tmp_path: Path) -> None:
    report = converted(source(one("a", "\ud800"), one("b")), tmp_path)
    assert (report.conversations, report.first_rejected) == (1, ("a: holds half of a surrogate pair.",))


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (KeyError("x"), PluginError, "The source 'made' cannot read its files (KeyError: 'x')."),
        ("text", PluginError, "The source 'made' yields a str, not a Conversation."),
        (DataError("Look here."), DataError, "Look here."),
        (PermissionError(13, "Permission denied", "f"), DataError, "made: f cannot be read (Permission denied)."),
    ],
)
def test_what_a_source_does_wrong_is_named_and_nothing_is_written(
    tmp_path: Path, fault: Any, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind) as error:
        converted(source(one("a"), fault), tmp_path)
    assert str(error.value) == says
    assert not (tmp_path / "to").exists()


def test_a_fault_leaves_the_earlier_files_as_they_were(tmp_path: Path) -> None:
    converted(source(one("a")), tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()}
    for fault in (KeyError("x"), KeyboardInterrupt()):
        with pytest.raises((PluginError, KeyboardInterrupt)):
            converted(source(one("b"), fault), tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "made.jsonl.part").symlink_to("/dev/full")
    with pytest.raises(DataError) as error:
        converted(source(*(one(str(place), "a" * 1000) for place in range(100))), tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/to cannot be written (No space left on device); make room, or choose another folder with --to."
    )
    assert list((tmp_path / "to").iterdir()) == []


def test_a_source_may_be_another_one_with_other_arguments(tmp_path: Path) -> None:
    def convert(files: Files, random: Random, *, text: str) -> Iterator[Conversation | Rejected]:
        yield one("a", text)

    class Object:
        def __call__(self, files: Files, random: Random) -> Iterator[Conversation | Rejected]:
            yield one("a")

    made = [replace(source(), convert=partial(convert, text=text)) for text in ("x", "x", "y")]
    first, again, other = (converted(given, tmp_path) for given in made)
    assert first == again
    assert first.code != other.code
    assert converted(replace(source(), convert=Object()), tmp_path).conversations == 1


def test_the_code_that_made_a_file_is_in_its_report(tmp_path: Path) -> None:
    codes = {converted(registry.find(name), dolly(tmp_path / name, GOOD).parent).code for name in ("dolly",)}
    assert codes != {converted(source(one("a")), tmp_path).code}


@pytest.mark.parametrize(
    ("sha256", "noted", "state"),
    [
        ("right", "", "as pinned"),
        ("wrong", "", "not the pinned file"),
        ("", "", "not pinned"),
        ("", "right", "as first fetched"),
        ("", "wrong", "not as first fetched"),
    ],
)
def test_a_report_says_whether_a_raw_file_is_the_published_one(
    tmp_path: Path, sha256: str, noted: str, state: str
) -> None:
    raw = dolly(tmp_path, GOOD)
    digests = {"right": hashlib.sha256((raw / "dolly" / RAW).read_bytes()).hexdigest(), "wrong": "0" * 64, "": ""}
    if noted:
        lock = {"format": 1, "files": {f"dolly/{RAW}": {"sha256": digests[noted]}}}
        (raw / "fetched.json").write_text(json.dumps(lock))
    published = (Published(path=f"dolly/{RAW}", url="", sha256=digests[sha256]),)
    made = source(one("a"), name="dolly", published=published)

    def reading(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
        list(files.jsonl(RAW))
        yield from made.convert(files, random)

    reader = Source(name="dolly", title="Dolly", home="", licence="", published=published, convert=reading)
    report = convert.convert(reader, Files(raw / "dolly"), tmp_path / "to", seed=1, limit=None, tell=lambda n: None)
    assert report.files == ({"name": RAW, "sha256": digests["right"], "state": state},)


# The command


def test_the_table_says_what_was_read_made_and_rejected_beside_the_paper(cli: Cli, tmp_path: Path) -> None:
    raw = dolly(tmp_path, GOOD, {**GOOD, "response": " "}, "{", GOOD)
    code, out, err = cli("data", "convert", "dolly", "--raw", raw, "--to", "to")
    assert (code, err) == (0, "")
    head, row, *notes = [line for line in out.splitlines() if line]
    assert head.split() == ["dataset", "rows", "conversations", "rejected", "paper", "difference"]
    assert row.split() == ["dolly", "4", "2", "2", "15,011", "-15,009"]
    assert [note.strip() for note in notes] == [
        "dolly: 2 rejected, 50 % of what was read",
        f"{RAW}:2: the output is empty.",
        f"{RAW}:3: not JSON (Expecting property name enclosed in double quotes, column 2).",
        f"dolly: {RAW} is not the pinned file "
        f"(SHA-256 {hashlib.sha256((raw / 'dolly' / RAW).read_bytes()).hexdigest()[:12]})",
    ]
    assert sorted(path.name for path in Path("to").iterdir()) == ["dolly.jsonl", "dolly.report.json"]


def test_strict_makes_rejected_rows_an_error(cli: Cli, tmp_path: Path) -> None:
    raw = dolly(tmp_path, GOOD, {})
    assert cli("data", "convert", "dolly", "--raw", raw, "--to", "to", "--strict")[0] == 1
    assert Path("to/dolly.jsonl").exists()


def test_a_dataset_without_a_conversation_is_an_error_that_replaces_nothing(cli: Cli, tmp_path: Path) -> None:
    assert cli("data", "convert", "dolly", "--raw", dolly(tmp_path, GOOD), "--to", "to")[0] == 0
    before = {path.name: path.read_bytes() for path in Path("to").iterdir()}
    raw = dolly(tmp_path / "other", *[{}] * 101)
    code, _, err = cli("data", "convert", "dolly", "--raw", raw, "--to", "to")
    assert code == 1
    assert err.startswith(
        "Error: dolly has no conversation, so to/dolly.jsonl is not written. 101 rows are rejected, the first: "
    )
    assert {path.name: path.read_bytes() for path in Path("to").iterdir()} == before


@pytest.mark.parametrize(("good", "bad", "share"), [(1, 0, ""), (9, 1, "10 %"), (91, 9, "9 %"), (999, 1, "0.1 %")])
def test_the_share_of_rejected_rows_is_a_plain_number(
    cli: Cli, tmp_path: Path, good: int, bad: int, share: str
) -> None:
    raw = dolly(tmp_path, *[GOOD] * good, *[{}] * bad)
    _, out, _ = cli("data", "convert", "dolly", "--raw", raw, "--to", "to")
    told = [line for line in out.splitlines() if "of what was read" in line]
    assert told == ([f"dolly: {bad:,} rejected, {share} of what was read"] if bad else [])


def test_a_source_without_its_files_is_told_and_the_others_are_converted(cli: Cli, tmp_path: Path) -> None:
    raw = dolly(tmp_path, GOOD)
    code, out, err = cli("data", "convert", "alpaca", "dolly", "--raw", raw, "--to", "to")
    assert (code, out.splitlines()[1].split()[:3]) == (1, ["dolly", "1", "1"])
    assert err == (f"Error: {raw} holds no alpaca_data.json. `trainer data fetch alpaca --to {raw}` fetches it.\n")


def test_files_are_found_without_their_folders_too(cli: Cli, tmp_path: Path) -> None:
    dolly(tmp_path, GOOD)
    for raw in (tmp_path / "raw" / "dolly", tmp_path / "raw" / "dolly" / RAW):
        assert cli("data", "convert", "dolly", "--raw", raw, "--to", "to")[0] == 0
    code, _, err = cli("data", "convert", "dolly", "alpaca", "--raw", tmp_path / "raw" / "dolly" / RAW, "--to", "to")
    assert (code, "is one file; name the one source that reads it." in err) == (2, True)


def test_a_limit_is_said_and_recorded(cli: Cli, tmp_path: Path) -> None:
    raw = dolly(tmp_path, *[GOOD] * 5)
    _, out, _ = cli("data", "convert", "dolly", "--raw", raw, "--to", "to", "--limit", 2)
    assert "Only the first 2 conversations of each were converted (--limit): these files are no datasets." in out
    assert json.loads(Path("to/dolly.report.json").read_text())["limit"] == 2
    assert len(list(read(Path("to/dolly.jsonl")))) == 2


def test_the_same_seed_gives_the_same_bytes_whatever_else_is_converted(cli: Cli, tmp_path: Path) -> None:
    raw = dolly(tmp_path, *[GOOD] * 30)
    (raw / "self_instruct").mkdir()
    row = {"instruction": "i", "input": "", "output": "o"}
    (raw / "self_instruct" / "all_instances_82K.jsonl").write_text(f"{json.dumps(row)}\n" * 30)
    cli("data", "convert", "dolly", "--raw", raw, "--to", "alone")
    cli("data", "convert", "self_instruct", "dolly", "--raw", raw, "--to", "both")
    cli("data", "convert", "dolly", "--raw", raw, "--to", "other", "--seed", 1)
    alone, both, other = (Path(folder, "dolly.jsonl").read_bytes() for folder in ("alone", "both", "other"))
    assert alone == both != other


def test_own_files_are_converted_by_a_mapping(cli: Cli) -> None:
    Path("mine.jsonl").write_text('{"question": "q", "output": "a"}\n')
    code, out, _ = cli(
        "data", "convert", "--mapping", "alpaca", "--field", "instruction=question", "mine.jsonl", "--to", "to"
    )
    assert (code, out.splitlines()[1].split()) == (0, ["mine", "1", "1", "-", "-"])
    (made,) = read(Path("to/mine.jsonl"))
    assert (made.dataset, made.messages[0].content) == ("mine", "q")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mapping", "alpaca"], "--mapping needs a FILE."),
        (["--mapping", "alpaca", "a.jsonl", "b.jsonl", "--name", "x"], "--name is one word for one FILE"),
        (["--mapping", "alpaca", "a.jsonl", "--name", "x/y"], "--name is one word for one FILE"),
        (["--mapping", "alpaca", "a.jsonl", "c/a.jsonl"], "Two of the FILEs would be datasets of one name"),
        (["--mapping", "alpaca", "a.jsonl", "--field", "output"], "--field output should read FIELD=NAME"),
        (["dolly"], "Missing option '--raw'.\n"),
        (["a.jsonl"], "Missing option '--raw'. If a.jsonl is a file of your own, say with --mapping what form it has."),
        (["dolly", "--name", "x"], "--name and --field go with --mapping."),
    ],
)
def test_wrong_usage_is_said(cli: Cli, arguments: list[str], says: str) -> None:
    Path("a.jsonl").write_text("")
    code, _, err = cli("data", "convert", *arguments, "--to", "to")
    assert (code, says in err) == (2, True)


def test_a_file_is_never_converted_over_itself(cli: Cli) -> None:
    Path("mine.jsonl").write_text('{"messages": [{"role": "assistant", "content": "a"}]}\n')
    code, _, err = cli("data", "convert", "--mapping", "messages", "mine.jsonl", "--to", ".")
    assert (code, err) == (
        1,
        "Error: mine.jsonl would be written over what it is made from; choose another folder with --to.\n",
    )


def test_what_was_converted_is_never_taken_for_raw(cli: Cli) -> None:
    Path("own").mkdir()
    Path("own/a.jsonl").write_text('{"messages": [{"role": "assistant", "content": "a"}]}\n')
    assert cli("data", "convert", "--mapping", "messages", "own", "--to", "own")[0] == 0
    before = Path("own/own.jsonl").read_bytes()
    code, _, err = cli("data", "convert", "--mapping", "messages", "own", "--to", "own")
    assert (code, "own/own.jsonl would be written over what it is made from" in err) == (1, True)
    assert Path("own/own.jsonl").read_bytes() == before


def test_progress_is_shown_on_a_terminal(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert (
        "dolly: 500 conversations"
        in cli("data", "convert", "dolly", "--raw", dolly(tmp_path, *[GOOD] * 500), "--to", "to")[2]
    )


#: Soon slow, so that it does not fill the disk until somebody stops it.
ENDLESS = """
import time

from trainer.conversation import Conversation, Message
from trainer.hookspecs import hookimpl
from trainer.sources import Source

def convert(files, random):
    number = 0
    while True:
        yield Conversation(dataset="endless", id=str(number), messages=(Message(role="assistant", content="a" * 9999),))
        number += 1
        if number > 500:
            time.sleep(0.01)

@hookimpl
def sources():
    return [Source(name="endless", title="Endless", home="", licence="", published=(), convert=convert)]
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_conversion_leaves_no_half_file_and_can_be_repeated(tmp_path: Path, sent: signal.Signals) -> None:
    put(tmp_path, "endless", "endless", ENDLESS, "endless")
    to = tmp_path / "to"
    # Run as a module, Python finds the plugin in the folder that it runs in.
    command = [sys.executable, "-m", "trainer", "data", "convert", "endless", "--raw", str(tmp_path), "--to", str(to)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert killing.until((to / "endless.jsonl.part").exists, [started.poll])
            started.send_signal(sent)
            _, said = started.communicate(timeout=300)
        finally:
            started.kill()
    assert (started.returncode, said.strip(), [path.name for path in to.glob("*")]) == (
        (-9, "", ["endless.jsonl.part"])
        if sent == signal.SIGKILL
        else (75, "Stopped; repeat the command to go on.", [])
    )
    subprocess.run([*command, "--limit", "5"], cwd=tmp_path, check=True, capture_output=True)
    assert sorted(path.name for path in to.iterdir()) == ["endless.jsonl", "endless.report.json"]
