"""A run's frame: all of the checkpoint to be but its weights, written before the first step.

So whatever could hinder the export is met before hours of training and not behind them, and a checkpoint of the run can
be exported without the model that it started from.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from trainer.conversation import Conversation, Message
from trainer.errors import DataError, TrainerError
from trainer.exporting.merge import PREFIX
from trainer.rendering import template, tokenizer
from trainer.rendering.render import Renderer
from trainer.rendering.rendered import Reason

#: What the frame holds besides the files of a checkpoint: the names and shapes of the weights.
WEIGHTS = "weights.json"
#: The adapter's settings, for peft; there where there is an adapter.
ADAPTER = "adapter"
OWN = "own template of "

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame, opened."""

    folder: Path
    #: The shape of each weight by its name in checkpoints, in the model's order; those tied to another are left out.
    shapes: Shapes
    #: How checkpoints call the weights that the model calls otherwise.
    names: Mapping[str, str]
    #: The same of the adapter's matrices, by peft's names.
    adapter: Shapes
    #: What the product of the adapter's matrices is multiplied by: alpha / rank.
    scale: float
    #: ``bfloat16`` or ``float32``.
    dtype: str
    #: The rows of the embeddings.
    vocabulary: int

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a frame; raises TrainerError where there is none."""
        try:
            told = json.loads((folder / WEIGHTS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainerError(
                f"{folder} holds no frame of a checkpoint ({error}): it is written when a run starts."
            ) from None
        shapes, adapter = ({n: tuple(s) for n, s in told[which].items()} for which in ("shapes", "adapter"))
        return cls(folder=folder, **(told | {"shapes": shapes, "adapter": adapter}))

    def copy(self, folder: Path, dtype: str) -> None:
        """Copy the files of a checkpoint into a folder; its config names the dtype of the weights to be."""
        folder.mkdir(parents=True)
        for file in self.folder.iterdir():
            if file.is_file() and file.name != WEIGHTS:
                shutil.copyfile(file, folder / file.name)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | {"dtype": dtype}, indent=2) + "\n", encoding="utf-8")


def write(
    folder: Path, *, model: str, made_of: Mapping[str, Any], vocabulary: int, dtype: str, lora: Any = None
) -> Frame:
    """Write the frame of a run that starts from ``model``, a checkpoint folder or hub id.

    ``made_of`` is what the manifest of the prepared data says of its tokenizer and template, ``vocabulary`` the rows
    of the embeddings, ``lora`` peft's LoraConfig or None. Raises TrainerError where the export could not be faithful:
    a template that is no longer the prepared data's, or a family whose weights transformers stores in another form
    than it computes with.
    """
    loaded = tokenizer.load(model)
    whole, _ = tokenizer.load_transformers(model)
    whole.chat_template = template_text(made_of["template"], loaded)
    config = _config(model, loaded, vocabulary, dtype)
    scale = lora.lora_alpha / lora.r if lora is not None else 0.0
    told = {"dtype": dtype, "vocabulary": vocabulary, "scale": scale, **_shapes(config, lora)}
    parts = [whole, config, _generation(loaded, made_of["template"])]
    try:
        _save(folder, parts, told, None if lora is None else _adapter(lora, model))
    except Exception as error:
        shutil.rmtree(folder.with_name(f"{folder.name}.part"), ignore_errors=True)
        # The library of tokenizers raises no OSError where a disk is full, but an Exception that says so.
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise TrainerError(f"{folder} cannot be written ({reason}): make room there, or set another out.") from error
    return Frame.open(folder)


def _save(folder: Path, parts: Sequence[Any], told: Mapping[str, Any], adapter: Any) -> None:
    draft = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for part in parts:
        part.save_pretrained(draft)
    if adapter is not None:
        adapter.save_pretrained(draft / ADAPTER)
    (draft / WEIGHTS).write_text(json.dumps(told) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def _adapter(lora: Any, model: str) -> Any:
    """An adapter's settings as they are saved: with the model that it adapts, and for use."""
    told = copy.deepcopy(lora)
    told.base_model_name_or_path, told.inference_mode = model, True
    return told


