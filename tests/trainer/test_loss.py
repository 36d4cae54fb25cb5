"""Cross entropy against torch's own: values, gradients, bytes."""

from __future__ import annotations

from typing import Any

import pytest

loss = pytest.importorskip("trainer.training.loss")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.torch

TARGETS, SIZE, WORDS = 37, 16, 300


def made(dtype: Any) -> tuple[Any, Any, Any, Any]:
    """Hidden states, a head, targets and weights; one word is certain, and one logit overflows exp in float32."""
    torch.manual_seed(3)
    hidden = torch.randn(TARGETS, SIZE, dtype=dtype)
    head = torch.nn.Linear(SIZE, WORDS, dtype=dtype)
    with torch.no_grad():
        head.bias[7] = 200.0
    return hidden.requires_grad_(), head, torch.randint(0, WORDS, (TARGETS,)), torch.rand(TARGETS)


def run(function: Any, dtype: Any) -> tuple[Any, Any, Any]:
    hidden, head, targets, weights = made(dtype)
    found = function(head, hidden, targets)
    (found * weights).sum().backward()
    return found.detach(), hidden.grad, head.weight.grad


def plain(head: Any, hidden: Any, targets: Any) -> Any:
    return torch.nn.functional.cross_entropy(head(hidden).float(), targets, reduction="none")


@pytest.mark.parametrize("count", [1, 2, 5, 50])
@pytest.mark.parametrize("bytes_", [1, 4 * WORDS * 10, 1 << 30])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pieces_and_slices_give_what_torch_gives(
    dtype: str, count: int, bytes_: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loss.SLICE, "cpu", bytes_)
    kind = getattr(torch, dtype)
    wanted = run(plain, kind)
    found = run(lambda *given: loss.cross_entropy(*given, count=count), kind)
    # Gradients that are summed over pieces in bf16 are rounded once for each.
    limits = (1e-6, 1e-6, 1e-6) if dtype == "float32" else (1e-6, 0.01, 0.02)
    for one, other, limit in zip(found, wanted, limits, strict=True):
        assert one.dtype == other.dtype
        assert float((one.float() - other.float()).abs().max() / other.float().abs().max()) < limit


def test_in_bf16_the_sum_over_words_is_in_fp32() -> None:
    logits = torch.zeros(1, 4096, dtype=torch.bfloat16)
    found = loss.cross_entropy(lambda one: one, logits, torch.tensor([5]))
    assert found.item() == pytest.approx(8.3177662, abs=1e-6)  # log 4096


def test_the_gradient_takes_the_place_of_the_logits() -> None:
    logits = torch.randn(3, 10, requires_grad=True)
    copy = logits * 1
    loss.cross_entropy(lambda _: copy, logits, torch.tensor([1, 2, 3])).sum().backward()
    assert torch.equal(copy.detach(), logits.grad)


def test_pieces_fit_the_budget_of_the_rank_with_most() -> None:
    assert loss.pieces(0, 4000, 8000) == 1
    assert loss.pieces(2, 4000, 8000) == 1
    assert loss.pieces(3, 4000, 8000) == 2
    assert loss.pieces(2048, 2 * 32000, 256 * 2**20) == 1
    assert loss.pieces(3, 4000, 1) == 12000
