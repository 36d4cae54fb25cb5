"""The backend itself: its options, and how it starts engines and asks them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import evalkit_tokenize
from evalkit.backend import Backend, Indexed
from evalkit.errors import ModelError
from evalkit.types import GenerateRequest, Generation, Likelihood, LikelihoodRequest
from evalkit_vllm import generate, likelihood, settings
from evalkit_vllm.child import Child
from evalkit_vllm.engines import Engines
from evalkit_vllm.flow import Flow, Tally

if TYPE_CHECKING:
    from evalkit.types import Finding


class VLLM(Backend):
    """A checkpoint folder or hub id, run by vLLM in processes of its own.

    ``python`` names the interpreter of an environment that has vLLM; default is evalkit's own. ``dtype=auto`` is the
    checkpoint's own. ``data_parallel_size`` is the number of engines, each with a copy of the model. ``batch_size`` is
    another name for ``max_num_seqs``. ``engine_args`` is a JSON object of further arguments of vLLM's.
    """

    can = frozenset({"generate", "likelihood"})
    streams = True
    speed_options = frozenset(
        {
            "batch_size",
            "block_size",
            "data_parallel_size",
            "enable_prefix_caching",
            "enforce_eager",
            "gpu_memory_utilization",
            "kv_cache_memory_bytes",
            "max_num_batched_tokens",
            "max_num_seqs",
            "pipeline_parallel_size",
            "python",
            "tensor_parallel_size",
        }
    )

    def __init__(
        self,
        model: str,
        *,
        python: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        quantization: str | None = None,
        kv_cache_dtype: str | None = None,
        max_model_len: int | None = None,
        tensor_parallel_size: int = 1,
        pipeline_parallel_size: int = 1,
        data_parallel_size: int = 1,
        gpu_memory_utilization: float | None = None,
        kv_cache_memory_bytes: int | None = None,
        max_num_seqs: int | None = None,
        max_num_batched_tokens: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        block_size: int | None = None,
        enable_prefix_caching: bool = True,
        enforce_eager: bool = False,
        chat_template: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        engine_args: str = "",
    ) -> None:
        if batch_size != "auto":
            if max_num_seqs not in (None, batch_size):
                raise ModelError("batch_size and max_num_seqs are the same thing: give one of them.")
            max_num_seqs = batch_size
        settings.require_positive(
            tensor_parallel_size=tensor_parallel_size,
            pipeline_parallel_size=pipeline_parallel_size,
            data_parallel_size=data_parallel_size,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
        )
        self._source = model
        self._python = python
        self._dtype = dtype
        self._chat_template = chat_template
        self._revision = revision
        self._trust_remote_code = trust_remote_code
        self._replicas = data_parallel_size
        self._devices = tensor_parallel_size * pipeline_parallel_size
        self._eager = enforce_eager
        self._named: dict[str, Any] = {
            "quantization": quantization,
            "kv_cache_dtype": kv_cache_dtype,
            "max_model_len": max_model_len,
            "tensor_parallel_size": tensor_parallel_size,
            "pipeline_parallel_size": pipeline_parallel_size,
            "gpu_memory_utilization": gpu_memory_utilization,
            "kv_cache_memory_bytes": kv_cache_memory_bytes,
            "max_num_seqs": max_num_seqs,
            "max_num_batched_tokens": max_num_batched_tokens,
            "block_size": block_size,
            "enable_prefix_caching": enable_prefix_caching,
            "enforce_eager": enforce_eager,
            "revision": revision,
            "tokenizer_revision": revision,
            "trust_remote_code": trust_remote_code,
        }
        self._others = settings.read_arguments(engine_args)
        self._tokenizer: evalkit_tokenize.CheckpointTokenizer | None = None
        self._limits: evalkit_tokenize.Limits | None = None
        self._engines: Engines | None = None
        self._tally = Tally()

    def tokenizer(self) -> evalkit_tokenize.CheckpointTokenizer:
        """The checkpoint's tokenizer with the chat template to use; raises ModelError where there is none."""
        if self._tokenizer is None:
            self._tokenizer = evalkit_tokenize.load(
                self._source,
                chat_template=self._chat_template,
                revision=self._revision,
                trust_remote_code=self._trust_remote_code,
            )
        return self._tokenizer

    def context(self) -> int | None:
        """The longest prompt and answer together, in tokens: the checkpoint's, or less where vLLM is told so."""
        return self._read_limits().context

    def fingerprint(self) -> Mapping[str, str]:
        """The same marks as those of the backend hf: config, tokenizer, weights or commit, and the dtype."""
        tokenizer = self.tokenizer().fingerprint()
        return {**evalkit_tokenize.fingerprint(self._source, self._revision, self._dtype), "tokenizer": tokenizer}

    def findings(self, *, tokens: int) -> Sequence[Finding]:
        """What is wrong with the template, the weights and the interpreter that is to have vLLM."""
        from evalkit_tokenize import examine

        folder = Path(self._source)
        found = [*examine.template_findings(self.tokenizer()), *settings.findings(self._python)]
        return [*found, *(examine.weight_findings(folder) if folder.is_dir() else ())]

    def open(self) -> None:
        """Start the engines; raises ModelError with the cause where the model cannot be loaded."""
        if self._engines is not None:
            return
        limits = self._read_limits()
        python = settings.interpreter(self._python)
        # vLLM's own `auto` turns float32 into half of it.
        named = {**self._named, "dtype": self.fingerprint()["dtype"]}
        arguments = settings.arguments(self._source, named, self._others)
        environments = settings.environments(
            self._source, replicas=self._replicas, devices=self._devices, eager=self._eager
        )
        self._engines = Engines(self._source, [Child(python, env, arguments) for env in environments])
        try:
            self._engines.wait()
        except BaseException:
            self.close()
            raise
        context = min(limits.context or self._engines.context, self._engines.context)
        self._limits = evalkit_tokenize.Limits(eos=limits.eos, context=context)

    def generate(self, requests: Iterable[Indexed[GenerateRequest]]) -> Iterator[Indexed[Generation]]:
        """Yield each generation when all its texts are written."""
        engines, limits = self._opened()
        return Flow(engines.children, generate.plan(self.tokenizer(), limits), self._tally).answers(requests)

    def likelihood(self, requests: Iterable[Indexed[LikelihoodRequest]]) -> Iterator[Indexed[Likelihood]]:
        """Yield each likelihood when all its continuations are read."""
        engines, limits = self._opened()
        return Flow(engines.children, likelihood.plan(self.tokenizer(), limits), self._tally).answers(requests)

    def account(self) -> str:
        """What was asked, and how much of it the prefix cache held."""
        return self._tally.line()

    def close(self) -> None:
        """End the engines."""
        if self._engines is not None:
            self._engines.close()
            self._engines = None

    def _opened(self) -> tuple[Engines, evalkit_tokenize.Limits]:
        if self._engines is None or self._limits is None:
            raise ModelError(f"The model {self._source} is not loaded: call open() first.")
        return self._engines, self._limits

    def _read_limits(self) -> evalkit_tokenize.Limits:
        if self._limits is None:
            own = self.tokenizer().eos_id
            found = evalkit_tokenize.read_limits(
                self._source, revision=self._revision, trust_remote_code=self._trust_remote_code, own=own
            )
            lengths = [one for one in (found.context, self._named["max_model_len"]) if one is not None]
            self._limits = evalkit_tokenize.Limits(eos=found.eos, context=min(lengths, default=None))
        return self._limits
