"""A cluster of this machine that does not start: nothing waits for it without a limit."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

from evalkit import GenerateRequest, ModelError

pytest.importorskip("ray")
evalkit_ray = pytest.importorskip("evalkit_ray")
own = pytest.importorskip("evalkit_ray.own")


def test_a_call_of_rays_that_does_not_return_is_not_waited_for() -> None:
    with pytest.raises(TimeoutError):
        own.within(0.05, threading.Event().wait)
    with pytest.raises(KeyError):
        own.within(60, lambda: os.environ["EVALKIT_NO_SUCH_VARIABLE"])


def test_a_cluster_that_does_not_start_in_time_is_given_up_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A Ray that never starts; the installed one may, where this process is held up.
    (tmp_path / "ray.py").write_text("import time\ntime.sleep(3600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ModelError) as raised:
        own.Head(limit=0.01)
    assert str(raised.value).startswith("Ray has not started on this machine within 0.01 s: see ")
    assert str(raised.value).endswith("or start it by hand (`ray start --head`) and give address=auto.")


def test_a_cluster_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    monkeypatch.setattr(own, "LONGEST", 1000)
    with pytest.raises(ModelError, match=r"Ray cannot be started on this machine: NotADirectoryError: .*head\.log"):
        own.Head()


def test_a_cluster_whose_temporary_folder_is_in_the_virtual_environment_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # There Ray's workers refuse to start, and a driver waits for them for ever.
    environment = Path(tempfile.mkdtemp(prefix="env-"))
    (environment / "tmp").mkdir()
    monkeypatch.setenv("VIRTUAL_ENV", str(environment))
    monkeypatch.setenv("TMPDIR", str(environment / "tmp"))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    backend = evalkit_ray.Ray("dummy", workers=1, placement_timeout=240.0)
    try:
        backend.open()
        answers = list(backend.generate([(0, GenerateRequest(prompt="2 + 2 =", max_tokens=4))]))
    finally:
        backend.close()
        shutil.rmtree(environment)
    assert [position for position, _ in answers] == [0]
