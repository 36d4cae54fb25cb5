"""The trainer's command line in this process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.trainer.plugin import Cli

from trainer.cli import main

#: What the command line and torchrun, which it starts in its own process, take over.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """Have the ranks that tests start wait for each other however far apart a busy machine starts them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRAINER_PREFLIGHT_SECONDS", "600")
        yield


@pytest.fixture
def handlers() -> Iterator[None]:
    """Give the signals back to those who had them before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def cli(handlers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["trainer", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    return run
