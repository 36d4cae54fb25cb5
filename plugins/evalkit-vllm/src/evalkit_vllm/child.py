"""An engine process as evalkit sees it: lines to it, lines from it, and what is said of its death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from evalkit_vllm.causes import cause

#: The program of the process; it is run as a file, since the package need not be there.
PROGRAM = Path(__file__).with_name("engine.py")
#: Lines of its log that are kept for the case that it dies.
KEPT = 200
#: Seconds that it gets to end what it has started itself.
PATIENCE = 15.0

#: Is told each message, and None when the process has ended.
Taker: TypeAlias = "Callable[[Child, Mapping[str, Any] | None], None]"


class Child:
    """An engine in a process and session of its own; whoever takes its lines is set as ``taker``.

    The taker is called in a thread of the child's with each message, and with None once when the process has ended.
    """

    def __init__(self, python: Sequence[str], env: Mapping[str, str], arguments: Mapping[str, Any]) -> None:
        come, self._requests = os.pipe()
        answers, go = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*python, str(PROGRAM), str(come), str(go)],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(come, go),
                # Ctrl-C is for evalkit, which then ends the engine in good order.
                start_new_session=True,
            )
        except BaseException:
            for descriptor in (self._requests, answers):
                os.close(descriptor)
            raise
        finally:
            os.close(come)
            os.close(go)
        self.taker: Taker = _nobody
        self._sending = threading.Lock()
        self._failed: Mapping[str, str] | None = None
        self._log: deque[str] = deque(maxlen=KEPT)
        self._arguments = arguments
        self._answers = answers
        self._ended = threading.Event()

    def start(self, taker: Taker) -> None:
        """Have the model loaded; the taker hears ``ready``."""
        self.taker = taker
        readers = [threading.Thread(target=one, daemon=True) for one in (self._read, self._read_log)]
        for reader in readers:
            reader.start()
        threading.Thread(target=self._watch, args=(readers,), daemon=True).start()
        self.send({"arguments": self._arguments})

    def send(self, message: Mapping[str, Any]) -> None:
        """Write a line; a process that is dead takes none, and its death is told to the taker."""
        left = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        with self._sending, suppress(BrokenPipeError):
            while left and self._requests >= 0:
                left = left[os.write(self._requests, left) :]

    @property
    def dead(self) -> bool:
        """Whether the process has ended."""
        return self._ended.is_set()

    @property
    def failed(self) -> Mapping[str, str] | None:
        """What the program said of its own failure."""
        return self._failed

    def cause(self) -> str:
        """Why it ended, for a sentence."""
        return cause(self._failed, list(self._log), self._process.returncode)

    def close(self, *, at_once: bool = False) -> None:
        """End the process and all that it has started."""
        self.taker = _nobody
        if not at_once:
            self.send({"end": True})
        with self._sending:
            if self._requests >= 0:
                os.close(self._requests)
                self._requests = -1
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if at_once else PATIENCE)
        self._kill()
        self._process.wait()
        self._ended.wait(PATIENCE)

    def _kill(self) -> None:
        # The group, for its workers; they may outlive it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self) -> None:
        with os.fdopen(self._answers, "rb") as stream:
            try:
                for line in stream:
                    message = json.loads(line)
                    if "failed" in message:
                        self._failed = message["failed"]
                    else:
                        self.taker(self, message)
            except ValueError:  # half a line is the last word of a process that was killed
                return
            except BaseException:  # a defect of the taker's must not leave everybody waiting
                self._kill()
                raise

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self._log.append(line.decode(errors="replace").rstrip())

    def _watch(self, readers: Sequence[threading.Thread]) -> None:
        self._process.wait()
        self._kill()
        for reader in readers:
            reader.join(PATIENCE)
        self._ended.set()
        self.taker(self, None)


def _nobody(child: Child, message: Mapping[str, Any] | None) -> None:
    """Whom messages go to that nobody waits for."""
