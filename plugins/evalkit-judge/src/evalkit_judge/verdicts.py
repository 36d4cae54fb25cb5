"""What became of each pair in a judge's run: its own kind, or one that was imported from alpaca_eval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit import DataError, Row, codec
from evalkit.journal import Journal, journals
from evalkit.store import RunFolder
from evalkit_judge.benchmark import NOT_COMPARABLE, point, shown
from evalkit_judge.pairs import Pair
from evalkit_judge.replies import TIE


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge said of a pair, once."""

    #: Whether the run's answer stood first; None where that is not known.
    first: bool | None
    #: 1 where the run's answer is preferred, one half for a tie; None where the reply failed.
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """A pair with all that was said of it."""

    pair: Pair
    verdicts: tuple[Verdict, ...]

    @property
    def scores(self) -> list[float]:
        """The scores of the verdicts that did not fail."""
        return [verdict.score for verdict in self.verdicts if verdict.score is not None]

    @property
    def score(self) -> float | None:
        """The mean over both orders, or what there is of them; None where all failed."""
        return sum(self.scores) / len(self.scores) if self.scores else None

    @property
    def labels(self) -> tuple[float, ...]:
        """The one opinion that the judge has of the pair: orders that disagree are a tie."""
        return () if self.score is None else (decided(self.score),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A judge's run, pair by pair."""

    path: Path
    setting: str
    model: str
    reference: str
    judge: str
    pairs: tuple[JudgedPair, ...]
    notes: tuple[str, ...]
    #: Whose opinions the pairs' labels are.
    labels: str = ""
    #: Prompts that were asked again since the reply could not be read or had failed.
    asked_again: int = 0
    rules: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_comparable(self) -> bool:
        """False where the numbers look like a paper's and are not."""
        return NOT_COMPARABLE not in self.notes and not self.setting.startswith("alpaca")


def decided(score: float) -> float:
    """1, 0 or one half."""
    return 0.5 if score == 0.5 else float(score > 0.5)


def read(path: Path) -> Judged:
    """The judge's run in a folder; raises RunError or DataError where there is none."""
    folder = RunFolder.existing(path)
    manifest, summary = folder.manifest, folder.summary
    found: dict[str, tuple[Pair, list[Verdict]]] = {}
    for number, fields in enumerate(folder.records(), 1):
        row = Row(fields, f"{path / 'records.jsonl'}:{number}", number)
        for pair, verdict in _verdicts(row):
            found.setdefault(pair.id, (pair, []))[1].append(verdict)
    rules = manifest["binds"].get("rules", {})
    return Judged(
        path=path,
        setting=summary["setting"],
        model=summary["model"],
        reference=str(manifest.get("reference", rules.get("reference", "reference"))),
        judge=str(manifest.get("judge", "unknown")),
        pairs=tuple(JudgedPair(pair=pair, verdicts=tuple(said)) for pair, said in found.values()),
        notes=tuple(summary["notes"]),
        labels=str(manifest.get("labels", "")),
        asked_again=_asked_again(path),
        rules=rules,
    )


def is_judged(path: Path) -> bool:
    """Whether the run in a folder is a judge's."""
    first = next(RunFolder.existing(path).records(), None)
    return first is not None and (_is_own(first) or _is_imported(first))


def _is_own(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("meta", {}).get("pairs"), list) and "choices" in record


def _is_imported(record: Mapping[str, Any]) -> bool:
    return "output" in record.get("meta", {}) and "max_tokens" in record["request"]


def _verdicts(row: Row) -> Iterator[tuple[Pair, Verdict]]:
    if _is_own(row):
        yield from _own(row)
    elif _is_imported(row):
        pair = Pair(
            id=row.text("id"),
            instruction=row.text("question"),
            said=str(row["meta"]["output"]),
            reference=row.text("target"),
            subset=row.get("subset", ""),
        )
        yield pair, Verdict(first=None, score=row["scores"].get("win_rate"))
    else:
        raise DataError(
            f"{row.where} is no judge's record: pass the folder of a judge's run, which `evalkit judge` makes."
        )


def _own(row: Row) -> Iterator[tuple[Pair, Verdict]]:
    fields = {name: held for name, held in row.items() if name in _EXAMPLE}
    pairs = shown(codec.example_in(fields))
    answer = next(iter(row["answers"].values()), None)
    # A tie of equal outputs is one word for however many pairs; there, it is always one.
    letters = [answer] if isinstance(answer, str) else answer or [None] * len(pairs)
    for one, letter in zip(pairs, letters, strict=True):
        score = None if letter is None else point(letter, one.target)
        yield one.pair, Verdict(first=None if letter == TIE and one.pair.is_tie else not one.flipped, score=score)


_EXAMPLE = ("id", "question", "target", "aliases", "solution", "choices", "subset", "group", "meta")


def _asked_again(path: Path) -> int:
    if not journals(path):  # an imported run
        return 0
    with Journal(path) as journal:
        return len(journal.attempts)
