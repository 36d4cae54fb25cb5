"""The program that holds vLLM: it imports vLLM and the standard library only, for it may run where no evalkit is.

``python engine.py IN OUT`` with two open descriptors. Each line on them is a JSON object. The first line in has the
``arguments`` of ``vllm.LLM``; the answer is ``{"ready": {...}}`` or ``{"failed": {...}}``. Then lines come in that ask

    {"id": 7, "ids": [1, 2], "settings": {...}}      settings: what SamplingParams takes
    {"drop": [7, 8]}                                 give these up
    {"end": true}                                    stop in good order

and for each ``id`` one line goes out, as soon as it is known:

    {"id": 7, "texts": [[[5, 6], "stop"]], "cached": 128}    ids and finish reason of each text; prompt ids found cached
    {"id": 7, "logprobs": [-0.5, -1.5], "cached": 128}       in the order of ``logprob_token_ids``
    {"id": 7, "error": "..."}                                this one cannot be asked

When the lines in end without ``end``, whoever asked is dead, and so is this process a moment later.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

#: Seconds between two requests that are to begin in one batch, and how long an idle engine waits for such in all where
#: they do not fill a step before; the first would otherwise be computed alone, and others lag behind it step by step.
CLOSE_BEHIND, AT_MOST = 0.05, 0.2


class Lines:
    """The lines in, read by a thread from the first moment on, and the lines out."""

    def __init__(self, come: int, go: int) -> None:
        for descriptor in (come, go):
            # What vLLM starts must not hold them: their end is how each side learns of the other's death.
            os.set_inheritable(descriptor, False)
        # vLLM prints; nothing that it prints may get between the lines.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        self._out: BinaryIO = os.fdopen(go, "wb", buffering=0)
        self.lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(os.fdopen(come, "rb"),), daemon=True).start()

    def _read(self, stream: BinaryIO) -> None:
        for line in stream:
            message = json.loads(line)
            self.lines.put(message)
            if "end" in message:
                return
        # Workers share the group; nothing of them is to outlive the process that asked.
        os.killpg(0, signal.SIGKILL)

    def send(self, message: dict[str, Any]) -> None:
        """Write one line."""
        left = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        while left:
            left = left[self._out.write(left) :]


class Engine:
    """A vLLM engine whose batch is fed while it works."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        from vllm import LLM, SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if "logprob_token_ids" not in SamplingParams.__annotations__:
            raise OldVersionError
        self._engine = LLM(**_on_cpu(arguments)).llm_engine
        self._make_params, self._final = SamplingParams, RequestOutputKind.FINAL_ONLY
        #: Request -> the ids whose log-probabilities are wanted; None where texts are.
        self._open: dict[str, list[int] | None] = {}

    def ready(self) -> dict[str, Any]:
        """What the asking side must know."""
        import vllm

        config = self._engine.vllm_config
        return {
            "version": vllm.__version__,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "max_model_len": config.model_config.max_model_len,
        }

    @property
    def step_tokens(self) -> int:
        """The most prompt tokens that one step computes."""
        return int(self._engine.vllm_config.scheduler_config.max_num_batched_tokens)

    @property
    def busy(self) -> bool:
        """Whether anything is left to work on."""
        return bool(self._engine.has_unfinished_requests())

    def add(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Put a request into the batch; the line to send where that cannot be done."""
        name, settings = str(message["id"]), message["settings"]
        try:
            params = self._make_params(**settings, output_kind=self._final)
            self._engine.add_request(name, {"prompt_token_ids": message["ids"]}, params)
        except Exception as error:  # vLLM checks a request with errors of many kinds
            return {"id": message["id"], "error": " ".join(str(error).split())}
        self._open[name] = settings.get("logprob_token_ids")
        return None

    def drop(self, ids: list[int]) -> None:
        """Give requests up."""
        names = [name for name in map(str, ids) if name in self._open]
        for name in names:
            del self._open[name]
        self._engine.abort_request(names)

    def step(self) -> list[dict[str, Any]]:
        """Compute a step; the lines of what it completed."""
        lines = []
        for output in self._engine.step():
            if output.finished and output.request_id in self._open:
                lines.append(_line(output, self._open.pop(output.request_id)))
        return lines

    def stop(self) -> None:
        """End what the engine has started."""
        self._engine.engine_core.shutdown()


class OldVersionError(Exception):
    """vLLM is too old to tell the log-probabilities of given ids."""


def _on_cpu(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments, on a CPU with what suits prompts that share their beginnings and a machine that others use."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return arguments
    # vLLM's 128 would leave up to 127 tokens of every shared beginning to be computed again.
    suited: dict[str, Any] = {"block_size": 32}
    if "gpu_memory_utilization" not in arguments and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        # vLLM's own choice is nearly all memory, and it does not start where another program has some of it.
        suited["kv_cache_memory_bytes"] = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    return {**suited, **arguments}


def _line(output: Any, wanted: list[int] | None) -> dict[str, Any]:
    line: dict[str, Any] = {"id": int(output.request_id), "cached": output.num_cached_tokens or 0}
    if wanted is None:
        line["texts"] = [[list(one.token_ids), one.finish_reason] for one in output.outputs]
    else:
        (first,) = output.outputs[0].logprobs
        line["logprobs"] = [first[one].logprob for one in wanted]
    return line


def work(engine: Engine, lines: Lines) -> None:
    """Answer what comes in until the end is said."""
    while True:
        for message in news(lines.lines, idle=not engine.busy, full=engine.step_tokens):
            if "end" in message:
                return
            if "drop" in message:
                engine.drop(message["drop"])
            elif problem := engine.add(message):
                lines.send(problem)
        if engine.busy:
            for line in engine.step():
                lines.send(line)


def news(lines: queue.SimpleQueue[dict[str, Any]], *, idle: bool, full: int) -> Iterator[dict[str, Any]]:
    """What has come since the last step; with nothing to compute, wait for it and for what comes close behind it.

    ``full`` are the prompt tokens that one step takes: whatever comes behind those is for the next.
    """
    tokens = 0
    if idle:
        tokens = len((first := lines.get()).get("ids", ()))
        yield first
    end = time.monotonic() + AT_MOST
    try:
        while True:
            wait = min(CLOSE_BEHIND, end - time.monotonic()) if idle and tokens < full else 0.0
            message = lines.get(timeout=max(0.0, wait))
            tokens += len(message.get("ids", ()))
            yield message
    except queue.Empty:
        return


def main(come: int, go: int) -> None:
    """Load the model and work."""
    lines = Lines(come, go)
    try:
        engine = Engine(lines.lines.get()["arguments"])
        lines.send({"ready": engine.ready()})
        work(engine, lines)
    except Exception as error:  # whatever vLLM, torch and drivers raise: the other side makes a sentence of it
        text = str(error)
        version = getattr(sys.modules.get("vllm"), "__version__", "")
        lines.send({"failed": {"kind": type(error).__name__, "text": text[-4000:], "version": version}})
        raise
    engine.stop()
    # Nothing is left to clean up, and torch takes seconds to do so.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
