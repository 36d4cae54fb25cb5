"""What there is to read: the examples of a run, their way through its steps, and how full the micro-steps are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import DataError
from trainer.mixing.mixture import ALIASES, NAMED
from trainer.planning import length_model
from trainer.planning.efficiency import Summary, cost, summarize
from trainer.planning.plan import Balanced, Examples
from trainer.preparation.prepared import MANIFEST, Prepared
from trainer.table1 import TABLE_1

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainer.training.settings import Settings

#: Steps of the first epoch that are dealt out to see how full micro-steps are; all of them where there are fewer.
SAMPLE = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Data:
    """The sizes of all examples, known or modelled."""

    #: What a reader is told of where they come from.
    told: str
    prepared: bool
    #: Tokens and targets of each example, both of shape (examples,).
    lengths: NDArray[np.int64] = field(repr=False)
    targets: NDArray[np.float64] = field(repr=False)
    #: Tokens behind which examples were cut.
    limit: int

    @property
    def pairs(self) -> float:
        """Pairs of tokens that attend, of all examples."""
        return float((self.lengths * (self.lengths + 1) // 2).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How the examples are read by so many ranks."""

    #: Tokens that a rank reads at once, at most.
    tokens: int
    epoch: int
    total: int
    #: Of the steps that were dealt out.
    summary: Summary
    #: The most targets, and documents, of a micro-step.
    targets: int
    documents: int

    @property
    def micros(self) -> int:
        """Micro-steps of a step, the most."""
        return self.summary.micros[2]


def find(settings: Settings, *, max_length: int | None = None) -> Data:
    """The examples of a run's prepared folder, or where there is none yet a model of the data that its name tells of.

    Raises DataError where a prepared folder cannot be read, and where there is none and its name tells of no data.
    """
    folder = Path(settings.data)
    if (folder / MANIFEST).exists():
        return read(folder)
    limit = max_length or _limit(folder.name)
    name = named(folder)
    datasets = NAMED.get(name, (name,))
    lengths = length_model.of(datasets, limit=limit)
    share = length_model.supervised(datasets)
    told = f"{folder} is not prepared yet: lengths as Table 1 of the paper has them for {name}"
    return Data(told=told, prepared=False, lengths=lengths, targets=lengths * share, limit=limit)


def named(folder: Path) -> str:
    """The dataset of Table 1, or the mixture, that a folder's name begins with, as in ``prepared/cot-llama-2048``.

    Raises DataError for any other name: it is mistyped, or that of data that nobody can know the lengths of.
    """
    known = {name: name for name in (*TABLE_1, *NAMED)} | ALIASES
    found = [name for name in known if re.match(rf"{re.escape(name)}($|[-_.])", folder.name)]
    if found:
        return known[max(found, key=len)]
    near = _nearest(folder, known)
    raise DataError(
        f"{folder} holds no prepared data, and its name begins with no dataset after which lengths could be modelled."
        + (f" Did you mean {near}?" if near else "")
        + f" Run `trainer data prepare FILE... --to {folder}` first, or name the folder after one of these, as in"
        f" cot-llama-2048: {', '.join(known)}."
    )


def _nearest(folder: Path, known: Iterable[str]) -> str:
    """The prepared folder beside this one, or else the dataset, whose name may have been meant; or nothing."""
    beside = [one.parent.name for one in sorted(folder.parent.glob(f"*/{MANIFEST}"))]
    if near := get_close_matches(folder.name, beside, n=1):
        return str(folder.parent / near[0])
    # Of dolyl-llama-2048 only the beginning is to be like a dataset's name.
    ends = [found.start() for found in re.finditer(r"-|$", folder.name)]
    likeness = {(name, end): SequenceMatcher(None, folder.name[:end], name).ratio() for name in known for end in ends}
    name, end = max(likeness, key=likeness.__getitem__)
    return str(folder.parent / (name + folder.name[end:])) if likeness[name, end] >= 0.6 else ""


def read(folder: Path) -> Data:
    """The examples of a prepared folder; raises DataError where it cannot be read."""
    import numpy as np

    from trainer.training.weights import targets

    prepared = Prepared.open(folder)
    lengths = np.asarray(prepared.lengths, np.int64)
    limit = prepared.manifest["made_of"].get("max_length") or int(lengths.max())
    counts = targets(prepared).astype(np.float64)
    return Data(told=str(folder), prepared=True, lengths=lengths, targets=counts, limit=limit)


def deal(settings: Settings, data: Data, ranks: int) -> Steps:
    """How the ranks read the data; raises DataError where a micro-step cannot hold the longest example."""
    tokens = settings.tokens or 2 * data.limit
    examples = Examples(lengths=data.lengths, seed=settings.seed, batch=settings.batch)
    plan = Balanced(examples=examples, ranks=ranks, tokens=tokens)
    dealt = [plan.step(0, number) for number in range(min(plan.steps, SAMPLE))]
    rows: list[Any] = [micro.ids for step in dealt for micros in step.ranks for micro in micros]
    return Steps(
        tokens=tokens,
        epoch=plan.steps,
        total=settings.max_steps or settings.epochs * plan.steps,
        summary=summarize(cost(step, data.lengths) for step in dealt),
        targets=max(int(data.targets[ids].sum()) for ids in rows),
        documents=max(map(len, rows)),
    )


def _limit(name: str) -> int:
    """The length limit that a folder's name ends in, or the paper's."""
    found = re.search(r"-(\d{3,5})$", name)
    return int(found[1]) if found else length_model.LIMIT
