"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Take back the signals that nohup or a shell's ``&`` had ignored: tests, and the commands they start, get them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of published benchmark files; without it a test is skipped, under CI it fails."""
    folder = Path(os.environ.get("EVALKIT_TEST_DATA", ROOT / ".." / "shared" / "data"))
    if folder.is_dir():
        return folder
    message = f"no test data at {folder}: set EVALKIT_TEST_DATA to the folder that holds gsm8k/, mmlu/, oracles/"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    return pytest.skip(message)
