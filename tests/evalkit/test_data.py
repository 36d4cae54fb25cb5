"""Published files are fetched whole or not at all, held to their hashes, and packed into one archive."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.evalkit.killing import until
from tests.evalkit.mirror import Mirror, serving
from tests.evalkit.small import Ran, echo

from evalkit import download, files
from evalkit.benchmark import Data, File
from evalkit.errors import DataError, PluginError

Cli = Callable[..., Ran]
GSM = ("gsm8k/test.jsonl", "gsm8k/LICENSE", "prompts/gsm_exemplars.json")
BOTH = (*GSM, "mmlu/mmlu.zip", "mmlu/LICENSE")
#: The paths at which the publishers' hosts have them.
_GSM_AT = "/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c"
_MODULE_AT = "/allenai/open-instruct/e44fcf5889bea5eefc9ce70e458ae75cad920b6f/eval/gsm/examplars.py"
_ZIP_AT = "/hiyouga/LLaMA-Factory/65ea7a0d7c37e82f0b46f3808ec336604f18a5e9/evaluation/mmlu/mmlu.zip"
_LICENCE_AT = "/hendrycks/test/4450500f923c49f1fb1dd3d99108a0bd9717b660/LICENSE"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("EVALKIT_DATA", raising=False)


@pytest.fixture
def publishers(test_data: Path, online: None) -> Iterator[Mirror]:
    """The hosts of the publishers, with the real files, stood in for by the loopback."""
    exemplars = (test_data / "prompts" / "gsm_exemplars.json").read_bytes()
    content = {
        f"{_GSM_AT}/grade_school_math/data/test.jsonl": (test_data / "gsm8k" / "test.jsonl").read_bytes(),
        f"{_GSM_AT}/LICENSE": (test_data / "gsm8k" / "LICENSE").read_bytes(),
        _MODULE_AT: b"# of a paper\nEXEMPLARS = " + exemplars + b"\n",
        _ZIP_AT: (test_data / "mmlu" / "mmlu.zip").read_bytes(),
        _LICENCE_AT: (test_data / "mmlu" / "LICENSE").read_bytes(),
    }
    with serving(content) as mirror:
        urllib.request.install_opener(urllib.request.build_opener(_Redirected(mirror)))
        yield mirror
    urllib.request.install_opener(urllib.request.build_opener())


class _Redirected(urllib.request.BaseHandler):
    """Sends what is for the publishers' host to the mirror."""

    handler_order = 100

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def https_request(self, request: urllib.request.Request) -> urllib.request.Request:
        assert request.host == "raw.githubusercontent.com"
        request.full_url = f"{self._mirror.url}{urlsplit(request.full_url).path}"
        return request


@pytest.fixture
def rows(test_data: Path) -> bytes:
    return (test_data / "gsm8k" / "test.jsonl").read_bytes()


@pytest.fixture
def mirror(rows: bytes, online: None) -> Iterator[Mirror]:
    with serving({"/test.jsonl": rows, "/small": b"small"}) as made:
        yield made


def item(url: str, content: bytes, path: str = "deep/test.jsonl", **fields: Any) -> files.Item:
    file = File(path=path, url=url, sha256=hashlib.sha256(content).hexdigest(), **fields)
    return files.Item(benchmark="riddles", file=file, licence="MIT", page="https://example.org/riddles")


def fetch(folder: Path, *items: files.Item, allow_changed: bool = False) -> list[str]:
    """What became of each, in words."""
    outcomes = files.fetch(items, folder, allow_changed=allow_changed, tell=lambda done, total: None)
    return [str(outcome) for _, outcome in outcomes]


def requests_of(monkeypatch: pytest.MonkeyPatch) -> list[urllib.request.Request]:
    """The requests that are made from now on."""
    made: list[urllib.request.Request] = []
    real = urllib.request.urlopen

    def noted(request: urllib.request.Request, **more: Any) -> Any:
        made.append(request)
        return real(request, **more)

    monkeypatch.setattr(urllib.request, "urlopen", noted)
    return made


