"""Raw files come whole or not at all from a real server, held to a pinned hash or to that of their first fetch."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evalkit.mirror import Mirror, serving
from tests.trainer import killing
from tests.trainer.plugin import Cli, put

from trainer.errors import DataError
from trainer.raw import download, fetch
from trainer.sources import Published, Source, registry

ROWS = b"".join(b'{"instruction": "i%d", "context": "", "response": "o"}\n' % row for row in range(20_000))


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving({"/rows.jsonl": ROWS}) as made:
        yield made


def source(mirror: Mirror, *names: str, sha256: str = "", licence: str = "MIT") -> Source:
    published = tuple(
        Published(path=f"riddles/{name}", url=f"{mirror.url}/{name}", sha256=sha256)
        for name in names or ("rows.jsonl",)
    )
    return Source(
        name="riddles",
        title="Riddles",
        home="https://example.org/riddles",
        licence=licence,
        published=published,
        convert=lambda files, random: iter(()),
    )


def fetched(wanted: Source, folder: Path) -> list[str]:
    """What became of each file, in words."""
    found = fetch.fetch(wanted, folder, tell=lambda have, total: None, away={})
    return [str(one.error or one.outcome) for one in found]


def lying(folder: Path) -> dict[str, bytes]:
    """The files in a folder, without the lock file."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != fetch.LOCK}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# Pinned, or held to the first fetch


def test_a_pinned_file_is_fetched_once(mirror: Mirror, tmp_path: Path) -> None:
    pinned = source(mirror, sha256=sha256(ROWS))
    assert fetched(pinned, tmp_path) == ["fetched, as pinned"]
    assert fetched(pinned, tmp_path) == ["already there, as pinned"]
    assert (mirror.asked, lying(tmp_path)) == ([("/rows.jsonl", "")], {"riddles/rows.jsonl": ROWS})


def test_a_file_that_is_not_the_pinned_one_is_thrown_away(mirror: Mirror, tmp_path: Path) -> None:
    expected = sha256(b"another")
    assert fetched(source(mirror, sha256=expected), tmp_path) == [
        f"{mirror.url}/rows.jsonl is not the pinned file "
        f"(SHA-256 {sha256(ROWS)[:12]}, expected {expected[:12]}); it was thrown away."
    ]
    assert lying(tmp_path) == {}


def test_the_first_fetch_of_an_unpinned_file_is_written_down_and_binds_the_next(mirror: Mirror, tmp_path: Path) -> None:
    free = source(mirror)
    assert fetched(free, tmp_path) == ["fetched, SHA-256 recorded in fetched.json"]
    lock = json.loads((tmp_path / fetch.LOCK).read_text())
    noted = lock["files"]["riddles/rows.jsonl"]
    assert lock["format"] == 1
    assert {**noted, "date": ""} == {
        "url": f"{mirror.url}/rows.jsonl",
        "sha256": sha256(ROWS),
        "bytes": len(ROWS),
        "date": "",
    }
    assert fetched(free, tmp_path) == ["already there, as first fetched"]
    (tmp_path / "riddles" / "rows.jsonl").unlink()
    mirror.content = {"/rows.jsonl": ROWS[1:]}
    (said,) = fetched(free, tmp_path)
    assert "is not the file that was fetched first (see fetched.json)" in said
    assert said.endswith("it was thrown away. To take it all the same, delete its entry in fetched.json.")
    assert lying(tmp_path) == {}
    assert json.loads((tmp_path / fetch.LOCK).read_text()) == lock


def test_a_file_brought_by_hand_is_recorded_and_not_fetched(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "riddles").mkdir()
    (tmp_path / "riddles" / "rows.jsonl").write_bytes(ROWS)
    assert fetched(source(mirror), tmp_path) == ["already there, SHA-256 recorded in fetched.json"]
    assert fetch.known(tmp_path)["riddles/rows.jsonl"]["sha256"] == sha256(ROWS)
    assert mirror.asked == []