def template_text(made_with: Mapping[str, str], loaded: tokenizer.Tokenizer) -> str:
    """The Jinja text of the template that data was prepared with; raises TrainerError where it has changed since."""
    used = _template(made_with, loaded)
    if used.name in {"tulu", "tulu1"}:
        return template.tulu_jinja()
    return str(loaded.chat_template) if used.name.startswith(OWN) else Path(used.name).read_text(encoding="utf-8")


def _template(made_with: Mapping[str, str], loaded: tokenizer.Tokenizer) -> template.Template:
    name = made_with["name"]
    used = template.load("own" if name.startswith(OWN) else name, loaded)
    if used.fingerprint != made_with["fingerprint"]:
        raise TrainerError(
            f"The data was prepared with the template {name}, which is another one now or meets another tokenizer:"
            " prepare the data anew with the tokenizer of the model that is to be trained."
        )
    return used


def _config(model: str, loaded: tokenizer.Tokenizer, vocabulary: int, dtype: str) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    config.vocab_size = vocabulary
    config.dtype = dtype
    config.eos_token_id, config.pad_token_id = loaded.eos_id, loaded.pad_id
    if loaded.leading:
        config.bos_token_id = loaded.leading[0]
    return config


def _shapes(config: Any, lora: Any) -> dict[str, dict[str, Any]]:
    """The shapes and names of a model's weights and the shapes of its adapter's, from a model without numbers."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
        config.architectures = [type(empty).__name__]
        tied = set(empty.all_tied_weights_keys)
        called = {name: _called(name, one, empty) for name, one in empty.state_dict().items() if name not in tied}
        shapes = {called[name]: tuple(one.shape) for name, one in empty.state_dict().items() if name not in tied}
        adapter = {}
        if lora is not None:
            from peft import inject_adapter_in_model

            adapted = inject_adapter_in_model(copy.deepcopy(lora), empty)
            matrices = {name: one for name, one in adapted.named_parameters() if ".lora_" in name}
            adapter = {PREFIX + name.replace(".default.", "."): tuple(one.shape) for name, one in matrices.items()}
    names = {name: other for name, other in called.items() if name != other}
    return {"shapes": shapes, "names": names, "adapter": adapter}


def _called(name: str, weight: Any, model: Any) -> str:
    """How transformers calls a weight in a checkpoint."""
    from transformers.core_model_loading import revert_weight_conversion

    found = revert_weight_conversion(model, {name: weight})
    if [tuple(one.shape) for one in found.values()] != [tuple(weight.shape)]:
        raise TrainerError(
            f"transformers computes with weights of {model.config.model_type} in another form than its checkpoints"
            f" have ({name}), and this version does not write them back: train a model of another family."
        )
    return str(next(iter(found)))


def _generation(loaded: tokenizer.Tokenizer, made_with: Mapping[str, str]) -> Any:
    """Where texts end: at what the template writes behind an answer, which the model has learnt, or at EOS."""
    from transformers import GenerationConfig

    ends = list(dict.fromkeys([_ending(Renderer(loaded, _template(made_with, loaded))), loaded.eos_id]))
    return GenerationConfig(
        bos_token_id=loaded.leading[0] if loaded.leading else None,
        eos_token_id=ends[0] if len(ends) == 1 else ends,
        pad_token_id=loaded.pad_id,
    )


def _ending(renderer: Renderer) -> int:
    """The id that the template ends an answer with."""
    messages = (Message(role="user", content="A"), Message(role="assistant", content="B"))
    made = renderer.render(Conversation(dataset="made", id="end", messages=messages))
    ends = made.ids[(made.reasons == Reason.EOS) & made.supervised]
    if not len(ends):
        raise DataError(f"The template {renderer.template.name} ends no answer, so a model could not learn to stop.")
    return int(ends[-1])