def lying(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Whole files through the command line


def test_files_are_listed_with_licence_and_hash(cli: Cli, online: None) -> None:
    rows = cli("data", "list", "gsm:direct", "--json").document
    assert [(row["file"], row["licence"]) for row in rows] == list(zip(GSM, ("MIT", "MIT", "Apache-2.0"), strict=True))
    assert rows[0] == {
        "benchmark": "gsm",
        "file": "gsm8k/test.jsonl",
        "licence": "MIT",
        "sha256": "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
        "url": f"https://raw.githubusercontent.com{_GSM_AT}/grade_school_math/data/test.jsonl",
        "page": "https://github.com/openai/grade-school-math",
    }


def test_the_list_says_what_a_folder_holds(cli: Cli, tmp_path: Path, online: None) -> None:
    (tmp_path / "data" / "gsm8k").mkdir(parents=True)
    (tmp_path / "data" / "gsm8k" / "test.jsonl").write_text("{}")
    ran = cli("data", "list", "gsm", "--data", tmp_path / "data")
    assert [line.split() for line in ran.out.splitlines()] == [
        ["benchmark", "file", "licence", "sha256", "fetched", "state"],
        ["gsm", "gsm8k/test.jsonl", "MIT", "3730d312f6e3", "yes", "changed"],
        ["gsm", "gsm8k/LICENSE", "MIT", "86bbb73e8558", "yes", "absent"],
        ["gsm", "prompts/gsm_exemplars.json", "Apache-2.0", "54aab6461aa5", "yes", "absent"],
    ]


def test_the_pinned_hashes_are_those_of_the_published_files(
    cli: Cli, test_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_DATA", str(test_data))
    states = {row["file"]: row["state"] for row in cli("data", "list", "gsm", "mmlu", "--json").document}
    assert states == dict.fromkeys(BOTH, "present")


def test_a_benchmark_that_does_not_exist_names_those_that_do(cli: Cli) -> None:
    ran = cli("data", "list", "gsn")
    assert (ran.code, ran.err.startswith("Error: No benchmark is named 'gsn'. Did you mean 'gsm'?")) == (1, True)


def test_a_benchmark_without_files_is_refused(cli: Cli) -> None:
    assert cli("data", "list", "arithmetic").err == "Error: arithmetic names no files.\n"


def test_fetched_files_are_the_published_ones_and_are_fetched_once(
    cli: Cli, publishers: Mirror, test_data: Path
) -> None:
    ran = cli("data", "fetch", "gsm", "mmlu", "--to", "new/data")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [f"{name}: fetched" for name in BOTH]
    assert lying(Path("new/data")) == {name: (test_data / name).read_bytes() for name in BOTH}
    assert len(publishers.asked) == 5
    again = cli("data", "fetch", "gsm", "mmlu", "--to", "new/data")
    assert again.out.splitlines() == [f"{name}: already there" for name in BOTH]
    assert len(publishers.asked) == 5


def test_a_run_is_the_same_from_a_folder_a_file_and_a_bundle(cli: Cli, publishers: Mirror) -> None:
    cli("data", "fetch", "gsm", "mmlu", "--to", "data")
    packed = cli("data", "pack", "data", "bundle.zip")
    assert packed.out == f"bundle.zip: 5 files, {Path('bundle.zip').stat().st_size:,} bytes\n"
    checked = cli("data", "verify", "bundle.zip")
    assert (checked.code, checked.out.splitlines()[-1].startswith("5 present, 0 changed, ")) == (0, True)
    for bench, alone in (("mmlu:5shot", "data/mmlu/mmlu.zip"), ("gsm", "")):
        runs = set()
        for data in filter(None, ("data", "bundle.zip", alone)):
            ran = cli("run", "-m", "dummy", "-b", bench, "--data", data, "--limit", 3, "--json")
            (summary,) = ran.document
            runs.add(summary["run"])
        assert len(runs) == 1
        manifest = json.loads(Path(*runs, "run.json").read_text())
        assert manifest["binds"]["shots"]["origin"] == "published"


# Downloads that go wrong


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(mirror: Mirror, rows: bytes, tmp_path: Path) -> None:
    mirror.cut_after, mirror.cuts = 200_000, 2
    assert fetch(tmp_path, item(f"{mirror.url}/test.jsonl", rows)) == ["fetched"]
    assert mirror.asked == [
        ("/test.jsonl", ""),
        ("/test.jsonl", "bytes=200000-"),
        ("/test.jsonl", "bytes=400000-"),
    ]
    assert lying(tmp_path) == {"deep/test.jsonl": rows}


def test_a_server_that_sends_no_more_leaves_a_part_for_the_next_time(
    mirror: Mirror, rows: bytes, tmp_path: Path
) -> None:
    mirror.cut_after, mirror.ranges = 100, False
    wanted = item(f"{mirror.url}/test.jsonl", rows)
    assert fetch(tmp_path, wanted) == [
        f"deep/test.jsonl: {mirror.url}/test.jsonl did not come whole "
        "(the connection broke off after 100 of 749738 bytes); repeat the command to go on."
    ]
    assert lying(tmp_path) == {"deep/test.jsonl.part": rows[:100]}
    mirror.cut_after, mirror.ranges = None, True
    mirror.asked.clear()
    assert fetch(tmp_path, wanted) == ["fetched"]
    assert mirror.asked == [("/test.jsonl", "bytes=100-")]
    assert lying(tmp_path) == {"deep/test.jsonl": rows}


def test_a_server_without_ranges_sends_all_again(mirror: Mirror, rows: bytes, tmp_path: Path) -> None:
    mirror.ranges = False
    (tmp_path / "test.jsonl.part").write_bytes(rows[:1000])
    assert fetch(tmp_path, item(f"{mirror.url}/test.jsonl", rows, "test.jsonl")) == ["fetched"]
    assert lying(tmp_path) == {"test.jsonl": rows}


def test_a_part_that_was_whole_is_not_fetched_again(mirror: Mirror, rows: bytes, tmp_path: Path) -> None:
    (tmp_path / "test.jsonl.part").write_bytes(rows)
    assert fetch(tmp_path, item(f"{mirror.url}/test.jsonl", rows, "test.jsonl")) == ["fetched"]
    assert (mirror.asked, lying(tmp_path)) == ([], {"test.jsonl": rows})


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * 1_000_000], ids=["shorter", "longer"])
def test_a_part_of_another_file_is_thrown_away(mirror: Mirror, rows: bytes, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "test.jsonl.part").write_bytes(part)
    assert fetch(tmp_path, item(f"{mirror.url}/test.jsonl", rows, "test.jsonl")) == ["fetched"]
    assert [wanted for _, wanted in mirror.asked] == [f"bytes={len(part)}-", ""]
    assert lying(tmp_path) == {"test.jsonl": rows}


