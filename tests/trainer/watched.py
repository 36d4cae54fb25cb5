"""Steps as a loop would tell them, for the tests of what watches it."""

from __future__ import annotations

from typing import Any

from trainer.watching.told import Entry, Start

START = Start(step=0, steps=8, world=2, engine="torch", device="cpu", parameters=1000, trainable=1000, peak=1e9)


def entry(step: int, loss: float = 2.0, **values: Any) -> Entry:
    """A step of two datasets that took two seconds."""
    told: dict[str, Any] = {
        "step": step,
        "epoch": step / 4,
        "loss": loss,
        "dataset_loss": {"dolly": loss + 0.5, "cot": loss - 0.5},
        "lr": 2e-5,
        "norm": 1.5,
        "skipped": False,
        "tokens": 300,
        "supervised": 100,
        "slots": 310,
        "seconds": 2.0,
        "seconds_model": 1.5,
        "flops": 5e8,
    }
    return Entry(**{**told, **values})
