"""Two ranks under DeepSpeed: what the proofs of stages and of resuming find on a tiny model, and what users see."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.trainer import trained

pytest.importorskip("deepspeed")
small = pytest.importorskip("tests.trainer.small_models")

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def ingredients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model's folder and data prepared for it."""
    folder = tmp_path_factory.mktemp("ingredients")
    source = small.save("llama", folder / "model")
    small.prepare(source, folder / "data")
    return source, folder / "data"


def test_zero_and_the_number_of_ranks_change_nothing_but_rounding(
    ingredients: tuple[Path, Path], tmp_path: Path
) -> None:
    from trainer.proving import stages

    claims = stages.prove(trained.settings(*ingredients, tmp_path), tmp_path)
    assert [claim.bound for claim in claims] == [0.0, 1e-4, 1e-4, 1e-5]
    assert [str(claim) for claim in claims if not claim.holds] == []


def test_a_run_resumes_on_the_same_ranks_to_the_last_bit_and_on_another_number_within_rounding(tmp_path: Path) -> None:
    from trainer.proving import resuming

    source = small.save("opt", tmp_path / "model", dropout=0.1)
    small.prepare(source, tmp_path / "data")
    claims = resuming.prove(trained.settings(source, tmp_path / "data", tmp_path / "run", zero=3), tmp_path / "runs")
    assert [claim.bound for claim in claims] == [0.0, 1e-5]
    assert [str(claim) for claim in claims if not claim.holds] == []


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_what_changed_between_versions_of_deepspeed_is_written_out(zero: int) -> None:
    from trainer.training.deepspeed_engine import configuration

    changes = {"zero": zero, "clip": 0.5, "precision": "bf16"}
    found = configuration(trained.settings(Path("m"), Path("d"), Path("o"), **changes), world=8)
    assert found["train_batch_size"] == 8
    assert found["managed_gradient_accumulation"] is False
    assert found["gradient_clipping"] == 0.5
    assert found["bf16"]["check_grad_overflow"] is True
    assert found["communication_data_type"] == "fp32"
    assert found["data_types"] == {"grad_accum_dtype": "fp32"}
    assert found["zero_optimization"]["stage"] == zero
    assert "optimizer" not in found
    assert "scheduler" not in found