def test_a_part_that_is_too_long_is_begun_again(mirror: Mirror, rows: bytes, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x" * 1_000_000)
    download.download(f"{mirror.url}/test.jsonl", tmp_path / "part", lambda done, total: None)
    assert (tmp_path / "part").read_bytes() == rows


def test_a_server_that_will_not_begin_is_given_up(mirror: Mirror, tmp_path: Path) -> None:
    mirror.content = {"/empty": b""}
    (said,) = fetch(tmp_path, item(f"{mirror.url}/empty", b"small", "small"))
    # The phrase is Python's own, and Python 3.13 has shortened it.
    refusal = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    assert said.endswith(f"/empty is not to be had: the server says 416 {refusal.phrase}.")


def test_a_server_that_sends_another_range_is_not_believed(mirror: Mirror, rows: bytes, tmp_path: Path) -> None:
    mirror.wrong_range = "bytes 7-9/10"
    (tmp_path / "test.jsonl.part").write_bytes(rows[:1000])
    (said,) = fetch(tmp_path, item(f"{mirror.url}/test.jsonl", rows, "test.jsonl"))
    assert "did not come whole (it sends another part than it was asked for)" in said
    assert lying(tmp_path) == {}


def test_a_file_of_unknown_length_is_fetched(mirror: Mirror, rows: bytes, tmp_path: Path) -> None:
    mirror.says_length = False
    told = []
    wanted = item(f"{mirror.url}/test.jsonl", rows, "test.jsonl")
    ((_, outcome),) = files.fetch(
        [wanted], tmp_path, allow_changed=False, tell=lambda done, total: told.append((done, total))
    )
    assert (outcome, told[-1], lying(tmp_path)) == ("fetched", (len(rows), 0), {"test.jsonl": rows})


def test_progress_counts_what_was_there_before(mirror: Mirror, rows: bytes, tmp_path: Path) -> None:
    told = []
    (tmp_path / "part").write_bytes(rows[:700_000])
    download.download(f"{mirror.url}/test.jsonl", tmp_path / "part", lambda done, total: told.append((done, total)))
    assert (min(told) > (700_000, 0), told[-1]) == (True, (749_738, 749_738))


def test_progress_knows_no_total_where_the_server_says_none(mirror: Mirror, rows: bytes, tmp_path: Path) -> None:
    mirror.says_length = False
    told = []
    (tmp_path / "part").write_bytes(rows[:700_000])
    download.download(f"{mirror.url}/test.jsonl", tmp_path / "part", lambda done, total: told.append((done, total)))
    assert told[-1] == (749_738, 0)


def test_progress_is_shown_on_a_terminal(
    cli: Cli, publishers: Mirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    ran = cli("data", "fetch", "mmlu", "--to", "data")
    assert ran.err.replace("\r", "\n").strip().splitlines()[-3].strip() == "2.3 of 2.3 MB"


def test_the_server_is_told_who_asks(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = requests_of(monkeypatch)
    download.download(f"{mirror.url}/small", tmp_path / "part", lambda done, total: None)
    assert str(asked[0].get_header("User-agent")).startswith("evalkit/")


def test_all_failures_are_told_and_the_others_are_fetched(cli: Cli, publishers: Mirror) -> None:
    content = dict(publishers.content)
    del content[_LICENCE_AT]
    publishers.content = content | {f"{_GSM_AT}/grade_school_math/data/test.jsonl": b"{}"}
    ran = cli("data", "fetch", "mmlu", "gsm", "--to", "data")
    host = "https://raw.githubusercontent.com"
    assert (ran.code, ran.out.splitlines(), ran.err.splitlines()) == (
        1,
        ["mmlu/mmlu.zip: fetched", "gsm8k/LICENSE: fetched", "prompts/gsm_exemplars.json: fetched"],
        [
            f"Error: mmlu/LICENSE: {host}{_LICENCE_AT} is not to be had: the server says 404 Not Found.",
            f"Error: gsm8k/test.jsonl: refused, since {host}{_GSM_AT}/grade_school_math/data/test.jsonl has changed "
            "(SHA-256 44136fa355b3, expected 3730d312f6e3); --allow-changed takes it and notes it in data.json.",
        ],
    )
    assert sorted(lying(Path("data"))) == ["gsm8k/LICENSE", "mmlu/mmlu.zip", "prompts/gsm_exemplars.json"]


@pytest.mark.parametrize("source", [b"EXEMPLARS = [", b"import os\nA = 1\nB = 2\n", b"A = [open('/etc/passwd')]"])
def test_a_module_that_has_changed_is_refused_and_never_run(cli: Cli, publishers: Mirror, source: bytes) -> None:
    publishers.content = {**publishers.content, _MODULE_AT: source}
    ran = cli("data", "fetch", "gsm", "--to", "data")
    assert (ran.code, "gsm_exemplars.json: refused, since" in ran.err) == (1, True)
    assert sorted(lying(Path("data"))) == ["gsm8k/LICENSE", "gsm8k/test.jsonl"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_host_out_of_reach_is_asked_once_and_each_file_says_where_to_get_it(
    online: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requests_of(monkeypatch)
    host = f"127.0.0.1:{free_port()}"
    assert fetch(tmp_path, item(f"http://{host}/a", b"a", "a"), item(f"http://{host}/b", b"b", "b")) == [
        f"{name}: {host} cannot be reached (Connection refused). "
        f"Fetch it by hand from http://{host}/{name} and put it at {tmp_path / name}."
        for name in "ab"
    ]
    assert (len(asked), lying(tmp_path)) == (1, {})


def test_a_silent_server_is_given_up(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    mirror.begins.clear()
    (said,) = fetch(tmp_path, item(f"{mirror.url}/small", b"small", "small"))
    assert f"{urlsplit(mirror.url).netloc} cannot be reached (timed out). Fetch it by hand from" in said


def test_nothing_is_fetched_while_the_user_says_offline(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    url = f"{mirror.url}/small"
    plain, made = item(url, b"small", "a"), item(url, b"SMALL", "b", made=bytes.upper)
    assert fetch(tmp_path, plain, made) == [
        f"a: HF_HUB_OFFLINE is set. Fetch it by hand from {url} and put it at {tmp_path / 'a'}.",
        f"b: HF_HUB_OFFLINE is set. Fetch {url} by hand, put it at {tmp_path / 'b.part'} and repeat the command.",
    ]
    (tmp_path / "a").write_bytes(b"small")
    (tmp_path / "b.part").write_bytes(b"small")
    assert fetch(tmp_path, plain, made) == ["already there", "fetched"]
    assert (mirror.asked, lying(tmp_path)) == ([], {"a": b"small", "b": b"SMALL"})


def test_a_file_without_an_address_says_which_page_has_it(online: None, tmp_path: Path) -> None:
    assert fetch(tmp_path, item("", b"small", "a")) == [
        f"a: there is no pinned address for it. Fetch it by hand from https://example.org/riddles "
        f"and put it at {tmp_path / 'a'}."
    ]


def test_only_the_web_is_fetched_from(online: None, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("small")
    assert fetch(tmp_path, item(secret.as_uri(), b"small", "a")) == [f"a: {secret.as_uri()} is no web address."]


def test_a_folder_that_cannot_be_written_is_named(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("a file in the way")
    (said,) = fetch(tmp_path, item(f"{mirror.url}/small", b"small", "deep/small"))
    assert said == "deep/small cannot be kept (File exists)."


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_fetch_leaves_nothing_in_place_and_goes_on(
    mirror: Mirror, rows: bytes, tmp_path: Path, sent: signal.Signals
) -> None:
    bench = f"""
from evalkit import Benchmark, Data, File, GenerateRequest, Reading, hookimpl
FILE = File(path="test.jsonl", url="{mirror.url}/test.jsonl", sha256="{hashlib.sha256(rows).hexdigest()}")
DATA = Data(home="here", licence="MIT", file="test.jsonl", rows=list, files=(FILE,))
PLAIN = Reading(name="plain", extract=str, metrics={{"exact_match": float}})
def riddles():
    return Benchmark(name="riddles", version=1, doc="Riddles.", facet="reasoning", data=DATA, example=str,
                     request=str, readings=(PLAIN,))
@hookimpl
def benchmarks():
    return [riddles]
"""
    (tmp_path / "riddles.py").write_text(bench)
    command = [sys.executable, "-m", "evalkit", "data", "fetch", "./riddles.py", "--to", "data"]
    mirror.piece = 100_000
    mirror.goes_on.clear()
    part = tmp_path / "data" / "test.jsonl.part"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            until(lambda: part.exists() and part.stat().st_size > 0)
            started.send_signal(sent)
            _, said = started.communicate(timeout=120)
        finally:
            started.kill()
    half = part.read_bytes()
    assert (started.returncode, said.strip()) == (
        (-9, "") if sent == signal.SIGKILL else (75, "Stopped; repeat the command to go on.")
    )
    assert (0 < len(half) < len(rows), lying(tmp_path / "data")) == (True, {"test.jsonl.part": rows[: len(half)]})
    mirror.goes_on.set()
    ran = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert (ran.stdout, mirror.asked[-1]) == ("test.jsonl: fetched\n", ("/test.jsonl", f"bytes={len(half)}-"))
    assert lying(tmp_path / "data") == {"test.jsonl": rows}


# Files that differ


def test_a_changed_file_is_taken_only_when_allowed_and_is_noted(mirror: Mirror, tmp_path: Path) -> None:
    wanted = item(f"{mirror.url}/small", b"other", "small")
    (said,) = fetch(tmp_path, wanted)
    assert (said.startswith("small: refused, since"), lying(tmp_path)) == (True, {})
    assert fetch(tmp_path, wanted, allow_changed=True) == ["fetched, changed (noted in data.json)"]
    noted = json.loads((tmp_path / "data.json").read_text())
    date = noted["changed"]["small"].pop("date")
    assert noted == {
        "format": 1,
        "changed": {
            "small": {
                "expected": hashlib.sha256(b"other").hexdigest(),
                "found": hashlib.sha256(b"small").hexdigest(),
            }
        },
    }
    assert time.strptime(date, "%Y-%m-%d")
    mirror.asked.clear()
    assert fetch(tmp_path, wanted, allow_changed=True) == ["already there, changed (noted in data.json)"]
    assert mirror.asked == []


def test_a_note_goes_when_the_pinned_file_comes(mirror: Mirror, tmp_path: Path) -> None:
    wanted = item(f"{mirror.url}/small", b"other", "small")
    fetch(tmp_path, wanted, allow_changed=True)
    mirror.content = {"/small": b"other"}
    assert fetch(tmp_path, wanted) == ["fetched"]
    assert lying(tmp_path) == {"small": b"other", "data.json": b'{\n "format": 1,\n "changed": {}\n}\n'}


def test_a_changed_file_fetched_by_hand_can_be_noted_too(online: None, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"by hand")
    wanted = item("", b"other", "small")
    assert "no pinned address" in fetch(tmp_path, wanted)[0]
    assert fetch(tmp_path, wanted, allow_changed=True) == ["already there, changed (noted in data.json)"]
    assert list(files.notes(tmp_path)) == ["small"]


def test_a_note_keeps_its_date(mirror: Mirror, tmp_path: Path) -> None:
    wanted = item(f"{mirror.url}/small", b"other", "small")
    fetch(tmp_path, wanted, allow_changed=True)
    old = (tmp_path / "data.json").read_text().replace('"date": "2', '"date": "1')
    (tmp_path / "data.json").write_text(old)
    fetch(tmp_path, wanted, allow_changed=True)
    assert (tmp_path / "data.json").read_text() == old


def test_what_may_change_is_still_the_pinned_file_where_that_is_to_be_had(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"edited")
    assert fetch(tmp_path, item(f"{mirror.url}/small", b"small", "small"), allow_changed=True) == ["fetched"]
    assert lying(tmp_path) == {"small": b"small"}


def test_a_damaged_file_is_never_noted(online: None, tmp_path: Path) -> None:
    (tmp_path / "small.gz").write_bytes(gzip.compress(b"small")[:-9])
    (said,) = fetch(tmp_path, item("", b"small", "small"), allow_changed=True)
    assert ("no pinned address" in said, files.notes(tmp_path)) == (True, {})


def test_a_changed_file_in_place_is_replaced_by_the_pinned_one(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"edited")
    assert fetch(tmp_path, item(f"{mirror.url}/small", b"small", "small")) == ["fetched"]
    assert lying(tmp_path) == {"small": b"small"}


def test_a_refused_file_leaves_the_one_in_place(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"edited")
    fetch(tmp_path, item(f"{mirror.url}/small", b"other", "small"))
    assert lying(tmp_path) == {"small": b"edited"}


@pytest.mark.parametrize("content", ["{", "[]", '{"changed": 7}'])
def test_damaged_notes_are_named(mirror: Mirror, tmp_path: Path, content: str) -> None:
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(DataError, match=r"data\.json cannot be read \(.*\); move it away\.$"):
        files.notes(tmp_path)


def test_two_benchmarks_may_share_a_file_but_not_pin_two(tmp_path: Path) -> None:
    def sharing(*pinned: bytes) -> list[files.Item]:
        return files.items(
            echo(
                name=f"b{number}",
                data=Data(home="h", licence="MIT", file="", rows=lambda _: (), files=(item("", one, "a").file,)),
            )
            for number, one in enumerate(pinned)
        )

    assert [one.benchmark for one in sharing(b"x", b"x")] == ["b0"]
    with pytest.raises(PluginError, match=r"^b0 and b1 pin different files at a\.$"):
        sharing(b"x", b"y")


# Verifying and packing


@pytest.fixture
def folder(test_data: Path, tmp_path: Path, online: None) -> Path:
    """The five files of gsm and mmlu."""
    for name in BOTH:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(test_data / name, tmp_path / "data" / name)
    return tmp_path / "data"


def test_verify_names_what_is_changed_damaged_or_absent(cli: Cli, folder: Path) -> None:
    (folder / "gsm8k" / "test.jsonl").write_bytes(b"{}")
    (folder / "mmlu" / "LICENSE").unlink()
    license_gz = folder / "gsm8k" / "LICENSE.gz"
    license_gz.write_bytes(gzip.compress((folder / "gsm8k" / "LICENSE").read_bytes())[:-9])
    (folder / "gsm8k" / "LICENSE").unlink()
    ran = cli("data", "verify", folder)
    lines = ran.out.splitlines()
    assert (ran.code, "absent: mmlu/LICENSE" in lines) == (1, True)
    assert [line for line in lines if line.startswith("changed")] == [
        "changed: gsm8k/test.jsonl (SHA-256 44136fa355b3, expected 3730d312f6e3)",
        "changed: gsm8k/LICENSE (SHA-256 unreadable, expected 86bbb73e8558)",
    ]
    assert lines[-1].startswith("2 present, 2 changed, ")


def test_verify_passes_where_nothing_differs(cli: Cli, folder: Path) -> None:
    assert cli("data", "verify", folder).code == 0


def test_verify_refuses_what_holds_no_known_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("text")
    assert cli("data", "verify", "empty").err.startswith("Error: empty holds no file that an installed benchmark names")
    assert cli("data", "verify", "text").err == "Error: text is neither a folder nor a zip archive.\n"


def test_gzipped_copies_count_by_what_they_hold_and_pack_to_the_same_bundle(cli: Cli, folder: Path) -> None:
    cli("data", "pack", folder, "one.zip")
    test = folder / "gsm8k" / "test.jsonl"
    test.with_name("test.jsonl.gz").write_bytes(gzip.compress(test.read_bytes()))
    test.unlink()
    os.utime(folder / "mmlu" / "mmlu.zip", (1, 1))
    cli("data", "pack", folder, "two.zip")
    assert Path("one.zip").read_bytes() == Path("two.zip").read_bytes()


def test_a_bundle_says_whence_and_under_which_licence(cli: Cli, folder: Path) -> None:
    cli("data", "pack", folder, "bundle.zip")
    with zipfile.ZipFile("bundle.zip") as archive:
        assert archive.namelist() == ["data.json", *sorted(BOTH)]
        about = json.loads(archive.read("data.json"))
        infos = archive.infolist()
    as_written = {(one.create_system, one.external_attr >> 16, one.compress_type, one.date_time) for one in infos}
    assert as_written == {(3, 0o644, zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))}
    assert about["files"]["prompts/gsm_exemplars.json"] == {
        "benchmark": "gsm",
        "sha256": "54aab6461aa5cd1e8c5daa82368669094f61f6a7b098194a01de3b0ea6a110ae",
        "licence": "Apache-2.0",
        "origin": f"https://raw.githubusercontent.com{_MODULE_AT}",
    }
    assert (list(about["files"]), about["changed"]) == (sorted(BOTH), {})


def test_pack_names_what_is_absent(cli: Cli, folder: Path) -> None:
    (folder / "gsm8k" / "test.jsonl").unlink()
    ran = cli("data", "pack", folder, "deep/bundle.zip")
    assert ran.code == 0
    assert ran.out.startswith("deep/bundle.zip: 4 files, ")
    assert "absent: gsm8k/test.jsonl" in ran.err.splitlines()


def test_pack_refuses_what_was_changed_unless_it_was_allowed(cli: Cli, folder: Path, publishers: Mirror) -> None:
    path = f"{_GSM_AT}/grade_school_math/data/test.jsonl"
    publishers.content = {**publishers.content, path: publishers.content[path] + b"\n"}
    test = folder / "gsm8k" / "test.jsonl"
    test.write_bytes(publishers.content[path])
    ran = cli("data", "pack", folder, "bundle.zip")
    assert (ran.code, f"{test} is not as pinned (SHA-256" in ran.err, Path("bundle.zip").exists()) == (1, True, False)
    test.unlink()
    assert cli("data", "fetch", "gsm", "--to", folder, "--allow-changed").code == 0
    assert cli("data", "pack", folder, "bundle.zip").code == 0
    for place in (folder, "bundle.zip"):
        ran = cli("data", "verify", place)
        (changed,) = [line for line in ran.out.splitlines() if line.startswith("changed")]
        assert (ran.code, "taken on 20" in changed, changed.endswith("with --allow-changed)")) == (1, True, True)
    test.write_bytes(b"edited since")
    assert "taken on" not in cli("data", "verify", folder).out


def test_pack_refuses_a_folder_without_any(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = cli("data", "pack", "empty", "bundle.zip")
    assert ran.err == "Error: empty holds none of these files: `evalkit data fetch --to empty` fetches them.\n"


# EVALKIT_DATA


def test_runs_find_their_data_by_the_environment(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_DATA", str(folder))
    ran = cli("run", "-m", "dummy", "-b", "gsm", "-b", "arithmetic", "--limit", 2, "--json")
    assert (ran.code, [summary["n"] for summary in ran.document]) == (0, [2, 2])
    sample = cli("run", "-m", "dummy", "-b", "gsm", "--data", "sample", "--limit", 2, "--json").document
    assert sample[0]["run"] != ran.document[0]["run"]


def test_data_for_a_benchmark_that_makes_its_own_is_refused_when_it_was_typed(cli: Cli, folder: Path) -> None:
    ran = cli("run", "-m", "dummy", "-b", "arithmetic", "--data", folder)
    assert ran.err == "Error: arithmetic makes its own rows; leave --data out.\n"
