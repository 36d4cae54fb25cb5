"""Loss and gradients of packed batches against transformers' own, one document at a time."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.planning.plan import Balanced, Examples

small = pytest.importorskip("tests.trainer.small_models")

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", params=("llama", "opt", "gpt_neox"))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model's folder and data prepared for it."""
    folder = tmp_path_factory.mktemp(request.param)
    source = small.save(request.param, folder / "model")
    return source, small.prepare(source, folder / "data")


CHANGES: dict[str, dict[str, Any]] = {
    "documents": {},
    "mask": {"attention": "mask"},
    "checkpointed": {"activation_checkpointing": True},
    "head in pieces": {"logits_bytes": 100 * 512 * 4},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_packed_rows_learn_what_each_document_alone_does(family: Any, changes: dict[str, Any]) -> None:
    source, prepared = family
    examples = Examples(lengths=prepared.lengths, batch=16)
    of_each = small.weigh(examples.ids(0, 0), prepared, reduction="token")
    wanted, theirs = small.one_by_one(source, prepared, of_each)
    packed = Balanced(examples=examples, ranks=1, tokens=400)
    assert any(len(row) > 2 for micro in packed.step(0, 0).ranks[0] for row in micro.rows)
    found, ours, _ = small.step(small.built(source, prepared, **changes), prepared, packed, of_each)
    assert abs(found - wanted) < 1e-5 * wanted
    assert small.distance(ours, theirs) < 1e-5
