"""What others do to train: one optimizer step of a loop like open-instruct's, of transformers' Trainer and of TRL's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from train_step import LIMIT, MASKED, Asked, Counted, read


def checkpoint(asked: Asked) -> Any:
    """The model that every peer trains."""
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if asked.precision == "bf16-weights" else torch.float32
    return AutoModelForCausalLM.from_pretrained(asked.folder / "model", dtype=dtype)


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Examples padded to the longest of them."""

    def padded(name: str, value: int) -> torch.Tensor:
        parts = [torch.as_tensor(row[name]) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=value)

    found = {"input_ids": padded("input_ids", 0), "labels": padded("labels", MASKED)}
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    return found | {"attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long()}


@contextmanager
def watched(model: Any, counted: Counted) -> Iterator[None]:
    """Count what a transformers model is given; a mask that hides something costs the square, else causality halves."""

    def see(_: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        rows, width = given["input_ids"].shape
        mask, places = given.get("attention_mask"), given.get("position_ids")
        padded = mask is not None and not bool(mask.all())
        packed = places is not None and int((places == 0).sum()) > rows
        counted.slots += rows * width
        counted.pairs += rows * (width * width if padded or packed else width * (width + 1) // 2)
        counted.heads += rows * width
        counted.micros += 1

    hook = model.model.register_forward_pre_hook(see, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def open_instruct(asked: Asked, counted: Counted) -> None:
    """The loop of 2023, from its description: accelerate, shuffled batches, padded to the longest, mean losses."""
    from accelerate import Accelerator
    from torch.utils.data import DataLoader
    from transformers import get_scheduler

    model, examples = checkpoint(asked), read(asked)
    accumulation = -(-len(examples) // asked.size)
    mixed = "bf16" if asked.precision == "bf16" else "no"
    accelerator = Accelerator(cpu=True, mixed_precision=mixed, gradient_accumulation_steps=accumulation)
    torch.manual_seed(42)
    rows: Any = [{"input_ids": ids, "labels": labels} for ids, labels in examples]
    loader: Any = DataLoader(rows, shuffle=True, collate_fn=collate, batch_size=asked.size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=asked.rate, weight_decay=0.0)
    schedule = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=1)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    model.train()
    with watched(model, counted):
        counted.start()
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(**batch, use_cache=False).loss
                counted.loss += loss.detach().float().item() / accumulation
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        counted.stop()


def trainer(asked: Asked, counted: Counted, *, sampling: str = "random") -> None:
    """Trainer of transformers."""
    from transformers import Trainer, TrainingArguments

    rows: Any = [{"input_ids": ids, "labels": labels} for ids, labels in read(asked)]
    with tempfile.TemporaryDirectory() as place:
        given = TrainingArguments(**settings(asked, len(rows), place), train_sampling_strategy=sampling)
        made = Trainer(model=checkpoint(asked), args=given, train_dataset=rows, data_collator=collate)
        run(made, counted)


def rebalance(asked: Asked, counted: Counted) -> None:
    """Trainer of transformers with groups of like lengths and near-equal cost within a step."""
    trainer(asked, counted, sampling="batch_rebalance")


def trl(asked: Asked, counted: Counted, *, packing: bool = False, default: bool = False) -> None:
    """TRL's SFTTrainer; with ``default`` as it comes, else without checkpointing and without its further metrics."""
    import datasets
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_list([{"input_ids": ids, "labels": labels} for ids, labels in read(asked)])
    tokenizer = AutoTokenizer.from_pretrained(asked.folder / "model")
    kind = SFTTrainer if default else without_metrics(SFTTrainer)
    with tempfile.TemporaryDirectory() as place:
        common = settings(asked, len(rows), place)
        if packing:
            common["gradient_accumulation_steps"] = -(-packed_rows(rows) // asked.size)
        given = SFTConfig(**common, max_length=LIMIT, packing=packing, gradient_checkpointing=default)
        made = kind(model=checkpoint(asked), args=given, train_dataset=rows, processing_class=tokenizer)
        run(made, counted)


def trl_default(asked: Asked, counted: Counted) -> None:
    """TRL's SFTTrainer as it comes, but for our length limit and precision."""
    trl(asked, counted, default=True)


def trl_packed(asked: Asked, counted: Counted) -> None:
    """TRL's SFTTrainer with best-fit packing."""
    trl(asked, counted, packing=True)


def without_metrics(kind: Any) -> Any:
    """TRL's trainer without entropy and accuracy, in the way it advises: a subclass with its own loss."""
    from trl.trainer.utils import add_fused_lm_head

    class Plain(kind):  # type: ignore[misc]
        def __init__(self, *args: Any, **given: Any) -> None:
            super().__init__(*args, **given)
            add_fused_lm_head(self.model)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            found = model(**inputs, use_cache=False, fused_lm_head=True)
            return -found.log_probs.sum() / num_items_in_batch

    return Plain


def packed_rows(rows: Any) -> int:
    """The rows that TRL packs examples into: all of them are one step, so that the examples of a step stay."""
    from trl import pack_dataset

    return len(pack_dataset(rows, LIMIT, "bfd"))


def settings(asked: Asked, count: int, place: str) -> dict[str, Any]:
    """What all of transformers' trainers are told: one step of all examples, and nothing else to do."""
    return {
        "output_dir": place,
        "per_device_train_batch_size": asked.size,
        "gradient_accumulation_steps": -(-count // asked.size),
        "max_steps": 1,
        "learning_rate": asked.rate,
        "bf16": asked.precision == "bf16",
        "use_cpu": True,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
    }


def run(made: Any, counted: Counted) -> None:
    """Train, timing the loop from its start, before the first batch is fetched, to its only step's end."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            counted.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            counted.stop()

    made.add_callback(Clock())
    with watched(made.model, counted):
        made.train()
    counted.loss = float(next(one["loss"] for one in made.state.log_history if "loss" in one))


PEERS: dict[str, Callable[[Asked, Counted], None]] = {
    "open-instruct loop": open_instruct,
    "HF Trainer": trainer,
    "HF batch_rebalance": rebalance,
    "TRL": trl,
    "TRL default": trl_default,
    "TRL packed": trl_packed,
}