def test_a_changed_file_in_place_is_left_and_named(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "riddles").mkdir()
    (tmp_path / "riddles" / "rows.jsonl").write_bytes(b"mine")
    (said,) = fetched(source(mirror, sha256=sha256(ROWS)), tmp_path)
    assert said.startswith(f"{tmp_path}/riddles/rows.jsonl is there, but is not the pinned file (SHA-256")
    assert said.endswith("; move it away and repeat the command.")
    assert (mirror.asked, lying(tmp_path)) == ([], {"riddles/rows.jsonl": b"mine"})


@pytest.mark.parametrize("content", ["no json", "{}", '{"files": 5}'])
def test_a_damaged_lock_file_is_named(mirror: Mirror, tmp_path: Path, content: str) -> None:
    (tmp_path / fetch.LOCK).write_text(content)
    (said,) = fetched(source(mirror), tmp_path)
    assert said.startswith(f"{tmp_path}/fetched.json cannot be read (")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("rows.jsonl", b"<!DOCTYPE html>sorry", "jsonl"),
        ("list.json", b"\n<html>", "json"),
        ("all.zip", b"PK\x03\x04 but cut off", "zip"),
        ("trees.jsonl.gz", b"version https://git-lfs.github.com/spec/v1", "gz"),
    ],
)
def test_an_error_page_is_not_recorded_as_the_file(
    mirror: Mirror, tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    mirror.content = {f"/{name}": content}
    (said,) = fetched(source(mirror, name), tmp_path)
    assert said.startswith(f"{mirror.url}/{name} gives no {kind} file, but ")
    assert (lying(tmp_path), fetch.known(tmp_path)) == ({}, {})


def test_an_archive_of_unknown_hash_is_taken(mirror: Mirror, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "x")
    mirror.content = {"/all.zip": packed.getvalue()}
    mirror.says_length = False  # as GitHub sends what it packs when it is asked
    assert fetched(source(mirror, "all.zip"), tmp_path) == ["fetched, SHA-256 recorded in fetched.json"]
    assert lying(tmp_path) == {"riddles/all.zip": packed.getvalue()}


# Transfers that do not end well


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut_after, mirror.cuts = 400_000, 2
    assert fetched(source(mirror, sha256=sha256(ROWS)), tmp_path) == ["fetched, as pinned"]
    assert [wanted for _, wanted in mirror.asked] == ["", "bytes=400000-", "bytes=800000-"]
    assert lying(tmp_path) == {"riddles/rows.jsonl": ROWS}


def test_a_server_that_sends_no_more_leaves_a_part_for_the_next_time(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut_after, mirror.ranges = 100, False
    assert fetched(source(mirror), tmp_path) == [
        f"{mirror.url}/rows.jsonl did not come whole (the connection broke off after 100 of {len(ROWS)} bytes); "
        "repeat the command to go on."
    ]
    assert lying(tmp_path) == {"riddles/rows.jsonl.part": ROWS[:100]}
    mirror.cut_after, mirror.ranges = None, True
    mirror.asked.clear()
    assert fetched(source(mirror), tmp_path) == ["fetched, SHA-256 recorded in fetched.json"]
    assert (mirror.asked, lying(tmp_path)) == ([("/rows.jsonl", "bytes=100-")], {"riddles/rows.jsonl": ROWS})


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * 9_000_000], ids=["shorter", "longer"])
def test_a_part_of_another_file_is_thrown_away(mirror: Mirror, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "riddles").mkdir()
    (tmp_path / "riddles" / "rows.jsonl.part").write_bytes(part)
    assert fetched(source(mirror, sha256=sha256(ROWS)), tmp_path) == ["fetched, as pinned"]
    assert [wanted for _, wanted in mirror.asked] == [f"bytes={len(part)}-", ""]
    assert lying(tmp_path) == {"riddles/rows.jsonl": ROWS}


