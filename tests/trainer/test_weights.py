"""Every reduction is a weight per example; what they come to is written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.errors import TrainerError, UnknownName
from trainer.training.weights import weigh

IDS = [7, 3, 9, 1]
COUNTS = np.array([2, 6, 1, 3])


def test_each_token_weighs_the_same() -> None:
    assert weigh(IDS, COUNTS, reduction="token") == {7: 1 / 12, 3: 1 / 12, 9: 1 / 12, 1: 1 / 12}


def test_each_example_weighs_the_same_whatever_its_length() -> None:
    assert weigh(IDS, COUNTS, reduction="example") == {7: 1 / 8, 3: 1 / 24, 9: 1 / 4, 1: 1 / 12}


def test_each_padded_micro_batch_weighs_the_same() -> None:
    assert weigh(IDS, COUNTS, reduction="tulu1", size=2) == {7: 1 / 16, 3: 1 / 16, 9: 1 / 8, 1: 1 / 8}


def test_a_last_micro_batch_may_be_shorter() -> None:
    assert weigh(IDS, COUNTS, reduction="tulu1", size=3) == {7: 1 / 18, 3: 1 / 18, 9: 1 / 18, 1: 1 / 6}


def test_micro_batches_of_one_example_are_examples() -> None:
    assert weigh(IDS, COUNTS, reduction="tulu1", size=1) == weigh(IDS, COUNTS, reduction="example")


def test_one_micro_batch_is_the_mean_over_tokens() -> None:
    assert weigh(IDS, COUNTS, reduction="tulu1", size=4) == weigh(IDS, COUNTS, reduction="token")


@pytest.mark.parametrize(
    ("reduction", "weights"),
    [("token", [1 / 5, 0, 1 / 5, 0]), ("example", [1 / 4, 0, 1 / 6, 0]), ("tulu1", [1 / 4, 0, 1 / 6, 0])],
)
def test_an_example_without_targets_weighs_nothing_and_does_not_count(reduction: str, weights: list[float]) -> None:
    found = weigh(IDS, np.array([2, 0, 3, 0]), reduction=reduction, size=2)
    assert found == dict(zip(IDS, weights, strict=True))


def test_a_micro_batch_without_targets_does_not_count() -> None:
    found = weigh(IDS, np.array([0, 0, 3, 1]), reduction="tulu1", size=2)
    assert found == {7: 0, 3: 0, 9: 1 / 4, 1: 1 / 4}


def test_a_step_without_targets_is_refused() -> None:
    with pytest.raises(TrainerError, match=r"^Nothing is learnt in a step of 4 examples: .* in front of"):
        weigh(IDS, np.zeros(4, np.int64), reduction="token")


def test_an_unknown_reduction_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'token'"):
        weigh(IDS, COUNTS, reduction="tokens")


@pytest.mark.parametrize("reduction", ["token", "example", "tulu1"])
@pytest.mark.parametrize("size", [1, 2, 5, 128])
def test_the_weights_of_all_targets_add_up_to_one(reduction: str, size: int) -> None:
    counts = np.random.default_rng(size).integers(0, 900, 128)
    weights = weigh(range(128), counts, reduction=reduction, size=size)
    assert sum(weights[index] * int(count) for index, count in enumerate(counts)) == pytest.approx(1, abs=1e-12)
