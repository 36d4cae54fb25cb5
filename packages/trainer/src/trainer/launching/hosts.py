"""The machines of a run: a file of hosts as DeepSpeed's launcher reads it, or so many alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import TrainerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine."""

    #: What the others call it; empty where it is not known.
    name: str
    #: Ranks that it takes, one for each GPU.
    slots: int


def read(file: Path) -> tuple[Host, ...]:
    """The hosts of a file with lines as ``node-1 slots=8``; raises TrainerError, with the line, for any other."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainerError(f"{file} cannot be read ({error}).") from None
    found: dict[str, Host] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = re.fullmatch(r"(\S+)\s+slots=([1-9]\d*)(\s*#.*)?", text)
        if not match:
            raise TrainerError(f"{file}:{number}: {text!r} is no host; write it as node-1 slots=8.")
        name = match[1]
        if name in found:
            raise TrainerError(f"{file}:{number}: {name} stands there twice; add up its slots.")
        found[name] = Host(name=name, slots=int(match[2]))
    if not found:
        raise TrainerError(f"{file} names no host; write lines as node-1 slots=8.")
    return tuple(found.values())
