"""The engines of one model: started together, ended together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from evalkit.errors import ModelError
from evalkit_vllm.causes import too_old
from evalkit_vllm.child import Child


class Engines:
    """Processes that hold the same model each."""

    def __init__(self, source: str, children: Sequence[Child]) -> None:
        self._source = source
        self.children: dict[Child, int] = {}
        #: The longest prompt and answer together that vLLM was started for.
        self.context = 0
        self._started = children

    def wait(self) -> None:
        """Have all load the model; raises ModelError with the cause where one cannot."""
        heard: SimpleQueue[tuple[Child, Mapping[str, Any] | None]] = SimpleQueue()
        for child in self._started:
            child.start(lambda child, message: heard.put((child, message)))
        while len(self.children) < len(self._started):
            child, message = heard.get()
            if message is None:
                raise self._cannot_load(child)
            if found := message.get("ready"):
                self.children[child] = int(found["max_num_seqs"])
                self.context = int(found["max_model_len"])

    def close(self) -> None:
        """End all processes, in good order where they have begun to work."""
        for child in self._started:
            child.close(at_once=child not in self.children)

    def _cannot_load(self, child: Child) -> ModelError:
        if child.failed and too_old(child.failed):
            return ModelError(
                f"vLLM {child.failed['version']} cannot tell how likely given tokens are (logprob_token_ids):"
                " install vLLM 0.32 or newer."
            )
        return ModelError(f"vLLM cannot load {self._source}: {child.cause()}.")
