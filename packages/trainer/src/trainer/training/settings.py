"""What a training run is told: one flat value, read from TOML and ``--set key=value``, checked when it is made."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from trainer.errors import TrainerError

#: What changes the numbers that are learnt, beside the model and the data; the rest changes only how they come about.
LEARNT = (
    *("epochs", "max_steps", "batch", "learning_rate", "schedule", "warmup", "weight_decay"),
    *("beta1", "beta2", "epsilon", "clip", "reduction", "tulu1_layout", "seed", "precision"),
    *("lora_rank", "lora_alpha", "lora_dropout", "lora_targets"),
)


class SettingsError(TrainerError):
    """A setting that is unknown, missing, of the wrong type, out of range or at odds with another."""


class SetError(SettingsError):
    """A ``--set`` that cannot be used: the command is wrong, not the recipe."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A run's settings; the defaults are those of the paper at 7B and 13B. Paths are seen from the working directory.

    Raises SettingsError, naming the field, where a value is out of range or contradicts another.
    """

    #: The folder of the model to tune, in Hugging Face's layout.
    model: str
    #: The folder that `trainer data prepare` wrote.
    data: str
    #: The run folder: log, checkpoints and in the end the tuned model.
    out: str
    #: Prepared data to measure the loss on; none of it is learnt.
    held_out: str = ""

    epochs: int = 2
    #: Stop after so many optimizer steps; 0: after the epochs.
    max_steps: int = 0
    #: Examples to an optimizer step, over all ranks.
    batch: int = 128
    learning_rate: float = 2e-5
    #: How the learning rate goes on after the warmup.
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    #: The share of all steps in which the learning rate rises.
    warmup: float = 0.03
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    #: The largest norm of a step's gradient; 0: no limit.
    clip: float = 1.0
    #: What a step's loss is the mean over: its tokens, its examples, or micro-batches as the paper's code had them.
    reduction: Literal["token", "example", "tulu1"] = "token"
    #: For tulu1: ranks x examples of the padded micro-batches that the mean of means is taken over.
    tulu1_layout: str = "4x2"
    seed: int = 42

    precision: Literal["bf16", "fp32"] = "bf16"
    #: What DeepSpeed shares out over the ranks: 1 optimizer states, 2 gradients too, 3 weights too.
    zero: Literal[0, 1, 2, 3] = 2
    #: What is kept in the CPU's memory.
    offload: Literal["none", "optimizer", "all"] = "none"
    #: auto: DeepSpeed where there are several processes or it is needed, else plain torch.
    engine: Literal["auto", "torch", "deepspeed"] = "auto"
    #: Tokens that a rank reads at once; 0: twice the length limit that the data was prepared with.
    tokens: int = 0
    #: How examples in one row are kept apart.
    attention: Literal["auto", "varlen", "documents", "mask"] = "auto"
    #: Compute activations anew in the backward pass: less memory, a third more work.
    activation_checkpointing: bool = False
    #: Bytes of logits that are held at once; where there are more, the head is computed in pieces, and each twice.
    logits_bytes: int = 2**30

    #: The rank of LoRA's matrices; 0: all weights are tuned.
    lora_rank: int = 0
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    #: Layers with LoRA, with commas; empty: all linear layers of attention and MLP.
    lora_targets: str = ""

    #: Steps between checkpoints; 0: one at the end of each epoch.
    save_every: int = 0
    #: Checkpoints that are kept, the newest.
    keep: int = 2
    #: Minutes after which the run saves and stops, to be resumed; 0: none.
    time_limit: float = 0.0

    #: Steps between lines of progress; the log has every step.
    log_every: int = 1
    #: Steps between evaluations; 0: none before the end.
    evaluate_every: int = 0
    #: A command that is run at each evaluation, with {model} for the folder of the weights then.
    evaluate_command: str = ""
    tracker: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    #: Stop at a loss so many times its running mean; 0: only warn.
    spike: float = 0.0
    #: Stop after so many skipped steps in a row.
    max_skipped: int = 5

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if problem := _wrong_type(key, value) or _out_of_range(key, value):
                raise SettingsError(f"{key} {problem}.")
        if problem := _contradiction(self):
            raise SettingsError(f"{problem}.")

    @property
    def layout(self) -> tuple[int, int]:
        """``tulu1_layout`` as numbers: ranks, and examples of a micro-batch."""
        ranks, _, size = self.tulu1_layout.partition("x")
        return int(ranks), int(size)

    @property
    def learnt(self) -> dict[str, Any]:
        """The fields that change the numbers that are learnt: a run is resumed with the same ones."""
        return {key: getattr(self, key) for key in LEARNT}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ``learnt``; the same for runs that learn the same from the same model and data."""
        return hashlib.sha256(json.dumps(self.learnt, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Settings, and where each of them comes from."""

    settings: Settings
    #: For each field ``default``, ``recipe.toml:7`` or ``--set``.
    sources: Mapping[str, str]

    def toml(self) -> str:
        """The settings as TOML that `load` reads again, with the source of each behind it."""
        lines = [f"{key} = {literal(value)}" for key, value in asdict(self.settings).items()]
        width = max(map(len, lines))
        told = zip(lines, (self.sources[field.name] for field in fields(Settings)), strict=True)
        return "".join(f"{line:{width}}  # {source}\n" for line, source in told)


TYPES: Mapping[str, Any] = get_type_hints(Settings)
_REQUIRED = tuple(field.name for field in fields(Settings) if field.default is MISSING)
_DEFAULTS = {field.name: field.default for field in fields(Settings) if field.default is not MISSING}


def load(recipe: Path | str, sets: Sequence[str] = ()) -> Resolved:
    """The settings of a TOML file, each ``key=value`` of ``sets`` in the place of its own.

    Raises SettingsError, with file and line, where the file or a value cannot be used, and SetError where it is one of
    ``sets``; for a key that is no setting it names the nearest.
    """
    path = Path(recipe)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = "`trainer recipes` lists the paper's and prints them"
        raise SettingsError(f"There is no recipe {path}; {known}, to be kept in a file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error}).") from None
    return parse(text, sets, name=path.name)


def parse(text: str, sets: Sequence[str] = (), *, name: str) -> Resolved:
    """The settings that a recipe's text makes; ``name`` is what messages and sources call it."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name} is not TOML: {error}.") from None
    values, sources = dict(_DEFAULTS), dict.fromkeys(_DEFAULTS, "default")
    for key, value in table.items():
        source = f"{name}:{_line(text, key)}"
        values[key], sources[key] = _checked(key, value, f"{source}: "), source
    for one in sets:
        try:
            key, value = _assignment(one)
            values[key], sources[key] = _checked(key, value, f"--set {one}: "), "--set"
        except SettingsError as error:
            raise SetError(str(error)) from None
    if missing := [key for key in _REQUIRED if key not in values]:
        given = " ".join(f"--set {key}=VALUE" for key in missing)
        raise SettingsError(f"{name} does not say {' and '.join(missing)}: write it there, or give {given}.")
    return Resolved(
        settings=Settings(**values), sources={field.name: sources[field.name] for field in fields(Settings)}
    )


def literal(value: object) -> str:
    """A string, number or truth value as TOML writes it."""
    if isinstance(value, str):
        # What JSON escapes TOML escapes alike, but for this one.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _assignment(text: str) -> tuple[str, Any]:
    """The key and value of ``key=value``; the value is written as in TOML, strings with or without quotes."""
    key, equals, raw = text.partition("=")
    key, raw = key.strip().replace("-", "_"), raw.strip()
    if not equals:
        raise SettingsError(f"--set {text}: write it as key=value.")
    if TYPES.get(key) is str and raw[:1] not in {'"', "'"}:
        return key, raw
    try:
        return key, tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return key, raw


def _checked(key: str, value: Any, where: str) -> Any:
    """The value, a whole number as a float where one is asked; raises for one that cannot stand alone."""
    if key not in TYPES:
        near = difflib.get_close_matches(key, TYPES, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TYPES)}."
        raise SettingsError(f"{where}no setting is named {key!r}; {remedy}")
    if TYPES[key] is float and type(value) is int:
        value = float(value)
    if problem := _wrong_type(key, value) or _out_of_range(key, value):
        raise SettingsError(f"{where}{key} {problem}.")
    return value


def _line(text: str, key: str) -> int:
    """The line of a key, which is searched for: tomllib does not tell."""
    pattern = re.compile(rf"""\s*\[?\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)


def _wrong_type(key: str, value: Any) -> str:
    """The rest of a sentence that begins with the key, or nothing."""
    wanted = TYPES[key]
    if get_origin(wanted) is Literal:
        known = get_args(wanted)
        fits = any(type(value) is type(one) and value == one for one in known)
        return "" if fits else f"is {value!r}; it can be {', '.join(map(str, known))}"
    # A truth value is a number to Python, and here it is none.
    fits = type(value) is wanted or (wanted is float and type(value) is int)
    what = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}[wanted]
    return "" if fits else f"is {what}, not {value!r}"


#: The smallest value of a number and, where there is one, what it must stay below.
_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("epochs", "batch", "keep", "log_every", "lora_alpha", "max_skipped", "logits_bytes"), (1, math.inf)
    ),
    **dict.fromkeys(("warmup", "beta1", "beta2", "lora_dropout"), (0, 1)),
}


def _out_of_range(key: str, value: Any) -> str:
    """The rest of a sentence that begins with the key, or nothing."""
    if isinstance(value, str):
        if key in _REQUIRED and not value:
            return "is empty; it names a folder"
        shaped = key != "tulu1_layout" or re.fullmatch(r"[1-9]\d*x[1-9]\d*", value)
        return "" if shaped else f"is {value!r}; it is ranks x examples, as 4x2"
    if key in {"learning_rate", "epsilon"} and not 0 < value < math.inf:
        return f"is {value}; it must be above 0"
    if key == "spike" and 0 < value <= 1:
        return f"is {value}; a spike is a loss more than 1 times the mean, 0 only warns"
    least, below = _RANGES.get(key, (0, math.inf))
    bounds = f"at least {least}" + (f" and below {below}" if below < math.inf else "")
    return "" if least <= value < below else f"is {value}; it must be {bounds}"


def _contradiction(settings: Settings) -> str:
    """The first pair of settings that cannot both be meant, as a sentence without its full stop, or nothing."""
    ranks, size = settings.layout
    folders = {key: getattr(settings, key) for key in ("model", "data", "held_out")}
    same = [key for key, folder in folders.items() if folder and Path(folder) == Path(settings.out)]
    pairs = {
        f"out is the folder of {' and '.join(same)}, which would be written over; name another": bool(same),
        "held_out is the data that is learnt from; prepare other examples": Path(settings.held_out)
        == Path(settings.data),
        f"offload {settings.offload} is DeepSpeed's, and engine is torch": settings.offload != "none"
        and settings.engine == "torch",
        f"offload {settings.offload} needs zero 1, 2 or 3, and zero is 0": settings.offload != "none"
        and settings.zero == 0,
        f"offload all keeps weights in the CPU's memory, which needs zero 3, and zero is {settings.zero}": (
            settings.offload == "all" and settings.zero != 3
        ),
        f"batch {settings.batch} is no multiple of tulu1_layout's {ranks} x {size} examples": (
            settings.reduction == "tulu1" and settings.batch % (ranks * size) != 0
        ),
        "lora_targets names layers, and lora_rank is 0, which tunes all weights": bool(settings.lora_targets)
        and settings.lora_rank == 0,
        "evaluate_every asks for evaluations, and there is neither held_out nor evaluate_command": (
            settings.evaluate_every > 0 and not settings.held_out and not settings.evaluate_command
        ),
    }
    return next((sentence for sentence, holds in pairs.items() if holds), "")
