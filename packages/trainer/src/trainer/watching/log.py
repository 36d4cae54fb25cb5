"""``log.jsonl``: one JSON object a line, appended as training goes on and cut back when it resumes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.errors import DataError, Interrupted

#: The log's name in the run folder.
NAME = "log.jsonl"


class Log:
    """A log that is open for appending; each line has reached the operating system when ``write`` returns."""

    def __init__(self, path: Path, *, step: int) -> None:
        """Open a log behind what it holds up to and with ``step``, which the run resumes from; 0 is a run that begins.

        Lines of later steps go, for they will be done anew, except those of an ``event`` (a start, an alarm, an end):
        they happened. So does a last line that a kill has torn.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        found = read(path) if path.exists() else []
        kept = [line for line in found if (step and line["step"] <= step) or "event" in line]
        part = path.with_name(path.name + ".part")
        with part.open("w", encoding="utf-8") as file:
            file.writelines(map(_text, kept))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        self._path = path
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line; numbers that are not finite become null, which JSON can say.

        Raises Interrupted where the disk does not take it, here and below.
        """
        with self._resumable():
            self._file.write(_text(line))
            self._file.flush()

    def sync(self) -> None:
        """See that the disk holds what was written."""
        with self._resumable():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """See that the disk holds it all, and write no more."""
        with self._resumable(), self._file as file:
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _resumable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Interrupted(
                f"{self._path} cannot be written ({error.strerror}): make room, then repeat the command to go on."
            ) from None


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, without a last one that was torn; raises DataError at any other that is none."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line) if line else None
        except ValueError:
            value = ...
        if isinstance(value, dict) and isinstance(value.get("step"), int):
            found.append(value)
        elif value is not None and number < len(lines):
            raise DataError(f"{path}:{number}: this is no line of a log; move the file away, or mend the line.")
    return found


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(_finite(line), ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    return value
