"""The cluster: joined or started, asked how much room it has, and left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.errors import ModelError
from evalkit_ray.own import ENDING, LIMIT, Head, join, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one replica takes of a node."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return _words({"CPU": self.cpus, "GPU": self.gpus})

    def options(self) -> dict[str, Any]:
        """The same in Ray's words."""
        # Spread: two replicas on one node share its memory bandwidth while another node idles.
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "scheduling_strategy": "SPREAD"}

    def fits(self, resources: Mapping[str, float]) -> int:
        """How many replicas find room on a node."""
        needs = (("CPU", self.cpus), ("GPU", self.gpus))
        return min(int(resources.get(name, 0) / need + 1e-9) for name, need in needs if need > 0)


class Cluster:
    """A connection to a Ray cluster; ``address`` None starts one on this machine that ends with the connection.

    ``cpus`` is how many processors that one hands out, if not those that the machine has. Raises ModelError where there
    is no cluster to join or none can be started, or ``limit`` seconds pass over either.
    """

    def __init__(self, address: str | None, *, cpus: int | None = None, limit: float = LIMIT) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise ModelError(f"The backend ray needs Ray: pip install evalkit-ray ({error}).") from error
        self._head: Head | None = None
        #: Not ours to end where the calling program has made it.
        self._is_ours = not ray.is_initialized()
        if not self._is_ours:
            return
        if address is not None:
            _join(address, limit)
        else:
            self._head = Head(cpus=cpus, limit=limit)
            try:
                _join_own(self._head, limit)
            except BaseException:
                self._head.close()
                raise
        _silence()

    def nodes(self) -> list[Mapping[str, float]]:
        """The resources of each node that is alive."""
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def has_gpus(self) -> bool:
        """Whether any node has a GPU."""
        return any(node.get("GPU", 0) for node in self.nodes())

    def room(self, needs: Needs) -> int:
        """How many replicas the cluster could hold if it had nothing else to do."""
        return sum(needs.fits(node) for node in self.nodes())

    def require_room(self, workers: int, needs: Needs) -> None:
        """Raise ModelError where so many replicas can never find room."""
        if (most := self.room(needs)) >= workers:
            return
        remedy = f"give workers={most}" if most else "no node can hold one: give less by num_cpus and num_gpus"
        raise ModelError(
            f"{_counted(workers, 'replica')} of {needs} cannot be placed: the cluster has {self.describe()}; {remedy}, "
            "or add nodes."
        )

    def describe(self) -> str:
        """Its nodes and what they have together."""
        nodes = self.nodes()
        total = {name: sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")}
        return f"{_words(total)} on {_counted(len(nodes), 'node')}"

    def close(self) -> None:
        """Leave the cluster; one of our own ends."""
        import ray

        if self._is_ours:
            with contextlib.suppress(TimeoutError):  # what is left of it ends with this process
                within(ENDING, ray.shutdown)
        if self._head is not None:
            self._head.close()
            self._head = None


def _join(address: str, limit: float) -> None:
    import ray

    try:
        within(limit, lambda: ray.init(address=address, log_to_driver=False, logging_level="CRITICAL"))
    except Exception as error:  # Ray raises errors of gRPC, of sockets and of its own
        raise ModelError(
            f"There is no Ray cluster to join at address={address} ({_first(error, limit)}): start one with "
            "`ray start --head`, or leave address out to use this machine alone."
        ) from error


def _join_own(head: Head, limit: float) -> None:
    try:
        within(limit, lambda: join(head.address, head.mode))
    except Exception as error:  # the same kinds
        raise ModelError(
            f"Ray was started on this machine, but cannot be joined at {head.address}: {_first(error, limit)}."
        ) from error


def _first(error: Exception, limit: float) -> str:
    text = f"no answer within {limit:g} s" if isinstance(error, TimeoutError) else " ".join(str(error).split())
    return text[:300].rstrip(".")


def _silence() -> None:
    """Keep Ray's paragraphs on workers that died from standard output, where a report in JSON may be written."""
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def _words(amounts: Mapping[str, float]) -> str:
    return " and ".join(_counted(amount, name) for name, amount in amounts.items() if amount) or "nothing"


def _counted(amount: float, name: str) -> str:
    return f"{amount:g} {name}{'' if amount == 1 else 's'}"
