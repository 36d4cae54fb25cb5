"""A run with a cluster of its own that is interrupted: it can be resumed, and no process is left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.evalkit.killing import positions, stopped
from tests.plugins.ray_clusters import logs, require_ray

pytest.importorskip("ray")
pytest.importorskip("evalkit_ray")


def left(mark: str) -> list[str]:
    """The processes that inherited a variable of this value, and Ray's of our group: some hide what they got."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment, title = (place / "environ").read_bytes(), (place / "cmdline").read_bytes()
            is_ours = title.startswith(b"ray::") and os.getpgid(int(place.name)) == os.getpgrp()
        except OSError:  # it has ended, or is another user's
            continue
        if is_ours or f"EVALKIT_TEST_MARK={mark}".encode() in environment:
            found.append(title.decode(errors="replace")[:80])
    return found


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_resumable_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: signal.Signals
) -> None:
    mark = f"{os.getpid()}-{tmp_path.name}"
    monkeypatch.setenv("EVALKIT_TEST_MARK", mark)
    run = ["run", "-m", "ray:dummy", "-M", "workers=2", "-M", "delay=0.05", "-b", "arithmetic", "-B", "n=5000"]
    command = [sys.executable, "-m", "evalkit", *run, "--out", str(tmp_path)]
    code, told = stopped(command, tmp_path, by=by, after=2000)
    if code != 75:
        sys.stderr.write(told + logs())
        require_ray()
    assert code == 75
    kept = positions(tmp_path)
    assert len(kept) == len(set(kept))
    assert f"Stopped: {len(kept)} of 5000 responses are kept" in told
    deadline = time.monotonic() + 120
    while left(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left(mark) == []
