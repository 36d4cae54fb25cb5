"""The backend itself: its own options, and what it leaves to the backend that it wraps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from evalkit import models, options
from evalkit.backend import Backend, Indexed, Tokenizer
from evalkit.errors import ModelError, UnknownName
from evalkit.plugins import Plugins
from evalkit.types import GenerateRequest, Generation, Likelihood, LikelihoodRequest

if TYPE_CHECKING:
    from evalkit.types import Finding, Request
    from evalkit_ray.cluster import Cluster
    from evalkit_ray.crew import Crew

#: How many characters count as a token where there is no tokenizer.
CHARACTERS = 4


class Ray(Backend):
    """Replicas of another backend, asked for as ray:hf:ID, on the nodes of a Ray cluster.

    ``workers=auto`` is one for each set of GPUs that the cluster has, without GPUs one for each node. ``address=auto``
    joins the cluster of this machine, another address that one; without it, this machine is the cluster.
    ``num_gpus=auto`` is what the wrapped backend's parallel sizes multiply to where there are GPUs. A replica has at
    most ``tokens`` to work on at a time. Every other option is the wrapped backend's.
    """

    can = frozenset({"generate", "likelihood"})

    def __init__(
        self,
        model: str,
        *,
        workers: int | Literal["auto"] = "auto",
        address: str | None = None,
        num_cpus: float = 1.0,
        num_gpus: float | Literal["auto"] = "auto",
        tokens: int = 262_144,
        placement_timeout: float = 60.0,
        **wrapped: str,
    ) -> None:
        if not model:
            raise ModelError("Say what the replicas are to run: ray:hf:ID_OR_PATH, ray:dummy.")
        if workers != "auto" and workers < 1:
            raise ModelError(f"workers={workers} cannot work: give 1 or more, or auto.")
        if not num_cpus > 0 or (num_gpus != "auto" and not num_gpus >= 0) or tokens < 1:
            raise ModelError("num_cpus and tokens must be above 0, num_gpus 0 or more.")
        plugins = Plugins()
        self._require_known(plugins, model, wrapped)
        self._asked, self._texts = model, wrapped
        self._model = self.inner = models.make(plugins, model, wrapped)
        if self._model.backend.inner is not None:
            raise ModelError("Replicas of replicas cannot be run: write ray: once.")
        self._workers, self._address = workers, address
        self._num_cpus, self._num_gpus = num_cpus, num_gpus
        self._budget, self._patience = tokens, placement_timeout
        self._cluster: Cluster | None = None
        self._crew: Crew | None = None

    @staticmethod
    def _require_known(plugins: Plugins, model: str, texts: Mapping[str, str]) -> None:
        """A misspelt option may be one of ours or of the wrapped backend's."""
        name = models.split(plugins, model)[0]
        wrapped = cast("Any", plugins.backend(name)).__init__
        if options.takes_any(wrapped):
            return
        known = {*options.known(Ray.__init__), *options.known(wrapped)}
        for text in texts:
            if text not in known:
                raise UnknownName(f"option of the backend 'ray' around {name!r}", text, known, listed="They have")

    @property
    def _backend(self) -> Backend:
        """The wrapped backend, which is never opened in this process."""
        return self._model.backend

    def tokenizer(self) -> Tokenizer | None:
        """The wrapped backend's tokenizer."""
        return self._backend.tokenizer()

    @property
    def has_chat_template(self) -> bool:
        """Whether the wrapped backend can render a chat."""
        return self._backend.has_chat_template

    def answers(self, kind: str) -> bool:
        """Whether the wrapped backend answers this kind of request."""
        return self._backend.answers(kind)

    def fingerprint(self) -> Mapping[str, str]:
        """The wrapped backend's."""
        return self._backend.fingerprint()

    def context(self) -> int | None:
        """The wrapped backend's."""
        return self._backend.context()

    def findings(self, *, tokens: int) -> Sequence[Finding]:
        """What the wrapped backend finds on this machine, which need not be one that the replicas run on."""
        return self._backend.findings(tokens=tokens)

    def open(self) -> None:
        """Join or start the cluster and have the replicas load; raises ModelError where they find no room or fail."""
        from evalkit_ray.cluster import Cluster, Needs
        from evalkit_ray.crew import Crew, Plan

        if self._crew is not None:
            return
        self._cluster = cluster = self._cluster or Cluster(self._address)
        gpus = self._num_gpus
        if gpus == "auto":
            gpus = float(self._parallel()) if cluster.has_gpus() else 0.0
        needs = Needs(cpus=self._num_cpus, gpus=gpus)
        most = cluster.room(needs) if gpus else len(cluster.nodes())
        workers = max(1, most) if self._workers == "auto" else self._workers
        cluster.require_room(workers, needs)
        plan = Plan(
            asked=self._asked,
            texts=self._texts,
            workers=workers,
            needs=needs,
            budget=self._budget,
            patience=self._patience,
        )
        crew = Crew(cluster, plan)
        try:
            crew.open()
        except BaseException:
            crew.close()
            raise
        self._crew = crew

    def generate(self, requests: Iterable[Indexed[GenerateRequest]]) -> Iterator[Indexed[Generation]]:
        """Yield each generation as it comes from a replica."""
        yield from cast("Iterator[Indexed[Generation]]", self._opened().answers(requests, self._cost))

    def likelihood(self, requests: Iterable[Indexed[LikelihoodRequest]]) -> Iterator[Indexed[Likelihood]]:
        """Yield each likelihood as it comes from a replica."""
        yield from cast("Iterator[Indexed[Likelihood]]", self._opened().answers(requests, self._cost))

    def account(self) -> str:
        """Replicas and answers, what was lost and asked again, and each replica's own account."""
        if self._crew is None:
            return ""
        tally = self._crew.tally
        own = (
            f"ray: {self._crew.size} replicas gave {tally.answered:,} answers; {tally.restarts} restarted, "
            f"{tally.again:,} requests asked again of another, {tally.copies:,} copies for idle ones"
        )
        return "; ".join(one.rstrip(".") for one in (own, *self._crew.accounts())) + "."

    def remarks(self) -> Sequence[str]:
        """What the replicas' backends remarked."""
        return tuple(self._crew.tally.remarks) if self._crew else ()

    def close(self) -> None:
        """End the replicas, and the cluster where it is ours."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
        self._backend.close()

    def _opened(self) -> Crew:
        if self._crew is None:
            raise ModelError(f"The replicas of {self._model.label} are not started: call open() first.")
        return self._crew

    def _parallel(self) -> int:
        """The GPUs that one replica spreads over, by the names that engines have for it."""
        names = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
        sizes = (self._model.options.get(name, 1) for name in names)
        return math.prod(size for size in sizes if isinstance(size, int))

    def _cost(self, request: Request) -> int:
        """The tokens of a prompt and the longest answer to it."""
        tokenizer = self._backend.tokenizer()

        def count(text: str) -> int:
            return len(text) // CHARACTERS if tokenizer is None else tokenizer.count(text)

        if isinstance(request, GenerateRequest):
            return count(request.prompt) + request.n * request.max_tokens
        return count(request.prompt) + sum(map(count, request.continuations))
