"""The backend itself: its options, and how requests become batches and batches responses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeVar

import evalkit_tokenize
from evalkit.backend import Backend, Indexed
from evalkit.errors import ModelError
from evalkit.types import GenerateRequest, Generation, Likelihood, LikelihoodRequest

if TYPE_CHECKING:
    from evalkit.types import Finding
    from evalkit_hf.batches import Batches
    from evalkit_hf.model import Model

T = TypeVar("T")

#: Requests that are sorted by length together; also how many may be under way when a run is interrupted.
WINDOW = 512


class HF(Backend):
    """A checkpoint folder or hub id, run by Hugging Face transformers.

    ``dtype=auto`` is the checkpoint's own; ``device=auto`` an accelerator where there is one. ``device_map`` spreads
    the weights over devices as accelerate does. ``batch_size=auto`` begins with 32 on an accelerator and 8 elsewhere.
    """

    can = frozenset({"generate", "likelihood"})
    speed_options = frozenset({"batch_size", "device", "device_map"})

    def __init__(
        self,
        model: str,
        *,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        device: str = "auto",
        device_map: str | None = None,
        batch_size: int | Literal["auto"] = "auto",
        chat_template: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if batch_size != "auto" and batch_size < 1:
            raise ModelError(f"batch_size={batch_size} cannot work: give 1 or more, or auto.")
        self._source = model
        self._dtype = dtype
        self._device = device
        self._device_map = device_map
        self._batch_size = batch_size
        self._chat_template = chat_template
        self._revision = revision
        self._trust_remote_code = trust_remote_code
        self._tokenizer: evalkit_tokenize.CheckpointTokenizer | None = None
        self._model: Model | None = None
        self._batches: Batches | None = None

    def tokenizer(self) -> evalkit_tokenize.CheckpointTokenizer:
        """The checkpoint's tokenizer with the chat template to use; raises ModelError where there is none."""
        if self._tokenizer is None:
            from evalkit_hf.checkpoint import need_libraries

            need_libraries()
            self._tokenizer = evalkit_tokenize.load(
                self._source,
                chat_template=self._chat_template,
                revision=self._revision,
                trust_remote_code=self._trust_remote_code,
            )
        return self._tokenizer

    def fingerprint(self) -> Mapping[str, str]:
        """Hashes of config, tokenizer and weights (names, sizes, headers; for a hub id its commit), and the dtype."""
        tokenizer = self.tokenizer().fingerprint()
        return {**evalkit_tokenize.fingerprint(self._source, self._revision, self._dtype), "tokenizer": tokenizer}

    def context(self) -> int | None:
        """The positions that the checkpoint's config names; raises ModelError where it cannot be read."""
        limits = evalkit_tokenize.read_limits(
            self._source, revision=self._revision, trust_remote_code=self._trust_remote_code, own=None
        )
        return limits.context

    def findings(self, *, tokens: int) -> Sequence[Finding]:
        """What is wrong with template, weights and device, and whether memory is enough."""
        from evalkit_hf import examine

        wanted = examine.Wanted(
            source=self._source,
            device=self._device,
            device_map=self._device_map,
            batch_size=self._batch_size,
            revision=self._revision,
            trust_remote_code=self._trust_remote_code,
        )
        dtype = self.fingerprint()["dtype"]
        return tuple(examine.findings(wanted, dtype=dtype, tokenizer=self.tokenizer(), tokens=tokens))

    def open(self) -> None:
        """Load the weights; raises ModelError where they or something about them is missing."""
        from evalkit_hf import checkpoint
        from evalkit_hf.batches import Batches

        tokenizer = self.tokenizer()
        self._model = checkpoint.load(
            self._source,
            dtype=self._dtype,
            device=self._device,
            device_map=self._device_map,
            revision=self._revision,
            trust_remote_code=self._trust_remote_code,
            eos=tokenizer.eos_id,
        )
        automatic = 8 if self._model.device.type == "cpu" else 32
        self._batches = Batches(automatic if self._batch_size == "auto" else self._batch_size)

    def generate(self, requests: Iterable[Indexed[GenerateRequest]]) -> Iterator[Indexed[Generation]]:
        """Yield each generation when all its texts are complete."""
        from evalkit_hf.generate import generations

        model, batches = self._opened()
        for window in _windows(requests):
            yield from generations(window, model, self.tokenizer(), batches)

    def likelihood(self, requests: Iterable[Indexed[LikelihoodRequest]]) -> Iterator[Indexed[Likelihood]]:
        """Yield each likelihood when all its continuations are read."""
        from evalkit_hf.likelihood import likelihoods

        model, batches = self._opened()
        for window in _windows(requests):
            yield from likelihoods(window, model, self.tokenizer(), batches)

    def close(self) -> None:
        """Let go of the weights."""
        if self._model is not None:
            from evalkit_hf.batches import free_memory

            self._model = self._batches = None
            free_memory()

    def _opened(self) -> tuple[Model, Batches]:
        if self._model is None or self._batches is None:
            raise ModelError(f"The model {self._source} is not loaded: call open() first.")
        return self._model, self._batches


def _windows(requests: Iterable[Indexed[T]]) -> Iterator[list[Indexed[T]]]:
    waiting = iter(requests)
    while window := list(islice(waiting, WINDOW)):
        yield window
