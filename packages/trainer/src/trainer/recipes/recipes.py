"""A recipe for each of the paper's models, as TOML to copy, change and train with."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.errors import UnknownName
from trainer.recipes.facts import BASES, TABLES, TRAINED, Base, title


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to train on what; all paths are seen from the folder that one works in."""

    data: str
    base: Base

    @property
    def name(self) -> str:
        """``cot-13b``: the data and the base."""
        return f"{self.data}-{self.base.name}"

    @property
    def model(self) -> str:
        """The folder of the base model."""
        return f"models/{self.base.hub.split('/')[1]}"

    @property
    def prepared(self) -> str:
        """The folder of the prepared data; models with one tokenizer and one length limit share it."""
        return f"prepared/{self.data}-{self.base.family}-{self.base.max_length}"

    @property
    def out(self) -> str:
        """The run folder."""
        return f"tuned/{self.name}"

    @property
    def tables(self) -> list[str]:
        """The tables of the paper that have a row of it."""
        return [
            name
            for name, rows in TABLES.items()
            if any(row.data == self.data and self.base.name in row.bases for row in rows.values())
        ]

    def toml(self) -> str:
        """The recipe's text, which `trainer config` and `trainer train` read."""
        return f"""\
# {self.name}: {self.base.title} learns {title(self.data)}, as in "How Far Can Camels Go?" (arXiv 2306.04751).
model = "{self.model}"
data = "{self.prepared}"
out = "{self.out}"

# The paper's appendix; examples were cut behind {self.base.max_length} tokens when the data was prepared.
epochs = 2
learning_rate = {self.base.learning_rate!r}
schedule = "linear"
warmup = 0.03
weight_decay = 0.0

# Not in the paper: its code.
batch = 128
clip = 1.0
precision = "bf16"
zero = 3

# For memory alone: it changes no number.
activation_checkpointing = true

# Not as its code: each token of a step counts alike. "tulu1" is its mean of the means of micro-batches.
reduction = "token"
"""


def recipes() -> dict[str, Recipe]:
    """All recipes by name, in the order of the paper's tables and of the models' sizes."""
    found = [Recipe(data=data, base=BASES[base]) for data, bases in TRAINED.items() for base in bases]
    return {recipe.name: recipe for recipe in found}


def find(name: str) -> Recipe:
    """The recipe of this name; raises UnknownName, with the nearest."""
    known = recipes()
    if name not in known:
        raise UnknownName("recipe", name, known)
    return known[name]
