"""A run on a cluster of two nodes, simulated on this machine, one of which is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.evalkit.small import echo
from tests.plugins.ray_runs import Acting, ran

from evalkit import ModelError

ray = pytest.importorskip("ray")
evalkit_ray = pytest.importorskip("evalkit_ray")

N = 400


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Any, Any]]:
    """A cluster of a head and another node, of one processor each; the cluster and the other node."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        before = signal.getsignal(signal.SIGTERM)
        cluster = Cluster(initialize_head=True, head_node_args=node)
        other = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster, other
        ray.shutdown()
        cluster.shutdown()
        signal.signal(signal.SIGTERM, before)


def test_a_run_that_loses_a_node_has_the_records_of_one_that_does_not(nodes: tuple[Any, Any], tmp_path: Path) -> None:
    cluster, other = nodes
    backend = evalkit_ray.Ray("dummy", workers=3, address="auto")
    with pytest.raises(ModelError, match="3 replicas of 1 CPU cannot be placed: the cluster has 2 CPUs on 2 nodes"):
        backend.open()
    backend.close()
    alone, _ = ran("dummy", {}, tmp_path / "alone", echo(n=N))
    lose = Acting(after=80, act=lambda: cluster.remove_node(other, allow_graceful=False))
    options = {"address": "auto", "delay": "0.01"}
    spread, positions = ran("ray:dummy", options, tmp_path / "spread", echo(n=N), lose)
    assert spread == alone
    assert sorted(positions) == list(range(N))
    assert any("2 replicas gave 400 answers; 1 restarted" in said for said in lose.said), lose.said
