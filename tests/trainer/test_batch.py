"""A micro-step's tensors against the examples themselves, token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.planning.plan import Balanced, Examples, Micro

small = pytest.importorskip("tests.trainer.small_models")
batch = pytest.importorskip("trainer.training.batch")

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("batch")
    return small.prepare(small.save("llama", folder / "model"), folder / "data")


def weights(prepared: Any) -> dict[int, float]:
    """A weight for each example by which it can be told apart."""
    return {index: (index + 1) / 1024 for index in range(len(prepared))}


def expected(prepared: Any, micro: Micro) -> list[tuple[int, int, int, int, float, int]]:
    """Row, column, this token, the next, weight and dataset of each target, by walking through the examples."""
    found = []
    for row, indices in enumerate(micro.rows):
        column = 0
        for index in indices:
            one = prepared[index]
            for place in range(len(one.ids) - 1):
                if one.supervised[place + 1]:
                    told = (int(one.ids[place]), int(one.ids[place + 1]), (index + 1) / 1024)
                    found.append((row, column + place, *told, int(prepared.datasets[index])))
            column += len(one.ids)
    return found


@pytest.mark.parametrize("rows", [((0,),), ((3, 1, 2),), ((5, 4), (9,), (7, 8, 6)), ((10, 10),)])
def test_exactly_the_learnt_tokens_are_asked_for_at_the_position_before_them(prepared: Any, rows: Any) -> None:
    width = max(int(prepared.lengths[list(row)].sum()) for row in rows)
    micro = Micro(rows=rows, width=width)
    made = batch.make(micro, prepared, weights(prepared))
    flat = made.ids.flatten()
    columns = (one.tolist() for one in (made.places, made.targets, made.weights, made.datasets))
    found = [(*divmod(place, width), int(flat[place]), *told) for place, *told in zip(*columns, strict=True)]
    assert found == expected(prepared, micro)


def test_rows_are_their_documents_and_padding_is_one_more(prepared: Any) -> None:
    lengths = [int(prepared.lengths[index]) for index in (5, 4, 9)]
    width = lengths[0] + lengths[1]
    assert lengths[2] < width
    made = batch.make(Micro(rows=((5, 4), (9,)), width=width), prepared, weights(prepared))
    assert made.documents == ((lengths[0], lengths[1]), (lengths[2], width - lengths[2]))
    assert made.ids[0].tolist() == [*prepared[5].ids, *prepared[4].ids]
    assert made.ids[1].tolist() == [*prepared[9].ids, *[0] * (width - lengths[2])]
    assert made.positions[0].tolist() == [*range(lengths[0]), *range(lengths[1])]
    assert made.positions[1].tolist() == [*range(lengths[2]), *range(width - lengths[2])]


def test_the_first_token_of_a_document_is_never_a_target(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from trainer.preparation.prepared import Prepared

    read = Prepared.__getitem__

    def all_learnt(self: Prepared, index: int) -> Any:
        one = read(self, index)
        return replace(one, supervised=np.ones(len(one.ids), np.bool_))

    monkeypatch.setattr(Prepared, "__getitem__", all_learnt)
    size = int(prepared.lengths[3])
    made = batch.make(Micro(rows=((3, 3),), width=2 * size), prepared, {3: 1.0})
    assert made.places.tolist() == [place for place in range(2 * size - 1) if place != size - 1]


def test_targets_are_counted_as_batches_ask_for_them(prepared: Any) -> None:
    from trainer.training.weights import targets

    counts = targets(prepared)
    for index in range(len(prepared)):
        made = batch.make(Micro(rows=((index,),), width=int(prepared.lengths[index])), prepared, {index: 1.0})
        assert counts[index] == int((made.weights > 0).sum())


def test_nothing_to_read_becomes_a_dummy_of_weight_zero(prepared: Any) -> None:
    made = batch.make(Micro(rows=(), width=0), prepared, {})
    assert made.ids.tolist() == made.positions.tolist() == [[0]]
    assert made.documents == ((1,),)
    assert (made.places.tolist(), made.targets.tolist(), made.weights.tolist()) == ([0], [0], [0.0])


def test_each_example_of_a_step_is_read_once_whatever_the_ranks(prepared: Any) -> None:
    from trainer.training.weights import targets

    examples = Examples(lengths=prepared.lengths, batch=16)
    counts, told = targets(prepared), weights(prepared)
    for ranks in (1, 2, 4):
        step = Balanced(examples=examples, ranks=ranks, tokens=200).step(0, 0)
        read = [list(batch.read(step, rank, prepared, counts, told)) for rank in range(ranks)]
        seen = sorted(
            round(weight * 1024) - 1 for rank in read for one in rank for weight in one.weights.unique().tolist()
        )
        assert seen == sorted(examples.ids(0, 0).tolist())
        for together in zip(*read, strict=True):
            largest = max(int((one.weights > 0).sum()) for one in together)
            assert {one.most for one in together} == {largest}
