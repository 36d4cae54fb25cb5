"""What the proofs of packing and layouts find: nothing but rounding, and each of the classic mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.trainer.plugin import Cli

from trainer.training.settings import Settings

small = pytest.importorskip("tests.trainer.small_models")
torch = pytest.importorskip("torch")
packing = pytest.importorskip("trainer.proving.packing")
layouts = pytest.importorskip("trainer.proving.layouts")

pytestmark = pytest.mark.torch


def made(family: str, folder: Path) -> Settings:
    # Dropout, as the published OPT has it: proofs leave it out.
    source = small.save(family, folder / "model", **({"dropout": 0.3} if family == "opt" else {}))
    small.prepare(source, folder / "data", count=30)
    return Settings(model=str(source), data=str(folder / "data"), out=str(folder / "run"), batch=16)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return made("llama", tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("family", ["llama", "opt", "gpt_neox"])
def test_packed_is_padded_for_each_attention(family: str, tmp_path: Path) -> None:
    claims = list(packing.prove(made(family, tmp_path)))
    assert [claim.bound for claim in claims] == [0, 1e-5, 1e-5] * 2
    assert [str(claim) for claim in claims if not claim.holds] == []
    assert [claim.text.split(":")[0] for claim in claims] == ["attention = documents"] * 3 + ["attention = mask"] * 3


def test_documents_that_see_each_other_are_found(llama: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.training import attention

    def causal(batch: Any) -> Any:
        return torch.ones(len(batch.ids), 1, batch.ids.shape[1], batch.ids.shape[1]).tril().bool()

    monkeypatch.setattr(attention, "mask", causal)
    claims = list(packing.prove(llama))
    assert [claim.holds for claim in claims] == [True, True, True, False, False, False]


@pytest.mark.parametrize("reduction", ["token", "tulu1"])
def test_layouts_give_the_same_gradient(llama: Settings, reduction: Any) -> None:
    from dataclasses import replace

    claims = list(layouts.prove(replace(llama, reduction=reduction)))
    assert [claim.bound for claim in claims] == [1e-5] * 12
    assert [str(claim) for claim in claims if not claim.holds] == []


def test_a_mean_over_each_micro_step_is_found(llama: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = small.Learner.forward

    def mean(self: Any, batch: Any) -> Any:
        loss, sums = forward(self, batch)
        return loss / batch.weights.sum() / 8, sums

    monkeypatch.setattr(small.Learner, "forward", mean)
    assert not any(claim.holds for claim in layouts.prove(llama))


def test_each_claim_is_a_line_and_one_that_fails_the_exit_code(
    cli: Cli, llama: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("recipe.toml").write_text(f'model = "{llama.model}"\ndata = "{llama.data}"\nout = "run"\nbatch = 16\n')
    code, out, _ = cli("prove", "recipe.toml", "--only", "masks", "--only", "packing")
    lines = out.splitlines()
    assert code == 0
    assert [line.split("  ")[0] for line in lines[:-1]] == ["holds"] * 9
    assert lines[-1] == "9 of 9 claims hold."

    monkeypatch.setattr(packing, "BOUND", 0.0)
    code, out, _ = cli("prove", "recipe.toml", "--only", "packing")
    assert code == 1
    assert "FAILS  attention = documents: 8 documents in one row and padded, gradient" in out


def test_an_unknown_proof_is_wrong_usage(cli: Cli) -> None:
    code, _, error = cli("prove", "recipe.toml", "--only", "everything")
    assert code == 2
    assert "'everything' is not one of 'masks', 'packing', 'layouts', 'stages', 'resuming'" in error
