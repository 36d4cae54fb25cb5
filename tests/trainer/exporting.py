"""What the tests of exporting share: a frame for a model's folder, and its parameters as a run hands them out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.exporting import frame
from trainer.rendering import render


def made_of(folder: Path, template: str = "tulu") -> dict[str, Any]:
    """What a manifest of data prepared with a folder's tokenizer says of its template."""
    used = render.load(str(folder), template=template).template
    return {"template": {"name": used.name, "fingerprint": used.fingerprint}}


def framed(folder: Path, place: Path, *, dtype: str = "float32", vocabulary: int = 512, lora: Any = None) -> Path:
    """The frame of a run that starts from a folder."""
    told = {"made_of": made_of(folder), "vocabulary": vocabulary, "dtype": dtype, "lora": lora}
    return frame.write(place, model=str(folder), **told).folder


def parameters(model: Any) -> Iterator[tuple[str, Any]]:
    """As a Learner names them."""
    return ((f"model.{name}", one.detach()) for name, one in model.named_parameters())


def config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config."""
    return dict(json.loads((folder / "config.json").read_text()))


def load(folder: Path, **more: Any) -> Any:
    """The model in a folder, as transformers reads it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **more)
