"""What the tests of preparation share: conversations, a renderer, and a process that prepares and can be killed."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.trainer import killing

from trainer.preparation.prepare import Task, prepare
from trainer.preparation.prepared import Prepared
from trainer.rendering.render import Renderer

WORDS = ("The capital", "Paris", "naïve", "తెలుగు", "answer", "</s>", "<|assistant|>", "  ", "\n", "1234", "é", "if x:")

#: Reads a pickled renderer, so that no process of a test need load transformers. A last argument is a number of chunks
#: after which it waits until its standard input ends.
SCRIPT = """
import pickle, sys
from pathlib import Path
from tests.trainer.preparing import Told
from trainer.preparation import chunks, prepare
from trainer.errors import TrainerError

if __name__ == "__main__":
    chunks.CHUNK = 4000
    renderer, file, folder, workers, *held = sys.argv[1:]
    task = prepare.Task(files=[Path(file)], renderer=pickle.loads(Path(renderer).read_bytes()), folder=Path(folder))
    try:
        made = prepare.prepare(task, watch=Told(*map(int, held)), workers=int(workers), keep_every=0)
    except TrainerError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
"""


class Told:
    """A watch that remembers what it was told; it can hold a preparation after so many chunks, till stdin's end."""

    def __init__(self, held: int = 0) -> None:
        self.said: list[str] = []
        self.chunks = 0
        self._held = held

    def say(self, text: str) -> None:
        self.said.append(text)

    def start(self, *, total: int, done: int) -> None:
        self.total, self.done = total, done

    def prepared(self, *, size: int, examples: int, tokens: int) -> None:
        self.chunks += 1
        if self.chunks == self._held:
            sys.stdin.read()

    def stop(self) -> None:
        pass


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Conversations of one to eight messages; in a tenth of them the assistant says nothing."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        silent = chance.random() < 0.1
        roles = ["user"] if silent else ["user", "assistant"] * chance.randint(1, 4)
        messages = [{"role": role, "content": _text(chance)} for role in roles]
        found.append({"dataset": chance.choice(["dolly", "cot"]), "id": f"row_{number}", "messages": messages})
    return found


def write(path: Path, conversations: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in conversations))
    return path


def made(file: Path, renderer: Renderer, folder: Path, *, skip_bad: bool = False, **more: Any) -> tuple[Prepared, Told]:
    """Prepare in this process, unless told otherwise; what was made, and what was said."""
    told = Told()
    task = Task(files=[file], renderer=renderer, folder=folder, skip_bad=skip_bad)
    return prepare(task, watch=told, **{"workers": 1, **more}), told


def content(folder: Path) -> dict[str, bytes]:
    """All files of a prepared folder."""
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


def process(renderer: Renderer, file: Path, folder: Path, *, workers: int) -> list[str]:
    """The command that prepares in small chunks and keeps every one of them."""
    place = file.parent
    (place / "script.py").write_text(SCRIPT)
    (place / "renderer").write_bytes(pickle.dumps(renderer))
    return [sys.executable, str(place / "script.py"), str(place / "renderer"), str(file), str(folder), str(workers)]


def start(command: list[str], *, held: int = 0) -> subprocess.Popen[str]:
    """A process group of its own, as a terminal would give it; ``held`` after so many chunks, until it is finished.

    Else it might have ended before who means to stop it gets to that.
    """
    root = str(Path(__file__).parents[2])
    with killing.hearing():
        return subprocess.Popen(
            [*command, str(held)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": root},
        )


def finished(running: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a process and what it said; one that hangs is killed with all that it started."""
    try:
        _, told = running.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        raise
    return running.returncode, told


def _text(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(1, 12)))
