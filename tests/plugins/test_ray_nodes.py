"""A run on a cluster of two nodes, simulated on this machine, one of which is lost."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.evalkit.small import echo
from tests.plugins.ray_clusters import started
from tests.plugins.ray_runs import PATIENCE, Acting, pids, put_fragile, ran

from evalkit import ModelError

ray = pytest.importorskip("ray")
evalkit_ray = pytest.importorskip("evalkit_ray")

N = 400


class Nodes:
    """The two nodes, kept by a process of their own; raises ModelError where they are not there in two minutes."""

    def __init__(self, log: Path) -> None:
        program = [sys.executable, str(Path(__file__).with_name("ray_two_nodes.py"))]
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        try:
            self.address = self._line(120)
        except TimeoutError as error:
            self.close()
            raise ModelError(f"Two nodes do not start: {log.read_text()[-1000:]}") from error

    def lose(self) -> None:
        """Kill the other node."""
        assert self._process.stdin is not None
        print("lose", file=self._process.stdin, flush=True)
        assert self._line(120) == "lost"

    def close(self) -> None:
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _line(self, limit: float) -> str:
        assert self._process.stdout is not None
        found = select.select([self._process.stdout], [], [], limit)[0]
        if line := self._process.stdout.readline().strip() if found else "":
            return line
        raise TimeoutError


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    log = tmp_path_factory.mktemp("nodes") / "log"
    with pytest.MonkeyPatch.context() as patch:
        put_fragile(tmp_path_factory.mktemp("site"), patch)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = started(lambda: Nodes(log))
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        ray.shutdown()
        made.close()


def test_a_run_that_loses_a_node_has_the_records_of_one_that_does_not(nodes: Nodes, tmp_path: Path) -> None:
    backend = evalkit_ray.Ray("dummy", workers=3, address="auto")
    with pytest.raises(ModelError, match="3 replicas of 1 CPU cannot be placed: the cluster has 2 CPUs on 2 nodes"):
        backend.open()
    backend.close()
    benchmark, model, gate = echo(n=N), f"fragile:{tmp_path / 'pids'}", tmp_path / "gate"
    (tmp_path / "pids").mkdir()
    alone, _ = ran(model, {}, tmp_path / "alone", benchmark)

    def act() -> None:
        replicas = [os.pidfd_open(pid) for pid in pids(tmp_path / "pids")[1:]]
        nodes.lose()
        # What works on a node ends a moment after it; only then may the others go on.
        assert select.select(replicas, [], [], 120)[0]
        gate.touch()
        for replica in replicas:
            os.close(replica)

    lose = Acting(after=60, act=act)
    options = {"address": "auto", "placement_timeout": str(PATIENCE), "gate": str(gate)}
    spread, positions = ran(f"ray:{model}", options, tmp_path / "spread", benchmark, lose)
    assert spread == alone
    assert sorted(positions) == list(range(N))
    assert any("2 replicas gave 400 answers; 1 restarted" in said for said in lose.said), lose.said
