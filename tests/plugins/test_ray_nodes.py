"""A run on a cluster of two nodes, simulated on this machine, one of which is lost."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.evalkit.small import echo
from tests.plugins.ray_clusters import started
from tests.plugins.ray_runs import Acting, ran

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
        assert self._line(60) == "lost"

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
    alone, _ = ran("dummy", {}, tmp_path / "alone", echo(n=N))
    lose = Acting(after=80, act=nodes.lose)
    options = {"address": "auto", "delay": "0.03"}
    spread, positions = ran("ray:dummy", options, tmp_path / "spread", echo(n=N), lose)
    assert spread == alone
    assert sorted(positions) == list(range(N))
    assert any("2 replicas gave 400 answers; 1 restarted" in said for said in lose.said), lose.said
