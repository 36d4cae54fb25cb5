"""What the proof of masks finds: nothing on sound data, and the example whose mask was moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.preparation.prepared import Prepared
from trainer.training.settings import Settings

small = pytest.importorskip("tests.trainer.small_models")
masks = pytest.importorskip("trainer.proving.masks")

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", params=["llama", "llama_json", "opt", "gpt_neox"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp(request.param)
    family = "llama" if request.param == "llama_json" else request.param
    source = small.save(family, folder / "model", tokenizer=request.param)
    small.prepare(source, folder / "data", count=120)
    return Settings(model=str(source), data=str(folder / "data"), out=str(folder / "run"))


def claims(settings: Settings) -> list[tuple[float, bool]]:
    return [(one.found, one.holds) for one in masks.prove(settings)]


def test_of_sound_data_nothing_differs(settings: Settings) -> None:
    found = list(masks.prove(settings))
    assert [(one.found, one.holds) for one in found] == [(0, True)] * 3
    assert int(found[2].text.split(" of ")[1].split()[0].replace(",", "")) > 150


def change(monkeypatch: pytest.MonkeyPatch, mend: Callable[[Any], Any]) -> None:
    """Let every example that is read be another."""
    read = Prepared.__getitem__
    monkeypatch.setattr(Prepared, "__getitem__", lambda self, index: mend(read(self, index)))


def test_a_mask_that_begins_a_token_early_fails_by_reason_and_by_text(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch, lambda one: replace(one, supervised=one.supervised | np.roll(one.supervised, -1)))
    (_, same), (others, sound), (texts, right) = claims(settings)
    assert (same, sound, right) == (True, False, False)
    assert others > 100
    assert texts > 100


def test_a_mask_without_eos_fails_by_text(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, lambda one: replace(one, supervised=one.supervised & (one.reasons != 5)))
    assert [holds for _, holds in claims(settings)] == [True, True, False]


def test_a_batch_that_asks_for_other_tokens_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.training import batch

    made = batch.make
    monkeypatch.setattr(batch, "make", lambda *all_, **more: replace(it := made(*all_, **more), places=it.places + 1))
    assert [holds for _, holds in claims(settings)] == [False, True, True]


def test_the_mask_of_2023_is_shown_to_reach_the_batches(tmp_path: Path) -> None:
    source = small.save("llama", tmp_path / "model")
    prepared = small.prepare(source, tmp_path / "data", template="tulu1")
    found = list(masks.prove(Settings(model=str(source), data=str(prepared.folder), out=str(tmp_path / "run"))))
    assert [(one.found, one.holds) for one in found] == [(0, True)]