def test_a_part_that_is_whole_already_is_not_fetched_again(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "riddles").mkdir()
    (tmp_path / "riddles" / "rows.jsonl.part").write_bytes(ROWS)
    assert fetched(source(mirror, sha256=sha256(ROWS)), tmp_path) == ["fetched, as pinned"]
    assert (mirror.asked, lying(tmp_path)) == ([], {"riddles/rows.jsonl": ROWS})


def test_a_server_that_sends_another_range_is_not_believed(mirror: Mirror, tmp_path: Path) -> None:
    mirror.wrong_range = "bytes 7-9/10"
    (tmp_path / "riddles").mkdir()
    (tmp_path / "riddles" / "rows.jsonl.part").write_bytes(ROWS[:1000])
    (said,) = fetched(source(mirror, sha256=sha256(ROWS)), tmp_path)
    assert "did not come whole (it sends another part than it was asked for)" in said
    assert lying(tmp_path) == {}


def test_a_file_that_is_not_there_is_named_and_the_next_one_fetched(mirror: Mirror, tmp_path: Path) -> None:
    missing, there = fetched(source(mirror, "gone.jsonl", "rows.jsonl"), tmp_path)
    assert missing == f"{mirror.url}/gone.jsonl is not to be had: the server says 404 Not Found."
    assert there == "fetched, SHA-256 recorded in fetched.json"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_said_in_one_sentence(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "riddles").mkdir()
    (tmp_path / "riddles" / "rows.jsonl.part").symlink_to("/dev/full")
    part = tmp_path / "riddles" / "rows.jsonl.part"
    assert fetched(source(mirror), tmp_path) == [
        f"{part} cannot be written (No space left on device); repeat the command to go on."
    ]


def test_a_folder_that_cannot_be_made_is_named(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "riddles").write_text("a file in the way")
    assert fetched(source(mirror), tmp_path) == ["riddles/rows.jsonl cannot be kept (File exists)."]


def test_another_writer_of_the_same_part_is_noticed(mirror: Mirror, tmp_path: Path) -> None:
    def meddle(have: int, total: int) -> None:
        with (tmp_path / "part").open("ab") as file:
            file.write(b"x")

    with pytest.raises(DataError, match="was written by something else besides; start one fetch at a time"):
        download.download(f"{mirror.url}/rows.jsonl", tmp_path / "part", meddle)
    assert lying(tmp_path) == {}


