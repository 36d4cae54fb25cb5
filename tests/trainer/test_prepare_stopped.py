"""A preparation that is stopped, killed, crowded or out of space ends as if nothing had happened, once repeated."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.trainer import killing, preparing, small_tokenizers

from trainer.errors import DataError
from trainer.preparation import chunks
from trainer.preparation.prepared import Prepared
from trainer.rendering import render
from trainer.rendering.render import Renderer

#: Chunks that a process gets done before it waits to be stopped.
HELD = 12


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return render.load(str(small_tokenizers.save("opt", tmp_path_factory.mktemp("tokenizers") / "opt")), max_length=150)


def gone(group: int) -> bool:
    """Whether all processes of a group have ended, two minutes given."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def kept(folder: Path) -> int:
    """How many chunks are noted as prepared."""
    found = list(folder.glob("*/progress.json"))
    return json.loads(found[0].read_bytes())["chunks"] if found else 0


def begun(running: subprocess.Popen[str], folder: Path, before: int = 0) -> bool:
    """Wait until more chunks are noted as prepared than before; a process that does not get to that is killed."""
    there = False
    try:
        there = killing.until(lambda: kept(folder) > before, [running.poll])
    finally:
        if not there:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
    return there


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chunks, "CHUNK", 4000)  # as the processes have it
    return preparing.write(tmp_path / "mix.jsonl", preparing.rows(500))


def test_killed_at_random_moments_it_ends_as_if_undisturbed(renderer: Renderer, long: Path, tmp_path: Path) -> None:
    command = preparing.process(renderer, long, tmp_path / "killed", workers=2)
    chance = random.Random(7)
    before = 0
    for _ in range(3):
        running = preparing.start(command, held=HELD)
        assert begun(running, tmp_path / "killed", before)
        time.sleep(chance.uniform(0, 0.02))
        running.kill()
        preparing.finished(running)
        assert gone(running.pid), "A worker outlived the process that started it."
        assert kept(tmp_path / "killed") > before, "It began from the start."
        before = kept(tmp_path / "killed")
        with pytest.raises(DataError, match="or not all of it yet"):
            Prepared.open(tmp_path / "killed")
    assert preparing.finished(preparing.start(command))[0] == 0
    preparing.made(long, renderer, tmp_path / "whole")
    assert preparing.content(tmp_path / "killed") == preparing.content(tmp_path / "whole")


def test_ctrl_c_keeps_what_is_done_and_says_so_in_one_line(renderer: Renderer, long: Path, tmp_path: Path) -> None:
    running = preparing.start(preparing.process(renderer, long, tmp_path / "out", workers=2), held=HELD)
    assert begun(running, tmp_path / "out")
    os.killpg(running.pid, signal.SIGINT)
    code, told = preparing.finished(running)
    done = kept(tmp_path / "out")
    assert (code, gone(running.pid)) == (75, True)
    assert told.startswith(f"Stopped: {done} of ")
    assert told.endswith(f" chunks are kept in {tmp_path / 'out'}; repeat the command to go on.\n")
    _, later = preparing.made(long, renderer, tmp_path / "out")
    assert later.said == [f"{done} of {done + later.chunks} chunks were prepared before; going on behind them."]
    Prepared.open(tmp_path / "out").verify()


def test_a_killed_worker_is_told_and_costs_nothing_that_was_done(
    renderer: Renderer, long: Path, tmp_path: Path
) -> None:
    command = preparing.process(renderer, long, tmp_path / "out", workers=2)
    running = preparing.start(command, held=HELD)
    assert begun(running, tmp_path / "out")
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    code, told = preparing.finished(running)
    assert (code, told.count("\n")) == (1, 1)
    assert told.startswith("A worker process was killed")
    assert kept(tmp_path / "out") > 0
    assert preparing.finished(preparing.start(command))[0] == 0


def test_a_killed_worker_is_told_though_another_hears_nothing(renderer: Renderer, long: Path, tmp_path: Path) -> None:
    """A worker that waits for what the dead one held ends by no signal that it could hear; one that stands is alike."""
    running = preparing.start(preparing.process(renderer, long, tmp_path / "out", workers=2), held=HELD)
    assert begun(running, tmp_path / "out")
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(int(children[-2]), signal.SIGSTOP)
    os.kill(int(children[-1]), signal.SIGKILL)
    code, told = preparing.finished(running)
    assert (code, told.startswith("A worker process was killed")) == (1, True)
    assert gone(running.pid)


def test_two_that_prepare_the_same_take_turns(renderer: Renderer, long: Path, tmp_path: Path) -> None:
    command = preparing.process(renderer, long, tmp_path / "twice", workers=1)
    both = [preparing.start(command), preparing.start(command)]
    assert [preparing.finished(one)[0] for one in both] == [0, 0]
    preparing.made(long, renderer, tmp_path / "once")
    assert preparing.content(tmp_path / "twice") == preparing.content(tmp_path / "once")


def test_a_full_disk_costs_nothing_that_was_done(renderer: Renderer, long: Path, tmp_path: Path) -> None:
    # A small disk in a mount namespace of its own.
    unshare = next((one for one in (["unshare", "-rm"], ["unshare", "-m"]) if _can_mount(one)), None)
    if unshare is None:
        pytest.skip("this system lets nobody mount a small disk (unshare -rm), so a full one cannot be tried")
    disk = tmp_path / "disk"
    disk.mkdir()
    run = " ".join(f"'{part}'" for part in preparing.process(renderer, long, disk / "out", workers=1))
    script = f"""
        mount -t tmpfs -o size=100k tmpfs '{disk}'
        {run} 2> told; echo $? > code; cp '{disk}'/out/*/progress.json kept
        mount -o remount,size=10m '{disk}' && {run} && cp -r '{disk}/out' copy
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*unshare, "sh", "-c", script], cwd=tmp_path, check=True, env=environment)
    place, told = disk / "out", (tmp_path / "told").read_text()
    assert ((tmp_path / "code").read_text(), told.count("\n")) == ("1\n", 1)
    assert f"{place}/" in told
    assert "cannot be written (No space left on device). Make room" in told
    assert json.loads((tmp_path / "kept").read_bytes())["chunks"] > 0
    preparing.made(long, renderer, tmp_path / "whole")
    assert preparing.content(tmp_path / "copy") == preparing.content(tmp_path / "whole")


def _can_mount(unshare: list[str]) -> bool:
    command = [*unshare, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, check=False, capture_output=True).returncode == 0
