"""Checkpoints are whole or not there, whatever rank wrote which stretch, and however full the disk is."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import DataError, Interrupted
from trainer.training import checkpoint
from trainer.training.checkpoint import State

torch = pytest.importorskip("torch")
fragments = pytest.importorskip("trainer.training.fragments")

pytestmark = pytest.mark.torch


class Ranks:
    """A fake engine: one rank of several that take turns, and keep a parameter of 10 values in the stretches told."""

    def __init__(self, stretches: Sequence[tuple[int, int]], rank: int = 0, world: int = 1, first: float = 0.0) -> None:
        self.rank, self.world = rank, world
        self.tensors = {
            place: tuple(first + torch.arange(*place) + kind for kind in (0.0, 0.25, 0.5)) for place in stretches
        }
        self.updates = 0

    def fragments(self) -> Iterator[Any]:
        for (start, _), tensors in self.tensors.items():
            yield fragments.Fragment(name="weight", start=start, tensors=tensors)

    def restored(self, updates: int) -> None:
        self.updates = updates

    def sum(self, values: Sequence[float]) -> list[float]:
        return [float(value) for value in values]

    def barrier(self) -> None:
        pass


def state(step: int) -> State:
    return State(step=step, updates=step, learnt={}, data="key", world=1, layout={})


def save(out: Path, *steps: int, keep: int = 9) -> None:
    for step in steps:
        checkpoint.save(Ranks([(0, 10)], first=step), out, state(step), keep=keep)  # type: ignore[arg-type]


def names(out: Path) -> list[str]:
    return sorted(one.name for one in (out / "checkpoints").iterdir())


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    save(tmp_path, 3)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.state, found.problem()) == (state(3), "")
    empty = Ranks([(0, 10)], first=99)
    checkpoint.load(empty, found)  # type: ignore[arg-type]
    assert empty.updates == 3
    for kind, tensor in zip((0.0, 0.25, 0.5), empty.tensors[0, 10], strict=True):
        assert tensor.tolist() == [3 + value + kind for value in range(10)]


def test_stretches_that_some_ranks_wrote_are_read_by_others(tmp_path: Path) -> None:
    paths = []
    for rank, stretch in enumerate([(0, 4), (4, 5), (5, 10)]):
        paths.append(tmp_path / f"{rank}.safetensors")
        fragments.write(Ranks([stretch]).fragments(), paths[-1])
    for stretches in [[(0, 10)], [(3, 6)], [(0, 1), (1, 9)]]:
        reader = Ranks(stretches, first=99)
        fragments.read(reader.fragments(), paths)
        for (start, stop), tensors in reader.tensors.items():
            assert [tensor.tolist() for tensor in tensors] == [
                [value + kind for value in range(start, stop)] for kind in (0.0, 0.25, 0.5)
            ]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    fragments.write(Ranks([(0, 7)]).fragments(), tmp_path / "file")
    with pytest.raises(DataError, match=r"lacks 3 of 10 values of 'weight': it is of another model\."):
        fragments.read(Ranks([(0, 10)]).fragments(), [tmp_path / "file"])


def test_what_is_written_are_safetensors_files(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    size, _ = fragments.write(Ranks([(2, 5)]).fragments(), tmp_path / "file")
    assert size == (tmp_path / "file").stat().st_size
    found = load_file(tmp_path / "file")
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "weight:2:weight": [2, 3, 4],
        "exp_avg:2:weight": [2.25, 3.25, 4.25],
        "exp_avg_sq:2:weight": [2.5, 3.5, 4.5],
    }


def test_the_newest_few_are_kept_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path, 2, 4)
    for left in ("step-000003.part", "step-000001.gone"):
        (tmp_path / "checkpoints" / left).mkdir()
    save(tmp_path, 1000000, keep=2)
    assert names(tmp_path) == ["step-000004", "step-1000000"]
    newest = checkpoint.newest(tmp_path)
    assert newest is not None
    assert newest.state.step == 1000000


def test_without_checkpoints_there_is_no_newest(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    (tmp_path / "checkpoints" / "step-000001.part").mkdir(parents=True)
    assert checkpoint.newest(tmp_path) is None


@pytest.mark.parametrize("damage", ["shorter", "changed", "gone"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 3)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    file = found.folder / "rank-00000.safetensors"
    content = file.read_bytes()
    said = {
        "shorter": f"{file} has {len(content) - 1:,} bytes and not the {len(content):,} that were written",
        "changed": f"{file} is not what was written there",
        "gone": f"{file} has 0 bytes and not the {len(content):,} that were written",
    }
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-1] + (b"" if damage == "shorter" else b"\x01"))
    assert found.problem() == said[damage]
    assert found.problem(rank=1, world=2) == ""


def test_a_manifest_that_cannot_be_read_names_the_folder_to_delete(tmp_path: Path) -> None:
    save(tmp_path, 3)
    file = tmp_path / "checkpoints" / "step-000003" / "checkpoint.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"format": 0}))
    with pytest.raises(DataError, match="has format 0, this version reads 1: resume with that one"):
        checkpoint.newest(tmp_path)
    file.write_text("{")
    with pytest.raises(DataError, match=f"delete {file.parent} to resume from the one before"):
        checkpoint.newest(tmp_path)


def test_a_full_disk_costs_the_unfinished_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))  # a file that may not grow stands in for a full disk
    try:
        with pytest.raises(Interrupted, match=r"step-000004 could not be saved \(File too large\); those before it"):
            save(tmp_path, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-000002"]
    save(tmp_path, 4)
    assert names(tmp_path) == ["step-000002", "step-000004"]


def test_another_ranks_full_disk_stops_this_rank_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks([(0, 10)])
    monkeypatch.setattr(ranks, "sum", lambda values: [1.0])
    with pytest.raises(Interrupted, match="could not be saved \\(on another rank\\)"):
        checkpoint.save(ranks, tmp_path, state(2), keep=1)  # type: ignore[arg-type]
    assert names(tmp_path) == []
