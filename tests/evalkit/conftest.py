"""The command line in this process and in another one, and plugins as pip would install them."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from tests.evalkit.small import Ran, put_distribution, run_apart

from evalkit.cli import main

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("facts", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("facts")


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ran]]:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["evalkit", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Ran(end.value.code, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Ran]:
    """Run a command in a process of its own, with ``site`` in its path."""
    return functools.partial(run_apart, tmp_path)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put a distribution of one module into the folder ``site``, as pip would."""
    site, before = tmp_path / "site", set(sys.modules)
    monkeypatch.syspath_prepend(str(site))
    yield functools.partial(put_distribution, site)
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(site)):
            del sys.modules[module]