def test_a_silent_server_is_given_up(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SILENCE", 0.05)
    mirror.begins.clear()
    (one,) = fetch.fetch(source(mirror), tmp_path, tell=lambda have, total: None, away={})
    assert one.unreachable
    assert str(one.error).endswith("cannot be reached (timed out).")


def test_a_server_out_of_reach_is_asked_once(tmp_path: Path, mirror: Mirror) -> None:
    with socket.socket() as taken:  # bound, not listening: nobody answers
        taken.bind(("127.0.0.1", 0))
        gone = replace(mirror, url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        away: dict[str, Any] = {}
        found = list(fetch.fetch(source(gone, "a.jsonl", "b.jsonl"), tmp_path, tell=lambda a, b: None, away=away))
    assert [one.unreachable for one in found] == [True, True]
    assert found[0].error is found[1].error


def test_only_the_web_is_fetched_from(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "secret").write_text("s")
    (said,) = fetched(source(replace(mirror, url=f"file://{tmp_path}"), "secret"), tmp_path / "to")
    assert said == f"file://{tmp_path}/secret is no web address."


def test_progress_counts_what_was_there_before(mirror: Mirror, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    (tmp_path / "part").write_bytes(ROWS[:700_000])
    download.download(f"{mirror.url}/rows.jsonl", tmp_path / "part", lambda have, total: told.append((have, total)))
    assert min(told)[0] > 700_000
    assert told[-1] == (len(ROWS), len(ROWS))


# The command


@pytest.fixture
def riddles(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Callable[[Source], None]:
    """Makes the command know one source, that of the test."""

    def know(made: Source) -> None:
        monkeypatch.setattr(registry, "chosen", lambda names: [made])

    return know


def test_the_licence_is_printed_before_and_what_it_forbids_is_marked(
    cli: Cli, mirror: Mirror, riddles: Callable[[Source], None]
) -> None:
    riddles(source(mirror, licence="CC-BY-NC-4.0"))
    code, out, err = cli("data", "fetch", "--to", "raw")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "riddles: CC-BY-NC-4.0  [no commercial use]  https://example.org/riddles",
        "  riddles/rows.jsonl: fetched, SHA-256 recorded in fetched.json (1.1 MB)",
    ]


@pytest.mark.parametrize(
    ("licence", "caution"),
    [
        ("MIT", ""),
        ("CC-BY-SA-3.0", ""),
        ("CC BY-NC 4.0 (research)", "no commercial use"),
        ("", "licence unclear"),
        ("Unclear for the real data", "licence unclear"),
    ],
)
def test_cautions(licence: str, caution: str) -> None:
    assert fetch.caution(licence) == caution


def test_failures_are_told_last_and_make_the_exit_code(
    cli: Cli, mirror: Mirror, riddles: Callable[[Source], None]
) -> None:
    riddles(source(mirror, "gone.jsonl", "rows.jsonl"))
    code, out, err = cli("data", "fetch", "riddles", "--to", "raw")
    assert (code, err) == (1, f"Error: {mirror.url}/gone.jsonl is not to be had: the server says 404 Not Found.\n")
    assert "  riddles/gone.jsonl: failed\n" in out
    assert "  riddles/rows.jsonl: fetched" in out


def test_offline_says_what_to_bring_by_hand(
    cli: Cli, mirror: Mirror, riddles: Callable[[Source], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    riddles(source(mirror))
    code, _, err = cli("data", "fetch", "--to", "raw")
    assert (code, mirror.asked) == (1, [])
    assert err.splitlines() == [
        "Error: HF_HUB_OFFLINE is set. Repeat the command later, or bring by hand:",
        f"  {mirror.url}/rows.jsonl",
        "    to raw/riddles/rows.jsonl",
    ]


def test_progress_is_shown_on_a_terminal(
    cli: Cli, mirror: Mirror, riddles: Callable[[Source], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    riddles(source(mirror))
    _, _, err = cli("data", "fetch", "--to", "raw")
    assert "100 % of 1.1 MB" in err


PLUGIN = """
from trainer.hookspecs import hookimpl
from trainer.sources import Published, Source

@hookimpl
def sources():
    published = (Published(path="riddles/rows.jsonl", url="{url}/rows.jsonl"),)
    return [Source(name="riddles", title="Riddles", home="", licence="MIT", published=published, convert=iter)]
"""


def test_a_killed_fetch_leaves_nothing_in_place_and_goes_on(mirror: Mirror, tmp_path: Path) -> None:
    put(tmp_path, "slow-riddles", "slow_riddles", PLUGIN.format(url=mirror.url))
    command = [sys.executable, "-m", "trainer", "data", "fetch", "riddles", "--to", "raw"]
    # Not before its first piece is there does a download write any of it.
    mirror.piece = download._PIECE
    mirror.goes_on.clear()
    part = tmp_path / "raw" / "riddles" / "rows.jsonl.part"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert killing.until(lambda: part.exists() and part.stat().st_size > 0, [started.poll])
        finally:
            started.kill()
    half = part.read_bytes()
    assert 0 < len(half) < len(ROWS)
    assert lying(tmp_path / "raw") == {"riddles/rows.jsonl.part": ROWS[: len(half)]}
    mirror.goes_on.set()
    ran = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "riddles/rows.jsonl: fetched, SHA-256 recorded" in ran.stdout
    assert mirror.asked[-1] == ("/rows.jsonl", f"bytes={len(half)}-")
    assert lying(tmp_path / "raw") == {"riddles/rows.jsonl": ROWS}
