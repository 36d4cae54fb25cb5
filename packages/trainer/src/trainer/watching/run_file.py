"""``run.json``: what a run is made of, and where, when and with what it was started and resumed."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import DataError
from trainer.preparation.prepared import read_manifest
from trainer.watching.secrets import redact

if TYPE_CHECKING:
    from trainer.training.settings import Resolved
    from trainer.watching.told import Start

#: Raised whenever an older run folder could no longer be read.
FORMAT = 1
NAME = "run.json"
#: What can change numbers; those that are not installed are left out.
LIBRARIES = ("trainer", "torch", "transformers", "tokenizers", "deepspeed", "peft", "safetensors", "numpy")


def write(out: Path, resolved: Resolved, start: Start) -> None:
    """Write ``run.json`` anew; the starts that it tells of are kept and this one stands behind them."""
    path = out / NAME
    before = read(out)["starts"] if path.exists() else []
    settings = resolved.settings
    told = {
        "format": FORMAT,
        "settings": {name: redact(one) if isinstance(one, str) else one for name, one in asdict(settings).items()},
        "sources": dict(resolved.sources),
        "fingerprint": settings.fingerprint,
        "steps": start.steps,
        "parameters": start.parameters,
        "trainable": start.trainable,
        "data": {name: data(Path(folder)) for name, folder in _folders(settings.data, settings.held_out).items()},
        "starts": [*before, started(start)],
    }
    part = path.with_name(NAME + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(told, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read(out: Path) -> dict[str, Any]:
    """What ``run.json`` tells; raises DataError where a folder holds no run that this version reads."""
    path = out / NAME
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{out} holds no run: `trainer train` writes {NAME} there when its first step begins."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}).") from None
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        found = told.get("format") if isinstance(told, dict) else None
        raise DataError(f"{path} has format {found!r}, this version of trainer reads {FORMAT}.")
    return told


def data(folder: Path) -> dict[str, Any]:
    """What there is to say of a prepared folder: what it was made of, its key, its files' hashes, its counts."""
    manifest = read_manifest(folder)
    return {
        "folder": str(folder),
        "key": manifest["key"],
        "made_of": manifest["made_of"],
        "files": {name: one["sha256"] for name, one in manifest["files"].items()},
        "counts": manifest["counts"],
    }


def started(start: Start) -> dict[str, Any]:
    """A start: when, from which step, by whom, on what and with what."""
    return {
        "time": round(time.time(), 3),
        **asdict(start),
        "command": redact(" ".join(["trainer", *sys.argv[1:]])),
        "versions": {"python": platform.python_version(), **dict(_versions())},
        "git": git(Path.cwd()),
        "machine": machine(),
    }


def git(folder: Path) -> dict[str, Any] | None:
    """The commit that a folder is at, and whether it was changed since; None where it is under no version control."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def machine() -> dict[str, Any]:
    """The machine of rank 0: its name, system, processor, cores and memory in bytes."""
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
    }


def _folders(trained: str, held_out: str) -> Mapping[str, str]:
    return {"train": trained, **({"held_out": held_out} if held_out else {})}


def _versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _git(folder: Path, *arguments: str) -> str:
    try:
        ran = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _processor() -> str:
    """The processor's name as Linux tells it; elsewhere what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
