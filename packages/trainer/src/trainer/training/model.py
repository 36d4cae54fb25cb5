"""Loads a model to train, whole and in one precision, and says in time what of it does not fit the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from trainer.errors import DataError, ModelError

if TYPE_CHECKING:
    import torch

    from trainer.preparation.prepared import Prepared
    from trainer.rendering.tokenizer import Tokenizer

#: Makes parameters whole on all ranks, and shares rank 0's changes when it ends: DeepSpeed's, where it splits them up.
Gather: TypeAlias = Callable[[Sequence[Any]], AbstractContextManager[Any]]


def whole(parameters: Sequence[Any]) -> AbstractContextManager[Any]:
    """Gather for parameters that nobody splits up."""
    return nullcontext(parameters)


def check(source: str, prepared: Prepared) -> Tokenizer:
    """The tokenizer of a model that fits the data; reads the model's settings and none of its weights.

    Raises ModelError or TokenizerError where the model lacks files, is of no family that predicts a next token, or
    reads other ids than those prepared or fewer at once; DataError where a dataset leaves nothing to learn.
    """
    from trainer.rendering import tokenizer

    config = read_config(source)
    found = tokenizer.load(source)
    folder, told = prepared.folder, prepared.manifest["made_of"]
    if found.fingerprint != told["tokenizer"]:
        raise ModelError(
            f"{folder} was prepared with another tokenizer than that of {source}, so its ids mean other words: run"
            f" `trainer data prepare FILE... --tokenizer {source} --to {folder}`."
        )
    largest, rows = int(prepared.tokens.max()), max(config.vocab_size, found.size)
    if largest >= rows:
        raise ModelError(f"{folder} holds token {largest} and {source} has {rows} embeddings: prepare the data anew.")
    check_positions(source, positions(config), str(folder), int(prepared.lengths.max()))
    for name, count in prepared.counts.items():
        if not count.examples:
            raise DataError(
                f"Nothing is learnt from {name}: of {count.dropped:,} conversations none leaves a learnt token; leave"
                " it out, or see with `trainer data show` what becomes of its rows."
            )
    return found


def read_config(source: str) -> Any:
    """The settings of a causal language model; raises ModelError where there are none."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as FAMILIES

    folder = Path(source)
    if not folder.is_dir():
        raise ModelError(
            f"There is no model folder {source}: give one in Hugging Face's layout; `hf download ID --local-dir DIR`"
            " fetches one."
        )
    if not (folder / "config.json").exists():
        raise ModelError(f"{source} holds no config.json: give the folder of a model in Hugging Face's layout.")
    try:
        config = AutoConfig.from_pretrained(source)
    except Exception as error:  # transformers raises whatever its parsers raise
        raise ModelError(f"The settings of the model {source} cannot be read ({_line(error)}).") from error
    if config.model_type not in FAMILIES:
        raise ModelError(f"{source} is a {config.model_type}, which predicts no next token: give a causal model.")
    return config


def growth(source: str, tokenizer: Tokenizer) -> str:
    """A sentence about the embeddings that a model gets for its tokenizer, or nothing."""
    rows = read_config(source).vocab_size
    if tokenizer.size <= rows:
        return ""
    return (
        f"The tokenizer of {source} has {tokenizer.size:,} entries and the model {rows:,} embeddings: the new ones"
        f" ({', '.join(tokenizer.new) or 'of its added tokens'}) begin as the mean of the others."
    )


def positions(config: Any) -> int | None:
    """How many tokens a model can read at once; None where nothing limits it."""
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def check_positions(source: str, limit: int | None, data: str, longest: int) -> None:
    """Raise ModelError where the longest example of ``data``, in tokens, is more than a model can read at once.

    Training asks it of what is prepared, and a plan already of lengths that are modelled.
    """
    if limit is not None and longest > limit:
        raise ModelError(
            f"The longest example of {data} has {longest:,} tokens and {source} has positions for {limit:,}: prepare"
            f" the data with --max-length {limit}."
        )


def load(source: str, dtype: torch.dtype, *, rows: int = 0, gathered: Gather = whole) -> Any:
    """A transformers model for training, with at least ``rows`` embeddings, all of its weights from the folder.

    Raises ModelError where files are missing or damaged, and where the folder lacks a weight that the family has:
    transformers would start it at random and say so in passing.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    read_config(source)
    logging.disable_progress_bar()
    loud = logging.get_verbosity()
    logging.set_verbosity_error()  # it would print a table of what is lacking, and go on
    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # so does it here, and the readers of weights
        raise ModelError(f"The weights of {source} cannot be loaded ({_line(error)}); copy the model anew.") from error
    finally:
        logging.set_verbosity(loud)
    if lacking := sorted({*told["missing_keys"], *(one[0] for one in told["mismatched_keys"])}):
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise ModelError(
            f"{source} lacks weights that a {model.config.model_type} has, or has them in other shapes:"
            f" {', '.join(lacking[:3])}{more}; copy the model anew."
        )
    model.config.use_cache = False
    grow(model, rows, gathered)
    return model


def grow(model: Any, rows: int, gathered: Gather = whole) -> None:
    """Give a model embeddings for tokens that its checkpoint does not know, each the mean of those that it does.

    A mean is what an unknown word most likely means; transformers would draw them at random, on each rank anew.
    """
    import torch

    old = model.config.vocab_size
    if rows <= old:
        return
    model.resize_token_embeddings(rows, mean_resizing=False)
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    parameters = list({id(one): one for layer in layers for one in layer.parameters()}.values())
    with gathered(parameters), torch.no_grad():
        for one in parameters:
            if len(one) == rows:
                one[old:] = one[:old].float().mean(0).to(one.dtype)


def _line(error: Exception) -> str:
    """What an error says, in one line of a bearable length."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
